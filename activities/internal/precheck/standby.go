package precheck

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

type standbys struct {
	Names  string // synchronous_standby_names
	Commit string // synchronous_commit
	Sync   int    // that are connected and waited for
	Hidden int    // connected, but what they are this role may not see
}

const readStandbys = `
select current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),
       (count(*) filter (where sync_state in ('sync', 'quorum')))::int, (count(*) filter (where sync_state is null))::int
from pg_stat_replication`

// waitedFor takes the number out of "FIRST 2 (a, b)", "ANY 1 (*)", "2 (a, b)"; a plain list waits for one.
var waitedFor = regexp.MustCompile(`(?i)^\s*(?:first\s+|any\s+)?(\d+)\s*\(`)

func (s standbys) needed() int {
	if strings.TrimSpace(s.Names) == "" || s.Commit == "off" || s.Commit == "local" {
		return 0
	}
	if number := waitedFor.FindStringSubmatch(s.Names); number != nil {
		n, _ := strconv.Atoi(number[1]) // digits
		return n
	}
	return 1
}

func sourceStandbys(ctx context.Context, l *look) (finding, error) { return l.source.standbys(ctx) }

func targetStandbys(ctx context.Context, l *look) (finding, error) { return l.target.standbys(ctx) }

// standbys: where synchronous standbys are named and away, every commit waits for them for ever, ours too.
func (s session) standbys(ctx context.Context) (finding, error) {
	found, err := rows[standbys](ctx, s, readStandbys)
	if err != nil {
		return finding{}, err
	}
	f := found[0]
	switch needed := f.needed(); {
	case needed == 0:
		return passed("no commit waits for a standby"), nil
	case f.Sync >= needed:
		return passed("commits wait for %s, and %d connected", count(needed, "standby"), f.Sync), nil
	case f.Sync+f.Hidden >= needed:
		return passed("commits wait for %s; %d connected, and only a role with pg_read_all_stats sees whether they are those",
			count(needed, "standby"), f.Hidden), nil
	default:
		fix, err := s.setting(ctx, "synchronous_standby_names", "''", false)
		return alert(fix, "synchronous_standby_names is %s, which asks for %d, and %d of them are connected: every commit waits",
			fmt.Sprintf("%q", f.Names), needed, f.Sync), err
	}
}

type archiver struct {
	Failed, Segment string
}

const readArchiver = `
select to_char(last_failed_time at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), coalesce(last_failed_wal, '')
from pg_stat_archiver
where last_failed_time > coalesce(last_archived_time, '-infinity') and current_setting('archive_mode') <> 'off'`

// archiving: WAL that cannot be archived stays on the disk, beside what the slot keeps.
func archiving(ctx context.Context, l *look) (finding, error) {
	found, err := rows[archiver](ctx, l.source, readArchiver)
	if err != nil || len(found) == 0 {
		return passed("nothing that fails"), err
	}
	f := found[0]
	return notice("", "archive_command (or archive_library) has been failing since it was tried at %s UTC with %s, and the WAL stays on the "+
		"source's disk: see the server's log", f.Failed, f.Segment), nil
}
