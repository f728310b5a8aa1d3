package slot

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config says whose slot it is. Report and Logger must be set.
type Config struct {
	Source, Target *pg.Server
	// Lane is the caller's place as a writer to the ledger.
	Lane ledger.Lane
	Spec migration.Spec
	// Tables are the selected ones.
	Tables []mapping.Table
	Report func(migration.Beat)
	Logger *zap.Logger
}

// Prepare makes the publications and the slot, and returns where the stream will begin. The ledger must exist and know
// the migration. A second call finds what the first has made; after a failure part of it may stand, all of it recorded,
// and Drop removes it. It waits for transactions that are open on the source, and reports which.
//
// A slot that the definition names is not made but taken as a person has made it, with the changes that it holds: the
// rows before them are the person's too, and no snapshot is recorded.
func Prepare(ctx context.Context, config Config) (migration.LSN, error) {
	p := &preparation{Config: config}
	defer p.close()
	if err := p.connect(ctx); err != nil {
		return 0, err
	}
	if err := p.recognise(ctx); err != nil {
		return 0, err
	}
	exists, err := p.slotExists(ctx)
	if err != nil {
		return 0, err
	}
	if p.prepared() {
		return p.found(exists)
	}
	if p.adopts() {
		return p.adopt(ctx, exists)
	}
	if err := p.record(ctx); err != nil {
		return 0, err
	}
	if err := failpoint.Hit(failpoint.PrepareRecorded); err != nil {
		return 0, err
	}
	if exists {
		// Its snapshot died with the process that made it (I1).
		if err := dropSlot(ctx, p.source, config.Spec.ID); err != nil {
			return 0, config.Source.Fault("drop unused slot", p.plan.slot, err)
		}
	}
	if err := p.publish(ctx); err != nil {
		return 0, err
	}
	return p.create(ctx)
}

type preparation struct {
	Config
	source, target *pgx.Conn
	version        int
	role           string
	server         identity
	known          ledger.Migration
	plan           plan
}

func (p *preparation) ledger() ledger.Ledger { return ledger.Ledger{ID: p.Spec.ID, Conn: p.target} }

// adopts reports whether the slot is a person's.
func (p *preparation) adopts() bool { return p.plan.slot != p.Spec.ID.Slot() }

// prepared reports whether an earlier call has come to its end.
func (p *preparation) prepared() bool {
	return !p.known.StartSnapshot.IsZero() || p.adopts() && p.known.Start != 0
}

func (p *preparation) close() {
	pg.Close(p.source)
	pg.Close(p.target)
}

func (p *preparation) connect(ctx context.Context) (err error) {
	if p.source, err = p.Source.Connect(ctx, p.Lane.Session()); err != nil {
		return err
	}
	if p.target, err = p.Target.Connect(ctx, p.Lane.Session()); err != nil {
		return err
	}
	// A frozen attempt may still wait for the slot that we are about to make.
	if err = p.Lane.TerminateEarlier(ctx, p.source); err != nil {
		return p.Source.Fault("end earlier sessions of", p.Lane.Name, err)
	}
	if err = p.source.QueryRow(ctx, "select current_user::text").Scan(&p.role); err != nil {
		return p.Source.Fault("read role", "", err)
	}
	p.version, err = pg.Version(ctx, p.source)
	return p.Source.Fault("read version", "", err)
}

// recognise refuses a server that is not the one of an earlier call.
func (p *preparation) recognise(ctx context.Context) (err error) {
	if p.known, err = p.ledger().Read(ctx); err != nil {
		return p.Target.Fault("read ledger", string(p.Spec.ID), err)
	}
	if p.server, err = identify(ctx, p.source); err != nil {
		return p.Source.Fault("identify", "", err)
	}
	if p.known.SystemID != "" {
		if err := p.server.mustBe(identity{system: p.known.SystemID, timeline: p.known.Timeline}); err != nil {
			return err
		}
	}
	parted, err := partedRoots(ctx, p.source, p.Spec, p.Tables)
	if err != nil {
		return p.Source.Fault("read partitions", "", err)
	}
	p.plan = makePlan(p.Spec, p.Tables, p.version, parted)
	return nil
}

