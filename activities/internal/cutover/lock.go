package cutover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// lockTimeoutMax is how long writers of one table may queue up behind us before we let them pass.
	lockTimeoutMax = time.Second
	// lockBudget is how long the statement that locks all tables may take: the first ones wait all the while.
	lockBudget = 5 * time.Second
	// lockPause is the first pause between attempts; it doubles up to lockPauseMax.
	lockPause    = 250 * time.Millisecond
	lockPauseMax = 5 * time.Second
)

type relation struct {
	oid  uint32
	name migration.TableName
	// open: a table above it is not migrated and stays writable, so that rows come and go by statements that do not name
	// this one.
	open bool
}

// lockable are the tables to be locked: what is in the publications, the partitions under it, the migrated partitioned
// tables above it, and tables that are not published because they are unlogged.
const lockable = `
with recursive member as (
    select r.prrelid as oid
    from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
    where p.pubname = any ($1)
    union
    select unnest($2::oid[])
), below as (
    select oid from member
    union
    select i.inhrelid from below b join pg_class c on c.oid = b.oid and c.relkind = 'p' join pg_inherits i on i.inhparent = b.oid
), every as (
    select oid from below
    union
    select i.inhparent from every e join pg_class c on c.oid = e.oid and c.relispartition join pg_inherits i on i.inhrelid = e.oid
    where i.inhparent = any ($3)
), above (oid, parent) as (
    select e.oid, i.inhparent from every e join pg_inherits i on i.inhrelid = e.oid
    union
    select a.oid, i.inhparent from above a join pg_inherits i on i.inhrelid = a.parent
)
select c.oid, n.nspname, c.relname,
       c.relkind = 'r' and exists (select from above a where a.oid = c.oid and a.parent not in (select oid from every))
from every e join pg_class c on c.oid = e.oid join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname <> 'dts_sync'
order by c.oid`

func (a *attempt) lockable(ctx context.Context, conn querier) ([]relation, error) {
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return nil, a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	unpublished, planned := []uint32{}, []uint32{}
	for _, table := range tables {
		planned = append(planned, table.OID)
		if table.Unlogged {
			unpublished = append(unpublished, table.OID)
		}
	}
	publications := []string{a.Spec.ID.Publication(), a.Spec.ID.PublicationInsertOnly()}
	rows, err := conn.Query(ctx, lockable, publications, unpublished, planned)
	if err != nil {
		return nil, a.Source.Fault("read publications", "", err)
	}
	relations, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (relation, error) {
		var r relation
		err := row.Scan(&r.oid, &r.name.Schema, &r.name.Name, &r.open)
		return r, err
	})
	return relations, a.Source.Fault("read publications", "", err)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// raise keeps writers off the source in the way that the definition says.
func (a *attempt) raise(ctx context.Context, give context.CancelCauseFunc) error {
	a.say("", 0, 0)
	a.fence = &fence{source: a.Source, lost: give}
	var err error
	switch a.Spec.Cutover.Fence {
	case "none":
		a.note("the source was not fenced (cutover.fence: none): the application had to be stopped by others")
	case "read-only":
		if !a.scope.selection.Everything {
			a.note("the whole source was made read-only (cutover.fence: read-only), with the tables that are not migrated")
		}
		a.blocked = time.Now()
		err = a.refuseByDefault(ctx)
	default:
		err = a.lockTables(ctx)
	}
	if err != nil {
		return err
	}
	return failpoint.Hit(failpoint.CutoverFenced)
}

