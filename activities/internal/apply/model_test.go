package apply

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// The model runs every small history of a table through the decision and folding that the applier uses, with a table in
// memory for the target: all histories of a few events on a few keys, all positions of each key's copying snapshot, all
// ways to cut the history into transactions and batches, neighbours that become visible in the other order than they
// commit, and several moments at which a refetch reads. The row is a key and two columns, of which the second is TOASTed:
// an update may leave it out.
//
// The target must end as the source did, be equal to it at the moment the band closes, and hit exactly the rows that the
// exact regime demands.

type cell struct {
	there bool
	n, c  byte
}

type world [3]cell

type step struct {
	change wal.Change
	key    byte // before
	to     byte // after
}

type history struct {
	states []world // states[i] is the source before event i
	steps  []step
}

// flaw is a rule that is left out, to show that the model notices.
type flaw int

const (
	none          flaw = iota
	noVisibility       // everything is exact
	movedRows          // a key change in the band takes the row along
	foldedAway         // an insertion and a deletion in the band become nothing
	blindRefetch       // a refetch reads under a snapshot that does not see the transaction
	countedInBand      // counts are asserted in the band
)

const firstXID = 1000

// sees is the snapshot that sees the first transactions.
func sees(transactions int) migration.Snapshot {
	return migration.Snapshot{Xmin: uint64(firstXID + transactions), Xmax: uint64(firstXID + transactions)}
}

type interpreter struct {
	*table
	walk    walk
	rows    world
	wrong   string
	flaw    flaw
	history *history
	ends    []int           // number of events after each transaction
	now     int             // transaction
	rank    []int           // when each transaction became visible
	visible []world         // by how many were visible
	passes  []migration.LSN // the end of the log at that moment
	refetch func(rank, last int) int
	fetched bool
}

func newInterpreter() *interpreter {
	m := &interpreter{table: &table{}}
	m.columns = make([]column, 3)
	m.key, m.norms = []int{0}, []keyForm{asIs}
	m.walk = walk{executor: m, folds: map[*table]*fold{}}
	return m
}

func (m *interpreter) fail(format string, args ...any) {
	if m.wrong == "" {
		m.wrong = fmt.Sprintf(format, args...)
	}
}

func (m *interpreter) do(_ context.Context, a action) error {
	hit := int64(0)
	for _, r := range a.rows {
		switch a.kind {
		case remove:
			hit += m.take(r.at)
		case change:
			hit += m.set(r.at, r.image)
		case move:
			old := m.rows[r.at[0].Data[0]]
			hit += m.take(r.at)
			to := r.image[0].Data[0]
			if m.rows[to].there {
				m.fail("%s: key %d is taken", a.kind, to)
			}
			m.rows[to] = old
			m.set(r.image, r.image)
		case insert:
			if m.rows[r.image[0].Data[0]].there {
				m.fail("insert: key %d is there", r.image[0].Data[0])
			}
			m.put(r.image)
			hit++
		case put:
			m.put(r.image)
		}
	}
	if m.flaw == countedInBand && a.expect == uncounted && a.kind != put {
		a.expect = int64(len(a.rows))
	}
	if a.expect != uncounted && a.expect != hit {
		m.fail("%s hit %d rows, not %d", a.kind, hit, a.expect)
	}
	return nil
}

func (m *interpreter) take(at row) int64 {
	key := at[0].Data[0]
	hit := m.count(key)
	m.rows[key] = cell{}
	return hit
}

func (m *interpreter) set(at, image row) int64 {
	key := at[0].Data[0]
	if m.rows[key].there {
		m.assign(key, image)
	}
	return m.count(key)
}

func (m *interpreter) count(key byte) int64 {
	if m.rows[key].there {
		return 1
	}
	return 0
}

func (m *interpreter) assign(key byte, image row) {
	m.rows[key].n = image[1].Data[0]
	if image[2].Kind == wal.Text {
		m.rows[key].c = image[2].Data[0]
	}
}

func (m *interpreter) put(image row) {
	if partial(image) {
		m.fail("a value that was not sent is written")
		return
	}
	key := image[0].Data[0]
	m.rows[key].there = true
	m.assign(key, image)
}

