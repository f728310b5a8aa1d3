package apply

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config is what an Applier works with.
type Config struct {
	Source, Target *pg.Server
	Lane           ledger.Lane
	Spec           migration.Spec
	Logger         *zap.Logger
}

// Stats is what one Applier has done.
type Stats struct {
	Changes   int64 // row changes and truncations that are durable, without those that the copy had brought
	Conflicts int64 // rows that were not as the exact regime demands
	Replayed  int64 // batches that had to be written change by change
}

// Applier applies transactions in stream order. It is for one goroutine. After any error it applies nothing more:
// nothing of the call that failed is durable, except that a COMMIT whose answer was lost may be. Close it and start
// anew with New, which reads where the target stands.
type Applier struct {
	config Config
	conn   *pgx.Conn // target
	source *pgx.Conn // nil until it is needed
	pipe   *pipeline
	walk   walk

	tables   map[uint32]*table // by oid on the source
	bands    map[*table]bool   // not closed yet
	types    map[typeKey]string
	names    *mapping.Names // nil until they are needed
	position migration.LSN
	stats    Stats
	broken   error

	current  *wal.Transaction // whose changes are being taken
	ordinal  int64            // counts transactions that were taken, again ones included
	batches  int64
	counted  Stats            // of the open transaction's current segment
	held     Stats            // of its segments before
	extended []extension      // to be written into the ledger before the commit
	reshaped []reshaped       // likewise
	unended  *wal.Transaction // the transaction whose parts are being applied; nil between transactions
}

// extension is a band that grew.
type extension struct {
	table    *table
	snapshot migration.Snapshot
	high     migration.LSN
}

// New opens a session on the target, takes the progress row over for the lane, and reads where the tables stand. Nothing
// is applied. ErrUnknown when the migration has no slot yet.
func New(ctx context.Context, config Config) (*Applier, error) {
	conn, err := config.Target.Connect(ctx, config.Lane.Session())
	if err != nil {
		return nil, err
	}
	pg.MayStall(conn) // whoever applies renews the lease in another session
	a := &Applier{config: config, conn: conn, pipe: newPipeline(conn), tables: map[uint32]*table{}, bands: map[*table]bool{}, types: map[typeKey]string{}}
	a.walk = walk{executor: a, folds: map[*table]*fold{}, owners: map[ownedKey]*fold{}}
	if err := a.open(ctx); err != nil {
		pg.Close(conn)
		return nil, config.Target.Fault("begin to apply", "", err)
	}
	return a, nil
}

// settle makes plans that look rows up by key, for statements whose row counts the planner cannot know. A plan that is
// dear only because scans are off must not be compiled first.
const settle = `
select set_config(name, 'off', false) from pg_settings
where name in ('enable_seqscan', 'enable_hashjoin', 'enable_mergejoin', 'jit')
union all select set_config('synchronous_commit', 'on', false)`

func (a *Applier) open(ctx context.Context) error {
	if _, err := a.conn.Exec(ctx, settle); err != nil {
		return err
	}
	replica, err := pg.TryReplicaRole(ctx, a.conn)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, a.conn, func(tx pgx.Tx) (err error) {
		if err := a.config.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		a.position, err = a.config.Lane.TakeProgress(ctx, tx)
		return err
	})
	if err != nil {
		return err
	}
	planned, err := ledger.Ledger{ID: a.config.Lane.ID, Conn: a.conn}.Tables(ctx)
	if err != nil {
		return err
	}
	for _, p := range planned {
		t := a.newTable(p)
		a.tables[p.OID] = t
		if !t.closed {
			a.bands[t] = true
		}
	}
	a.share()
	if err := a.readMarks(ctx); err != nil {
		return err
	}
	a.config.Logger.Debug("read the ledger", zap.Stringer(migration.KeyLSN, a.position), zap.Int("tables", len(planned)),
		zap.Bool("replica_role", replica))
	return nil
}

// newTable closes the band only where the ledger says so and the position agrees.
func (a *Applier) newTable(p ledger.Table) *table {
	fromNow := a.config.Spec.FromNow()
	t := &table{
		id: a.config.Lane.ID, planned: p, relid: p.OID, target: p.Target, converges: fromNow || !p.Plain(), fromNow: fromNow,
		snapshots: snapshots{smin: p.Smin, smax: p.Smax, extra: p.Extra, high: p.High},
	}
	if p.Stage == migration.StageExact {
		t.close()
		t.closed, t.extra = a.position >= p.High, p.Extra
	}
	return t
}

// Position is the end of what is durable on the target.
func (a *Applier) Position() migration.LSN { return a.position }

// Stats counts what is durable.
func (a *Applier) Stats() Stats { return a.stats }

// Tables counts the tables that hold rows by how far they are.
func (a *Applier) Tables() migration.TableCounts {
	var counts migration.TableCounts
	for _, t := range a.tables {
		if t.planned.Mode == migration.ModeRoot || t.planned.OID != t.relid {
			continue
		}
		counts.Total++
		if t.copied() {
			counts.Copied++
		}
		if t.copied() && t.closed {
			counts.Exact++
		}
	}
	return counts
}

func (t *table) copied() bool {
	return t.planned.Stage == migration.StageBand || t.planned.Stage == migration.StageExact
}

// Close ends the sessions. An open transaction is rolled back.
func (a *Applier) Close() {
	pg.Close(a.conn)
	pg.Close(a.source)
}

var errSpent = errors.New("an earlier call failed; start anew")

// fail classifies an error and keeps the applier from going on.
func (a *Applier) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	a.broken = errSpent
	var failed *misfit
	if errors.As(err, &failed) && failed.table != nil {
		err = failed.fault()
	}
	return a.config.Target.Fault(op, "", err)
}

// usable refuses to go on after an error.
func (a *Applier) usable() error {
	if a.broken != nil {
		return migration.NewFault(migration.FaultBug, "apply", "", a.broken, "")
	}
	return nil
}

func (a *Applier) full() bool { return a.config.Spec.Has(migration.TypeFull) }
