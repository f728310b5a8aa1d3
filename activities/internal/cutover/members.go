package cutover

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/compare"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// strangers are the tables about which plan, publications and source disagree.
type strangers struct {
	silent []string // changes since the plan may be missing from the stream: taken out of the publication, detached
	gone   []string // dropped, with a name that the plan gives
	late   []uint32 // partitions of a migrated tree that are streamed and were not copied
	others []string // tables of their own that the definition means, came after the plan, and are not migrated
}

// readStrangers takes the publications, the planned tables, and those of them that are not published because they are
// unlogged.
const readStrangers = `
with recursive streamed as (
    select r.prrelid as oid from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = any ($1)
    union
    select i.inhrelid from streamed s join pg_class c on c.oid = s.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = s.oid
), tree as (
    select unnest($2::oid[]) as oid
    union
    select i.inhrelid from tree t join pg_class c on c.oid = t.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = t.oid
)
select c.oid, n.nspname, c.relname, c.oid = any ($2), c.oid in (select oid from tree), c.oid in (select oid from streamed)
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and not c.oid = any ($3)
  and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync', 'pgdts_fence')
  and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
  and (c.relkind = 'r' or not c.relispartition)
order by 2, 3`

// stranger is a table of the source that the plan or the publications do not have.
type stranger struct {
	oid                     uint32
	name                    string
	known, inTree, streamed bool
}

// strangers asks what the definition means now: what it leaves out belongs to nobody here.
func (a *attempt) strangers(ctx context.Context, conn querier, tables []ledger.Table) (strangers, error) {
	var found strangers
	planned, unlogged := []uint32{}, []uint32{}
	names := map[uint32]string{}
	for _, table := range tables {
		planned = append(planned, table.OID)
		switch {
		case table.Unlogged:
			unlogged = append(unlogged, table.OID)
		case table.Mode != migration.ModeRoot && table.Extension == "":
			names[table.OID] = table.Name.String()
		}
	}
	listed, err := a.listStrangers(ctx, conn, planned, unlogged)
	if err != nil {
		return found, err
	}
	for _, s := range listed {
		_, holds := names[s.oid]
		meant, _ := a.scope.means(s.oid)
		switch {
		case holds && !s.streamed, !s.known && meant && s.inTree && !s.streamed:
			found.silent = append(found.silent, s.name)
		case !s.known && meant && s.inTree:
			found.late = append(found.late, s.oid)
		case !s.known && meant:
			found.others = append(found.others, s.name)
		}
		delete(names, s.oid)
	}
	for _, gone := range names {
		found.gone = append(found.gone, gone)
	}
	slices.Sort(found.gone)
	return found, nil
}

func (a *attempt) listStrangers(ctx context.Context, conn querier, planned, unlogged []uint32) ([]stranger, error) {
	publications := []string{a.Spec.ID.Publication(), a.Spec.ID.PublicationInsertOnly()}
	rows, err := conn.Query(ctx, readStrangers, publications, planned, unlogged)
	if err != nil {
		return nil, a.Source.Fault("look for tables made since the plan on", a.Source.Database(), err)
	}
	var unplanned []uint32
	listed, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s stranger, err error) {
		var name migration.TableName
		err = row.Scan(&s.oid, &name.Schema, &name.Name, &s.known, &s.inTree, &s.streamed)
		s.name = name.String()
		if !s.known {
			unplanned = append(unplanned, s.oid)
		}
		return s, err
	})
	if err != nil {
		return nil, a.Source.Fault("look for tables made since the plan on", a.Source.Database(), err)
	}
	return listed, a.knowScope(ctx, unplanned)
}

// gateMembers refuses where changes may be missing from the stream, and no comparison of counts would show it.
func (a *attempt) gateMembers(ctx context.Context, conn querier, tables []ledger.Table) (strangers, error) {
	found, err := a.strangers(ctx, conn, tables)
	switch {
	case err != nil:
		return found, err
	case len(found.silent) > 0:
		return found, notReady("pass the gates for", some(found.silent),
			"these tables are migrated, and not in the publication: they were taken out of it, detached from their tree, or made while the migration began; their changes are not in the stream",
			"start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	case len(found.gone) > 0:
		return found, notReady("pass the gates for", some(found.gone), "these tables were dropped on the source since the plan",
			"start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	}
	return found, nil
}

// settleMembers looks again under the fence, notes tables that are not migrated, and compares partitions that came after
// the plan: one that was attached with rows in it has rows that were never copied.
func (a *attempt) settleMembers(ctx context.Context, tables []ledger.Table) ([]ledger.Table, []migration.Verdict, error) {
	found, err := a.gateMembers(ctx, a.source, tables)
	if err != nil {
		return nil, nil, err
	}
	a.noteOthers(found)
	late, err := a.latePartitions(ctx, tables, found.late)
	if err != nil || len(late) == 0 {
		return nil, nil, err
	}
	verdicts, err := a.compare(ctx, late, compare.MethodHash)
	return late, verdicts, err
}

func (a *attempt) noteOthers(found strangers) {
	if len(found.others) > 0 {
		a.note("%d tables were made on the source after the migration began, and were not migrated: %s", len(found.others), some(found.others))
	}
}

// latePartitions are what the catalog says of them now, with what was planned for their trees. Each must be on the target.
func (a *attempt) latePartitions(ctx context.Context, tables []ledger.Table, oids []uint32) ([]ledger.Table, error) {
	var late []ledger.Table
	for _, oid := range oids {
		table := a.scope.like(tables, oid)
		var there bool
		if err := a.target.QueryRow(ctx, "select to_regclass($1) is not null", table.Target.SQL()).Scan(&there); err != nil {
			return nil, a.Target.Fault("look for", table.Target.String(), err)
		}
		if !there {
			return nil, notReady("verify", table.Name.String(), "the partition was made on the source after the plan, and the target does not have "+table.Target.String(),
				"create it on the target as it is on the source, and cut over again")
		}
		late = append(late, table)
	}
	return late, nil
}