func (m *interpreter) putOrRefetch(_ context.Context, _ *wal.Transaction, _ *table, image row) error {
	key := image[0].Data[0]
	if m.rows[key].there {
		m.assign(key, image)
		return nil
	}
	m.fetched = true
	seen := m.refetch(m.rank[m.now], len(m.ends))
	if m.flaw == blindRefetch {
		seen = m.rank[m.now]
	}
	m.extend(sees(seen), m.passes[seen])
	if source := m.visible[seen][key]; source.there {
		m.rows[key] = source
	}
	return nil
}

// events is how many events a number of transactions have.
func (m *interpreter) events(transactions int) int {
	if transactions == 0 {
		return 0
	}
	return m.ends[transactions-1]
}

// run replays a history: snaps are the transactions that each key's copy had seen, low and high those that the smallest
// and the greatest snapshot of the table had; cuts has a bit for each transaction after which the batch commits.
func (m *interpreter) run(snaps []int, low, high int, cuts uint) {
	m.wrong, m.rows, m.fetched = "", world{}, false
	for key, snap := range snaps {
		m.rows[key] = m.visible[snap][key]
	}
	m.snapshots = snapshots{smin: sees(low), smax: sees(high), extra: m.extra[:0], high: m.passes[high]}
	m.walk.reset()
	m.passed(0)
	from := 0
	for i, end := range m.ends {
		m.now = i
		regime := m.decide(m.xid(i))
		if m.flaw == noVisibility {
			regime = exact
		}
		for j := from; j < end && regime != skip; j++ {
			m.step(j, regime, cuts)
		}
		from = end
		if cuts&(1<<i) != 0 || i == len(m.ends)-1 {
			_ = m.walk.flush(context.Background())
			m.passed(i + 1)
		}
	}
	if m.rows != m.history.states[len(m.history.states)-1] {
		m.fail("the target ends as %v, the source as %v", m.rows, m.history.states[len(m.history.states)-1])
	}
}

// xid follows visibility: that of a transaction that commits late may be lower.
func (m *interpreter) xid(transaction int) uint32 { return uint32(firstXID + m.rank[transaction]) }

// order makes two neighbours become visible in the other order than they commit, which needs different keys.
func (m *interpreter) order(swap int) bool {
	m.rank, m.visible, m.passes = m.rank[:0], m.visible[:0], m.passes[:0]
	sequence := make([]int, len(m.ends))
	for i := range m.ends {
		sequence[i] = i
		m.rank = append(m.rank, i)
	}
	if swap >= 0 {
		if m.keys(swap)&m.keys(swap+1) != 0 {
			return false
		}
		sequence[swap], sequence[swap+1] = swap+1, swap
		m.rank[swap], m.rank[swap+1] = swap+1, swap
	}
	seen := m.history.states[0]
	m.visible, m.passes = append(m.visible, seen), append(m.passes, 0)
	for i, transaction := range sequence {
		after := m.history.states[m.ends[transaction]]
		for key := range seen {
			if m.keys(transaction)&(1<<key) != 0 {
				seen[key] = after[key]
			}
		}
		m.visible = append(m.visible, seen)
		m.passes = append(m.passes, max(m.passes[i], migration.LSN(transaction+1)))
	}
	return true
}

func (m *interpreter) keys(transaction int) (set int) {
	for j := m.events(transaction); j < m.ends[transaction]; j++ {
		set |= 1<<m.history.steps[j].key | 1<<m.history.steps[j].to
	}
	return set
}

// passed closes the band, at which moment the target must be as the source was.
func (m *interpreter) passed(transactions int) {
	if m.pass(migration.LSN(transactions)) && m.rows != m.history.states[m.events(transactions)] {
		m.fail("at the end of the band the target is %v, the source %v", m.rows, m.history.states[m.events(transactions)])
	}
}

