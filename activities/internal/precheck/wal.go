package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

// isRDS: there, parameters are not set by SQL but in a parameter group.
func (s session) isRDS(ctx context.Context) (bool, error) {
	return value[bool](ctx, s, "select current_setting('rds.logical_replication', true) is not null")
}

// setting writes the change of a parameter down, with what makes it effective.
func (s session) setting(ctx context.Context, name, to string, restart bool) (string, error) {
	rds, err := s.isRDS(ctx)
	if err != nil {
		return "", err
	}
	if rds {
		name, to = rdsParameter(name, to)
		how := "it takes effect without a reboot"
		if restart {
			how = "then reboot the instance"
		}
		return fmt.Sprintf("set parameter %s = %s in the instance's parameter group; %s", name, to, how), nil
	}
	fix := fmt.Sprintf("alter system set %s = %s;", name, to)
	if restart {
		return fix + "\n-- then restart the server", nil
	}
	return fix + "\nselect pg_reload_conf();", nil
}

func rdsParameter(name, to string) (string, string) {
	if name == "wal_level" {
		return "rds.logical_replication", "1"
	}
	return name, to
}

func walLevel(ctx context.Context, l *look) (finding, error) {
	level, err := value[string](ctx, l.source, "select current_setting('wal_level')")
	if err != nil || level == "logical" {
		return passed("wal_level is logical"), err
	}
	fix, err := l.source.setting(ctx, "wal_level", "logical", true)
	return failed(fix, "wal_level is %s, and changes can be read only with logical", level), err
}

type slotUse struct {
	Max      int
	Used     int
	Ours     bool
	Inactive []string
}

const readSlotUse = `
select current_setting('max_replication_slots')::int, count(*)::int, coalesce(bool_or(slot_name = $1), false),
       coalesce(array_agg(slot_name::text order by slot_name) filter (where not active and slot_name <> $1), '{}')
from pg_replication_slots`

func replicationSlots(ctx context.Context, l *look) (finding, error) {
	use, err := rows[slotUse](ctx, l.source, readSlotUse, l.Spec.ID.Slot())
	if err != nil {
		return finding{}, err
	}
	u := use[0]
	if u.Ours || u.Used < u.Max {
		return passed("%d of %d are in use", u.Used, u.Max), nil
	}
	fix, err := l.source.setting(ctx, "max_replication_slots", fmt.Sprint(u.Max+5), true)
	found := fmt.Sprintf("all %d replication slots of the source are in use, and one is needed", u.Max)
	if len(u.Inactive) > 0 {
		drops := make([]string, len(u.Inactive))
		for i, slot := range u.Inactive {
			drops[i] = fmt.Sprintf("select pg_drop_replication_slot(%s);", migration.Literal(slot))
		}
		found += "; nobody reads " + list(u.Inactive)
		fix = "-- drop one that is not needed any more:\n" + statements(drops) + "\n-- or:\n" + fix
	}
	return failed(fix, "%s", found), err
}

type senderUse struct {
	Max, Used int
}

// readSenderUse counts what a plain role sees too: its rows are there, only their columns are hidden.
const readSenderUse = `
select current_setting('max_wal_senders')::int, (select count(*)::int from pg_stat_replication)`

// sendersNeeded: one reads the stream, and another may be about to take over from a dead one.
const sendersNeeded = 1

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
	return failed(fix, "all %d WAL senders of the source are in use (max_wal_senders), and one is needed", u.Max), err
}

