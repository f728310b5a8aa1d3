package bulk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// position is where a reading transaction stands on the source.
type position struct {
	snapshot migration.Snapshot
	lsn      migration.LSN
}

// shared is a snapshot that other sessions hold, and that a reading transaction joins.
type shared struct {
	names    []string
	snapshot string
	epoch    int
	relid    uint32 // 0 = it is that of all tables
}

// sharedBy is the snapshot that a chunk must be read under; nil = the transaction's own.
func (w *worker) sharedBy(c ledger.Chunk) *shared {
	switch {
	case w.held():
		return &shared{names: []string{w.main.SnapshotName}, snapshot: w.main.StartSnapshot.String(), epoch: w.main.SnapshotEpoch}
	case w.tables[c.RelID].Held:
		return &shared{names: c.Hold.Names, snapshot: c.Hold.Snapshot, epoch: c.Hold.Epoch, relid: c.RelID}
	}
	return nil
}

// held reports whether all tables are copied under one snapshot that another session holds, because no changes follow
// that could mend the differences between several.
func (w *worker) held() bool { return !w.config.Spec.Has(migration.TypeIncremental) }

// tables are read in one transaction of the source.
type tables []ledger.Table

// String names them for messages.
func (t tables) String() string {
	names := make([]migration.TableName, len(t))
	for i := range t {
		names[i] = t[i].Name
	}
	return tableNames(names)
}

func (t tables) oids() []uint32 {
	oids := make([]uint32, len(t))
	for i := range t {
		oids[i] = t[i].OID
	}
	return oids
}

// read runs work in a transaction of the source under which the tables are what was planned, and returns its position.
// When it returns without error every invariant on the source's side held until work had read its last row.
func (w *worker) read(ctx context.Context, t tables, under *shared, work func() error) (position, error) {
	tx, at, err := w.snapshot(ctx, t, under)
	if err != nil {
		return at, err
	}
	defer rollback(tx)
	if err := w.same(ctx, t, under != nil); err != nil {
		return at, err
	}
	if err := work(); err != nil {
		return at, err
	}
	if err := w.flushed(ctx, at.lsn); err != nil {
		return at, err
	}
	return at, w.config.Source.Fault("end reading", t.String(), tx.Commit(ctx))
}

// snapshot begins a transaction that holds the tables' locks and a snapshot which sees all that the slot's did.
func (w *worker) snapshot(ctx context.Context, t tables, under *shared) (tx pgx.Tx, at position, err error) {
	at, err = w.including(ctx, t.String(), func() (func(), position, error) {
		var at position
		var err error
		tx, at, err = w.begin(ctx, t, under)
		return func() { rollback(tx) }, at, err
	})
	return tx, at, err
}

// including repeats begin until its snapshot sees all that the slot's did: the source may still call such a transaction
// running (it waits for a synchronous standby).
func (w *worker) including(ctx context.Context, object string, begin func() (func(), position, error)) (position, error) {
	deadline := time.Now().Add(w.config.GuardMax)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		undo, at, err := begin()
		if err != nil || at.snapshot.Includes(w.main.StartSnapshot) {
			return at, err
		}
		undo()
		w.config.Log.Debug("snapshot lacked a transaction of the slot's, tried again", zap.String(migration.KeyTable, object))
		if time.Now().After(deadline) {
			return at, migration.NewFault(migration.FaultOther, "read", object,
				errors.New("a transaction that committed before the slot began still looks unfinished on the source"),
				"look for commits that wait for a synchronous standby: select * from pg_stat_activity where wait_event = 'SyncRep'")
		}
		if err := sleep(ctx, pause); err != nil {
			return at, err
		}
	}
}

const lockAndLook = `
select txid_current_snapshot()::text, pg_is_in_recovery(),
       case when pg_is_in_recovery() then '0/0' else pg_current_wal_insert_lsn()::text end,
       case when pg_is_in_recovery() then '' else pg_walfile_name(pg_current_wal_insert_lsn()) end`

// togetherLockTimeout keeps several locks from being waited for while others are held: whoever wants those too, in another
// order, would be the victim of a deadlock.
const togetherLockTimeout = 200 * time.Millisecond

