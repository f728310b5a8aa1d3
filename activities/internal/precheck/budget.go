package precheck

import (
	"cmp"
	"context"
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// sessionsBeside are those that do not grow with the lanes: stream, watch, status, cutover, probe, and what is about to end.
	sessionsBeside = 6
	// sessionsOfLane: on the source one reads, one looks who waits for it, one is for what the first cannot be asked; on the target
	// one writes, one renews the lease, one builds indexes.
	sessionsOfLane = 3
	// indexDefault is how many indexes of one table are built at once where the definition leaves it open.
	indexDefault = 2
)

// sessionsNeeded takes the cores of this machine where the definition leaves the choice to us. A schema alone has no lanes.
func sessionsNeeded(side migration.Side, spec migration.Spec) int {
	needed := sessionsBeside
	if spec.Has(migration.TypeFull) {
		needed += sessionsOfLane * copyConnections(spec)
	}
	if side == migration.Target {
		needed += cmp.Or(spec.Parallel.Index, indexDefault)
	}
	return needed
}

type connectionUse struct {
	Max, Used                   int
	RoleLimit, RoleUsed         int // limit -1 = none
	DatabaseLimit, DatabaseUsed int
}

const readConnectionUse = `
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(current_setting('reserved_connections', true)::int, 0),
       count(*)::int,
       (select rolconnlimit from pg_roles where rolname = current_user),
       (count(*) filter (where usename = current_user))::int,
       (select datconnlimit from pg_database where datname = current_database()),
       (count(*) filter (where datname = current_database()))::int
from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`

func sourceConnections(ctx context.Context, l *look) (finding, error) {
	return l.source.connections(ctx, l.Spec)
}

func targetConnections(ctx context.Context, l *look) (finding, error) {
	return l.target.connections(ctx, l.Spec)
}

func (s session) connections(ctx context.Context, spec migration.Spec) (finding, error) {
	use, err := rows[connectionUse](ctx, s, readConnectionUse)
	if err != nil {
		return finding{}, err
	}
	u, needed := use[0], sessionsNeeded(s.server.Side, spec)
	advice := "or lower parallel.copy and parallel.index in the definition"
	switch {
	case u.RoleLimit >= 0 && u.RoleLimit-u.RoleUsed < needed:
		return alert(fmt.Sprintf("alter role %s connection limit %d;\n-- %s", migration.Quote(s.role), u.RoleUsed+needed, advice),
			"role %s may hold %d connections, has %d, and %d are needed", s.role, u.RoleLimit, u.RoleUsed, needed), nil
	case u.DatabaseLimit >= 0 && u.DatabaseLimit-u.DatabaseUsed < needed:
		return alert(fmt.Sprintf("alter database %s connection limit %d;\n-- %s",
			migration.Quote(s.server.Database()), u.DatabaseUsed+needed, advice),
			"database %s takes %d connections, has %d, and %d are needed", s.server.Database(), u.DatabaseLimit, u.DatabaseUsed, needed), nil
	case u.Max-u.Used < needed:
		fix, err := s.setting(ctx, "max_connections", fmt.Sprint(u.Used+needed+20), true)
		return alert(fix+"\n-- "+advice, "the server takes %d connections, has %d, and %d are needed", u.Max, u.Used, needed).afterRestart(), err
	}
	return passed("%d of %d are in use, and %d are needed", u.Used, u.Max, needed), nil
}

const readLockRoom = `
select current_setting('max_locks_per_transaction')::bigint
       * (current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint)`

// locks: the fence holds a lock on every table at once, and pg_dump does too. Others need some as well.
func locks(ctx context.Context, l *look) (finding, error) {
	room, err := value[int64](ctx, l.source, readLockRoom)
	if err != nil {
		return finding{}, err
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	if n := int64(len(tables)); n > room*3/4 {
		perTransaction, err := value[int64](ctx, l.source, "select current_setting('max_locks_per_transaction')::bigint")
		if err != nil {
			return finding{}, err
		}
		fix, err := l.source.setting(ctx, "max_locks_per_transaction", fmt.Sprint(perTransaction*(n*2/room+1)), true)
		return alert(fix, "the source has %d tables, which the dump and the cutover lock all at once, and room for about %d locks", n, room).afterRestart(), err
	}
	return passed("%d tables, room for about %d locks", len(tables), room), nil
}
