package schema_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pgdts/pgdts/tests/pgserver"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// crowdMax is what is asked for: ten thousand tables with thirty thousand indexes within ten minutes on two cores.
const crowdMax = 10 * time.Minute

// renamedMax is far more than a thousand renamed tables may take to be read, also on a machine that does other things.
const renamedMax = 2 * time.Minute

// heapMax is far below what the objects' SQL would take many times over.
const heapMax = 512 << 20

// A schema of ten thousand tables must come over in minutes, and not by memory that grows with it.
func TestTenThousandTablesAreAMatterOfMinutes(t *testing.T) {
	if testing.Short() {
		t.Skip("makes 10,000 tables with 30,000 indexes twice")
	}
	crowded := pgtest.Server(t, pgtest.Setting("max_locks_per_transaction", "512"))
	// Its databases go with the server: to drop ten thousand tables takes longer than to make them.
	m := newMoveBetweenDatabases(t, keptDatabase(t, crowded, "crowd_from"), keptDatabase(t, crowded, "crowd_to"), "")
	for batch := range 20 {
		m.source.Exec(t, fmt.Sprintf(`do $$ begin for i in 1..500 loop
			execute format('create table t_%[1]d_%%1$s (id int primary key, code text unique, at timestamptz, note text default %%2$L);
				create index on t_%[1]d_%%1$s (at)', i, 'none');
			end loop; end $$`, batch))
	}
	m.cfg.Spec.Types = []migration.Type{migration.TypeSchema}
	m.cfg.Parallel = 2
	began, peak := time.Now(), uint64(0)
	m.cfg.Report = func(migration.Beat) {
		if time.Now().UnixMilli()%64 == 0 { // often enough, and cheap
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			peak = max(peak, memory.HeapAlloc)
		}
	}
	var took []string
	m.load(t)
	for _, section := range everything {
		took = append(took, fmt.Sprintf("before %s %s", section, time.Since(began).Round(100*time.Millisecond)))
		m.create(t, section)
	}
	t.Logf("%s, in all %s; heap at most %d MB", strings.Join(took, ", "), time.Since(began), peak>>20)
	if time.Since(began) > crowdMax || peak > heapMax {
		t.Errorf("took %s and %d MB", time.Since(began), peak>>20)
	}
	if n := pgtest.Value[int](t, m.target, "select count(*) from pg_indexes where schemaname = 'public'"); n != 30_000 {
		t.Errorf("%d indexes", n)
	}

	renamed := newMoveBetweenDatabases(t, m.source, keptDatabase(t, crowded, "crowd_renamed"), "").wants(
		migration.Object{Table: "public.t_0_*", Rename: "new.first_$1", Columns: migration.Columns{Rename: map[string]string{"code": "kode"}}},
		migration.Object{Table: "public.t_1_*", Rename: "new.second_$1"})
	began = time.Now()
	renamed.load(t)
	planned := time.Since(began)
	renamed.create(t, everything...)
	renamed.mustBeDone(t)
	t.Logf("a thousand of them under new names: read in %s, in all %s", planned, time.Since(began))
	if n := pgtest.Value[int](t, renamed.target, "select count(*) from pg_indexes where schemaname = 'new'"); n != 3000 || planned > renamedMax {
		t.Errorf("%d indexes, read in %s", n, planned)
	}
}

// keptDatabase is a database that goes with its server.
func keptDatabase(t *testing.T, server *pgserver.Server, name string) *pgtest.DB {
	t.Helper()
	if err := server.CreateDatabase(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	return &pgtest.DB{URI: server.URI(name), Name: name, Server: server}
}
