package cutover

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Ending says how a migration ended and how much of it goes.
type Ending struct {
	End      migration.Phase // "" = as it was marked
	KeepSlot bool
	// RemoveLedger removes the migration's rows too, and schema dts_sync with the last migration.
	RemoveLedger bool
	// Force removes the rows even when the source could not be cleaned: what is owed there is then known from the
	// result alone.
	Force bool
}

// cleaning is one call of Cleanup.
type cleaning struct {
	Config
	Ending
	id migration.ID
}

func (c cleaning) connect(ctx context.Context, server *pg.Server) (*pgx.Conn, error) {
	return server.Connect(ctx, c.id.Session("cleanup", 0))
}

// Cleanup marks the ledger and removes what the migration has on the source: slot, publications, marker, replica
// identities it set, and a fence whose target was never opened. The fence of an opened target stays until Unfence. What
// could not be removed is returned as the statements that remove it. An error means that a server did not answer; owed
// then holds what is known, and a second call goes on. A call with nothing left to do changes nothing; nor does one for
// an execution that has lost the migration to another, whose slot has the same name. That cannot be known while the target
// does not answer: then a slot that fills the source's disk is thought to be the greater harm.
func Cleanup(ctx context.Context, config Config, ending Ending) (owed []string, err error) {
	c := cleaning{Config: config, Ending: ending, id: config.Spec.ID}
	conn, targetErr := c.connect(ctx, config.Target)
	defer pg.Close(conn)
	l := ledger.Ledger{ID: c.id, Run: config.Run}
	stays := true // what is not known is not undone
	if targetErr == nil {
		l.Conn = conn
		stays, targetErr = c.mark(ctx, &l)
	}
	if errors.Is(targetErr, ledger.ErrTaken) {
		config.Logger.Info("left to the execution that has taken the migration over")
		return nil, nil
	}
	owed, sourceErr := c.source(ctx, l, stays)
	if errors.Is(sourceErr, ledger.ErrTaken) {
		return nil, nil
	}
	if targetErr == nil && l.Conn != nil && c.RemoveLedger && (sourceErr == nil || c.Force) {
		targetErr = config.Target.Fault("remove the ledger of", string(c.id), l.Remove(ctx))
	}
	config.Logger.Info("cleaned up", zap.Strings("owed", owed), zap.Error(errors.Join(sourceErr, targetErr)))
	if sourceErr != nil {
		return owed, sourceErr
	}
	return owed, targetErr
}

// mark writes how the migration ended, and lists the tables that are not complete. A target without this migration's rows
// leaves l without a connection: everything is then known from the id. A fence may be lifted when it says so.
func (c cleaning) mark(ctx context.Context, l *ledger.Ledger) (stays bool, err error) {
	exists, err := ledger.Exists(ctx, l.Conn)
	if err != nil {
		return true, c.Target.Fault("read ledger", string(c.id), err)
	}
	if !exists {
		l.Conn = nil
		return true, nil
	}
	known, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrUnknown) {
		l.Conn = nil
		return true, nil
	}
	if err == nil && c.Run != "" && known.Run != c.Run {
		return true, ledger.ErrTaken
	}
	if err == nil && known.OpenedAt == nil && known.Ended == "" {
		err = c.noteIncomplete(ctx, *l)
	}
	if err == nil && c.End != "" && known.Ended == "" {
		err = l.End(ctx, c.End)
	}
	// Where nothing was streamed nothing was fenced: such a source need not answer.
	idle := known.Slot == "" && known.FencedAt == nil
	return known.OpenedAt != nil || idle, c.Target.Fault("mark the end of", string(c.id), err)
}

func (c cleaning) noteIncomplete(ctx context.Context, l ledger.Ledger) error {
	tables, err := l.Tables(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, table := range tables {
		if table.Stage != migration.StageExact && table.Mode != migration.ModeRoot {
			names = append(names, table.Name.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return l.AddNote(ctx, fmt.Sprintf("%d tables of the target are incomplete and were left as they are: %s", len(names), some(names)))
}

func (c cleaning) source(ctx context.Context, l ledger.Ledger, stays bool) ([]string, error) {
	if !stays {
		if err := c.liftFence(ctx, l); err != nil {
			if errors.Is(err, ledger.ErrTaken) {
				return nil, err
			}
			owed, dropErr := c.drop(ctx, l)
			return owed, errors.Join(err, dropErr)
		}
	}
	return c.drop(ctx, l)
}

func (c cleaning) drop(ctx context.Context, l ledger.Ledger) ([]string, error) {
	if c.KeepSlot {
		name, how := c.id.Slot(), fmt.Sprintf("`pgdts release %s` drops it", c.id)
		if own := c.Spec.Incremental.Slot; own != "" {
			name, how = own, "it is yours to drop"
		}
		return []string{fmt.Sprintf("slot %s is kept, as the definition says; it holds back the source's log: %s", name, how)}, nil
	}
	owed, err := slot.Drop(ctx, c.Source, l)
	if err != nil {
		return owed, err
	}
	if left := c.leftPrepared(ctx); left != "" {
		owed = append(owed, left)
	}
	return owed, nil
}

// leftPrepared is a note, for which nothing fails: a source on which nothing was made need not answer.
func (c cleaning) leftPrepared(ctx context.Context) string {
	conn, err := c.connect(ctx, c.Source)
	if err != nil {
		return ""
	}
	defer pg.Close(conn)
	left, err := leftPrepared(ctx, conn, c.id)
	if err != nil {
		c.Logger.Warn("could not look for the fence's functions", zap.Error(err))
	}
	return left
}

// liftFence is for an attempt that died between closing the source and opening the target, and that none followed.
func (c cleaning) liftFence(ctx context.Context, l ledger.Ledger) error {
	conn, err := c.connect(ctx, c.Source)
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	// Asked after connecting: who takes the migration over ends the sessions that were open before.
	if err := l.Holds(ctx); errors.Is(err, ledger.ErrTaken) {
		return err
	} else if err != nil {
		return c.Target.Fault("read the lease on", string(c.id), err)
	}
	_, err = lift(ctx, c.Source, conn, c.id)
	return err
}

// Release ends whatever of the migration still runs on both servers, and removes every trace of it but the fence of an
// opened target. It needs the two endpoints and the id only. With a source that does not answer it still removes the
// ledger, and returns what is owed there beside the error.
func Release(ctx context.Context, config Config) (owed []string, err error) {
	c := cleaning{Config: config, id: config.Spec.ID}
	for _, server := range []*pg.Server{config.Target, config.Source} {
		conn, err := c.connect(ctx, server)
		if err != nil {
			continue // Cleanup reports it
		}
		_, err = pg.Terminate(ctx, conn, "pgdts/"+c.id.Short()+"/", c.id.Session("cleanup", 0))
		pg.Close(conn)
		if err != nil && pg.SQLState(err) != "42501" {
			return nil, server.Fault("end sessions of", string(c.id), err)
		}
	}
	return Cleanup(ctx, config, Ending{RemoveLedger: true, Force: true})
}
