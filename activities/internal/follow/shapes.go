package follow

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ddl"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// shapesEvery is how often the source's catalog is looked at.
const shapesEvery = 30 * time.Second

// watchShapes tells what the source's tables have become, and stops the stream where it would go on without changes that
// belong to the target.
func (f *Follower) watchShapes(ctx context.Context) error {
	watch := ddl.Watch{
		Publications: f.expected.Publications, Everything: len(f.config.Spec.Objects) == 0,
		Indexes: !f.config.Spec.Has(migration.TypeSchema),
	}
	beside := beside{follower: f}
	for {
		err := f.lookAtShapes(ctx, &watch, &beside)
		if fault, ok := migration.AsFault(err); ok && (fault.Kind == migration.FaultOther || fault.Kind == migration.FaultPrivilege) {
			// A look takes no lock, so that a table can go while it is looked at. The next look sees it.
			f.config.Logger.Warn("could not look at the source's tables", zap.Error(err))
			f.board.noted([]string{"the source's tables could not be looked at: " + err.Error()})
		} else if err != nil {
			return err
		}
		if wait(ctx, f.shapesEvery) != nil {
			return nil //nolint:nilerr // the wait ended with ctx, which is how watching ends
		}
	}
}

func (f *Follower) lookAtShapes(ctx context.Context, watch *ddl.Watch, beside *beside) error {
	found, err := f.findings(ctx, watch)
	if err != nil || len(found) > 0 {
		// What was planned may have followed meanwhile.
		if err == nil {
			err = f.onTarget(ctx, func(conn *pgx.Conn) (err error) {
				if f.planned, err = (ledger.Ledger{ID: f.config.Spec.ID, Conn: conn}).Tables(ctx); err != nil {
					return err
				}
				if found, err = f.findings(ctx, watch); err != nil {
					return err
				}
				found, err = f.unsettled(ctx, conn, found)
				return err
			})
		}
		if err != nil {
			return err
		}
	}
	var notes []string
	for _, each := range found {
		if each.Grave {
			return each.Fault()
		}
		notes = append(notes, each.String())
	}
	more, err := beside.look(ctx)
	if err != nil {
		return err
	}
	notes = append(notes, more...)
	if f.board.noted(notes) {
		f.config.Logger.Warn("the source's tables are not as they were planned", zap.Strings("notes", notes))
	}
	return nil
}

// lookTimeout keeps a look from holding up the heartbeats, which are sent in the same session.
const lookTimeout = "set local statement_timeout = '5s'"

func (f *Follower) findings(ctx context.Context, watch *ddl.Watch) ([]ddl.Finding, error) {
	var found []ddl.Finding
	err := f.onSource(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		found, err = watch.Look(ctx, conn, f.planned)
		return err
	})
	return found, err
}

// onSource runs one short look in the session of the heartbeats, which survives the end of ctx.
func (f *Follower) onSource(ctx context.Context, work func(context.Context, *pgx.Conn) error) error {
	err := f.source.do(ctx, func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, f.source.conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, lookTimeout); err != nil {
				return err
			}
			return work(ctx, f.source.conn)
		})
	})
	return f.config.Source.Fault("look at tables of", string(f.config.Spec.ID), err)
}

func (f *Follower) onTarget(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := f.config.Target.Connect(ctx, f.lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	return f.config.Target.Fault("look at tables of", string(f.config.Spec.ID), work(conn))
}

// isPartition is null where there is no such table.
const isPartition = `
select bool_or(c.relispartition) from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`

// unsettled leaves out what a person has let the target follow: a partition that was attached there too, or let go.
func (f *Follower) unsettled(ctx context.Context, conn *pgx.Conn, found []ddl.Finding) ([]ddl.Finding, error) {
	for i := range found {
		each := &found[i]
		if !each.Attached && !each.Left {
			continue
		}
		target, err := f.onTargetCalled(ctx, each.Table)
		if err != nil {
			return nil, err
		}
		var partition *bool
		if err := conn.QueryRow(ctx, isPartition, target.Schema, target.Name).Scan(&partition); err != nil {
			return nil, err
		}
		there := partition != nil && *partition
		if there == each.Attached {
			each.Grave = false
		}
	}
	return found, nil
}

// onTargetCalled is the target's name of a table that is planned, or came after the plan.
func (f *Follower) onTargetCalled(ctx context.Context, table migration.TableName) (migration.TableName, error) {
	if at := slices.IndexFunc(f.planned, func(t ledger.Table) bool { return t.Name == table }); at >= 0 {
		return f.planned[at].Target, nil
	}
	if target, known := f.late[table]; known {
		return target, nil
	}
	err := f.onSource(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		selection, _, err := mapping.Read(ctx, conn, f.config.Spec)
		if err == nil {
			f.late[table] = selection.Names.Relation(table)
		}
		return err
	})
	return f.late[table], err
}

// noted keeps what a status tells of the source's tables, and reports whether it is news.
func (b *board) noted(notes []string) bool {
	news := false
	b.update(func() { news, b.notes = !slices.Equal(notes, b.notes) && len(notes) > 0, notes })
	return news
}