// slotRoom: while the copy runs nothing is consumed, so all that the source writes meanwhile stays on its disk.
func slotRoom(ctx context.Context, l *look) (finding, error) {
	if l.source.version < 130000 {
		return notice("", "the slot keeps WAL on the source's disk while tables are copied, without limit: watch the disk"), nil
	}
	megabytes, err := value[int64](ctx, l.source, "select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'")
	if err != nil {
		return finding{}, err
	}
	if megabytes < 0 {
		return notice("", "max_slot_wal_keep_size is -1: the slot keeps WAL on the source's disk while tables are copied, "+
			"without limit: watch the disk"), nil
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	room, data := megabytes<<20, totalBytes(tables)
	if room >= data && room >= roomMin {
		return passed("the source keeps up to %s for a slot, and its tables have %s", size(room), size(data)), nil
	}
	fix, err := l.source.setting(ctx, "max_slot_wal_keep_size", "-1", false)
	return alert(fix, "the source keeps at most %s of WAL for a slot (max_slot_wal_keep_size), and its tables have %s: "+
		"if more is written while they are copied, the slot is lost and the migration begins anew", size(room), size(data)), err
}

// roomMin holds the WAL of a small database's checkpoints and vacuums.
const roomMin = 1 << 30

// readIdleTimeout: the parameter exists since 18; 0 = none.
const readIdleTimeout = `
select coalesce((select setting || coalesce(unit, '') from pg_settings
                 where name = 'idle_replication_slot_timeout' and setting <> '0'), '')`

func idleSlotTimeout(ctx context.Context, l *look) (finding, error) {
	timeout, err := value[string](ctx, l.source, readIdleTimeout)
	if err != nil || timeout == "" {
		return passed("none"), err
	}
	fix, err := l.source.setting(ctx, "idle_replication_slot_timeout", "0", false)
	return alert(fix, "idle_replication_slot_timeout is %s: nobody reads the slot while tables are copied, and the source "+
		"would invalidate it", timeout), err
}

type slotState struct {
	Database, Plugin string
	Active           bool
}

const readSlotState = `
select coalesce(database::text, ''), coalesce(plugin::text, ''), active from pg_replication_slots where slot_name = $1`

// ownSlot: without a ledger nobody knows where the slot began to be read, so it is made again.
func ownSlot(ctx context.Context, l *look) (finding, error) {
	slot := l.Spec.ID.Slot()
	found, err := rows[slotState](ctx, l.source, readSlotState, slot)
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	known, err := l.knownToLedger(ctx)
	if err != nil || known {
		return passed("%s, known to the target's ledger", slot), err
	}
	drop := fmt.Sprintf("select pg_drop_replication_slot(%s);", migration.Literal(slot))
	if found[0].Active {
		return failed("stop the process that reads it, then: "+drop,
			"somebody reads slot %s, which is this migration's, and the target's ledger knows nothing of it", slot), nil
	}
	return notice(drop, "slot %s was left by an earlier attempt; it is dropped and made again", slot), nil
}

type given struct {
	Plugin          string
	Here            bool // in this database
	Temporary, Read bool
	Lost            bool
}

// readGiven takes columns that came with 13 and 17 from the row as a whole.
const readGiven = `
select coalesce(s.plugin::text, ''), coalesce(s.database = current_database(), false), s.temporary, s.active,
       s.restart_lsn is null or coalesce(to_jsonb(s) ->> 'wal_status', '') = 'lost' or coalesce(to_jsonb(s) ->> 'invalidation_reason', '') <> ''
from pg_replication_slots s where s.slot_name = $1`

// givenSlot: the changes begin where a person has made a slot, together with the snapshot that he has restored.
func givenSlot(ctx context.Context, l *look) (finding, error) {
	slot := l.Spec.Incremental.Slot
	how := fmt.Sprintf("select pg_create_logical_replication_slot(%s, 'pgoutput'); -- in database %s, with the snapshot that is restored",
		migration.Literal(slot), l.source.server.Database())
	found, err := rows[given](ctx, l.source, readGiven, slot)
	if err != nil {
		return finding{}, err
	}
	if len(found) == 0 {
		return failed(how, "the source has no slot %s", slot), nil
	}
	known, err := l.knownToLedger(ctx)
	if err != nil {
		return finding{}, err
	}
	s := found[0]
	switch {
	case s.Plugin != "pgoutput" || !s.Here:
		return failed(how, "slot %s is none of plugin pgoutput in database %s", slot, l.source.server.Database()), nil
	case s.Temporary:
		return failed(how, "slot %s is temporary, and no other session can use it", slot), nil
	case s.Lost:
		return failed(how, "slot %s was invalidated: the source has not kept what it would begin with", slot), nil
	case s.Read && !known:
		return failed("end what reads from it: select active_pid from pg_replication_slots where slot_name = "+migration.Literal(slot),
			"somebody reads slot %s", slot), nil
	}
	return passed("slot %s can be read from", slot), nil
}

func (l *look) knownToLedger(ctx context.Context) (bool, error) {
	usable, err := l.ledgerUsable(ctx)
	if err != nil || !usable {
		return false, err
	}
	return value[bool](ctx, l.target, "select exists (select from dts_sync.migration where id = $1)", l.Spec.ID)
}
