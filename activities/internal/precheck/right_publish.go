package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

// byAdministrator heads statements for somebody with more rights than the role has.
func (l *look) byAdministrator(what string, statements []string) string {
	return statementsOf(fmt.Sprintf("-- %s: as a superuser, or as the owner of the tables who may create in the database, in database %s",
		what, migration.Quote(l.source.server.Database())), statements)
}

func statementsOf(head string, lines []string) string {
	return statements(append([]string{head}, lines...))
}

// publicationRight: only an owner publishes a table or changes its replica identity. What an administrator has prepared
// is as good.
func publicationRight(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	wanted, err := slot.Want(ctx, l.source.conn, l.Spec, tables)
	if err != nil {
		return finding{}, err
	}
	if wanted.Prepared() {
		return passed("what is to be published stands already"), nil
	}
	lacking := wanted.Strange()
	refused, err := l.rehearsePublication(ctx)
	if err != nil {
		return finding{}, err
	}
	if refused.refused() {
		lacking = append(lacking, fmt.Sprintf("role %s may not create a publication in database %s: %s",
			l.source.role, l.source.server.Database(), refused.text()))
		if !refused.forbidden() {
			return failed(findOut("source"), "%s", strings.Join(lacking, "; ")), nil
		}
	}
	if foreign := ofOthers(rights, wanted.ToAlter()); len(foreign) > 0 {
		lacking = append(lacking, fmt.Sprintf("role %s does not own %s: only an owner may publish a table or change its replica identity",
			l.source.role, list(foreign)))
	}
	if len(lacking) == 0 {
		return passed("role %s publishes %s that it owns", l.source.role, count(len(rights), "table")), nil
	}
	return failed(l.byAdministrator("prepares what is published for role "+l.source.role, wanted.Statements(l.source.role)),
		"%s", strings.Join(lacking, "; ")), nil
}

func (l *look) rehearsePublication(ctx context.Context) (refusal, error) {
	name := l.rehearsal()
	return l.source.rehearse(ctx, "create schema "+name, "create table "+name+".t (id int primary key)",
		"alter table "+name+".t replica identity full", "create publication "+name+" for table "+name+".t")
}

// ofOthers are those among some tables that belong to others.
func ofOthers(rights []right, among []migration.TableName) []string {
	var foreign []string
	for _, r := range rights {
		if !r.Owned && slices.Contains(among, r.table()) {
			foreign = append(foreign, r.table().String())
		}
	}
	return foreign
}

const messageFunction = `
select p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pg_catalog' and p.proname = 'pg_logical_emit_message' and p.proargtypes[2] = 'text'::regtype`

// markerRight: markers and heartbeats are messages in the log, and before 14 rows of a table.
func markerRight(ctx context.Context, l *look) (finding, error) {
	if l.source.version < 140000 {
		return l.markerTable(ctx)
	}
	refused, err := l.source.rehearse(ctx, "select pg_logical_emit_message(true, 'pgdts', 'rehearsal')")
	if err != nil {
		return finding{}, err
	}
	if !refused.refused() {
		return passed("role %s writes messages into the log", l.source.role), nil
	}
	functions, err := rows[struct{ Name string }](ctx, l.source, messageFunction)
	if err != nil {
		return finding{}, err
	}
	var fixes []string
	for _, f := range functions {
		fixes = append(fixes, fmt.Sprintf("grant execute on function pg_catalog.%s to %s;", f.Name, migration.Quote(l.source.role)))
	}
	return failed(statements(fixes), "role %s may not write messages into the log: %s", l.source.role, refused.text()), nil
}

// markerTable tries to make one where none stands that the role can use.
func (l *look) markerTable(ctx context.Context) (finding, error) {
	usable, exists, err := slot.Marker(ctx, l.source.conn)
	if err != nil {
		return finding{}, err
	}
	if usable {
		return passed("role %s writes into table dts_sync.marker", l.source.role), nil
	}
	reason := "it was made by another role"
	if !exists {
		name := l.rehearsal()
		refused, err := l.source.rehearse(ctx, "create schema "+name, "create table "+name+".t (id int primary key)")
		if err != nil || !refused.refused() {
			return passed("role %s makes table dts_sync.marker", l.source.role), err
		}
		reason = refused.text()
	}
	return failed(l.byAdministrator("makes the table for role "+l.source.role, slot.MarkerStatements(l.source.role)),
		"role %s may not make or use table dts_sync.marker, which takes the place of messages in the log before PostgreSQL 14: %s",
		l.source.role, reason), nil
}
