package schema_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const every = "../../../tests/fixtures/every.sql"

// The fixture is what the other tests stand on.
func TestEveryVersionKnowsTheFixture(t *testing.T) {
	t.Parallel()
	for _, major := range []int{11, 12, 14, 16} { // the tests below need the others
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			apply(t, pgtest.Database(t, pgtest.Server(t, pgtest.Major(major))), fixture(t, every))
		})
	}
}

// everythingArrived fails the test unless every object is done, but for the kinds that are left out on purpose.
func (m *move) everythingArrived(t *testing.T) {
	t.Helper()
	m.load(t)
	m.create(t, everything...)
	if left := m.target.Query(t, "select kind, schema, name, state, message from dts_sync.object where state <> 'done' order by no"); len(left) > 0 {
		t.Errorf("not done: %v", left)
	}
}

// Every kind of object arrives as it was, from versions that pg_dump here reads to the one that it can compare.
func TestEveryKindOfObjectArrives(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 13, 15} {
		for _, replicaRole := range []bool{true, false} {
			t.Run(fmt.Sprint("from ", major, " replica role ", replicaRole), func(t *testing.T) {
				t.Parallel()
				from := pgtest.Shared(t)
				if major != 15 {
					from = pgtest.Server(t, pgtest.Major(major))
				}
				m := newMoveBetween(t, from, pgtest.Shared(t), fixture(t, every))
				m.target.Exec(t, "update dts_sync.migration set replica_role = $1", replicaRole)
				m.everythingArrived(t)
				source, target := asOf15(dumpOf(t, m.source, "--no-privileges")), asOf15(dumpOf(t, m.target, "--no-privileges"))
				if source != target {
					t.Errorf("schemas differ:\n%s", diff(t, source, target))
				}
				if len(source) < 100_000 {
					t.Errorf("a dump of %d bytes compares little", len(source))
				}
			})
		}
	}
}

// Objects that versions before 15 know under other words, or not at all though 15 makes them of the same statement.
var (
	publicSchema = regexp.MustCompile(`(?m)^--\n-- Name: public; Type: SCHEMA.*\n--\n\n-- .*\n\n\nALTER SCHEMA public OWNER TO .*\n\n`)
	multirange   = regexp.MustCompile(`(?m)^    multirange_type_name = every\.\w+_multirange,\n`)
	procedure    = regexp.MustCompile(`(?m)^.*\bPROCEDURE .*$`)
)

func asOf15(dump string) string {
	dump = publicSchema.ReplaceAllString(dump, "")
	dump = multirange.ReplaceAllString(dump, "")
	dump = strings.NewReplacer(`DEFAULT B'101'`, `DEFAULT '101'`, "ACL; Schema: -; Owner: pg_database_owner", "ACL; Schema: -; Owner: postgres").Replace(dump)
	return procedure.ReplaceAllStringFunc(dump, func(line string) string { return strings.ReplaceAll(line, " IN y ", " y ") })
}

// What a newer server holds after the migration is what it holds when the same statements are run there.
func TestEveryKindOfObjectArrivesOnNewerServers(t *testing.T) {
	t.Parallel()
	for _, major := range []int{17, 18} {
		t.Run(fmt.Sprint("to ", major), func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t, pgtest.Major(major))
			m := newMoveBetween(t, pgtest.Shared(t), server, fixture(t, every))
			m.everythingArrived(t)
			direct := pgtest.Database(t, server)
			apply(t, direct, fixture(t, every))
			want, got := pgtest.Catalog(t, direct, "right", "owner"), pgtest.Catalog(t, m.target, "right", "owner")
			if difference := pgtest.Difference(want, got); difference != "" || len(want) < 700 {
				t.Errorf("%d lines differ:\n%s", len(want), difference)
			}
		})
	}
}

// With grants and owners, where the target has the roles, all of them arrive.
func TestRightsAndOwnersArrive(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 15} {
		t.Run(fmt.Sprint("from ", major), func(t *testing.T) {
			t.Parallel()
			from := pgtest.Shared(t)
			if major != 15 {
				from = pgtest.Server(t, pgtest.Major(major))
			}
			m := newMoveBetween(t, from, pgtest.Shared(t), fixture(t, every)+ownedByOthers)
			m.cfg.Spec.Schema.Owner, m.cfg.Spec.Schema.Grants = "keep", true
			m.everythingArrived(t)
			source, target := asOf15(dumpOf(t, m.source)), asOf15(dumpOf(t, m.target))
			if source != target {
				t.Errorf("schemas differ:\n%s", diff(t, source, target))
			}
			for _, kind := range []string{"right", "owner"} {
				want, got := ofKind(pgtest.Catalog(t, m.source), kind), ofKind(pgtest.Catalog(t, m.target), kind)
				if difference := pgtest.Difference(want, got); difference != "" || len(want) < 100 {
					t.Errorf("%d lines of %s differ:\n%s", len(want), kind, difference)
				}
			}
		})
	}
}

// Every server has these roles.
const ownedByOthers = `
alter table every.parent owner to pg_monitor;
alter function every.twice(int) owner to pg_monitor;
alter type every.mood owner to pg_signal_backend;
alter schema "Every Other" owner to pg_monitor;
alter view every.simple owner to pg_monitor;
alter aggregate every.total(every.pair) owner to pg_monitor;
alter operator every.<# (every.pair, every.pair) owner to pg_monitor;
alter operator class every.pair_ops using btree owner to pg_monitor;
alter text search dictionary every.stop owner to pg_monitor;
alter domain every.positive owner to pg_monitor;
alter sequence every.all_options owner to pg_monitor;
alter materialized view every.stored owner to pg_monitor;
alter statistics every.types_some owner to pg_monitor;
alter collation every.plain_c owner to pg_monitor;
alter foreign table every.far owner to pg_monitor;
set role pg_monitor;
grant select on every.parent to pg_signal_backend with grant option;
set role pg_signal_backend;
grant select on every.parent to pg_stat_scan_tables;
reset role`

