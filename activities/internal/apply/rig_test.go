package apply_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/apply"
	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// rig is a source with a slot, and a target with a ledger.
type rig struct {
	t              testing.TB // of the running test
	source, target *pgtest.DB
	from, to       *pg.Server
	spec           migration.Spec
	lane           ledger.Lane
	conn           *pgx.Conn // target
	decoder        *wal.Decoder
	applier        *apply.Applier
	partBytes      int
	midway         func() // called by copies, if it is set, after each chunk of a table but the last
	tables         []mapping.Table
}

const run = "run-1"

// newRig runs the same statements on both sides; the slot is made after them.
func newRig(t testing.TB, ddl string) *rig {
	t.Helper()
	server := pgtest.Shared(t)
	return newRigOn(t, server, server, ddl)
}

func newRigOn(t testing.TB, from, to *pgserver.Server, ddl string) *rig {
	t.Helper()
	return newMapped(t, from, to, ddl, ddl, func(*mapping.Table) {})
}

// newMapped runs a statement on each side, and changes what is planned of each table.
func newMapped(t testing.TB, from, to *pgserver.Server, source, target string, change func(*mapping.Table)) *rig {
	t.Helper()
	return newRigOf(t, pgtest.Database(t, from), pgtest.Database(t, to), source, target, change)
}

