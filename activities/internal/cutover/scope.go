package cutover

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// scope is what the definition means of the source as it was at one moment. It is read before the fence, because reading
// the catalog asks for locks of tables that nobody of us holds, and may wait there behind others.
type scope struct {
	selection mapping.Selection
	chosen    map[uint32]mapping.Table
	seen      map[uint32]bool // every table that was there, chosen or not
}

const readSeen = `select oid from pg_class where relkind in ('r', 'p')`

// readScope lists the tables first: one that is made meanwhile is chosen, or it is looked at again later.
func (a *attempt) readScope(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, readSeen)
	if err != nil {
		return a.Source.Fault("read", "tables", err)
	}
	oids, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return a.Source.Fault("read", "tables", err)
	}
	found := scope{chosen: map[uint32]mapping.Table{}, seen: map[uint32]bool{}}
	for _, oid := range oids {
		found.seen[oid] = true
	}
	if found.selection, _, err = mapping.Read(ctx, conn, a.Spec); err != nil {
		return a.Source.Fault("read", "tables", err)
	}
	for _, table := range found.selection.Tables {
		found.chosen[table.OID] = table
	}
	a.scope = found
	return nil
}

// means reports whether the definition means a table, and whether that is known: a table that came into being since is not.
func (s scope) means(oid uint32) (meant, known bool) {
	if _, meant = s.chosen[oid]; meant {
		return true, true
	}
	return false, s.seen[oid]
}

// knowScope reads the scope, or reads it again when it lacks a table: in the session of the fence where there is one,
// because another would wait behind whoever waits for the fence.
func (a *attempt) knowScope(ctx context.Context, oids []uint32) error {
	lacking := a.scope.seen == nil
	for _, oid := range oids {
		_, known := a.scope.means(oid)
		lacking = lacking || !known
	}
	if !lacking {
		return nil
	}
	if a.fence != nil {
		if hold := a.fence.holder(); hold != nil {
			return hold(ctx, func(conn *pgx.Conn) error { return a.readScope(ctx, conn) })
		}
	}
	return a.readScope(ctx, a.source)
}

// like gives a partition that came after the plan what was planned for the root of its tree.
func (s scope) like(tables []ledger.Table, oid uint32) ledger.Table {
	found := s.chosen[oid]
	late := ledger.Table{Table: found, Mode: migration.ModeOneSnapshot}
	for _, table := range tables {
		if table.Name == found.Root {
			late.Table = table.Table
			late.Table.Table, late.Target = found.Table, found.Target
		}
	}
	return late
}
