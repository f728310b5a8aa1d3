package schema

import (
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// notValid ends the statement of a foreign key that is validated later.
const notValid = " not valid"

// ddl is what creates an entry on the target: pg_dump's text with what pg_restore would add to it, and with what the
// migration has changed on the source put back.
func (c *classifier) ddl(e Entry) string {
	text := strings.TrimRight(e.DDL, " \n")
	if e.Kind == "FK CONSTRAINT" && !c.replicaRole {
		text = c.withoutScan(e, text)
	}
	if e.Kind == "TABLE" && e.Method != "" && e.Method != "heap" {
		text = c.withMethod(e, text)
	}
	name := migration.TableName{Schema: e.Schema, Name: e.Tag}
	if identity := c.identities[name]; e.Kind == "TABLE" && identity != "" {
		text += "\nalter table only " + name.SQL() + " replica identity " + identity + ";"
	}
	if c.owners[e.Owner] {
		if object := ownable(e); object != "" {
			text += "\nalter " + object + " owner to " + migration.Quote(e.Owner) + ";"
		}
	}
	return text
}

// undo is what drops an entry again, as pg_restore --clean would; empty where the entry goes with another, or may be made
// once more as it is.
func (c *classifier) undo(e Entry) string {
	text := strings.TrimRight(e.Drop, " \n")
	name := migration.TableName{Schema: e.Schema, Name: e.Tag}
	switch {
	case text != "":
		return text
	case e.Kind == "ROW SECURITY":
		return "alter table only " + name.SQL() + " disable row level security"
	case e.Kind == "INDEX":
		return "drop index " + name.SQL()
	}
	return ""
}

// withoutScan makes a foreign key that is checked for new rows only; a partitioned table refuses that.
func (c *classifier) withoutScan(e Entry, text string) string {
	fk := c.constraints[e.OID]
	if !fk.Valid || c.relations[fk.Relation].Kind == "p" {
		return text
	}
	return strings.TrimSuffix(text, ";") + notValid
}

// withMethod names the access method. A partitioned table has no storage, and no setting stands for its method.
func (c *classifier) withMethod(e Entry, text string) string {
	if e.RelKind == "p" {
		name := migration.TableName{Schema: e.Schema, Name: e.Tag}
		return text + "\nalter table only " + name.SQL() + " set access method " + migration.Quote(e.Method) + ";"
	}
	return "set local default_table_access_method = " + migration.Quote(e.Method) + ";\n" + text +
		"\nset local default_table_access_method = heap;"
}

// Kinds that have an owner: in a schema, outside one, and those whose names need argument types, which pg_dump's DROP
// statement has (pg_backup_archiver.c: _getObjectDescription).
var (
	ownedInSchema = []string{
		"COLLATION", "CONVERSION", "DOMAIN", "FOREIGN TABLE", "MATERIALIZED VIEW", "SEQUENCE", "STATISTICS", "TABLE",
		"TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TYPE", "VIEW",
	}
	ownedGlobal = []string{"EVENT TRIGGER", "FOREIGN DATA WRAPPER", "PROCEDURAL LANGUAGE", "SCHEMA", "SERVER"}
	ownedByDrop = []string{"AGGREGATE", "FUNCTION", "OPERATOR", "OPERATOR CLASS", "OPERATOR FAMILY", "PROCEDURE"}
)

func ownable(e Entry) string {
	switch {
	case e.Drop == "":
		return ""
	case slices.Contains(ownedInSchema, e.Kind):
		return e.Kind + " " + migration.TableName{Schema: e.Schema, Name: e.Tag}.SQL()
	case slices.Contains(ownedGlobal, e.Kind):
		return e.Kind + " " + migration.Quote(e.Tag)
	case slices.Contains(ownedByDrop, e.Kind):
		return strings.TrimRight(strings.TrimPrefix(e.Drop, "DROP "), ";\n")
	}
	return ""
}