func (m *interpreter) step(j int, regime regime, cuts uint) {
	s := &m.history.steps[j]
	if regime == band && m.flaw != none && m.flawed(s, j, cuts) {
		return
	}
	e, err := m.event(&s.change, regime)
	if err != nil {
		m.fail("%v", err)
		return
	}
	_ = m.walk.event(context.Background(), nil, m.table, e)
}

// flawed does a step wrongly, and reports whether it did.
func (m *interpreter) flawed(s *step, j int, cuts uint) bool {
	switch {
	case m.flaw == movedRows && s.key != s.to:
		_ = m.walk.flush(context.Background())
		row := m.rows[s.key]
		m.rows[s.key] = cell{}
		row.there = true
		m.rows[s.to] = row
		m.assign(s.to, s.change.New)
		return true
	case m.flaw == foldedAway && cuts == 0:
		pair := func(i int) bool {
			return i >= 0 && i+1 < len(m.history.steps) && m.history.steps[i].change.Op == wal.Insert &&
				m.history.steps[i+1].change.Op == wal.Delete && m.history.steps[i].key == m.history.steps[i+1].key &&
				m.decide(m.xid(i)) == band && m.decide(m.xid(i+1)) == band
		}
		return len(m.ends) == len(m.history.steps) && (pair(j) || pair(j-1))
	}
	return false
}

var (
	texts     = oneByteEach()
	unchanged = wal.Value{Kind: wal.Unchanged}
)

// oneByteEach spares the model millions of allocations.
func oneByteEach() (texts [64][]byte) {
	for i := range texts {
		texts[i] = []byte{byte(i)}
	}
	return texts
}

func text(b byte) wal.Value { return wal.Value{Kind: wal.Text, Data: texts[b]} }

// histories calls back with every history of a length on some keys, from every beginning.
func histories(keys, length int, visit func(*history)) {
	for mask := range 1 << keys {
		var begin world
		for key := range keys {
			if mask&(1<<key) != 0 {
				begin[key] = cell{true, 50, byte(51 + key)}
			}
		}
		h := &history{states: []world{begin}}
		h.grow(keys, length, visit)
	}
}

func (h *history) grow(keys, length int, visit func(*history)) {
	if len(h.steps) == length {
		visit(h)
		return
	}
	n, c := byte(2*len(h.steps)), byte(2*len(h.steps)+1)
	state := h.states[len(h.states)-1]
	for key := range byte(keys) {
		if !state[key].there {
			h.try(keys, length, visit, wal.Insert, key, key, cell{true, n, c}, text(c))
			continue
		}
		h.try(keys, length, visit, wal.Delete, key, key, cell{}, unchanged)
		for to := range byte(keys) {
			if to == key || !state[to].there {
				h.try(keys, length, visit, wal.Update, key, to, cell{true, n, c}, text(c))
				h.try(keys, length, visit, wal.Update, key, to, cell{true, n, state[key].c}, unchanged)
			}
		}
	}
}

func (h *history) try(keys, length int, visit func(*history), op wal.Op, key, to byte, after cell, toast wal.Value) {
	state := h.states[len(h.states)-1]
	state[key] = cell{}
	state[to] = after
	s := step{change: wal.Change{Op: op}, key: key, to: to}
	if op == wal.Delete || key != to {
		s.change.Old = row{text(key), {}, {}}
	}
	if op != wal.Delete {
		s.change.New = row{text(to), text(after.n), toast}
	}
	h.states, h.steps = append(h.states, state), append(h.steps, s)
	h.grow(keys, length, visit)
	h.states, h.steps = h.states[:len(h.states)-1], h.steps[:len(h.steps)-1]
}

// refetches are moments at which a snapshot that sees the transaction may be taken.
var refetches = []func(rank, last int) int{
	func(rank, _ int) int { return rank + 1 },
	func(_, last int) int { return last },
	func(rank, last int) int { return min(rank+2, last) },
}

type tally struct {
	cases, wrong int
	example      string
}

// scope is how much to try.
type scope struct {
	keys, length int
	allCuts      bool // all transactions and batches, not only one event each, at once and one by one
	otherChunks  bool // chunks of other keys whose snapshots were smaller and greater
}

