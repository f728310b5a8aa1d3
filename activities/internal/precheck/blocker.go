package precheck

import (
	"context"
	"fmt"
	"time"

	"github.com/pgdts/pgdts/workflows/migration"
)

// A slot is made when every transaction that was running at its beginning has ended, in all databases of the server. So
// one that is forgotten keeps the migration from starting.

type preparedTransaction struct {
	GID      string
	Database string
	Seconds  float64
}

const readPrepared = `
select gid, database::text, extract(epoch from now() - prepared)::float8 from pg_prepared_xacts order by prepared`

func preparedTransactions(ctx context.Context, l *look) (finding, error) {
	found, err := rows[preparedTransaction](ctx, l.source, readPrepared)
	if err != nil {
		return finding{}, err
	}
	var names, fixes []string
	for _, p := range found {
		age := seconds(p.Seconds)
		if age < l.Patience {
			continue
		}
		names = append(names, fmt.Sprintf("%q in database %s for %s", p.GID, p.Database, age.Round(time.Second)))
		fixes = append(fixes, elsewhere(p.Database, l.source.server.Database(), fmt.Sprintf("rollback prepared %s; -- or commit prepared", migration.Literal(p.GID))))
	}
	if len(names) > 0 {
		return alert(statements(fixes), "%s: no slot can be made before it ends: %s",
			count(len(names), "prepared transaction"), list(names)), nil
	}
	return passed("none is older than %s", l.Patience), nil
}

type longTransaction struct {
	PID      int32
	Database string
	User     string
	State    string
	Seconds  float64
}

// readLong lists transactions that have written. Others do not hold up a slot.
const readLong = `
select pid, coalesce(datname::text, ''), coalesce(usename::text, ''), coalesce(state, ''),
       extract(epoch from clock_timestamp() - xact_start)::float8
from pg_stat_activity
where backend_xid is not null and pid <> pg_backend_pid() and xact_start is not null order by xact_start`

// countHidden counts writers whose age this role may not see.
const countHidden = `
select count(*)::int from pg_stat_activity where backend_xid is not null and xact_start is null and pid <> pg_backend_pid()`

func longTransactions(ctx context.Context, l *look) (finding, error) {
	found, err := rows[longTransaction](ctx, l.source, readLong)
	if err != nil {
		return finding{}, err
	}
	var names, fixes []string
	for _, t := range found {
		age := seconds(t.Seconds)
		if age < l.Patience {
			continue
		}
		names = append(names, fmt.Sprintf("pid %d of %s in database %s for %s (%s)", t.PID, t.User, t.Database, age.Round(time.Second), t.State))
		fixes = append(fixes, fmt.Sprintf("select pg_terminate_backend(%d);", t.PID))
	}
	if len(names) > 0 {
		return alert(statements(fixes), "%s: no slot can be made before it ends: %s",
			count(len(names), "long transaction"), list(names)), nil
	}
	hidden, err := value[int](ctx, l.source, countHidden)
	if hidden > 0 {
		return notice(fmt.Sprintf("grant pg_read_all_stats to %s;", migration.Quote(l.source.role)),
			"%s of other roles, whose age role %s may not see", count(hidden, "open transaction"), l.source.role), err
	}
	return passed("none is older than %s", l.Patience), err
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
