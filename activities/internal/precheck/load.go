package precheck

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

type activity struct {
	Max, Clients, Active, Hidden int
}

const readActivity = `
select current_setting('max_connections')::int, count(*)::int, (count(*) filter (where state = 'active'))::int,
       (count(*) filter (where state is null))::int
from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()`

type longQuery struct {
	PID     int32
	User    string
	Seconds float64
}

const readLongQueries = `
select pid, coalesce(usename::text, ''), extract(epoch from clock_timestamp() - query_start)::float8 as seconds
from pg_stat_activity
where backend_type = 'client backend' and state = 'active' and query_start is not null and pid <> pg_backend_pid()
order by seconds desc`

func sourceLoad(ctx context.Context, l *look) (finding, error) { return l.load(ctx, l.source) }

func targetLoad(ctx context.Context, l *look) (finding, error) { return l.load(ctx, l.target) }

// load tells how busy a server is. What a query that runs for long is for, nobody knows; a copy beside it takes longer.
func (l *look) load(ctx context.Context, s session) (finding, error) {
	found, err := rows[activity](ctx, s, readActivity)
	if err != nil {
		return finding{}, err
	}
	queries, err := rows[longQuery](ctx, s, readLongQueries)
	if err != nil {
		return finding{}, err
	}
	var long []string
	for _, q := range queries {
		if running := seconds(q.Seconds); running >= l.Patience {
			long = append(long, fmt.Sprintf("pid %d of %s for %s", q.PID, q.User, running.Round(time.Second)))
		}
	}
	a := found[0]
	text := fmt.Sprintf("%s, %d of them at work (max_connections %d)", count(a.Clients, "session"), a.Active, a.Max)
	if a.Hidden > 0 {
		text += fmt.Sprintf("; what %d others do role %s may not see", a.Hidden, s.role)
	}
	switch {
	case len(long) > 0:
		return notice("", "%s; queries that have run for longer than %s: %s", text, l.Patience, list(long)), nil
	case a.Active > a.Max/2:
		return notice("", "%s: more than half of what the server takes", text), nil
	}
	return passed("%s", text), nil
}

type workers struct {
	Processes, Parallel, Maintenance int
	Buffers, Memory                  int64
}

// readWorkers: parallel index builds are there since 11.
const readWorkers = `
select current_setting('max_worker_processes')::int, current_setting('max_parallel_workers')::int,
       coalesce(current_setting('max_parallel_maintenance_workers', true)::int, 0),
       pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('maintenance_work_mem'))`

// workerProcesses: the copy and the stream take none; an index is built by one process where no worker is free.
func workerProcesses(ctx context.Context, l *look) (finding, error) {
	found, err := rows[workers](ctx, l.target, readWorkers)
	if err != nil {
		return finding{}, err
	}
	w := found[0]
	builds := cmp.Or(l.Spec.Parallel.Index, indexDefault)
	free, wanted := min(w.Processes, w.Parallel), builds*w.Maintenance
	if free >= wanted {
		return passed("%d for %s at once with up to %d each; a build may use %s", free, count(builds, "index build"), w.Maintenance,
			size(schema.BuildMemory(l.Spec, w.Buffers, w.Memory))), nil
	}
	fix, err := l.target.setting(ctx, "max_worker_processes", fmt.Sprint(wanted), true)
	if w.Processes >= wanted {
		fix, err = l.target.setting(ctx, "max_parallel_workers", fmt.Sprint(wanted), false)
		return notice(fix, "%s at once want up to %d workers, and max_parallel_workers is %d: some are built by one process each",
			count(builds, "index build"), wanted, w.Parallel), err
	}
	return notice(fix, "%s at once want up to %d workers, and max_worker_processes is %d: some are built by one process each",
		count(builds, "index build"), wanted, w.Processes).afterRestart(), err
}

// spaceSmall needs no thought: a server's log alone takes as much.
const spaceSmall = 64 << 20

// targetSpace: no SQL tells how much a disk has free. What the migration needs is known.
func targetSpace(ctx context.Context, l *look) (finding, error) {
	e, err := l.facts.estimate()
	if err != nil {
		return finding{}, err
	}
	needed := e.rows + e.indexes
	if needed < spaceSmall {
		return passed("about %s are needed", size(needed)), nil
	}
	log, err := value[int64](ctx, l.target, "select pg_size_bytes(current_setting('max_wal_size'))")
	if err != nil {
		return finding{}, err
	}
	return notice("", "the free space of a server's disk cannot be known by SQL: see that the target has %d bytes (%s of rows, %s of indexes, "+
		"%s of WAL by max_wal_size), and as much again as its largest index while that is built",
		needed+log, size(e.rows), size(e.indexes), size(log)), nil
}

const readLargestIndex = `
select coalesce(max(pg_relation_size(i.indexrelid)), 0)::bigint from pg_index i where i.indrelid = any ($1)`

// tempFileLimit: an index that is larger than what a session may sort on disk cannot be built.
func tempFileLimit(ctx context.Context, l *look) (finding, error) {
	limit, err := value[int64](ctx, l.target, "select setting::bigint from pg_settings where name = 'temp_file_limit'")
	if err != nil || limit < 0 {
		return passed("none"), err
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	largest, err := value[int64](ctx, l.source, readLargestIndex, oids(tables))
	if err != nil {
		return finding{}, err
	}
	limit <<= 10
	if limit >= largest {
		return passed("a session of the target may sort %s on disk, and the largest index has %s", size(limit), size(largest)), nil
	}
	return alert(fmt.Sprintf("alter role %s set temp_file_limit = -1;", migration.Quote(l.target.role)),
		"role %s may sort %s on the target's disk (temp_file_limit), and the largest index has %s: it could not be built", l.target.role,
		size(limit), size(largest)), nil
}