// explore tries everything there is to choose about each history.
func explore(s scope, flaw flaw) tally {
	var total tally
	var mu sync.Mutex
	var wg sync.WaitGroup
	const workers = 2
	for worker := range workers {
		wg.Go(func() {
			m := newInterpreter()
			m.flaw = flaw
			var mine tally
			n := 0
			histories(s.keys, s.length, func(h *history) {
				if n++; n%workers == worker {
					m.history = h
					m.all(s, &mine)
				}
			})
			mu.Lock()
			defer mu.Unlock()
			total.cases, total.wrong = total.cases+mine.cases, total.wrong+mine.wrong
			if total.example == "" {
				total.example = mine.example
			}
		})
	}
	wg.Wait()
	return total
}

func (m *interpreter) all(s scope, count *tally) {
	length := len(m.history.steps)
	for bounds := range 1 << (length - 1) {
		if !s.allCuts && bounds != 1<<(length-1)-1 {
			continue // every event is a transaction
		}
		m.ends = m.ends[:0]
		for i := range length - 1 {
			if bounds&(1<<i) != 0 {
				m.ends = append(m.ends, i+1)
			}
		}
		m.ends = append(m.ends, length)
		last := len(m.ends)
		for swap := -1; swap < last-1; swap++ {
			if m.order(swap) {
				m.cut(s, last, count)
			}
		}
	}
}

func (m *interpreter) cut(s scope, last int, count *tally) {
	for cuts := range uint(1) << (last - 1) {
		if !s.allCuts && cuts != 0 && cuts != 1<<(last-1)-1 {
			continue // one batch, or each transaction by itself
		}
		m.snaps(make([]int, 0, 3), s, cuts, count)
	}
}

func (m *interpreter) snaps(chosen []int, s scope, cuts uint, count *tally) {
	if len(chosen) < s.keys {
		for snap := range len(m.ends) + 1 {
			m.snaps(append(chosen, snap), s, cuts, count)
		}
		return
	}
	least, greatest := slices.Min(chosen), slices.Max(chosen)
	if !s.otherChunks {
		m.choose(chosen, least, greatest, cuts, count)
		return
	}
	for low := range least + 1 {
		for high := greatest; high <= len(m.ends); high++ {
			m.choose(chosen, low, high, cuts, count)
		}
	}
}

func (m *interpreter) choose(snaps []int, low, high int, cuts uint, count *tally) {
	for i, refetch := range refetches {
		m.refetch = refetch
		m.run(snaps, low, high, cuts)
		count.cases++
		if m.wrong != "" {
			count.wrong++
			if count.example == "" {
				count.example = fmt.Sprintf("%v, transactions end at %v, visible in order %v, batches %b, copied at %v in %d..%d, refetch %d: %s",
					m.history.steps, m.ends, m.rank, cuts, snaps, low, high, i, m.wrong)
			}
		}
		if !m.fetched { // the moments do not matter
			return
		}
	}
}

func TestNoHistoryEndsWrong(t *testing.T) {
	t.Parallel()
	for _, s := range []scope{
		{1, 4, true, true},
		{1, 5, false, true},
		{2, 2, true, true},
		{2, 3, true, true},
		{2, 4, false, true},
		{2, 5, false, false},
		{3, 3, false, false},
	} {
		got := explore(s, none)
		t.Logf("%+v: %d cases", s, got.cases)
		if got.wrong > 0 || got.cases == 0 {
			t.Errorf("%+v: %d of %d wrong: %s", s, got.wrong, got.cases, got.example)
		}
	}
}

func TestModelNoticesEveryFlaw(t *testing.T) {
	t.Parallel()
	for flaw, name := range map[flaw]string{
		noVisibility: "no visibility", movedRows: "rows move in the band", foldedAway: "folded away in the band",
		blindRefetch: "refetch before the transaction is visible", countedInBand: "counts in the band",
	} {
		got := explore(scope{2, 3, false, true}, flaw)
		t.Logf("%s: %d of %d wrong", name, got.wrong, got.cases)
		if got.wrong == 0 {
			t.Errorf("%s: none of %d cases is wrong", name, got.cases)
		}
	}
}