func (w *worker) begin(ctx context.Context, t tables, under *shared) (pgx.Tx, position, error) {
	var at position
	tx, err := w.join(ctx, t, under)
	if err != nil {
		return nil, at, err
	}
	timeout, names := w.config.LockTimeout, make([]string, len(t))
	for i := range t {
		names[i] = "only " + t[i].Name.SQL()
	}
	if len(t) > 1 {
		timeout = min(timeout, togetherLockTimeout)
	}
	// LOCK takes no snapshot: the first query after it does.
	_, err = tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d; lock table %s in access share mode",
		timeout.Milliseconds(), strings.Join(names, ", ")), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		rollback(tx)
		if state := pg.SQLState(err); state == "42P01" || state == "3F000" || state == "42809" {
			return nil, at, drifted(t.String(), "it is gone or is no table any more")
		}
		return nil, at, w.config.Source.Fault("lock", t.String(), err)
	}
	at, err = w.look(ctx, tx, t.String(), at)
	if err == nil && under != nil && at.snapshot.String() != under.snapshot {
		// After a restart of the server a name may come again.
		err = w.notJoined(under, under.names)
	}
	if err != nil {
		rollback(tx)
		return nil, at, err
	}
	return tx, at, nil
}

// join begins a transaction, and makes a shared snapshot its own. That it is gone is no failure of what was to be read.
func (w *worker) join(ctx context.Context, t tables, under *shared) (pgx.Tx, error) {
	var gone []string
	for {
		tx, err := w.source.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
		if err != nil {
			return nil, w.config.Source.Fault("begin reading", t.String(), err)
		}
		if under == nil {
			return tx, nil
		}
		name := under.names[len(gone)]
		if _, err = tx.Exec(ctx, "set transaction snapshot "+migration.Literal(name), pgx.QueryExecModeSimpleProtocol); err == nil {
			return tx, nil
		}
		rollback(tx)
		if !snapshotGone(err) {
			return nil, w.config.Source.Fault("join the snapshot", name, err)
		}
		if gone = append(gone, name); len(gone) == len(under.names) {
			return nil, w.notJoined(under, gone)
		}
	}
}

