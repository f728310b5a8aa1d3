package schema

import (
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// target is what classifying needs to know about where the objects go.
type target struct {
	replicaRole bool            // may the apply's sessions keep triggers and foreign keys from firing?
	schemas     map[string]bool // that are there already
	owners      map[string]bool // roles whose objects we may make; nil = everything belongs to the target's role
	identities  map[migration.TableName]string
}

// planned is an object on its way into the ledger.
type planned struct {
	ledger.Object
	place
	oid      uint32
	position int // in the dump
}

// classifier turns entries into objects with sections.
type classifier struct {
	facts
	target
	objects []*planned
	byID    map[int]*planned
	nextID  int
}

// classify sorts what the archive lists into sections, adds what pg_dump leaves to the data (contents of materialized
// views) and what we put off (validation), and numbers all of it in order of creation.
func classify(entries []Entry, f facts, t target) []ledger.Object {
	c := &classifier{facts: f, target: t, byID: map[int]*planned{}}
	for _, entry := range entries {
		c.nextID = max(c.nextID, entry.ID+1)
	}
	for _, entry := range entries {
		if !slices.Contains(ignored, entry.Kind) && entry.DDL != "" && !ours(entry) {
			c.add(entry)
		}
	}
	c.addRefreshes(Constraint, 0)
	c.addValidations()
	c.addRefreshes(After, 1)
	return inOrder(c.objects)
}

// ours tells a migration's publications, whose names begin as no user's do.
func ours(e Entry) bool {
	return strings.HasPrefix(e.Kind, "PUBLICATION") && strings.HasPrefix(e.Tag, "dts_sync_")
}

func (c *classifier) add(e Entry) {
	object := &planned{oid: e.OID, position: len(c.objects), Object: ledger.Object{
		DumpID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, DDL: c.ddl(e), Undo: c.undo(e), State: ledger.ObjectPending,
	}}
	object.place, object.Relid = c.home(e, c.replicaRole)
	object.Locks = c.locks(e, object.Relid)
	object.Depends = slices.DeleteFunc(slices.Clone(e.Depends), func(id int) bool {
		// pg_dump lets a partition's index wait for its root's; it is the attaching that needs both.
		needed := c.byID[id]
		return needed != nil && class(needed.Object) == building && class(object.Object) == building
	})
	for _, id := range object.Depends {
		if needed := c.byID[id]; needed != nil {
			object.dependOn(needed)
		}
	}
	switch reason, out := leftOut[e.Kind]; {
	case out:
		object.State, object.Message = ledger.ObjectSkipped, reason
	case e.Kind == "SCHEMA" && c.schemas[e.Tag]:
		object.State, object.Message = ledger.ObjectDone, "was there already"
	case (e.Kind == "FUNCTION" || e.Kind == "PROCEDURE" || e.Kind == "AGGREGATE") && c.foreignCode[e.OID]:
		object.State, object.Message = ledger.ObjectSkipped, "it is written in C outside an extension: its library has to be installed on the target first"
	}
	c.keep(object)
}

func (c *classifier) keep(object *planned) {
	object.Section = object.section
	c.objects = append(c.objects, object)
	c.byID[object.DumpID] = object
}

// dependOn moves an object behind another, and leaves it out when the other is left out. Comments come with what they
// are about.
func (p *planned) dependOn(needed *planned) {
	if attached(p.Kind) && slices.Index(sections, needed.section) >= slices.Index(sections, p.section) {
		p.place, p.Relid, p.Locks = place{needed.section, rankNote}, needed.Relid, needed.Locks
	} else {
		p.place = late(p.Kind, p.place, needed.place)
	}
	if needed.State == ledger.ObjectSkipped && p.State != ledger.ObjectSkipped {
		p.State, p.Message = ledger.ObjectSkipped, "needs "+needed.Title()+", which is left out"
	}
}

// locks names the tables by their trees, except for indexes, which are built on one partition at a time.
func (c *classifier) locks(e Entry, relid uint32) []uint32 {
	switch e.Kind {
	case "INDEX", "CONSTRAINT":
		return []uint32{relid}
	case "FK CONSTRAINT":
		fk := c.constraints[e.OID]
		return []uint32{c.relations[fk.Relation].Root, c.relations[fk.Refers].Root}
	}
	return nil
}

// addRefreshes fills materialized views that are filled on the source, each after those it reads, through whatever
// views and functions.
func (c *classifier) addRefreshes(section string, generation int) {
	refresh := map[int]int{} // view → its refresh
	for _, view := range slices.Clone(c.objects) {
		if view.Kind != "MATERIALIZED VIEW" || view.State == ledger.ObjectSkipped || !c.relations[view.oid].Populated {
			continue
		}
		name := migration.TableName{Schema: view.Schema, Name: view.Name}
		object := &planned{position: view.position + (generation+1)*len(c.byID), Object: ledger.Object{
			DumpID: c.newID(), Depends: []int{view.DumpID}, Kind: "MATERIALIZED VIEW DATA", Schema: view.Schema, Name: view.Name,
			DDL: "refresh materialized view " + name.SQL(), State: ledger.ObjectPending,
		}}
		object.place = place{section, rankRefresh}
		for _, read := range c.reads(view) {
			if id, ok := refresh[read]; ok {
				object.Depends = append(object.Depends, id)
			}
		}
		refresh[view.DumpID] = object.DumpID
		object.place = late(object.Kind, object.place, view.place)
		c.keep(object)
	}
}

// reads lists everything that an object depends on, near and far.
func (c *classifier) reads(object *planned) []int {
	var all []int
	seen := map[int]bool{}
	var visit func(*planned)
	visit = func(p *planned) {
		for _, id := range p.Depends {
			if needed := c.byID[id]; needed != nil && !seen[id] {
				seen[id] = true
				all = append(all, id)
				visit(needed)
			}
		}
	}
	visit(object)
	return all
}

func (c *classifier) newID() int {
	c.nextID++
	return c.nextID - 1
}

// addValidations has the foreign keys checked that are made at the opening, where nobody may wait for a scan.
func (c *classifier) addValidations() {
	for _, fk := range slices.Clone(c.objects) {
		if fk.Kind != "FK CONSTRAINT" || fk.section != Opening || !strings.HasSuffix(fk.DDL, notValid) || fk.State == ledger.ObjectSkipped {
			continue
		}
		name := c.relations[fk.Relid].Name
		constraint := strings.TrimPrefix(fk.Name, name.Name+" ")
		object := &planned{position: fk.position, Object: ledger.Object{
			DumpID: c.newID(), Depends: []int{fk.DumpID}, Kind: "VALIDATION", Schema: fk.Schema, Name: fk.Name, Relid: fk.Relid,
			DDL:   "alter table " + name.SQL() + " validate constraint " + migration.Quote(constraint),
			State: ledger.ObjectPending, Locks: fk.Locks,
		}}
		object.place = place{After, rankForeignKey}
		c.keep(object)
	}
}
