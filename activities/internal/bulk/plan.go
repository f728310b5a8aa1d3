package bulk

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Planned is how much there is to copy.
type Planned struct {
	Tables int
	Chunks int
	Rows   int64 // estimate
	Bytes  int64 // heap and TOAST on the source
	Lanes  int
}

// Plan cuts the source's tables into chunks and records them in one transaction of the target. A second call finds what
// the first has recorded. When it fails nothing is recorded.
func Plan(ctx context.Context, config Config, lane ledger.Lane, report func(migration.Beat)) (Planned, error) {
	config = config.withDefaults()
	target, err := config.Target.Connect(ctx, lane.Session())
	if err != nil {
		return Planned{}, err
	}
	defer pg.Close(target)
	book := ledger.Ledger{ID: lane.ID, Conn: target}
	main, err := book.Read(ctx)
	if err != nil {
		return Planned{}, config.Target.Fault("read ledger of", string(lane.ID), err)
	}
	if !main.Planned {
		tables, chunks, err := config.cut(ctx, lane, main.Publications, report)
		if err != nil {
			return Planned{}, err
		}
		if err := record(ctx, target, lane, tables, chunks); err != nil {
			return Planned{}, config.Target.Fault("record plan of", string(lane.ID), err)
		}
		config.Log.Info("tables cut into chunks", zap.Int("tables", len(tables)), zap.Int("chunks", len(chunks)))
	}
	progress, err := book.CopyProgress(ctx)
	return Planned{
		Tables: progress.Tables.Total, Chunks: int(progress.Chunks), Rows: progress.RowsTotal, Bytes: progress.BytesTotal,
		Lanes: config.lanes(int(progress.Chunks)),
	}, config.Target.Fault("read ledger of", string(lane.ID), err)
}

func record(ctx context.Context, target *pgx.Conn, lane ledger.Lane, tables []ledger.Table, chunks []ledger.Chunk) error {
	err := pgx.BeginFunc(ctx, target, func(tx pgx.Tx) error {
		if err := lane.Guard(ctx, tx); err != nil {
			return err
		}
		return ledger.WritePlan(ctx, tx, lane.ID, tables, chunks)
	})
	if err != nil {
		return err
	}
	// Claims come at once and often; without statistics they would scan.
	_, err = target.Exec(ctx, "analyze dts_sync.tbl; analyze dts_sync.chunk", pgx.QueryExecModeSimpleProtocol)
	return err
}

// cut reads the source. Roots of partition trees have no rows and no chunk: they are copied from the start, and their
// key is built when those of all other tables are.
func (c Config) cut(ctx context.Context, lane ledger.Lane, publications []string, report func(migration.Beat)) ([]ledger.Table, []ledger.Chunk, error) {
	source, err := c.Source.Connect(ctx, lane.Session())
	if err != nil {
		return nil, nil, err
	}
	defer pg.Close(source)
	// The counters are read first: what is written after this and is not published shows later.
	writes, err := catalog.Writes(ctx, source)
	if err != nil {
		return nil, nil, c.Source.Fault("read write counters", "", err)
	}
	found, err := catalog.Tables(ctx, source)
	if err != nil {
		return nil, nil, c.Source.Fault("read tables", "", err)
	}
	if found, err = c.streamed(ctx, source, publications, found); err != nil {
		return nil, nil, err
	}
	var tables []ledger.Table
	var chunks []ledger.Chunk
	for i, t := range found {
		table := ledger.Table{
			Table: t, Mode: t.Mode(c.Spec.WithoutKey), Stage: migration.StagePlanned,
			Published: t.Published(c.Spec.WithoutKey), WriteBase: writes[t.OID],
		}
		if table.Mode == migration.ModeRoot {
			table.Stage = migration.StageCopied
		} else {
			parts, err := c.chunksOf(ctx, source, table)
			if err != nil {
				return nil, nil, c.Source.Fault("cut", t.Name.String(), err)
			}
			chunks = append(chunks, parts...)
		}
		tables = append(tables, table)
		report(migration.Beat{Done: int64(i + 1), Total: int64(len(found))})
	}
	return tables, chunks, nil
}

// readStreamed lists what is in publications, and the partitions below.
const readStreamed = `
with recursive streamed as (
    select r.prrelid as oid from pg_publication_rel r join pg_publication p on p.oid = r.prpubid where p.pubname = any ($1)
    union
    select i.inhrelid from streamed s join pg_class c on c.oid = s.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = s.oid
)
select oid from streamed`

// streamed leaves out tables that came into being after the publications: a copy of them would look complete, while
// their changes are in no stream. The cutover names them as not migrated.
func (c Config) streamed(ctx context.Context, source *pgx.Conn, publications []string, tables []catalog.Table) ([]catalog.Table, error) {
	if len(publications) == 0 {
		return tables, nil
	}
	rows, err := source.Query(ctx, readStreamed, publications)
	if err != nil {
		return nil, c.Source.Fault("read publications", "", err)
	}
	members, err := pgx.CollectRows(rows, pgx.RowTo[uint32])
	if err != nil {
		return nil, c.Source.Fault("read publications", "", err)
	}
	kept := make([]catalog.Table, 0, len(tables))
	for _, t := range tables {
		if t.Kind == "r" && !t.Unlogged && !slices.Contains(members, t.OID) {
			c.Log.Warn("left out a table that was made after the publications", zap.String(migration.KeyTable, t.Name.String()))
			continue
		}
		kept = append(kept, t)
	}
	return kept, nil
}
