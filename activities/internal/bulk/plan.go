package bulk

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
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
		tables, chunks, err := config.cut(ctx, lane, book, main.Publications, report)
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
// key is built when those of all other tables are. Where nothing is copied, every table is exact at once: its band is empty.
func (c Config) cut(ctx context.Context, lane ledger.Lane, book ledger.Ledger, publications []string, report func(migration.Beat)) ([]ledger.Table, []ledger.Chunk, error) {
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
	found, err := c.selected(ctx, source, book)
	if err != nil {
		return nil, nil, err
	}
	if found, err = c.streamed(ctx, source, publications, found); err != nil {
		return nil, nil, err
	}
	there, err := c.lookAtExisting(ctx, book.Conn, found)
	if err != nil {
		return nil, nil, err
	}
	cutter, err := c.cutter(ctx, source, found)
	if err != nil {
		return nil, nil, err
	}
	var tables []ledger.Table
	var chunks []ledger.Chunk
	for i, t := range found {
		table, parts, err := cutter.table(ctx, t, there)
		if err != nil {
			return nil, nil, err
		}
		table.WriteBase = writes[t.OID]
		tables, chunks = append(tables, table), append(chunks, parts...)
		report(migration.Beat{Done: int64(i + 1), Total: int64(len(found))})
	}
	return tables, chunks, nil
}

func (c Config) cutter(ctx context.Context, source *pgx.Conn, tables []mapping.Table) (cutter, error) {
	version, err := pg.Version(ctx, source)
	var total int64
	for _, t := range tables {
		total += t.Bytes
	}
	return cutter{Config: c, source: source, version: version, size: c.chunkBytes(total)}, c.Source.Fault("read version", "", err)
}

func (c cutter) table(ctx context.Context, t mapping.Table, there existing) (ledger.Table, []ledger.Chunk, error) {
	table := ledger.Table{
		Table: t, Mode: c.mode(t, there.strict[t.Target]), Stage: migration.StagePlanned, Published: t.Published(t.WithoutKey),
	}
	switch {
	case !c.Spec.Has(migration.TypeFull):
		table.Stage = migration.StageExact
		return table, nil, nil
	case table.Mode == migration.ModeRoot:
		table.Stage = migration.StageCopied
		return table, nil, nil
	case t.Existing && !t.Keep && !there.empty[t.Target]:
		return table, nil, mustBeEmpty(t)
	}
	table.WasEmpty = t.Existing && !t.Keep
	chunks, err := c.chunksOf(ctx, &table)
	return table, chunks, c.Source.Fault("cut", t.Name.String(), err)
}

// selected resolves the definition. The precheck has found nothing in the way of it; what stands there now is new, and a
// person must look. What a person may accept is kept for the report.
func (c Config) selected(ctx context.Context, source *pgx.Conn, book ledger.Ledger) ([]mapping.Table, error) {
	selection, problems, err := mapping.Read(ctx, source, c.Spec)
	if err != nil {
		return nil, c.Source.Fault("read tables", "", err)
	}
	made, err := book.Made(ctx)
	if err != nil {
		return nil, c.Target.Fault("read ledger of", string(book.ID), err)
	}
	more, err := selection.Meet(ctx, book.Conn, c.Spec, made)
	if err != nil {
		return nil, c.Target.Fault("read tables", "", err)
	}
	for _, p := range append(problems, more...) {
		if !p.Alert {
			return nil, migration.NewFault(migration.FaultDrift, "plan", p.Object, errors.New(p.Text), p.Fix)
		}
		if err := book.AddNote(ctx, p.Object+": "+p.Text); err != nil {
			return nil, c.Target.Fault("note", p.Object, err)
		}
	}
	return selection.Tables, nil
}

// mode is how a table's rows are carried. Under a snapshot that is held for all tables key ranges need no changes by which
// they converge, and meet no constraint that one snapshot keeps.
func (c Config) mode(t mapping.Table, strict bool) migration.TableMode {
	mode := t.Mode(t.WithoutKey)
	switch {
	case !c.Spec.Has(migration.TypeIncremental) && mode == migration.ModeOneSnapshot && len(t.Key) > 0 && t.KeyTrusted && t.Extension == "":
		return migration.ModeKeyRange
	case c.Spec.Has(migration.TypeIncremental) && mode == migration.ModeKeyRange && strict:
		return migration.ModeOneSnapshot
	}
	return mode
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
func (c Config) streamed(ctx context.Context, source *pgx.Conn, publications []string, tables []mapping.Table) ([]mapping.Table, error) {
	if len(publications) == 0 {
		return tables, nil
	}
	rows, err := source.Query(ctx, readStreamed, publications)
	if err != nil {
		return nil, c.Source.Fault("read publications", "", err)
	}
	members := map[uint32]bool{}
	var oid uint32
	if _, err := pgx.ForEachRow(rows, []any{&oid}, func() error { members[oid] = true; return nil }); err != nil {
		return nil, c.Source.Fault("read publications", "", err)
	}
	kept := make([]mapping.Table, 0, len(tables))
	for _, t := range tables {
		if t.Kind == "r" && !t.Unlogged && !members[t.OID] {
			c.Log.Warn("left out a table that was made after the publications", zap.String(migration.KeyTable, t.Name.String()))
			continue
		}
		kept = append(kept, t)
	}
	return kept, nil
}