func (p *preparation) slotExists(ctx context.Context) (bool, error) {
	var exists bool
	err := p.source.QueryRow(ctx, "select exists (select from pg_catalog.pg_replication_slots where slot_name = $1)",
		p.plan.slot).Scan(&exists)
	return exists, p.Source.Fault("look for slot", p.plan.slot, err)
}

func (p *preparation) found(exists bool) (migration.LSN, error) {
	if !exists {
		return 0, errMissing(p.known.Slot)
	}
	return p.known.Start, nil
}

func errMissing(slot string) error {
	fault := migration.NewFault(migration.FaultSlotLost, "find slot", slot, errors.New("the source has no such slot any more"),
		"changes since it was lost cannot be had; start the migration anew (`pgdts stop`, then `pgdts run --again`)")
	fault.Side = migration.Source
	return fault
}

const recordIntent = `
update dts_sync.migration
set source_sysid = $2, source_timeline = $3, slot = $4, publications = $5, identities = $6
where id = $1`

// record writes down what will be made, before it is made.
func (p *preparation) record(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, p.target, func(tx pgx.Tx) error {
		if err := p.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		recorded, err := readIdentities(ctx, tx, p.Spec.ID)
		if err != nil {
			return err
		}
		encoded, err := recorded.with(p.plan.identities).encode()
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, recordIntent, p.Spec.ID, p.server.system, p.server.timeline, p.plan.slot, p.plan.names(), encoded)
		return err
	})
	return p.Target.Fault("record slot", p.plan.slot, err)
}

const recordStart = `
update dts_sync.migration set start_lsn = $2, start_snapshot = nullif($3, '') where id = $1`

// recordProgress discards what an earlier slot has left: its positions mean nothing to this one.
const recordProgress = `
insert into dts_sync.progress (migration, end_lsn, token) values ($1, $2, 0)
on conflict (migration) do update set end_lsn = excluded.end_lsn, commit_ts = null, token = 0`

func (p *preparation) recordStart(ctx context.Context, start migration.LSN, snapshot string) error {
	err := pgx.BeginFunc(ctx, p.target, func(tx pgx.Tx) error {
		if err := p.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, recordStart, p.Spec.ID, start.String(), snapshot); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, recordProgress, p.Spec.ID, start.String())
		return err
	})
	return p.Target.Fault("record start of slot", p.plan.slot, err)
}

func (p *preparation) publish(ctx context.Context) error {
	if err := setIdentities(ctx, p.Source, p.source, p.plan.identities); err != nil {
		return err
	}
	if err := p.makeMarker(ctx); err != nil {
		return err
	}
	for _, publication := range p.plan.publications {
		found, err := publication.create(ctx, p.Source, p.source)
		if err != nil {
			return err
		}
		if found.standing != absent && !found.ours {
			p.Logger.Info("took a publication that somebody has made", zap.String("publication", publication.name))
			note := "publication " + publication.name + " was found as an administrator had made it, and used"
			if err := p.ledger().AddNote(ctx, note); err != nil {
				return p.Target.Fault("write ledger", string(p.Spec.ID), err)
			}
		}
	}
	p.Logger.Info("published tables", zap.Strings("publications", p.plan.names()), zap.Int("tables", len(p.Tables)))
	return nil
}

func (p *preparation) makeMarker(ctx context.Context) error {
	if p.version >= messagesSince {
		return nil
	}
	return hinted(p.Source.Fault("create table", markerName, createMarker(ctx, p.source)), "42501",
		fmt.Sprintf("grant create on database %s to %s; or let an administrator run what `pgdts check` prints",
			migration.Quote(p.Source.Database()), migration.Quote(p.role)))
}

// hinted says what a person can do about one state code, where the server's own hint does not.
func hinted(err error, state, hint string) error {
	if fault, ok := migration.AsFault(err); ok && fault.SQLState == state {
		fault.Hint = hint
	}
	return err
}
