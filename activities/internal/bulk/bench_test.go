package bulk_test

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// benchRows is what scale 40 of pgbench has, 512 MB.
const benchRows = `insert into accounts select g, g / 100000, 0, '' from generate_series(1, 4000000) g; analyze accounts`

const benchAccounts = "create table accounts (aid int %s, bid int, abalance int, filler char(84))"

// BenchmarkCopy copies a table by two lanes with key ranges, by two lanes with ranges of pages, and by two psql, for comparison.
func BenchmarkCopy(b *testing.B) {
	server := pgtest.Server(b, pgtest.Setting("shared_buffers", "512MB"), pgtest.Setting("max_wal_size", "8GB"))
	for name, types := range map[string][]migration.Type{
		"keys":  {migration.TypeFull, migration.TypeIncremental},
		"pages": {migration.TypeSchema, migration.TypeFull},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				r := newBenchOn(b, server, server, fmt.Sprintf(benchAccounts, "primary key"))
				r.target.Exec(b, "drop table accounts; "+fmt.Sprintf(benchAccounts, ""))
				r.source.Exec(b, benchRows+"; checkpoint")
				r.config.Spec.Types = types
				if types[0] == migration.TypeSchema {
					r.hold(b.Context())
					r.epochIs(1)
				}
				planned := r.plan()
				began := time.Now()
				b.StartTimer()
				before := cpu()
				copied := r.copy(2)
				b.ReportMetric((cpu() - before).Seconds(), "cpu-s")
				b.ReportMetric(float64(copied.Rows)/time.Since(began).Seconds(), "rows/s")
				b.ReportMetric(float64(planned.Chunks), "chunks")
			}
		})
	}
	b.Run("psql", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			source, target := pgtest.Database(b, server), pgtest.Database(b, server)
			source.Exec(b, fmt.Sprintf(benchAccounts, "primary key")+";"+benchRows+"; checkpoint")
			target.Exec(b, fmt.Sprintf(benchAccounts, ""))
			began := time.Now()
			b.StartTimer()
			var group errgroup.Group
			for _, half := range []string{"< 2000001", ">= 2000001"} {
				group.Go(func() error {
					return exec.Command("sh", "-c", fmt.Sprintf(`psql -Xqc "copy (select * from accounts where aid %s) to stdout with (format binary)" '%s' |
						psql -Xqc "copy accounts from stdin with (format binary)" '%s'`, half, source.URI, target.URI)).Run()
				})
			}
			require.NoError(b, group.Wait())
			b.ReportMetric(4e6/time.Since(began).Seconds(), "rows/s")
		}
	})
}

// cpu is what this process has used.
func cpu() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkManyTables copies tables of a few rows each, by two lanes.
func BenchmarkManyTables(b *testing.B) {
	const tables = 2000
	server := pgtest.Server(b, pgtest.Setting("max_locks_per_transaction", "4096"))
	for b.Loop() {
		b.StopTimer()
		r := newBenchOn(b, server, server, fmt.Sprintf("do $$ begin for i in 1..%d loop execute format('create table t%%s (a int primary key, b text)', i); end loop; end $$", tables))
		r.source.Exec(b, fmt.Sprintf("do $$ begin for i in 1..%d loop execute format('insert into t%%s values (1, ''x'')', i); end loop; end $$", tables))
		began := time.Now()
		r.plan()
		b.ReportMetric(time.Since(began).Seconds(), "plan-s")
		began = time.Now()
		b.StartTimer()
		r.copy(2)
		b.ReportMetric(float64(time.Since(began).Milliseconds())/tables, "ms/table")
	}
}
