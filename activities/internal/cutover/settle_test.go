package cutover_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/cutover"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// ended is a migration whose kinds of work other than a stream have been done by hand on the target.
func ended(t *testing.T, source, target string, change func(*migration.Spec)) bench {
	t.Helper()
	b := bench{slottest.New(t, pgtest.Shared(t), source)}
	change(&b.Spec)
	b.To.Exec(t, target)
	return b
}

const someSequences = `
create sequence up; create sequence down increment by -1; create table t (id serial primary key);
select setval('up', 50), setval('down', -50), setval('t_id_seq', 70)`

func state(t *testing.T, db *pgtest.DB, sequence string) string {
	t.Helper()
	return pgtest.Value[string](t, db, "select last_value || ' ' || is_called from "+sequence)
}

// Nothing was streamed, so that there is neither slot nor publication to look at.
func TestSettleOfACopySetsSequences(t *testing.T) {
	t.Parallel()
	b := ended(t, someSequences, "create sequence up; create sequence down increment by -1; create table t (id serial primary key)",
		func(spec *migration.Spec) { spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull} })
	for range 2 {
		evidence, err := cutover.Settle(t.Context(), b.config(t))
		require.NoError(t, err)
		require.Equal(t, 3, evidence.Sequences)
		require.Empty(t, evidence.Notes)
	}
	require.Equal(t, "50 true", state(t, b.To, "up"))
	require.Equal(t, "-50 true", state(t, b.To, "down"))
	require.Equal(t, "70 true", state(t, b.To, "t_id_seq"))
	recorded, err := b.Ledger(t).Evidence(t.Context())
	require.NoError(t, err)
	require.Equal(t, "none", recorded.Verified)
	owed, err := cutover.Cleanup(t.Context(), b.config(t), cutover.Ending{End: migration.PhaseFinished})
	require.NoError(t, err)
	require.Empty(t, owed)
}

func TestSettleOfASchemaLeavesSequencesAtTheirStart(t *testing.T) {
	t.Parallel()
	b := ended(t, someSequences, "create sequence up", func(spec *migration.Spec) { spec.Types = []migration.Type{migration.TypeSchema} })
	evidence, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Zero(t, evidence.Sequences)
	require.Equal(t, "1 false", state(t, b.To, "up"))
}

// A target that was there before has handed out numbers of its own.
func TestSequencesOfOthersNeverGoBack(t *testing.T) {
	t.Parallel()
	b := ended(t, someSequences, `create sequence up; create sequence down increment by -1; create table t (id serial primary key);
		select setval('up', 60), setval('down', -60), setval('t_id_seq', 60)`,
		func(spec *migration.Spec) { spec.Types = []migration.Type{migration.TypeFull} })
	evidence, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Equal(t, 3, evidence.Sequences)
	require.Equal(t, "60 true", state(t, b.To, "up"))
	require.Equal(t, "-60 true", state(t, b.To, "down"))
	require.Equal(t, "70 true", state(t, b.To, "t_id_seq"))
}

// The target may be of any version.
func TestSequencesAreSetOnEveryVersion(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			source, target := pgtest.Database(t, pgtest.Shared(t)), pgtest.Database(t, pgtest.Server(t, pgtest.Major(major)))
			source.Exec(t, someSequences)
			target.Exec(t, `create sequence up; create sequence down increment by -1; create table t (id serial primary key);
				select setval('down', -60), setval('t_id_seq', 60)`)
			b := bench{slottest.Existing(t, migration.RandomID("test"), source.URI, target.URI)}
			b.Spec.Types = []migration.Type{migration.TypeFull}
			conn := b.Connect(t, b.Target)
			require.NoError(t, ledger.Create(t.Context(), conn))
			require.NoError(t, ledger.Ledger{ID: b.Spec.ID, Conn: conn}.Acquire(t.Context(), slottest.Run, b.Spec))
			_, err := cutover.Settle(t.Context(), b.config(t))
			require.NoError(t, err)
			require.Equal(t, []string{"50 true", "-60 true", "70 true"}, []string{state(t, target, "up"), state(t, target, "down"), state(t, target, "t_id_seq")})
		})
	}
}

func TestSequencesAreSetUnderTheirNewNames(t *testing.T) {
	t.Parallel()
	b := ended(t, someSequences+`; create schema other; create sequence other.up; create table "Kept" (id serial); select setval('"Kept_id_seq"', 9)`,
		`create schema app; create sequence app.up; create sequence app.down increment by -1; create table app.t (id serial primary key);
		create sequence app."Kept_id_seq"`,
		func(spec *migration.Spec) {
			spec.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
			spec.Objects, spec.EverythingElse = []migration.Object{{Schema: "public", Rename: "app"}}, migration.ExcludeElse
			spec.Names.Case = migration.CaseLower
		})
	evidence, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Empty(t, evidence.Notes)
	require.Equal(t, 4, evidence.Sequences)
	require.Equal(t, "50 true", state(t, b.To, "app.up"))
	require.Equal(t, "70 true", state(t, b.To, "app.t_id_seq"))
	require.Equal(t, "9 true", state(t, b.To, `app."Kept_id_seq"`))
}

func TestMissingSequencesAreNamed(t *testing.T) {
	t.Parallel()
	b := ended(t, someSequences, "create sequence up", func(spec *migration.Spec) {
		spec.Types = []migration.Type{migration.TypeFull}
	})
	evidence, err := cutover.Settle(t.Context(), b.config(t))
	require.NoError(t, err)
	require.Equal(t, 1, evidence.Sequences)
	require.Equal(t, []string{"sequences that the target does not have: public.down, public.t_id_seq"}, evidence.Notes)
}

// A copy's source may be down, or a server that takes no writes, when the migration ends.
func TestCopyOwesTheSourceNothing(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	b := ended(t, "", "", func(spec *migration.Spec) { spec.Types = []migration.Type{migration.TypeFull} })
	other := slottest.New(t, server, "")
	require.NoError(t, server.Kill())
	b.Source = other.Source
	owed, err := cutover.Cleanup(t.Context(), b.config(t), cutover.Ending{End: migration.PhaseFailed})
	require.NoError(t, err)
	require.Empty(t, owed)
}
