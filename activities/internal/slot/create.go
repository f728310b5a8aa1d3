package slot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// create makes the slot and records its start while the session that exported the snapshot is open.
func (p *preparation) create(ctx context.Context) (migration.LSN, error) {
	conn, err := p.Source.Replication(ctx, p.Lane.Session(), nil)
	if err != nil {
		return 0, hinted(err, "42501", p.replicationHint())
	}
	defer closeReplication(conn)
	made, err := p.createReporting(ctx, conn)
	if err != nil {
		return 0, err
	}
	start, err := migration.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return 0, err
	}
	snapshot, err := p.textOf(ctx, made.SnapshotName)
	if err != nil {
		return 0, err
	}
	if err := failpoint.Hit(failpoint.PrepareCreated); err != nil {
		return 0, err
	}
	if err := p.recordStart(ctx, start, snapshot); err != nil {
		return 0, err
	}
	p.Logger.Info("created slot", zap.String(migration.KeySlot, p.plan.slot), zap.Stringer(migration.KeyLSN, start))
	return start, nil
}

func (p *preparation) replicationHint() string {
	role := migration.Quote(p.role)
	return fmt.Sprintf("the role may not replicate: alter role %s replication; on RDS: grant rds_replication to %s", role, role)
}

// createReporting waits for every transaction that is open on the source, and tells for whom.
func (p *preparation) createReporting(ctx context.Context, conn *pgconn.PgConn) (pglogrepl.CreateReplicationSlotResult, error) {
	var made pglogrepl.CreateReplicationSlotResult
	watching, stop := context.WithCancel(ctx)
	group, watching := errgroup.WithContext(watching)
	// Ends when the slot is made or could not be.
	group.Go(func() error { return p.reportBlockers(watching, conn.PID()) })
	group.Go(func() (err error) {
		defer stop()
		made, err = pglogrepl.ParseCreateReplicationSlot(conn.Exec(ctx, p.createStatement()))
		return err
	})
	err := group.Wait()
	switch pg.SQLState(err) {
	case "42501":
		return made, hinted(p.Source.Fault("create slot", p.plan.slot, err), "42501", p.replicationHint())
	case "53400":
		return made, hinted(p.Source.Fault("create slot", p.plan.slot, err), "53400",
			"every replication slot is taken: drop an unused one, or raise max_replication_slots")
	case "55000":
		return made, hinted(p.Source.Fault("create slot", p.plan.slot, err), "55000",
			"set wal_level = logical on the source and restart it")
	}
	return made, p.Source.Fault("create slot", p.plan.slot, err)
}

// failoverSince is the version whose standbys keep a primary's slots in step.
const failoverSince = 170000

// createStatement lets standbys have the slot, where they know how. It costs nothing where none does; where the source says
// that such slots wait for its standbys (synchronized_standby_slots), so does the stream. The grammar knows capitals only.
func (p *preparation) createStatement() string {
	statement := "CREATE_REPLICATION_SLOT " + migration.Quote(p.plan.slot) + " LOGICAL pgoutput "
	if p.version >= failoverSince {
		return statement + "(SNAPSHOT 'export', FAILOVER)"
	}
	return statement + "EXPORT_SNAPSHOT"
}

// blockers of a slot's creation: it waits for one transaction after the other.
const blockers = `
select case when x.gid is not null
            then 'prepared transaction ' || quote_literal(x.gid) || ' (since ' || date_trunc('second', x.prepared) || ')'
            else 'process ' || a.pid || ' (' || coalesce(a.usename, '') || ', ' || quote_literal(a.application_name)
                 || ', ' || coalesce(a.state, '') || ', transaction since ' || coalesce(date_trunc('second', a.xact_start)::text, '') || ')'
       end
from pg_catalog.pg_locks w
left join pg_catalog.pg_prepared_xacts x on x.transaction = w.transactionid
left join pg_catalog.pg_locks h on h.locktype = 'transactionid' and h.transactionid = w.transactionid and h.granted and x.gid is null
left join pg_catalog.pg_stat_activity a on a.pid = h.pid
where w.pid = $1 and w.locktype = 'transactionid' and not w.granted and (x.gid is not null or a.pid is not null)`

const blockersEvery = time.Second

func (p *preparation) reportBlockers(ctx context.Context, walsender uint32) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(blockersEvery):
		}
		waiting, err := pg.Strings(ctx, p.source, blockers, walsender)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // ctx ends when the slot is there; the question went down with it
		}
		if err != nil {
			return fmt.Errorf("look who blocks slot %s: %w", p.plan.slot, err)
		}
		beat := migration.Beat{Step: "prepare", At: time.Now(), Message: "waiting for open transactions before the slot can begin"}
		if len(waiting) > 0 {
			beat.Message = "the slot waits for the end of " + waiting[0]
		}
		p.Report(beat)
	}
}

// textOf imports the snapshot only to read its text. No table is read under it: servers without the fix of 2026 export it
// before the commits that it sees are marked, and a reader would take their rows for aborted.
func (p *preparation) textOf(ctx context.Context, name string) (string, error) {
	// A session of its own: the one that watched may have lost a query to its cancellation.
	conn, err := p.Source.Connect(ctx, p.Lane.Session())
	if err != nil {
		return "", err
	}
	defer pg.Close(conn)
	var text string
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set transaction snapshot "+migration.Literal(name)); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select pg_catalog.txid_current_snapshot()::text").Scan(&text)
	})
	if err == nil && text == "" {
		err = errors.New("empty snapshot")
	}
	return text, p.Source.Fault("read snapshot of slot", p.plan.slot, err)
}

func closeReplication(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
