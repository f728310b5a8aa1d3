package apply_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/tests/pgtest"
)

const (
	benchAccounts     = 100_000
	benchTransactions = 200_000
	benchBatch        = 5_000 // transactions, of four changes each
)

const benchTables = `
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84)) with (fillfactor = 90);
create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
insert into pgbench_accounts select i, 1, 0, '' from generate_series(1, 100000) i;
insert into pgbench_tellers select i, 1, 0, '' from generate_series(1, 10) i;
insert into pgbench_branches values (1, 0, '')`

// BenchmarkApply applies what 200,000 transactions of pgbench leave in the stream, from memory.
func BenchmarkApply(b *testing.B) {
	benchApply(b, plans{})
}

// BenchmarkApplyMapped is the same with filters, and with columns that are computed.
func BenchmarkApplyMapped(b *testing.B) {
	benchApply(b, plans{
		"pgbench_accounts": {where("aid % 10 <> 0 and filler is not null"), set("bid", "bid + 1", "bid")},
		"pgbench_tellers":  {where("tid > 0")}, "pgbench_branches": {set("bbalance", "bbalance * 2", "bbalance")},
		"pgbench_history": {dropIf("delta = 0")},
	})
}

func benchApply(b *testing.B, all plans) {
	for b.Loop() {
		b.StopTimer()
		r := newMapped(b, pgtest.Shared(b), pgtest.Shared(b), benchTables, benchTables, planned(all))
		batches := slices.Collect(slices.Chunk(benchStream(r), benchBatch))
		r.start()
		b.StartTimer()
		began := time.Now()
		for _, batch := range batches {
			must(b, r.applier.Apply(b.Context(), batch))
		}
		b.ReportMetric(float64(r.applier.Stats().Changes)/time.Since(began).Seconds(), "changes/s")
		if n := r.applier.Stats(); n.Changes != 4*benchTransactions || n.Replayed > 0 {
			b.Fatalf("statistics are %+v", n)
		}
	}
}

func benchStream(r *rig) []wal.Transaction {
	random := rand.New(rand.NewPCG(1, 1))
	relations := map[string]*wal.Relation{}
	for _, table := range r.tables {
		relation := &wal.Relation{ID: table.OID, Name: table.Name, Identity: 'd'}
		for _, column := range table.Columns {
			modifier := int32(-1)
			if column.TypeOID == 1042 {
				modifier = map[string]int32{"pgbench_history": 26, "pgbench_branches": 92}[table.Name.Name]
				if modifier == 0 {
					modifier = 88
				}
			}
			relation.Columns = append(relation.Columns, wal.RelationColumn{
				Name: column.Name, TypeOID: column.TypeOID, TypeMod: modifier, Key: slices.Contains(table.Key, column.Name),
			})
		}
		relations[table.Name.Name] = relation
	}
	filler := wal.Value{Kind: wal.Text, Data: []byte(fmt.Sprintf("%84s", ""))}
	number := func(n int) wal.Value { return wal.Value{Kind: wal.Text, Data: fmt.Append(nil, n)} }
	stamp := wal.Value{Kind: wal.Text, Data: []byte("2026-01-02 03:04:05.678901")}
	position := r.start().Position()
	all := make([]wal.Transaction, benchTransactions)
	for i := range all {
		account, teller, delta := 1+random.IntN(benchAccounts), 1+random.IntN(10), random.IntN(10000)-5000
		position += 500
		all[i] = wal.Transaction{XID: uint32(1000 + i), Commit: position - 50, End: position, Time: time.Unix(int64(i), 0), First: true, Last: true, Changes: []wal.Change{
			{Op: wal.Update, Relation: relations["pgbench_accounts"], New: []wal.Value{number(account), number(1), number(delta), filler}},
			{Op: wal.Update, Relation: relations["pgbench_tellers"], New: []wal.Value{number(teller), number(1), number(delta), filler}},
			{Op: wal.Update, Relation: relations["pgbench_branches"], New: []wal.Value{number(1), number(delta), filler}},
			{Op: wal.Insert, Relation: relations["pgbench_history"], New: []wal.Value{number(teller), number(1), number(account), number(delta), stamp, {}}},
		}}
	}
	return all
}