func newRigOf(t testing.TB, from, to *pgtest.DB, source, target string, change func(*mapping.Table)) *rig {
	t.Helper()
	r := &rig{t: t, source: from, target: to, partBytes: 1 << 20}
	r.source.Exec(t, source)
	r.target.Exec(t, target)
	r.spec = migration.Spec{ID: migration.RandomID("test")}
	r.spec.Defaults()
	r.from, r.to = server(t, migration.Source, r.source), server(t, migration.Target, r.target)
	r.publish()
	for i := range r.tables {
		change(&r.tables[i])
	}
	r.source.Exec(t, fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", r.spec.ID.Slot()))
	r.record()
	t.Cleanup(func() {
		if r.applier != nil {
			r.applier.Close()
		}
	})
	return r
}

func server(t testing.TB, side migration.Side, db *pgtest.DB) *pg.Server {
	t.Helper()
	s, err := pg.NewServer(side, migration.Endpoint{URI: db.URI}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publish makes two publications: tables whose rows can be found again, and the others for insertions.
func (r *rig) publish() {
	r.t.Helper()
	r.tables = plan(r.t, r.source)
	var all, inserts []string
	for _, table := range r.tables {
		switch {
		case table.Kind == "p":
		case len(table.Key) > 0 || table.Identity == "f":
			all = append(all, table.Name.SQL())
		default:
			inserts = append(inserts, table.Name.SQL())
		}
	}
	if len(all) > 0 {
		r.source.Exec(r.t, "create publication "+r.spec.ID.Publication()+" for table "+strings.Join(all, ", "))
	} else {
		r.source.Exec(r.t, "create publication "+r.spec.ID.Publication())
	}
	operations := "insert, truncate"
	if r.version() < 11 {
		operations = "insert"
	}
	r.source.Exec(r.t, "create publication "+r.spec.ID.PublicationInsertOnly()+" with (publish = '"+operations+"')")
	if len(inserts) > 0 {
		r.source.Exec(r.t, "alter publication "+r.spec.ID.PublicationInsertOnly()+" add table "+strings.Join(inserts, ", "))
	}
}

func (r *rig) version() int { return r.source.Server.Binaries.Major }

// record writes the ledger: every table exact from the slot's start on, as if nothing had to be copied.
func (r *rig) record() {
	r.t.Helper()
	r.conn = r.target.Conn(r.t)
	ctx := r.t.Context()
	must(r.t, ledger.Create(ctx, r.conn))
	l := ledger.Ledger{ID: r.spec.ID, Conn: r.conn}
	must(r.t, l.Acquire(ctx, run, r.spec))
	start := pgtest.Value[string](r.t, r.source, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", r.spec.ID.Slot())
	r.target.Exec(r.t, "update dts_sync.migration set start_lsn = $1::text::pg_lsn", start)
	for _, table := range r.tables {
		def, err := json.Marshal(table)
		must(r.t, err)
		mode, published := migration.ModeKeyRange, "all"
		switch {
		case table.Kind == "p":
			mode = migration.ModeRoot
		case len(table.Key) == 0:
			mode = migration.ModeOneSnapshot
			if table.Identity != "f" {
				published = "insert"
			}
		}
		r.target.Exec(r.t, `insert into dts_sync.tbl (migration, relid, schema, name, target_schema, target_name, mode, stage, published, key, def, fingerprint)
			values ($1, $2, $3, $4, $5, $6, $7, 'exact', $8, coalesce($9, '{}'::text[]), $10, '')`,
			r.spec.ID, table.OID, table.Name.Schema, table.Name.Name, table.Target.Schema, table.Target.Name, mode, published, table.Key, def)
	}
}

// plan reads the tables as their catalog describes them.
func plan(t testing.TB, db *pgtest.DB) []mapping.Table {
	t.Helper()
	const sql = `select coalesce(json_agg(json_build_object(
		'oid', c.oid::int8, 'name', json_build_object('schema', n.nspname, 'name', c.relname), 'kind', c.relkind,
		'identity', c.relreplident, 'partition', c.relispartition,
		'key', coalesce((select json_agg(a.attname order by k.n) from pg_index i, unnest(i.indkey::int2[]) with ordinality k(num, n), pg_attribute a
			where i.indrelid = c.oid and a.attrelid = c.oid and a.attnum = k.num and i.indimmediate
			and case when c.relreplident = 'i' then i.indisreplident else i.indisprimary end), '[]'),
		'columns', coalesce((select json_agg(json_build_object('name', a.attname, 'num', a.attnum, 'type', format_type(a.atttypid, a.atttypmod),
			'typeOid', a.atttypid::int8, 'baseOid', a.atttypid::int8, 'typeKind', ty.typtype, 'notNull', a.attnotnull, 'identity', a.attidentity,
			'generated', coalesce(to_jsonb(a) ->> 'attgenerated', '') <> '', 'storage', a.attstorage) order by a.attnum)
			from pg_attribute a join pg_type ty on ty.oid = a.atttypid where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '[]'))), '[]')
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p') and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')`
	conn := db.Conn(t)
	if _, err := conn.Exec(t.Context(), "set search_path = pg_catalog"); err != nil {
		t.Fatal(err)
	}
	var data []byte
	if err := conn.QueryRow(t.Context(), sql).Scan(&data); err != nil {
		t.Fatal(err)
	}
	var tables []catalog.Table
	if err := json.Unmarshal(data, &tables); err != nil {
		t.Fatal(err)
	}
	var whole []mapping.Table
	for _, table := range tables {
		whole = append(whole, mapping.Whole(table))
	}
	return whole
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// start makes a new applier, as a new attempt of the step does.
func (r *rig) start() *apply.Applier {
	r.t.Helper()
	if r.applier != nil {
		r.applier.Close()
	}
	ctx := r.t.Context()
	lane, err := ledger.Ledger{ID: r.spec.ID, Conn: r.conn}.Enter(ctx, run, "stream")
	must(r.t, err)
	r.lane = lane
	r.decoder = wal.NewDecoder(r.partBytes)
	r.applier, err = apply.New(ctx, apply.Config{Source: r.from, Target: r.to, Lane: lane, Spec: r.spec, Logger: zap.NewNop()})
	must(r.t, err)
	return r.applier
}

// receive reads what the slot has, without moving it.
func (r *rig) receive() []wal.Transaction {
	r.t.Helper()
	conn := r.source.Conn(r.t)
	rows, err := conn.Query(r.t.Context(), `select data from pg_logical_slot_peek_binary_changes($1, null, null,
		'proto_version', '1', 'publication_names', $2)`, r.spec.ID.Slot(), r.spec.ID.Publication()+","+r.spec.ID.PublicationInsertOnly())
	must(r.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	must(r.t, err)
	r.decoder = wal.NewDecoder(r.partBytes)
	var all []wal.Transaction
	for _, message := range messages {
		tx, err := r.decoder.Decode(message)
		must(r.t, err)
		if tx != nil {
			all = append(all, *tx)
		}
	}
	return all
}

// confirm moves the slot to what is durable.
func (r *rig) confirm() {
	r.t.Helper()
	if r.version() < 11 {
		r.source.Exec(r.t, "select count(*) from pg_logical_slot_get_binary_changes($1, $2::text::pg_lsn, null, 'proto_version', '1', 'publication_names', $3)",
			r.spec.ID.Slot(), r.applier.Position().String(), r.spec.ID.Publication())
		return
	}
	r.source.Exec(r.t, "select pg_replication_slot_advance($1, greatest(confirmed_flush_lsn, $2::text::pg_lsn)) from pg_replication_slots where slot_name = $1",
		r.spec.ID.Slot(), r.applier.Position().String())
}

// drain applies everything in batches of some size, 0 being all at once. Nobody may write to the source meanwhile.
func (r *rig) drain(size int) {
	r.t.Helper()
	must(r.t, r.tryDrain(size))
}

func (r *rig) tryDrain(size int) error {
	r.t.Helper()
	if err := r.follow(size); err != nil {
		return err
	}
	position, err := migration.ParseLSN(pgtest.Value[string](r.t, r.source, "select pg_current_wal_insert_lsn()::text"))
	must(r.t, err)
	must(r.t, r.applier.Idle(r.t.Context(), max(position, r.applier.Position())))
	r.confirm()
	return nil
}

// follow applies what has been committed by now.
func (r *rig) follow(size int) error {
	r.t.Helper()
	if r.applier == nil {
		r.start()
	}
	all := r.receive()
	if size == 0 {
		size = max(len(all), 1)
	}
	for batch := range slices.Chunk(all, size) {
		if err := r.applier.Apply(r.t.Context(), batch); err != nil {
			return err
		}
	}
	return nil
}

func (r *rig) mustEqual() {
	r.t.Helper()
	pgtest.MustEqual(r.t, r.source, r.target)
}

func (r *rig) mustHaveNoConflict() {
	r.t.Helper()
	if n := pgtest.Value[int64](r.t, r.target, "select coalesce(sum(conflicts), 0)::int8 from dts_sync.tbl"); n != 0 {
		r.t.Fatalf("%d conflicts: %v", n, r.target.Query(r.t, "select * from dts_sync.conflict limit 5"))
	}
	if n := r.applier.Stats().Replayed; n != 0 {
		r.t.Fatalf("%d batches were replayed change by change", n)
	}
}

// copyRows copies what a query gives in a transaction of the source.
func copyRows(ctx context.Context, from, to *pgx.Conn, query, into string) error {
	var rows bytes.Buffer
	if _, err := from.PgConn().CopyTo(ctx, &rows, "copy ("+query+") to stdout"); err != nil {
		return err
	}
	_, err := to.PgConn().CopyFrom(ctx, &rows, "copy "+into+" from stdin")
	return err
}

// script runs statements on the source one by one, so that each is a transaction unless it says otherwise. Its values
// hold no semicolon.
func (r *rig) script(sql string) {
	r.t.Helper()
	conn := r.source.Conn(r.t)
	for _, statement := range strings.Split(sql, ";") {
		if _, err := conn.Exec(r.t.Context(), statement); err != nil {
			r.t.Fatalf("%s: %v", statement, err)
		}
	}
}

// on lets a subtest use the rig of its parent.
func (r *rig) on(t testing.TB) *rig {
	parent := r.t
	r.t = t
	t.Cleanup(func() { r.t = parent })
	return r
}
