package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// A table changes while it is followed: what only adds is made by the migration itself, the rest stops it before the first
// change of the new shape, a person makes the same on the target and says resume, and the cutover compares the new shape.
func TestTablesThatChangeWhileTheyAreFollowed(t *testing.T) {
	t.Parallel()
	s := newScenario(t, "ddl: apply-safe\ncutover: {steadyFor: 1s}\n")
	s.from.Exec(t, "create table a (id int primary key, v text, w int); create table b (id int primary key, v text); insert into a values (1, 'a', 1)")
	p := s.start(nil, "run", "-f", s.file)
	s.awaitPhase(p, migration.PhaseIncremental)

	s.from.Exec(t, "alter table a add column n int not null default 7, add column m text")
	s.from.Exec(t, "insert into a values (2, 'b', 2, 8, 'm')")
	s.to.WaitUntil(t, "select exists (select from a where id = 2)")
	require.Equal(t, [][]string{{"1", "7"}, {"2", "8"}}, s.to.Query(t, "select id::text, (to_jsonb(a) ->> 'n') from a order by id"))

	s.from.Exec(t, "create index b_v on b (v); comment on column b.v is 'word'") // the stream says nothing of these
	s.from.Exec(t, "insert into b values (1, 'before')")
	s.from.Exec(t, "alter table a drop column w; alter table a rename v to label; alter table a alter n type bigint")
	s.from.Exec(t, "insert into a values (3, 'c', 9000000000, null)")
	s.from.Exec(t, "insert into b values (2, 'after')")
	status := s.await(p, "the question", func(status migration.Status) bool { return status.Attention != nil })
	require.Equal(t, migration.FaultDrift, status.Attention.Fault.Kind)
	require.Equal(t, "public.a", status.Attention.Fault.Object)
	for _, text := range []string{`column "w" dropped`, `column "v" renamed to "label"`, `type of column "n" changed from integer to bigint`} {
		require.Contains(t, status.Attention.Fault.Message, text)
	}
	require.Equal(t, [][]string{{"before"}}, s.to.Query(t, "select v from b"), "what came before is there, what came after waits")

	hint := status.Attention.Fault.Hint
	_, sql, found := strings.Cut(hint, "on the target run: ")
	require.True(t, found, hint)
	s.to.Exec(t, strings.TrimSuffix(sql, "; then `pgdts resume`"))
	code, _, errs := s.run("resume", "-f", s.file)
	require.Zero(t, code, errs)
	s.to.WaitUntil(t, "select exists (select from b where id = 2)")
	s.to.WaitUntil(t, "select exists (select from pg_indexes where indexname = 'b_v') and col_description('b'::regclass, 2) = 'word'")
	status = s.await(p, "caught up", func(status migration.Status) bool { return status.CaughtUp })
	require.Nil(t, status.Attention)
	code, _, errs = s.run("cutover", "-f", s.file)
	require.Zero(t, code, errs)
	require.Zero(t, p.wait(time.Minute))
	pgtest.MustEqual(t, s.from, s.to)
	require.Zero(t, s.report().Conflicts)
}
