package schema

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// Two that lock the same table are never in hand together, nobody is forgotten, and many that wait for one table take no
// more time than their number.
func TestTheBoardForgetsNobodyAndLocksNoTableTwice(t *testing.T) {
	t.Parallel()
	for name, locks := range map[string]func(i int) []uint32{
		"one table":     func(int) []uint32 { return []uint32{1} },
		"a center":      func(i int) []uint32 { return []uint32{uint32(i + 2), 1} },
		"chains":        func(i int) []uint32 { return []uint32{uint32(i % 50), uint32((i + 1) % 50)} },
		"each its own":  func(i int) []uint32 { return []uint32{uint32(i)} },
		"none":          func(int) []uint32 { return nil },
		"three at once": func(i int) []uint32 { return []uint32{uint32(i % 7), uint32(i % 11), uint32(i % 13)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const number = 30_000
			var todo []work
			for i := range number {
				todo = append(todo, work{ledger.Object{No: i, Locks: locks(i)}})
			}
			b := newBoard(todo)
			var done atomic.Int64
			var inHand sync.Map
			var workers sync.WaitGroup
			began := time.Now()
			for range 4 {
				workers.Go(func() {
					for w, ok := b.take(); ok; w, ok = b.take() {
						for _, table := range unique(w.locks()) {
							if _, taken := inHand.LoadOrStore(table, true); taken {
								t.Errorf("table %d is in hand twice", table)
							}
						}
						for _, table := range unique(w.locks()) {
							inHand.Delete(table)
						}
						done.Add(1)
						b.release(w)
					}
				})
			}
			workers.Wait()
			if done.Load() != number {
				t.Errorf("%d of %d were taken", done.Load(), number)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Error(fmt.Sprint("took ", took))
			}
		})
	}
}

func unique(tables []uint32) []uint32 {
	seen := map[uint32]bool{}
	var once []uint32
	for _, table := range tables {
		if !seen[table] {
			seen[table] = true
			once = append(once, table)
		}
	}
	return once
}

// The grants that are left are exactly those whose roles are there.
func TestGrantsAreReadAsPgDumpWritesThem(t *testing.T) {
	t.Parallel()
	lost := map[string]int{}
	text := withoutLost(`REVOKE ALL ON TABLE s."a;
b" FROM PUBLIC;
GRANT SELECT,INSERT(id) ON TABLE s."a to b" TO "has ""quotes""";
GRANT SELECT ON TABLE s.a TO gone WITH GRANT OPTION;
SET SESSION AUTHORIZATION gone;
GRANT SELECT ON TABLE s.a TO here;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION here;
GRANT SELECT ON TABLE s.a TO "Gone";
RESET SESSION AUTHORIZATION;
ALTER DEFAULT PRIVILEGES FOR ROLE here IN SCHEMA s REVOKE ALL ON TABLES FROM gone;`, map[string]bool{"here": true, `has "quotes"`: true}, lost)
	want := `REVOKE ALL ON TABLE s."a;
b" FROM PUBLIC;
GRANT SELECT,INSERT(id) ON TABLE s."a to b" TO "has ""quotes""";
GRANT SELECT ON TABLE s.a TO here;
SET SESSION AUTHORIZATION here;
RESET SESSION AUTHORIZATION;`
	if text != want {
		t.Errorf("left is\n%s\nwant\n%s", text, want)
	}
	if fmt.Sprint(lost) != "map[Gone:1 gone:2]" {
		t.Errorf("lost are %v", lost)
	}
}

func TestWhatTakesLongestBeginsFirst(t *testing.T) {
	t.Parallel()
	sizes := map[uint32]int64{1: 10, 2: 3000, 3: 200}
	var order []int
	for _, w := range largestFirst([]work{{{No: 1, Relid: 1}}, {{No: 2, Relid: 3}}, {{No: 3, Relid: 9}}, {{No: 4, Relid: 2}}, {{No: 5, Relid: 9}}}, sizes) {
		order = append(order, w[0].No)
	}
	if want := []int{4, 2, 1, 3, 5}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// What had to wait for a table is larger than what has not begun yet: it must not come after all of that.
func TestWhatHadToWaitComesNext(t *testing.T) {
	t.Parallel()
	var todo []work
	for no, locks := range [][]uint32{{1, 2}, {1, 3}, {4}, {5}, {6}} {
		todo = append(todo, work{ledger.Object{No: no, Locks: locks}})
	}
	b := newBoard(todo)
	var order []int
	take := func() work {
		w, ok := b.take()
		if !ok {
			t.Fatal("nothing is left")
		}
		order = append(order, w[0].No)
		return w
	}
	first, second := take(), take()
	b.release(first)
	third := take()
	for _, w := range []work{second, third} {
		b.release(w)
	}
	take()
	if want := []int{0, 2, 1, 3}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}
