package slot_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// fillLog writes more than three segments and lets the source forget what it may.
const fillLog = `
do $$ begin for i in 1..4 loop
    insert into plain select repeat('x', 1000) from generate_series(1, 5000);
    perform pg_switch_wal();
end loop; end $$`

// Whatever happens to a slot, everybody who connects hears of it by name, with what can be done, and no slot is made.
func TestWhatCanHappenToASlotIsNamedAtEveryConnect(t *testing.T) {
	t.Parallel()
	small := []pgtest.Option{
		pgtest.Setting("max_slot_wal_keep_size", "1MB"), pgtest.Setting("min_wal_size", "32MB"), pgtest.Setting("max_wal_size", "32MB"),
	}
	for name, problem := range map[string]struct {
		options []pgtest.Option // a server of its own; none = the shared one
		harm    func(t *testing.T, b *slottest.Bench)
		kind    migration.FaultKind
		words   []string
	}{
		"dropped": {
			harm: func(t *testing.T, b *slottest.Bench) {
				b.From.Exec(t, "select pg_drop_replication_slot($1)", b.Spec.ID.Slot())
			},
			kind: migration.FaultSlotLost, words: []string{"no such slot any more", "run --again"},
		},
		// The log has a record of every slot that is made, so that even with no change between the new slot is ahead.
		"made anew, nothing written between": {
			harm: makeAnew, kind: migration.FaultSlotLost, words: []string{"has forgotten changes up to", "made it anew under its name", "run --again"},
		},
		"made anew, nothing written between, on 10": {
			options: []pgtest.Option{pgtest.Major(10)},
			harm:    makeAnew, kind: migration.FaultSlotLost, words: []string{"has forgotten changes up to", "made it anew under its name"},
		},
		"made anew, nothing written between, on 18": {
			options: []pgtest.Option{pgtest.Major(18)},
			harm:    makeAnew, kind: migration.FaultSlotLost, words: []string{"has forgotten changes up to", "made it anew under its name"},
		},
		"made anew after changes": {
			harm: func(t *testing.T, b *slottest.Bench) {
				b.From.Exec(t, "insert into keyed values (1)")
				makeAnew(t, b)
			},
			kind: migration.FaultSlotLost, words: []string{"has forgotten changes up to"},
		},
		"made anew by another plugin": {
			harm: func(t *testing.T, b *slottest.Bench) {
				b.From.Exec(t, "select pg_drop_replication_slot($1)", b.Spec.ID.Slot())
				b.From.Exec(t, "select pg_create_physical_replication_slot($1, true)", b.Spec.ID.Slot())
			},
			kind: migration.FaultSlotLost, words: []string{`belongs to plugin "" and database ""`, "run --again"},
		},
		"consumed": {
			harm: func(t *testing.T, b *slottest.Bench) {
				b.From.Exec(t, "insert into keyed values (1)")
				b.From.Exec(t, `select count(*) from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', $2)`,
					b.Spec.ID.Slot(), b.Spec.ID.Publication())
			},
			kind: migration.FaultSlotLost, words: []string{"has forgotten changes up to", "somebody else read from the slot"},
		},
		"outgrown on 13": {
			options: append(small, pgtest.Major(13)), harm: outgrow,
			kind: migration.FaultSlotLost, words: []string{"max_slot_wal_keep_size", "which is now 1MB", "raise max_slot_wal_keep_size"},
		},
		"outgrown on 18": {
			options: append(small, pgtest.Major(18)), harm: outgrow,
			kind: migration.FaultSlotLost, words: []string{"max_slot_wal_keep_size", "which is now 1MB", "raise max_slot_wal_keep_size"},
		},
		"idle for too long": {
			options: []pgtest.Option{pgtest.Major(18), pgtest.Setting("idle_replication_slot_timeout", "1s")},
			harm: func(t *testing.T, b *slottest.Bench) {
				b.From.WaitUntil(t, "select now() - inactive_since > '1.5 s' from pg_replication_slots")
				b.From.Exec(t, "checkpoint")
			},
			kind: migration.FaultSlotLost, words: []string{"nobody read from it", "idle_replication_slot_timeout, which is 1s", "idle_replication_slot_timeout = 0"},
		},
		"another cluster behind the address": {
			harm: func(t *testing.T, b *slottest.Bench) {
				other := pgtest.Database(t, pgtest.Server(t))
				there := slottest.Existing(t, b.Spec.ID, other.URI, b.To.URI)
				b.Source = there.Source
			},
			kind: migration.FaultWrongServer, words: []string{"system identifier", "the migration began with"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := slottest.New(t, server(t, problem.options), someTables)
			b.Prepare(t)
			problem.harm(t, b)
			conn := b.Connect(t, b.Source)
			slots := slotsOf(t, b)
			for doing, err := range map[string]error{
				"check": slot.Check(t.Context(), conn, expected(t, b)),
				"watch": slot.Watch(t.Context(), watch(b), b.Report),
			} {
				fault := slottest.MustFault(t, problem.kind, err)
				require.Equal(t, migration.Source, fault.Side, doing)
				for _, word := range problem.words {
					require.Contains(t, fault.Error(), word, doing)
				}
			}
			require.Equal(t, slots, slotsOf(t, b))
		})
	}
}

func server(t *testing.T, options []pgtest.Option) *pgserver.Server {
	t.Helper()
	if options == nil {
		return pgtest.Shared(t)
	}
	return pgtest.Server(t, options...)
}

func slotsOf(t *testing.T, b *slottest.Bench) string {
	t.Helper()
	return fmt.Sprint(b.From.Query(t, "select slot_name, plugin, confirmed_flush_lsn from pg_replication_slots where slot_name = $1", b.Spec.ID.Slot()))
}

func makeAnew(t *testing.T, b *slottest.Bench) {
	t.Helper()
	b.From.Exec(t, "select pg_drop_replication_slot($1)", b.Spec.ID.Slot())
	b.From.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", b.Spec.ID.Slot())
}

func outgrow(t *testing.T, b *slottest.Bench) {
	t.Helper()
	b.From.Exec(t, fillLog)
	b.From.Exec(t, "checkpoint")
	b.From.WaitUntil(t, "select wal_status = 'lost' from pg_replication_slots")
}
