package bulk_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// planFails is the fault of a plan.
func (b *bench) planFails() *migration.Fault {
	b.Helper()
	_, err := bulk.Plan(b.Context(), b.config, b.lane("plan"), quiet)
	fault, ok := migration.AsFault(err)
	require.True(b, ok, "want a fault, not %v", err)
	return fault
}

var copiedAndStreamed = []migration.Type{migration.TypeFull, migration.TypeIncremental}

func TestDefinitionIsCopied(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create schema app; create schema log;
		create table app.users (id int primary key, name text, secret text, country text); create table app.skipped (id int primary key);
		create table log.jan (at int primary key, what text); create table log.feb (at int primary key, what text);
		insert into app.users select g, 'u' || g, 's', (array['de','fr',null])[g % 3 + 1] from generate_series(1, 3000) g;
		insert into app.skipped values (1); insert into log.jan select g, 'j' from generate_series(1, 500) g; insert into log.feb select g, 'f' from generate_series(1, 500) g`,
		`create schema crm; create table crm.app_users (id int primary key, label text, country text);
		create table crm.log (month text, at int, what text, primary key (month, at))`)
	b.config.Spec.Types = copiedAndStreamed
	b.config.Spec.EverythingElse = migration.ExcludeElse
	b.config.Spec.Objects = []migration.Object{
		{
			Table: "app.user*", Rename: "crm.app_user$1", Where: "country = 'de' or id < 10",
			Columns: migration.Columns{Exclude: []string{"secret"}, Rename: map[string]string{"name": "label"}},
		},
		{Table: "log.*", Rename: "crm.log"},
	}
	b.config.Spec.Transform = []migration.Transform{
		{Tables: []string{"app.users"}, Set: map[string]string{"label": "upper(name)"}, DropIf: "country = 'fr'"},
		{Tables: []string{"log.jan"}, Set: map[string]string{"month": "'01'"}},
		{Tables: []string{"log.feb"}, Set: map[string]string{"month": "'02'"}},
	}
	require.Equal(t, 3, b.plan().Tables)
	require.Equal(t, [][]string{{"feb", "crm.log", "t"}, {"jan", "crm.log", "t"}, {"users", "crm.app_users", "t"}},
		b.target.Query(t, "select name, target_schema || '.' || target_name, was_empty from dts_sync.tbl order by 1"))
	b.copy(2)
	b.mustHold("select id, upper(name), country from app.users where (country = 'de' or id < 10) and country is distinct from 'fr' order by 1",
		"select * from crm.app_users order by 1")
	b.mustHold("select '01', * from log.jan union all select '02', * from log.feb order by 1, 2", "select * from crm.log order by 1, 2")
	// Both tables of the merge were empty before, so what is in theirs is ours.
	require.NoError(t, b.book.Restart(t.Context(), b.lane("again"), true, quiet))
	require.Equal(t, "0", b.target.Query(t, "select count(*) from (select from crm.log union all select from crm.app_users) x")[0][0])
}

func TestExistingTablesArePlannedByWhatTheTargetDemands(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table plain (id int primary key, v int); create table seats (id int primary key, seat int);
		insert into plain select g, g from generate_series(1, 3000) g; insert into seats select g, g from generate_series(1, 3000) g`,
		`create table plain (id int primary key, v int); create table seats (id int primary key, seat int unique)`)
	b.config.Spec.Types = copiedAndStreamed
	b.plan()
	require.Equal(t, [][]string{{"plain", "keyrange", "t"}, {"seats", "onesnap", "t"}},
		b.target.Query(t, "select name, mode, was_empty from dts_sync.tbl order by 1"))
	b.copy(2)
	pgtest.MustEqual(t, b.source, b.target)
}

func TestRowsThatNobodySpokeOfStopThePlan(t *testing.T) {
	t.Parallel()
	ddl := "create table t (id int primary key)"
	b := newMappedBench(t, ddl, ddl)
	b.config.Spec.Types = copiedAndStreamed
	b.target.Exec(t, "insert into t values (1)")
	fault := b.planFails()
	require.Equal(t, migration.FaultDrift, fault.Kind)
	require.Equal(t, "public.t", fault.Object)
	require.Contains(t, fault.Hint, "conflict: ignore")
	require.Equal(t, "f", b.target.Query(t, "select planned from dts_sync.migration")[0][0])
	b.target.Exec(t, "delete from t")
	b.plan()
}

func TestKeptTableOfADefinition(t *testing.T) {
	t.Parallel()
	b := newMappedBench(t, `create table t (id int primary key, v text, only_here int); insert into t select g, 's', g from generate_series(1, 100) g`,
		`create table t (id int primary key, v text, only_there int default 3); insert into t (id, v) values (5, 't'), (-5, 't')`)
	b.config.Spec.Types, b.config.Spec.Conflict = copiedAndStreamed, migration.ConflictIgnore
	b.plan()
	b.copy(1)
	require.Equal(t, [][]string{{"t", "(5)"}}, b.kept())
	require.Equal(t, [][]string{{"s", "3", "99"}, {"t", "3", "2"}}, b.target.Query(t, "select v, only_there, count(*) from t group by 1, 2 order by 1"))
	require.Contains(t, b.target.Query(t, "select notes from dts_sync.migration")[0][0], "only_here", "what is left out is said")
}

func TestProblemOfADefinitionStopsThePlan(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table t (id int primary key)")
	b.config.Spec.Objects = []migration.Object{{Table: "public.tt"}}
	fault := b.planFails()
	require.Equal(t, migration.FaultDrift, fault.Kind)
	require.Contains(t, fault.Message, "no table of the source")
	require.NotEmpty(t, fault.Hint)
}
