package precheck

import (
	"context"
	"fmt"
	"time"
)

type senderUse struct {
	Max, Used int
}

// readSenderUse counts what a plain role sees too: its rows are there, only their columns are hidden.
const readSenderUse = `
select current_setting('max_wal_senders')::int, (select count(*)::int from pg_stat_replication)`

// sendersNeeded: one reads the stream, and another is about to take over from a dead one. pg_dump and the copy use none.
const sendersNeeded = 2

func walSenders(ctx context.Context, l *look) (finding, error) {
	use, err := rows[senderUse](ctx, l.source, readSenderUse)
	if err != nil {
		return finding{}, err
	}
	u := use[0]
	if u.Max-u.Used >= sendersNeeded {
		return passed("%d of %d are in use", u.Used, u.Max), nil
	}
	fix, err := l.source.setting(ctx, "max_wal_senders", fmt.Sprint(u.Max+5), true)
	if u.Max > u.Used {
		return notice(fix, "one of %d WAL senders of the source is free (max_wal_senders): a process that takes over from a dead one "+
			"waits until that one's session has been ended", u.Max).afterRestart(), err
	}
	return failed(fix, "all %d WAL senders of the source are in use (max_wal_senders), and one is needed", u.Max).afterRestart(), err
}

// senderTimeoutMin is below what the statuses are usually sent in, so that they are sent more often.
const senderTimeoutMin = 10 * time.Second

// walSenderTimeout: the stream reads the value and reports three times as often, whatever it is.
func walSenderTimeout(ctx context.Context, l *look) (finding, error) {
	millis, err := value[int64](ctx, l.source, "select setting::bigint from pg_settings where name = 'wal_sender_timeout'")
	if err != nil {
		return finding{}, err
	}
	timeout := time.Duration(millis) * time.Millisecond
	if timeout >= senderTimeoutMin {
		return passed("wal_sender_timeout is %s", timeout), nil
	}
	fix, err := l.source.setting(ctx, "wal_sender_timeout", "'60s'", false)
	if timeout <= 0 {
		return notice(fix, "wal_sender_timeout is 0: the source never notices by itself that a reader is gone; the next attempt ends that session"), err
	}
	return notice(fix, "wal_sender_timeout is %s: the source hears of the reader every %s, and a pause of the network that is longer than "+
		"the time-out makes the stream begin again where it was", timeout, timeout/3), err
}