// notJoined says that a shared snapshot is gone.
func (w *worker) notJoined(under *shared, names []string) error {
	if under.relid != 0 {
		return &lostNames{names}
	}
	w.gone = under.epoch
	return ledger.ErrEpoch
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// look reads snapshot and position in one statement, and refuses a server that is not the one the slot is on.
func (w *worker) look(ctx context.Context, tx querier, object string, at position) (position, error) {
	var snapshot, lsn, walFile string
	var recovering bool
	err := tx.QueryRow(ctx, lockAndLook).Scan(&snapshot, &recovering, &lsn, &walFile)
	if err != nil {
		return at, w.config.Source.Fault("take snapshot for", object, err)
	}
	if recovering {
		return at, wrongServer(object, "the server is in recovery: it is a standby, whose snapshots do not list what runs")
	}
	if at.snapshot, err = migration.ParseSnapshot(snapshot); err != nil {
		return at, err
	}
	if at.lsn, err = migration.ParseLSN(lsn); err != nil {
		return at, err
	}
	return at, w.sameTimeline(walFile)
}

func (w *worker) sameTimeline(walFile string) error {
	timeline, err := timelineOf(walFile)
	if err == nil && timeline != w.main.Timeline {
		err = wrongServer("", fmt.Sprintf("timeline %d answers, the migration began on timeline %d", timeline, w.main.Timeline))
	}
	return err
}

// sameServer compares the system identifier once a session. A role that may not ask for it relies on the timeline. Without
// a slot nothing is known before a snapshot is held.
func (w *worker) sameServer(ctx context.Context) error {
	system, err := systemID(ctx, w.source)
	switch {
	case err != nil:
		return w.config.Source.Fault("identify", "", err)
	case system != "" && w.main.SystemID != "" && system != w.main.SystemID:
		return wrongServer("", fmt.Sprintf("system %s answers, the migration began with system %s", system, w.main.SystemID))
	}
	return nil
}

func wrongServer(object, what string) error {
	return migration.NewFault(migration.FaultWrongServer, "read", object, errors.New(what),
		"let the source's address lead to the primary that the migration began with, or start anew with: pgdts run --again")
}

// readRewritten asks under a snapshot that is older than the locks.
const readRewritten = `
select exists (
    select from unnest($1::oid[]) o (oid)
    where not exists (select from pg_class c where c.oid = o.oid and c.relfilenode = pg_relation_filenode(c.oid)))`

// same compares tables with what was planned, under the locks that keep them from changing. Under a held snapshot, which
// is older than the locks, the catalog must be asked by a session that sees the present, and a table's file must be the
// one that the snapshot knows: of a table that was truncated or rewritten since, it shows no row at all.
func (w *worker) same(ctx context.Context, t tables, held bool) error {
	if !held {
		return w.unchanged(ctx, w.source, t)
	}
	if err := w.connectAside(ctx); err != nil {
		return err
	}
	if err := w.unchanged(ctx, w.aside, t); err != nil {
		return err
	}
	var rewritten bool
	if err := w.source.QueryRow(ctx, readRewritten, t.oids()).Scan(&rewritten); err != nil {
		return w.config.Source.Fault("look at", t.String(), err)
	}
	if rewritten {
		return migration.NewFault(migration.FaultOther, "read", t.String(), errRewritten,
			"the copy begins again under another snapshot; keep TRUNCATE, VACUUM FULL and rewriting ALTER TABLE from the source until it is done")
	}
	return nil
}

var errRewritten = errors.New("the table was made, truncated or rewritten after the snapshot of the copy was taken")

// readVersions changes with everything that the catalog says of a table by itself, and costs little.
const readVersions = `
select c.oid, concat_ws(' ', n.nspname, n.xmin, c.xmin, c.ctid,
       (select string_agg(a.xmin || ' ' || a.ctid, ',' order by a.attnum) from pg_attribute a where a.attrelid = c.oid and a.attnum > 0),
       (select string_agg(i.xmin || ' ' || i.ctid, ',' order by i.indexrelid) from pg_index i where i.indrelid = c.oid))
from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = any ($1)`

// unchanged compares tables with what was planned. What was looked at in full is looked at again when a row of the catalog
// has changed.
func (w *worker) unchanged(ctx context.Context, conn *pgx.Conn, t tables) error {
	versions := map[uint32]string{}
	rows, err := conn.Query(ctx, readVersions, t.oids())
	if err == nil {
		var oid uint32
		var version string
		_, err = pgx.ForEachRow(rows, []any{&oid, &version}, func() error {
			versions[oid] = version
			return nil
		})
	}
	if err != nil {
		return w.config.Source.Fault("look at", t.String(), err)
	}
	unknown := slices.DeleteFunc(slices.Clone(t), func(one ledger.Table) bool {
		version, there := versions[one.OID]
		return there && version == w.known[one.OID]
	})
	now, err := catalog.CurrentFingerprints(ctx, conn, unknown.oids())
	if err != nil {
		return w.config.Source.Fault("look at", t.String(), err)
	}
	for _, one := range unknown {
		if now[one.OID] != one.Fingerprint() {
			return drifted(one.Name.String(), "its columns, key, name or replica identity have changed")
		}
		if w.known != nil {
			w.known[one.OID] = versions[one.OID]
		}
	}
	return nil
}

func drifted(object, what string) error {
	return migration.NewFault(migration.FaultDrift, "read", object,
		errors.New("the table is not what was planned: "+what),
		"undo the change on the source and type: pgdts resume; or start anew with: pgdts run --again")
}

const (
	flushWait = 20 * time.Millisecond
	// flushPoll is how often is asked, in the end; the first times are closer together, because small chunks wait for nothing else.
	flushPoll = 5 * time.Millisecond
)

// flushed waits, in the session that took the snapshot, until the source's log is durable up to lsn. A busy source
// flushes all the time; on an idle one, or with asynchronous commits, nobody might for long, so another session does.
func (w *worker) flushed(ctx context.Context, lsn migration.LSN) error {
	begun, nudged := time.Now(), false
	for pause := time.Millisecond; ; pause = min(2*pause, flushPoll) {
		var done bool
		var walFile string
		err := w.source.QueryRow(ctx, "select pg_current_wal_flush_lsn() >= $1::text::pg_lsn, pg_walfile_name(pg_current_wal_insert_lsn())",
			lsn.String()).Scan(&done, &walFile)
		switch {
		case err != nil:
			return w.config.Source.Fault("wait for the log to be flushed", lsn.String(), err)
		case done:
			return w.sameTimeline(walFile)
		case time.Since(begun) > w.config.GuardMax:
			return migration.Faultf(migration.FaultOther, "wait for the log to be flushed", lsn.String(), "not flushed after %s", w.config.GuardMax)
		case !nudged && time.Since(begun) > flushWait:
			if err := w.nudge(ctx); err != nil {
				return err
			}
			nudged = true
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// nudge commits a logical message, for which any role has the right: the commit flushes the log. It does not wait for
// standbys, of which one may be down.
func (w *worker) nudge(ctx context.Context) error {
	if err := w.connectAside(ctx); err != nil {
		return err
	}
	_, err := w.aside.Exec(ctx, "select pg_logical_emit_message(true, 'pgdts', 'flush')")
	return w.config.Source.Fault("flush the log", "", err)
}

// connectAside opens a second session on the source.
func (w *worker) connectAside(ctx context.Context) (err error) {
	if w.aside != nil && !w.aside.IsClosed() {
		return nil
	}
	if w.aside, err = w.config.Source.Connect(ctx, w.lane.Session()); err != nil {
		return err
	}
	_, err = w.aside.Exec(ctx, "set synchronous_commit = local")
	return w.config.Source.Fault("set up session", "", err)
}

// rollback ends a transaction whose outcome does not matter, also when the caller's context has ended.
func rollback(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
