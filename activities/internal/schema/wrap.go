package schema

import (
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// addColumns adds the COLUMNS objects and puts the renamings around what comes after them. It is called when every object
// has its section.
func (c *classifier) addColumns() {
	top := map[uint32]*planned{}
	for _, object := range slices.Clone(c.objects) {
		s, ok := c.shapes[object.oid]
		if !ok || object.Kind != "TABLE" || object.State != ledger.ObjectPending {
			continue
		}
		name := migration.TableName{Schema: object.Schema, Name: object.Name}
		columns := &planned{oid: object.oid, position: object.position, Object: ledger.Object{
			DumpID: c.newID(), Depends: []int{object.DumpID}, Kind: kindColumns, Schema: name.Schema, Name: name.Name, DDL: s.sql(name),
			State: ledger.ObjectPending,
		}, place: place{Before, rankColumns}}
		for _, above := range c.above(c.parents[object.oid]) {
			if parent := top[above]; parent != nil {
				columns.Depends = append(columns.Depends, parent.DumpID)
			}
		}
		top[object.oid] = columns
		c.keep(columns)
	}
	if len(top) == 0 {
		return
	}
	for _, object := range c.objects {
		c.wrap(object, top)
	}
}

// wrap puts an object that names renamed columns between two renamings. Before the data the columns have their old names
// still: there the object must be made first, and is wrapped only if it is made once more.
func (c *classifier) wrap(object *planned, top map[uint32]*planned) {
	if object.Kind == kindColumns {
		return
	}
	tables := c.tablesOf(object)
	for _, table := range tables {
		if columns := top[table]; columns != nil && object.section == Before {
			columns.Depends = append(columns.Depends, object.DumpID)
		}
	}
	if !c.namesColumns(object) {
		return
	}
	var before, after []string
	var names []migration.TableName
	for _, table := range tables {
		if columns := top[table]; columns != nil {
			name := migration.TableName{Schema: columns.Schema, Name: columns.Name}
			names = append(names, name)
			before = append(before, renameColumns(name, c.shapes[table].back())...)
			after = append(after, renameColumns(name, c.shapes[table].renamed)...)
			if object.section != Before && class(object.Object) != alone {
				object.Locks = append(object.Locks, table)
			}
		}
	}
	if len(before) == 0 {
		return
	}
	slices.Sort(object.Locks)
	object.Locks = slices.Compact(object.Locks)
	text := object.DDL
	if !strings.HasSuffix(text, ";") {
		text += ";"
	}
	wrapped := strings.Join(slices.Concat(before, []string{text}, after), "\n")
	if object.section == Before {
		c.wrapped[object.DumpID] = wrapping{wrapped, names}
		return
	}
	object.DDL = wrapped
}

// tablesOf lists the tables with changed columns that an object may name, each once, those at the top last.
func (c *classifier) tablesOf(object *planned) []uint32 {
	near := []uint32{c.owner(object.entry), c.constraints[object.entry.OID].Refers}
	if object.entry.Kind != "FK CONSTRAINT" {
		near = near[:1]
	}
	for _, id := range object.Depends {
		if needed := c.byID[id]; needed != nil && needed.Kind == "TABLE" {
			near = append(near, needed.oid)
		}
	}
	if object.Kind == "TABLE" {
		near = append(near, object.oid)
	}
	var all []uint32
	for _, table := range near {
		for _, above := range c.above(table) {
			if !slices.Contains(all, above) {
				all = append(all, above)
			}
		}
	}
	return all
}

// namesColumns reports whether an object's text may hold the name of a renamed column. Of indexes and constraints the
// catalog knows exactly; of what holds queries and conditions it does not.
func (c *classifier) namesColumns(object *planned) bool {
	switch object.Kind {
	case "INDEX", "CONSTRAINT", "FK CONSTRAINT", "CHECK CONSTRAINT", "DEFAULT", "STATISTICS":
		return slices.ContainsFunc(c.keysOf(object.entry), func(key objectKey) bool { return c.touching[key] })
	case "ACL", "COMMENT", "SECURITY LABEL":
		return strings.HasPrefix(object.entry.Tag, "COLUMN ")
	case "TABLE", "TABLE ATTACH", "INDEX ATTACH", "ROW SECURITY", "MATERIALIZED VIEW DATA", "VALIDATION", "DEFAULT ACL", "SEQUENCE OWNED BY":
		return object.Kind == "SEQUENCE OWNED BY"
	}
	return true
}