func ofKind(lines []string, kind string) []string {
	var some []string
	for _, line := range lines {
		// Version 14 has made the multiranges, and their functions, of the same statement.
		if strings.HasPrefix(line, kind+" ") && !strings.HasPrefix(line, "owner public:") && !strings.Contains(line, "_multirange(") {
			some = append(some, line)
		}
	}
	return some
}

// What names a role that the target lacks is told in the notes; everything else arrives, and belongs to the migration.
func TestMissingRolesAreToldAndStopNothing(t *testing.T) {
	t.Parallel()
	source := pgtest.Server(t, pgtest.Major(15))
	m := newMoveBetween(t, source, pgtest.Shared(t), fixture(t, every)+`
		create role "only Here" login;
		create role only_granted;
		grant select on every.parent to "only Here", only_granted, pg_monitor;
		grant select (id) on every.types to only_granted;
		grant usage on schema every to "only Here" with grant option;
		grant execute on function every.twice(int) to only_granted;
		alter default privileges for role "only Here" in schema every grant select on tables to public;
		alter default privileges in schema every grant insert on tables to "only Here";
		alter table every.egg owner to "only Here";
		alter function every.touch() owner to "only Here"`)
	m.cfg.Spec.Schema.Owner, m.cfg.Spec.Schema.Grants = "keep", true
	m.load(t)
	m.create(t, everything...)
	if left := m.target.Query(t, "select kind, name from dts_sync.object where state <> 'done' and kind not in ('ACL', 'DEFAULT ACL')"); len(left) > 0 {
		t.Errorf("not done: %v", left)
	}
	main, err := m.led.Read(t.Context())
	if notes := strings.Join(main.Notes, "\n"); err != nil || !strings.Contains(notes, "only Here") || !strings.Contains(notes, "only_granted") {
		t.Errorf("notes are %q, error %v", main.Notes, err)
	}
	want, got := pgtest.Catalog(t, m.source, "owner"), pgtest.Catalog(t, m.target, "owner")
	want = slices.DeleteFunc(want, func(line string) bool {
		return strings.HasPrefix(line, "right ") && (strings.Contains(line, "only Here") || strings.Contains(line, "only_granted"))
	})
	got = slices.DeleteFunc(got, func(line string) bool { // an owner's rights
		return strings.HasPrefix(line, "right every.egg:") || line == "right every.touch(): EXECUTE to postgres"
	})
	if difference := pgtest.Difference(want, got); difference != "" {
		t.Error(difference)
	}
}

// Under other names of schemas and tables the target holds what the source does. Tables that views read keep their old
// names there as aliases.
func TestEveryKindOfObjectFollowsTheNewNames(t *testing.T) {
	t.Parallel()
	for _, major := range []int{10, 15} {
		t.Run(fmt.Sprint("from ", major), func(t *testing.T) {
			t.Parallel()
			from := pgtest.Shared(t)
			if major != 15 {
				from = pgtest.Server(t, pgtest.Major(major))
			}
			m := newMoveBetween(t, from, pgtest.Shared(t), fixture(t, every)).wants(
				migration.Object{Schema: "*", Rename: "$1"}, migration.Object{Schema: "every", Rename: "every_zz"},
				migration.Object{Table: "every.*", Rename: "$1_zz"}, migration.Object{Table: "every.a2*", Rename: "a2$1"})
			m.cfg.Spec.EverythingElse = migration.IncludeElse
			m.everythingArrived(t)
			if major != 15 {
				return // the catalogs of two versions differ in their spelling
			}
			want, got := pgtest.Catalog(t, m.source, "right"), pgtest.Catalog(t, m.target, "right")
			changed := 0
			for _, lines := range [][]string{want, got} {
				for i, line := range lines {
					lines[i] = alias.ReplaceAllStringFunc(strings.ReplaceAll(line, "_zz", ""), withoutAlias)
					if strings.Contains(line, "_zz") {
						changed++
					}
				}
			}
			if difference := pgtest.Difference(want, got); difference != "" || changed < 400 {
				t.Errorf("%d lines with new names; these differ:\n%s", changed, difference)
			}
		})
	}
}

// A table that is selected alone brings what the indexes of its constraints are made of.
func TestASelectedTableBringsWhatItsKeysNeed(t *testing.T) {
	t.Parallel()
	m := newMove(t, fixture(t, every)+`
		create operator class every.words_ops for type text using btree as operator 1 <, operator 3 =, function 1 bttextcmp(text, text);
		create table public.own (a text, exclude using btree (a every.words_ops with =));
		create table public.room (nr int, during tstzrange, exclude using gist (nr with =, during with &&))`).
		wants(migration.Object{Table: "public.*"})
	m.everythingArrived(t)
	if got := m.target.Query(t, `select extname::text from pg_extension where extname <> 'plpgsql' union all select opcname::text from pg_opclass where opcname = 'words_ops'`); fmt.Sprint(got) != "[[btree_gist] [words_ops]]" {
		t.Errorf("it brought %v", got)
	}
}

var alias = regexp.MustCompile(`\.(\w+)( AS)? (\w+)`)

func withoutAlias(found string) string {
	if parts := alias.FindStringSubmatch(found); parts[1] == parts[3] {
		return "." + parts[1]
	}
	return found
}