// lockTables tries again and again, in short attempts: the application must not wait for us longer than a moment.
func (a *attempt) lockTables(ctx context.Context) error {
	var deadlock time.Duration
	var err error
	if deadlock, err = deadlockTimeout(ctx, a.source); err != nil {
		return a.Source.Fault("read settings", "", err)
	}
	if err := a.fence.connect(ctx, a.lane.Session()); err != nil {
		return err
	}
	until := time.Now().Add(a.Spec.Cutover.Deadline.D())
	blockers := &blockers{}
	for wait := lockPause; ; wait = min(2*wait, lockPauseMax) {
		began := time.Now()
		locked, err := a.lockOnce(ctx, lockTimeout(deadlock, blockers.vacuum), blockers)
		if err != nil {
			return err
		}
		if locked {
			a.blocked = began
			a.fence.keep(ctx)
			return nil
		}
		if time.Until(until) < wait {
			return notReady("lock tables of", a.Source.Database(),
				fmt.Sprintf("the locks could not be had within %s; in the way: %s", a.Spec.Cutover.Deadline, blockers.text()),
				"let these transactions end, or end them: select pg_terminate_backend(<pid>), rollback prepared '<gid>'")
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
}

func deadlockTimeout(ctx context.Context, conn *pgx.Conn) (time.Duration, error) {
	var ms int64
	err := conn.QueryRow(ctx, "select setting::bigint from pg_settings where name = 'deadlock_timeout'").Scan(&ms)
	return time.Duration(ms) * time.Millisecond, err
}

// lockTimeout stays below two deadlock_timeouts: then, in a deadlock with the application, it is us who finds it and
// gives way. An autovacuum gives way only to who has waited a deadlock_timeout.
func lockTimeout(deadlock time.Duration, vacuum bool) time.Duration {
	if vacuum {
		return deadlock + deadlock/4
	}
	return min(lockTimeoutMax, 2*deadlock-deadlock/4)
}

// lockOnce makes one attempt. It reports false when somebody was in the way, or when a table came into being meanwhile.
func (a *attempt) lockOnce(ctx context.Context, timeout time.Duration, blockers *blockers) (bool, error) {
	wanted, err := a.lockable(ctx, a.source)
	if err != nil {
		return false, err
	}
	if a.fence.prepared, err = a.usesPrepared(ctx, wanted); err != nil {
		return false, a.Source.Fault("read rights on", a.Source.Database(), err)
	}
	attempting, done := context.WithCancel(ctx)
	group, attempting := errgroup.WithContext(attempting)
	// Ends when the attempt is over.
	group.Go(func() error { return a.watchBlockers(attempting, blockers) })
	group.Go(func() error {
		defer done()
		return a.fence.lock(ctx, a.lockStatement(blockers.order(wanted)), timeout)
	})
	err = group.Wait()
	switch pg.SQLState(err) {
	case "55P03", "57014", "40P01", "42P01": // lock or statement time-out, deadlock, a table that was dropped
		blockers.giveWay()
		return false, a.fence.rollback(ctx)
	case "42501":
		return false, migration.NewFault(migration.FaultNotReady, "lock tables of", a.Source.Database(), err,
			"the role may not lock the tables: let it own them, or let an administrator run the SQL that `pgdts check` prints "+
				"for item FENCE_RIGHT; or use cutover.fence: read-only")
	case "53200":
		return false, migration.NewFault(migration.FaultNotReady, "lock tables of", a.Source.Database(), err,
			"raise max_locks_per_transaction on the source (needs a restart)")
	}
	if err != nil {
		return false, a.Source.Fault("lock tables of", a.Source.Database(), err)
	}
	// A partition may have been created between the first look and the lock on its root; none can be any more.
	found, err := a.lockable(ctx, a.fence.conn)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(found, func(r relation) bool { return !slices.Contains(wanted, r) }) {
		return false, a.fence.rollback(ctx)
	}
	a.fence.tables = found
	if a.fence.prepared {
		err = a.mustHold(ctx, found)
	}
	return err == nil, err
}

// blockers are the sessions that were in the way last, and the tables where they were.
type blockers struct {
	names  []string
	vacuum bool
	table  uint32   // the table that is waited for; 0 when none was seen
	first  []uint32 // tables that could not be had in earlier attempts, the latest first
}

// order puts the tables in front that could not be had. A transaction that has written such a table, and then waits for
// one that we have locked already, keeps us from the former until we give up; when we come to it first, it can end. Without
// this, writers that use several tables in another order than ours keep the fence from ever standing.
func (b *blockers) order(tables []relation) []relation {
	rank := func(table relation) int {
		if at := slices.Index(b.first, table.oid); at >= 0 {
			return at
		}
		return len(b.first)
	}
	return slices.SortedStableFunc(slices.Values(tables), func(x, y relation) int { return rank(x) - rank(y) })
}

// giveWay remembers the table at which an attempt ended.
func (b *blockers) giveWay() {
	if b.table == 0 {
		return
	}
	b.first = slices.Insert(slices.DeleteFunc(b.first, func(oid uint32) bool { return oid == b.table }), 0, b.table)
	b.table = 0
}

func (b *blockers) text() string {
	if len(b.names) == 0 {
		return "nobody whom this role may see"
	}
	return some(b.names)
}

const readBlockers = `
select case when b.pid = 0 then 'a prepared transaction'
            else 'pid ' || b.pid || coalesce(' of ' || s.usename, '') || coalesce(' (' || nullif(s.application_name, '') || ')', '')
                 || coalesce(', ' || s.state, '') || coalesce(', query since ' || date_trunc('second', s.query_start), '')
       end,
       coalesce(s.backend_type = 'autovacuum worker', false),
       coalesce((select l.relation from pg_locks l where l.pid = $1 and not l.granted and l.locktype = 'relation'), 0::oid)
from (select distinct unnest(pg_blocking_pids($1)) as pid) b left join pg_stat_activity s on s.pid = b.pid`

const readPrepared = `
select 'prepared transaction ' || quote_literal(gid) || ' since ' || date_trunc('second', prepared)
from pg_prepared_xacts where database = current_database()`

// watchBlockers looks who is in the way while the locks are waited for.
func (a *attempt) watchBlockers(ctx context.Context, b *blockers) error {
	for pause(ctx, 100*time.Millisecond) {
		looking := context.WithoutCancel(ctx) // a cancelled query would cost the session
		rows, err := a.source.Query(looking, readBlockers, a.fence.pid())
		if err != nil {
			return a.Source.Fault("read blockers", "", err)
		}
		var names []string
		var vacuums, prepared bool
		var name string
		var vacuum bool
		_, err = pgx.ForEachRow(rows, []any{&name, &vacuum, &b.table}, func() error {
			vacuums = vacuums || vacuum
			if prepared = prepared || name == "a prepared transaction"; name != "a prepared transaction" {
				names = append(names, name)
			}
			return nil
		})
		if err == nil && prepared {
			var gids []string
			gids, err = pg.Strings(looking, a.source, readPrepared)
			names = append(names, gids...)
		}
		if err != nil {
			return a.Source.Fault("read blockers", "", err)
		}
		if len(names) > 0 {
			b.names, b.vacuum = names, vacuums
			a.say("waiting for "+some(names), 0, 0)
		}
	}
	return nil
}

// lockStatement is "" where there is nothing to lock.
func (a *attempt) lockStatement(tables []relation) string {
	switch {
	case len(tables) == 0:
		return ""
	case a.fence.prepared:
		return lockPrepared(a.Spec.ID, tables)
	}
	names := make([]string, len(tables))
	for i, table := range tables {
		names[i] = "only " + table.name.SQL()
	}
	return "lock table " + strings.Join(names, ", ") + " in share row exclusive mode"
}

var errFenceLost = errors.New("the session that holds the locks on the source has ended")
