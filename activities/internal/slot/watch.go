package slot

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// WatchConfig says what to watch. Logger must be set.
type WatchConfig struct {
	Source, Target *pg.Server
	ID             migration.ID
	Run            string
	// Every is how often; 0 = 5 s.
	Every  time.Duration
	Logger *zap.Logger
}

const watchEvery = 5 * time.Second

// Watch looks after a slot from which nothing is read: it reports what the source keeps for it, and renews the lease. It
// returns nil when ctx ends, and a fault when the slot is lost, was consumed by somebody, or the lease is.
func Watch(ctx context.Context, config WatchConfig, report func(migration.Beat)) error {
	if config.Every == 0 {
		config.Every = watchEvery
	}
	name := config.ID.Session("watch", 0)
	source, err := config.Source.Connect(ctx, name)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer pg.Close(source)
	target, err := config.Target.Connect(ctx, name)
	if err != nil {
		return unlessEnded(ctx, err)
	}
	defer pg.Close(target)
	meter := NewMeter(config.Logger)
	for {
		beat, err := config.look(ctx, source, target, meter)
		if err != nil {
			return unlessEnded(ctx, err)
		}
		report(beat)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(config.Every):
		}
	}
}

func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // what fails because ctx has ended is the end that was asked for
	}
	return err
}

func (c WatchConfig) look(ctx context.Context, source, target *pgx.Conn, meter *Meter) (migration.Beat, error) {
	l := ledger.Ledger{ID: c.ID, Conn: target}
	if err := l.Renew(ctx, c.Run); err != nil {
		return migration.Beat{}, c.Target.Fault("renew the lease on", string(c.ID), err)
	}
	expected, err := Expect(ctx, l)
	if err != nil {
		return migration.Beat{}, c.Target.Fault("read ledger", string(c.ID), err)
	}
	if err := Check(ctx, source, expected); err != nil {
		return migration.Beat{}, err
	}
	status, err := Inspect(ctx, source, expected.Slot)
	if err != nil {
		return migration.Beat{}, err
	}
	beat := migration.Beat{
		Step: "watch", At: time.Now(),
		LSN: &migration.Positions{Applied: status.Confirmed, Confirmed: status.Confirmed, Source: status.Current},
	}
	beat.SetWAL(meter.Measure(expected.Slot, status, time.Now()))
	return beat, nil
}
