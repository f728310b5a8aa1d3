package slot_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const ownSlot = "made_by_hand"

// incremental is a migration that begins where a person's slot does.
func incremental(b *slottest.Bench) *slottest.Bench {
	b.Spec.Types = []migration.Type{migration.TypeIncremental}
	b.Spec.Incremental.Slot = ownSlot
	return b
}

func makeSlot(t *testing.T, b *slottest.Bench) {
	t.Helper()
	b.From.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", ownSlot)
}

func slots(t *testing.T, b *slottest.Bench) string {
	t.Helper()
	return pgtest.Value[string](t, b.From, `select coalesce(string_agg(slot_name, ' '), '') from pg_replication_slots
		where database = current_database()`)
}

// The publications are made in a first attempt that has no slot to take; then the slot holds only changes after them.
func TestSlotOfAPersonIsTakenAndLeft(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := incremental(slottest.New(t, pgtest.Server(t, pgtest.Major(major)), someTables))
			create := "create publication " + b.Spec.ID.Publication() + " for table only keyed, only indexed"
			with := "insert, truncate"
			if major == 10 {
				with = "insert"
			}
			insertOnly := fmt.Sprintf("create publication %s for table only plain with (publish = '%s')", b.Spec.ID.PublicationInsertOnly(), with)
			b.From.Exec(t, create)
			b.From.Exec(t, insertOnly)
			makeSlot(t, b)
			confirmed := pgtest.Value[string](t, b.From, "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", ownSlot)
			b.From.Exec(t, "insert into keyed values (1, 'held by the slot')")
			start := b.Prepare(t)
			require.Equal(t, confirmed, start.String())
			require.Equal(t, start, b.Prepare(t), "a second call finds the same slot")

			known, err := b.Ledger(t).Read(t.Context())
			require.NoError(t, err)
			require.Equal(t, ownSlot, known.Slot)
			require.True(t, known.StartSnapshot.IsZero(), "nobody knows which snapshot the person has restored")
			require.NoError(t, slot.Check(t.Context(), b.Connect(t, b.Source), expected(t, b)))
			names := b.Spec.ID.Publication() + "," + b.Spec.ID.PublicationInsertOnly()
			require.Equal(t, 1, pgtest.Value[int](t, b.From, `select count(*)
				from pg_logical_slot_peek_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', $2) where get_byte(data, 0) = ascii('I')`,
				ownSlot, names), "the change from before the preparation is there")

			owed, err := slot.Drop(t.Context(), b.Source, b.Ledger(t))
			require.NoError(t, err)
			require.Len(t, owed, 3)
			require.Contains(t, owed[0], "pg_drop_replication_slot('made_by_hand')")
			require.Contains(t, owed[1], "drop publication")
			require.Equal(t, ownSlot, slots(t, b))
			require.Equal(t, 2, pgtest.Value[int](t, b.From, "select count(*) from pg_publication"))
			b.From.Exec(t, "select pg_drop_replication_slot($1)", ownSlot)
			b.From.Exec(t, "drop publication "+b.Spec.ID.Publication()+", "+b.Spec.ID.PublicationInsertOnly())
			b.Drop(t)
		})
	}
}

// Changes from before the publications are an error of the stream, or missing from it without a word.
func TestSlotOlderThanThePublicationsIsRefused(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			b := incremental(slottest.New(t, pgtest.Server(t, pgtest.Major(major)), someTables))
			makeSlot(t, b)
			b.From.Exec(t, "insert into keyed values (1)")
			for range 2 {
				_, err := slot.Prepare(t.Context(), b.Config(t))
				require.Contains(t, slottest.MustFault(t, migration.FaultDrift, err).Hint, "make the slot and the snapshot again")
			}
			b.From.Exec(t, "select pg_drop_replication_slot($1)", ownSlot)
			makeSlot(t, b)
			b.From.Exec(t, "insert into keyed values (2)")
			require.NotZero(t, b.Prepare(t))
		})
	}
}

func TestSlotThatHoldsNothingMayBeOlderThanThePublications(t *testing.T) {
	t.Parallel()
	b := incremental(slottest.New(t, pgtest.Server(t, pgtest.Major(14)), someTables))
	makeSlot(t, b)
	require.NotZero(t, b.Prepare(t))
}

func TestSlotThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	b := incremental(slottest.New(t, pgtest.Server(t), someTables))
	refused := func(kind migration.FaultKind) string {
		t.Helper()
		_, err := slot.Prepare(t.Context(), b.Config(t))
		require.Zero(t, pgtest.Value[int](t, b.From, "select count(*) from pg_publication"), "nothing is made for it")
		return slottest.MustFault(t, kind, err).Message
	}
	require.Contains(t, refused(migration.FaultSlotLost), "no such slot")
	b.From.Exec(t, "select pg_create_physical_replication_slot($1)", ownSlot)
	require.Contains(t, refused(migration.FaultSlotLost), `plugin ""`)
	b.From.Exec(t, "select pg_drop_replication_slot($1)", ownSlot)
	holder := b.From.Conn(t)
	_, err := holder.Exec(t.Context(), "select pg_create_logical_replication_slot($1, 'pgoutput', true)", ownSlot)
	require.NoError(t, err)
	require.Contains(t, refused(migration.FaultSlotLost), "temporary")
	require.NoError(t, holder.Close(t.Context()))
	b.From.WaitUntil(t, "select count(*) = 0 from pg_replication_slots")
	elsewhere := pgtest.Database(t, b.From.Server)
	elsewhere.Exec(t, "select pg_create_logical_replication_slot($1, 'pgoutput')", ownSlot)
	require.Contains(t, refused(migration.FaultSlotLost), elsewhere.Name)
}

// What the log says of an old row was decided when the row was changed.
func TestSlotOlderThanTheIdentitiesIsRefused(t *testing.T) {
	t.Parallel()
	b := incremental(slottest.New(t, pgtest.Server(t), someTables))
	b.Spec.WithoutKey = migration.FullIdentity
	makeSlot(t, b)
	_, err := slot.Prepare(t.Context(), b.Config(t))
	require.Contains(t, slottest.MustFault(t, migration.FaultDrift, err).Hint, `alter table only "public"."plain" replica identity full`)
	require.Equal(t, "d", pgtest.Value[string](t, b.From, "select relreplident::text from pg_class where relname = 'plain'"))
}
