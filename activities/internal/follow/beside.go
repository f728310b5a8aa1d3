package follow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ddl"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// beside is about what changes no row of a table, so that the stream says nothing of it and the target may have it at any
// position: plain indexes and comments. Unique indexes may not hold for rows that are still to come: they are only told.
type beside struct {
	follower *Follower
	indexes  map[migration.TableName]bool // names on the target of those that the schema brought, or that were made since
	made     map[migration.TableName]bool // tables of the target that this migration has created: others are not altered
	comments map[ddl.Commented]string     // of the source, as they were brought to the target; nil = not yet
}

// look returns notes about indexes that the target lacks. With ddl: apply-safe, and where the follower may, it makes them
// and brings comments up to date.
func (b *beside) look(ctx context.Context) ([]string, error) {
	f := b.follower
	if !f.config.Spec.Has(migration.TypeSchema) {
		return nil, nil
	}
	if b.indexes == nil {
		if err := f.onTarget(ctx, func(conn *pgx.Conn) error { return b.open(ctx, conn) }); err != nil {
			return nil, err
		}
	}
	follows := f.config.FollowDDL && f.config.Spec.DDL == migration.DDLApplySafe
	notes, err := b.lookAtIndexes(ctx, follows)
	if err == nil && follows {
		err = b.lookAtComments(ctx)
	}
	return notes, err
}

func (b *beside) open(ctx context.Context, conn *pgx.Conn) (err error) {
	known := ledger.Ledger{ID: b.follower.config.Spec.ID, Conn: conn}
	if b.made, err = known.Made(ctx); err == nil {
		b.indexes, err = known.IndexNames(ctx)
	}
	return err
}

// lookAtIndexes says which are missing on the target. One that cannot be made there, because the stream has not come to its
// columns or its name is taken, stays a note and is tried again at the next look.
func (b *beside) lookAtIndexes(ctx context.Context, follows bool) ([]string, error) {
	f := b.follower
	tables := map[uint32]ledger.Table{}
	var relids []uint32
	for _, t := range f.planned {
		tables[t.OID], relids = t, append(relids, t.OID)
	}
	var indexes []ddl.Index
	err := f.onSource(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		indexes, err = ddl.Indexes(ctx, conn, relids)
		return err
	})
	if err != nil {
		return nil, err
	}
	var notes []string
	for _, index := range indexes {
		t := tables[index.Table]
		there := migration.TableName{Schema: t.Target.Schema, Name: index.Name}
		if b.indexes[there] {
			continue
		}
		made, err := b.ensure(ctx, t, index, there, follows)
		if err != nil {
			return nil, err
		}
		if b.indexes[there] = made; !made {
			notes = append(notes, fmt.Sprintf("%s: index %s was added; the target does not have it", t.Name, index.Name))
		}
	}
	return notes, nil
}

// hasIndex tells whether a person has made it.
const hasIndex = `
select exists (select from pg_index ix join pg_class x on x.oid = ix.indexrelid join pg_namespace n on n.oid = x.relnamespace
               where n.nspname = $1 and x.relname = $2 and ix.indisvalid)`

// ensure reports whether the target has the index, after making it where that is wanted.
func (b *beside) ensure(ctx context.Context, t ledger.Table, index ddl.Index, there migration.TableName, follows bool) (has bool, err error) {
	f := b.follower
	var method string
	if follows && !index.Unique && b.sameNames(t) {
		err := f.onSource(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
			method, err = ddl.Method(ctx, conn, index.OID)
			if errors.Is(err, pgx.ErrNoRows) {
				return nil // it was dropped again
			}
			return err
		})
		if err != nil {
			return false, err
		}
	}
	err = f.onTarget(ctx, func(conn *pgx.Conn) error {
		if err := conn.QueryRow(ctx, hasIndex, there.Schema, there.Name).Scan(&has); err != nil || has || method == "" {
			return err
		}
		err := b.make(ctx, conn, "create index "+migration.Quote(index.Name)+" on "+t.Target.SQL()+method)
		has = err == nil
		return err
	})
	return has, b.tolerate(err)
}

// sameNames: what the index says of columns, and of functions of the table's schema, means the same on the target.
func (b *beside) sameNames(t ledger.Table) bool {
	renamed := func(c mapping.Column) bool { return c.Name != c.Source }
	return b.made[t.Target] && t.Target.Schema == t.Name.Schema && !t.Merged && !slices.ContainsFunc(t.Into, renamed)
}

// make alters the target in a transaction of its own. The stream waits for it where it writes to the same table.
func (b *beside) make(ctx context.Context, conn *pgx.Conn, statements ...string) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := b.follower.lane.Guard(ctx, tx); err != nil {
			return err
		}
		for _, statement := range append([]string{besideLock}, statements...) {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		b.follower.config.Logger.Info("followed a change beside the stream", zap.Strings("statements", statements))
	}
	return err
}

// besideLock bounds how long a statement of ours stands in the way of those that queue behind it.
const besideLock = "set local lock_timeout = '5s'"

// tolerate keeps what the target refuses from ending the stream.
func (b *beside) tolerate(err error) error {
	if fault, ok := migration.AsFault(err); ok && (fault.Kind == migration.FaultOther || fault.Kind == migration.FaultPrivilege) {
		b.follower.config.Logger.Warn("could not follow a change beside the stream", zap.Error(err))
		return nil
	}
	return err
}

// lookAtComments brings those of the target's tables to what the source's are. The first look compares both sides.
func (b *beside) lookAtComments(ctx context.Context) error {
	f := b.follower
	tables := map[migration.TableName]ledger.Table{}
	var sources, targets []migration.TableName
	for _, t := range f.planned {
		if b.made[t.Target] && !t.Merged {
			tables[t.Name], sources, targets = t, append(sources, t.Name), append(targets, t.Target)
		}
	}
	var now map[ddl.Commented]string
	err := f.onSource(ctx, func(ctx context.Context, conn *pgx.Conn) (err error) {
		now, err = ddl.Comments(ctx, conn, sources)
		return err
	})
	if err != nil || b.comments != nil && maps.Equal(now, b.comments) {
		return err
	}
	err = f.onTarget(ctx, func(conn *pgx.Conn) error {
		there, err := ddl.Comments(ctx, conn, targets)
		if err != nil {
			return err
		}
		statements := comments(tables, now, there)
		if len(statements) == 0 {
			return nil
		}
		return b.make(ctx, conn, statements...)
	})
	if err == nil {
		b.comments = now
	}
	return b.tolerate(err)
}

// comments are the statements by which the target's become the source's. Columns keep theirs where they are not the source's.
func comments(tables map[migration.TableName]ledger.Table, source, target map[ddl.Commented]string) []string {
	var statements []string
	for _, t := range tables {
		on := func(from, to string, object string) {
			want, has := source[ddl.Commented{Table: t.Name, Column: from}], target[ddl.Commented{Table: t.Target, Column: to}]
			if want != has {
				statements = append(statements, "comment on "+object+" is "+migration.Literal(want))
			}
		}
		on("", "", "table "+t.Target.SQL())
		for _, c := range slices.Concat(t.Into, t.Computed) {
			if c.Source != "" {
				on(c.Source, c.Name, "column "+t.Target.SQL()+"."+migration.Quote(c.Name))
			}
		}
	}
	slices.Sort(statements)
	return statements
}
