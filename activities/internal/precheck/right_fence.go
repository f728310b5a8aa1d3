package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

// fenceRight: the fence locks every table against writes; before the opening, triggers that outlive us take over, and
// only an owner makes one fire always. Functions that an administrator has made do both for a role that may neither.
func fenceRight(ctx context.Context, l *look) (finding, error) {
	switch l.Spec.Cutover.Fence {
	case "none":
		return passed("the definition wants no fence"), nil
	case "read-only":
		return l.mayCloseDatabase(ctx)
	}
	rights, err := l.facts.rights()
	if err != nil {
		return finding{}, err
	}
	blocks := l.Spec.Cutover.After != "none"
	var refused refusal
	if blocks {
		if refused, err = l.rehearseFence(ctx); err != nil {
			return finding{}, err
		}
	}
	var wanting []string
	for _, r := range rights {
		if !r.Owned && (blocks || !r.Lock) {
			wanting = append(wanting, r.table().String())
		}
	}
	if len(wanting) == 0 && !refused.refused() {
		return passed("role %s may lock and close all %s", l.source.role, count(len(rights), "table")), nil
	}
	return l.preparedFence(ctx, rights, wanting, refused)
}

// rehearseFence does on a table of its own what the fence does on those of the application.
func (l *look) rehearseFence(ctx context.Context) (refusal, error) {
	name := l.rehearsal()
	statements := []string{
		"create schema " + name,
		"create function " + name + ".f() returns trigger language plpgsql as 'begin return null; end'",
		"create table " + name + ".t (id int primary key)",
		"lock table only " + name + ".t in share row exclusive mode",
		"create trigger t before insert or update or delete or truncate on " + name + ".t for each statement execute procedure " + name + ".f()",
		"alter table only " + name + ".t enable always trigger t",
	}
	return l.source.rehearse(ctx, statements...)
}

// preparedFence looks for the administrator's functions, and prints them where they are missing.
func (l *look) preparedFence(ctx context.Context, rights []right, wanting []string, refused refusal) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	wanted, err := slot.Want(ctx, l.source.conn, l.Spec, tables)
	if err != nil {
		return finding{}, err
	}
	fence := cutover.NewPreparedFence(l.Spec.ID, tables, wanted.Members())
	lacking, err := fence.Lacking(ctx, l.source.conn, oids(tables))
	if err != nil {
		return finding{}, err
	}
	switch {
	case lacking == "" && len(wanting) > 0:
		return passed("role %s closes all %s by functions that an administrator has made", l.source.role, count(len(rights), "table")), nil
	case len(wanting) == 0:
		fixes, err := l.toCreate(ctx, l.source)
		if len(fixes) == 0 {
			fixes = []string{findOut("source")}
		}
		return failed(statements(fixes), "role %s may not make triggers that refuse writes at the cutover: %s",
			l.source.role, refused.text()), err
	}
	fix := l.byAdministrator(fmt.Sprintf("prepares the fence for role %s; the other way is cutover: {fence: read-only} or {fence: none} in the definition",
		l.source.role), []string{fence.SQL(l.source.role)})
	return failed(fix, "role %s may not close %s against writes at the cutover, and %s", l.source.role, list(wanting), lacking), nil
}

const mayCloseDatabase = `
select pg_has_role(datdba, 'usage') from pg_database where datname = current_database()`

const maySignal = `select pg_has_role('pg_signal_backend', 'usage')`

// mayCloseDatabase: sessions that began before the default was set are ended, those of other roles too.
func (l *look) mayCloseDatabase(ctx context.Context) (finding, error) {
	owner, err := value[bool](ctx, l.source, mayCloseDatabase)
	if err != nil {
		return finding{}, err
	}
	signal, err := value[bool](ctx, l.source, maySignal)
	if err != nil {
		return finding{}, err
	}
	role, database := l.source.role, l.source.server.Database()
	var lacking, fixes []string
	if !owner {
		lacking = append(lacking, fmt.Sprintf("role %s does not own database %s and cannot make it read-only at the cutover", role, database))
		fixes = append(fixes, fmt.Sprintf("alter database %s owner to %s;", migration.Quote(database), migration.Quote(role)))
	}
	if !signal {
		lacking = append(lacking, fmt.Sprintf("role %s may not end sessions of other roles", role))
		fixes = append(fixes, fmt.Sprintf("grant pg_signal_backend to %s;", migration.Quote(role)))
	}
	if len(lacking) == 0 {
		return passed("role %s may close database %s", role, database), nil
	}
	return failed(statements(fixes), "%s", list(slices.Clip(lacking))), nil
}
