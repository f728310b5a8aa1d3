package precheck

import (
	"context"
	"fmt"

	"github.com/pgdts/pgdts/workflows/migration"
)

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
	found := fmt.Sprintf("all %d replication slots of the source are in use (max_replication_slots), and one is needed", u.Max)
	if len(u.Inactive) > 0 {
		found += "; nobody reads " + list(u.Inactive)
		fix += "\n-- or drop one that nobody needs any more, which takes no restart:"
		for _, slot := range u.Inactive {
			fix += "\n-- " + dropSlot(slot)
		}
	}
	return failed(fix, "%s", found).afterRestart(), err
}

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
	if found[0].Active {
		return failed(endReader(slot)+"\n"+dropSlot(slot),
			"somebody reads slot %s, which is this migration's, and the target's ledger knows nothing of it", slot), nil
	}
	return notice(dropSlot(slot), "slot %s was left by an earlier attempt; it is dropped and made again", slot), nil
}

func dropSlot(slot string) string {
	return fmt.Sprintf("select pg_drop_replication_slot(%s);", migration.Literal(slot))
}

// endReader waits until the slot is free: what is dropped too early is refused.
func endReader(slot string) string {
	name := migration.Literal(slot)
	return fmt.Sprintf("do $$ begin perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = %s; "+
		"while exists (select from pg_replication_slots where slot_name = %s and active) loop perform pg_sleep(0.1); end loop; end $$;", name, name)
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
		return failed(endReader(slot), "somebody reads slot %s", slot), nil
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

type otherSlot struct {
	Name, Database, Plugin string
	Active                 bool
	Kept                   int64 // bytes of WAL
}

// readOtherSlots lists logical slots but ours. What one keeps on a standby nobody asks.
const readOtherSlots = `
select slot_name::text, coalesce(database::text, ''), coalesce(plugin::text, ''), active,
       case when pg_is_in_recovery() then 0 else coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0) end::bigint
from pg_replication_slots
where slot_type = 'logical' and not temporary and slot_name <> $1 and slot_name <> $2
  and (left(slot_name, 9) = 'dts_sync_') = $3
order by 1`

// otherSlots reads those that migrations have made, or those of other programs.
func (l *look) otherSlots(ctx context.Context, ofMigrations bool) ([]otherSlot, error) {
	return rows[otherSlot](ctx, l.source, readOtherSlots, l.Spec.ID.Slot(), l.Spec.Incremental.Slot, ofMigrations)
}

// orphanSlots: a slot that a migration has left behind keeps WAL until the disk is full. Nobody but a person knows
// whether that migration is over, so that none is dropped here.
func orphanSlots(ctx context.Context, l *look) (finding, error) {
	found, err := l.otherSlots(ctx, true)
	var names, fixes []string
	for _, s := range found {
		if !s.Active {
			names = append(names, fmt.Sprintf("%s in database %s (%s of WAL)", s.Name, s.Database, size(s.Kept)))
			fixes = append(fixes, dropSlot(s.Name))
		}
	}
	if err != nil || len(names) == 0 {
		return passed("none"), err
	}
	return notice("-- where the migration is over for good, and not just copying or paused:\n"+statements(fixes),
		"nobody reads these slots of other migrations now: %s", list(names)), nil
}

// otherReaders: who reads changes of this database from a slot of his own gets no more of them after the cutover.
func otherReaders(ctx context.Context, l *look) (finding, error) {
	found, err := l.otherSlots(ctx, false)
	var names []string
	for _, s := range found {
		if s.Database == l.source.server.Database() {
			names = append(names, fmt.Sprintf("%s (%s)", s.Name, s.Plugin))
		}
	}
	if err != nil || len(names) == 0 {
		return passed("none"), err
	}
	return notice("", "slots do not travel: what reads changes from these must be set up on the target anew: %s", list(names)), nil
}
