package precheck

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config says what is to be migrated.
type Config struct {
	Source, Target *pg.Server
	Spec           migration.Spec
	Logger         *zap.Logger
	// Patience is how old a transaction must be before it is named as one that holds up the start. 0 = one minute.
	Patience time.Duration
}

const (
	patience = time.Minute
	// lookMax bounds one statement, and lockMax one wait for a lock that somebody else holds.
	lookMax = "120s"
	lockMax = "3s"
)

// Run looks at both servers and changes nothing. What it finds, an unreachable host too, is in the items, in the order of
// the list of checks; an error means that ctx has ended. A second call looks again.
func Run(ctx context.Context, c Config) ([]migration.Item, error) {
	if c.Patience == 0 {
		c.Patience = patience
	}
	l := &look{Config: c}
	defer l.close()
	l.open(ctx)
	l.remember(ctx)
	for _, check := range checks() {
		if !check.made(l.Spec) || !check.possible(l) {
			continue
		}
		begun := time.Now()
		found, err := check.look(ctx, l)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			found = check.unknown(l, err)
		}
		l.add(check, found)
		l.Logger.Debug("looked", zap.String(migration.KeyPart, check.code), zap.Duration(migration.KeyElapsed, time.Since(begun)))
	}
	return l.items, ctx.Err()
}

// check is one thing to look at.
type check struct {
	code  string
	name  string
	side  migration.Side // whose fault it is
	needs needs
	made  func(migration.Spec) bool // for which migrations; see always and its like
	look  func(context.Context, *look) (finding, error)
}

// needs says which servers must answer before a check can be made.
type needs int

const (
	nothing needs = iota
	theSource
	theTarget
	both
)

// These say for which types of a migration a check is made. What a migration does not do cannot fail later.

func always(migration.Spec) bool { return true }

func withSchema(s migration.Spec) bool { return s.Has(migration.TypeSchema) }

func withRows(s migration.Spec) bool {
	return s.Has(migration.TypeFull) || s.Has(migration.TypeIncremental)
}

func withChanges(s migration.Spec) bool { return s.Has(migration.TypeIncremental) }

// withSlot is withChanges where the slot is ours to make.
func withSlot(s migration.Spec) bool { return withChanges(s) && s.Incremental.Slot == "" }

// withGivenSlot is withChanges where a person has made the slot.
func withGivenSlot(s migration.Spec) bool { return withChanges(s) && s.Incremental.Slot != "" }

func withCopy(s migration.Spec) bool { return s.Has(migration.TypeFull) }

// withBoth: the changes wait while the tables are copied.
func withBoth(s migration.Spec) bool {
	return s.Has(migration.TypeFull) && s.Has(migration.TypeIncremental)
}

// withLocks: the dump and the fence lock every table at once.
func withLocks(s migration.Spec) bool { return withSchema(s) || withChanges(s) }

// withNewTables: every table is made by the migration; withOldTables: some were there before, or all.
func withNewTables(s migration.Spec) bool {
	return withSchema(s) && s.Conflict != migration.ConflictIgnore
}

func withOldTables(s migration.Spec) bool { return !withNewTables(s) }

// withOldSequences: they are set, and nobody makes them.
func withOldSequences(s migration.Spec) bool { return withRows(s) && !withSchema(s) }

func (c check) possible(l *look) bool {
	switch c.needs {
	case theSource:
		return l.source.usable()
	case theTarget:
		return l.target.usable()
	case both:
		return l.source.usable() && l.target.usable()
	case nothing:
	}
	return true
}

// unknown is the finding of a check that could not be made. It blocks, because nobody knows; a person who does know may
// ignore it. A session that has ended takes the later checks of its side with it, which nobody can vouch for.
func (c check) unknown(l *look, err error) finding {
	err = pg.Fault(c.side, "look at", c.name, err)
	l.Logger.Warn("looked in vain", zap.String(migration.KeyPart, c.code), zap.Error(err))
	if !c.possible(l) {
		return failed("find out in the server's log why the session ended, then check again", "the session ended while this was looked at: %s", err)
	}
	if pg.SQLState(err) == "55P03" {
		return alert("-- who holds the lock:\nselect * from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0 "+
			"or pid in (select unnest(pg_blocking_pids(pid)) from pg_stat_activity);",
			"this could not be looked at: somebody holds a table under an exclusive lock for longer than %s", lockMax)
	}
	return alert("make it possible to look, or make sure of it by hand and ignore this item",
		"this could not be looked at: %s", err)
}

// look is one run: the two sessions, and what several checks share.
type look struct {
	Config
	source, target session
	items          []migration.Item
	facts          facts
	begun          mark // of the source's WAL
}

// session is one side. why tells why there is none.
type session struct {
	server  *pg.Server
	conn    *pgx.Conn
	version int
	role    string
	super   bool
	why     error
}

func (s session) usable() bool { return s.conn != nil && !s.conn.IsClosed() }

func (l *look) open(ctx context.Context) {
	name := l.Spec.ID.Session("precheck", 0)
	l.source, l.target = opened(ctx, l.Source, name), opened(ctx, l.Target, name)
	if l.source.usable() {
		l.begun, _ = l.source.mark(ctx) // what is wrong with the session, the checks will say
	}
}

const whoAmI = `select rolname::text, rolsuper from pg_roles where rolname = current_user`

const restrain = `
set default_transaction_read_only = on; set lock_timeout = '` + lockMax + `'; set statement_timeout = '` + lookMax + `'`

// opened connects for reading only (I1), and so that nothing is waited for (I2).
func opened(ctx context.Context, server *pg.Server, name string) session {
	conn, err := server.Connect(ctx, name)
	if err != nil {
		return session{server: server, why: err}
	}
	s := session{server: server, conn: conn}
	if _, err = conn.Exec(ctx, restrain); err == nil {
		s.version, err = pg.Version(ctx, conn)
	}
	if err == nil {
		err = conn.QueryRow(ctx, whoAmI).Scan(&s.role, &s.super)
	}
	if err != nil {
		pg.Close(conn)
		return session{server: server, why: server.Fault("look at", "", err)}
	}
	return s
}

func (l *look) close() {
	pg.Close(l.source.conn)
	pg.Close(l.target.conn)
}

func (l *look) add(c check, f finding) {
	l.items = append(l.items, migration.Item{
		Code: c.code, Name: c.name, Side: c.side, State: f.state, Found: f.found, Fix: f.fix, Restart: f.restart, Ignorable: f.ignorable,
	})
}

// value reads one value.
func value[T any](ctx context.Context, s session, sql string, args ...any) (T, error) {
	var v T
	err := s.conn.QueryRow(ctx, sql, args...).Scan(&v)
	return v, err
}

// rows reads rows into structs, by position.
func rows[T any](ctx context.Context, s session, sql string, args ...any) ([]T, error) {
	result, err := s.conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(result, pgx.RowToStructByPos[T])
}

func versionText(version int) string {
	if version < 100000 {
		return fmt.Sprintf("%d.%d.%d", version/10000, version/100%100, version%100)
	}
	return fmt.Sprintf("%d.%d", version/10000, version%10000)
}
