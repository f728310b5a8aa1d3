package schema

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/ledger"
)

// inOrder numbers objects so that each comes after what it depends on; among those that may come, the earlier section,
// then the lower rank, then pg_dump's order wins. Dependencies on what is not there do not count. What stands in a loop
// that pg_dump could not break comes last, where it fails visibly.
func inOrder(objects []*planned) []ledger.Object {
	there := map[int]*planned{}
	for _, object := range objects {
		there[object.DumpID] = object
	}
	waits, dependents := map[int]int{}, map[int][]*planned{}
	ready := &queue{}
	for _, object := range objects {
		object.Depends = slices.DeleteFunc(slices.Clone(object.Depends), func(id int) bool { return there[id] == nil || id == object.DumpID })
		slices.Sort(object.Depends)
		object.Depends = slices.Compact(object.Depends)
		waits[object.DumpID] = len(object.Depends)
		for _, id := range object.Depends {
			dependents[id] = append(dependents[id], object)
		}
		if len(object.Depends) == 0 {
			*ready = append(*ready, object)
		}
	}
	heap.Init(ready)
	ordered := make([]ledger.Object, 0, len(objects))
	place := func(object *planned) {
		object.No = len(ordered) + 1
		ordered = append(ordered, object.Object)
	}
	for ready.Len() > 0 {
		object := heap.Pop(ready).(*planned)
		place(object)
		for _, dependent := range dependents[object.DumpID] {
			if waits[dependent.DumpID]--; waits[dependent.DumpID] == 0 {
				heap.Push(ready, dependent)
			}
		}
	}
	for _, object := range objects {
		if object.No == 0 {
			place(object)
		}
	}
	return ordered
}

// queue is a heap of objects that nothing holds back.
type queue []*planned

func (q queue) Len() int      { return len(q) }
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*planned)) }

func (q queue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return cmp.Or(
		cmp.Compare(slices.Index(sections, a.section), slices.Index(sections, b.section)),
		cmp.Compare(a.rank, b.rank),
		cmp.Compare(a.position, b.position),
	) < 0
}

func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	*q = old[:len(old)-1]
	return last
}
