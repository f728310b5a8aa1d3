package schema

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// target is what classifying needs to know about where the objects go.
type target struct {
	replicaRole bool                           // may the apply's sessions keep triggers and foreign keys from firing?
	schemas     map[string]bool                // that are there already
	roles       map[string]bool                // all
	owners      map[string]bool                // roles whose objects we may make; nil = everything belongs to the target's role
	identities  map[migration.TableName]string // by name on the source
	keeps       bool                           // what is there already stays
	present     presence                       // only where that is so
	made        map[migration.TableName]bool   // relations that an earlier attempt has made
}

// planned is an object on its way into the ledger.
type planned struct {
	ledger.Object
	place
	entry    Entry  // in names of the target
	part     string // its name as a part of a relation
	oid      uint32
	position int // in the dump
}

// classifier turns entries into objects with sections.
type classifier struct {
	facts
	target
	*shaper
	names          mapping.Names
	sequenceOwners map[int]migration.TableName // by entry: the table on the target whose column owns the sequence
	objects        []*planned
	byID           map[int]*planned
	nextID         int
	wrapped        map[int]wrapping // by DumpID: what stands before the data and names renamed columns
}

// wrapping is an object's SQL for the time after the columns of these tables were changed.
type wrapping struct {
	ddl    string
	tables []migration.TableName
}

// plan is what goes into the ledger.
type plan struct {
	objects []ledger.Object
	wrapped map[int]wrapping // by DumpID, see classifier
	notes   []string
}

// classify sorts what is meant into sections, adds what pg_dump leaves to the data (contents of materialized views), what we
// put off (validation) and what the definition asks for (schemas, columns), and numbers all of it in order of creation.
func classify(ctx context.Context, r reading, t target) (plan, error) {
	c := &classifier{facts: r.facts, target: t, shaper: r.shaper, names: r.names, byID: map[int]*planned{}, wrapped: map[int]wrapping{}}
	entries, reasons, lost := c.grantable(r.entries, r.reasons)
	entries, unreadable, err := inTargetNames(ctx, entries, r.names, r.facts)
	if err != nil {
		return plan{}, err
	}
	for id, err := range unreadable {
		reasons[id] = err.Error()
	}
	c.sequenceOwners = sequenceOwners(r)
	c.identities = map[migration.TableName]string{}
	for name, identity := range t.identities {
		c.identities[r.names.Relation(name)] = identity
	}
	for _, entry := range entries {
		c.nextID = max(c.nextID, entry.ID+1)
	}
	inUse := schemasInUse(entries)
	for i, entry := range entries {
		unused := entry.Kind == "SCHEMA" && !inUse[entry.Tag] && !r.selection.WholeSchema(r.entries[i].Tag)
		if !slices.Contains(ignored, entry.Kind) && entry.DDL != "" && !ours(entry) && !unused {
			c.add(entry, c.partOf(r.entries[i]), reasons[entry.ID])
		}
	}
	c.addSchemas()
	c.addRefreshes(Constraint, 0)
	c.addValidations()
	c.addRefreshes(After, 1)
	c.addColumns()
	made := plan{objects: inOrder(c.objects), wrapped: c.wrapped}
	made.notes = slices.Concat(notesOf(made.objects), r.computed, lostOwners(r.entries, t), lostGrants(lost))
	return made, nil
}

// schemasInUse are those in which something is made. An extension is in no schema, but needs the one it is made into.
func schemasInUse(entries []Entry) map[string]bool {
	inUse, schemas := map[string]bool{}, map[int]string{}
	for _, entry := range entries {
		inUse[entry.Schema] = true
		if entry.Kind == "SCHEMA" {
			schemas[entry.ID] = entry.Tag
		}
	}
	for _, entry := range entries {
		if entry.Kind == "EXTENSION" {
			for _, id := range entry.Depends {
				inUse[schemas[id]] = true
			}
		}
	}
	return inUse
}

// grantable leaves out grants to roles that the target does not have.
func (c *classifier) grantable(entries []Entry, reasons map[int]string) ([]Entry, map[int]string, map[string]int) {
	entries, reasons = slices.Clone(entries), maps.Clone(reasons)
	lost := map[string]int{}
	for i, e := range entries {
		if e.Kind != "ACL" && e.Kind != "DEFAULT ACL" {
			continue
		}
		if text := withoutLost(e.DDL, c.roles, lost); text != "" {
			entries[i].DDL = text
		} else {
			reasons[e.ID] = "the target has none of the roles that it names"
		}
	}
	return entries, reasons, lost
}

// sequenceOwners finds the tables of sequences that columns own.
func sequenceOwners(r reading) map[int]migration.TableName {
	owners := map[int]migration.TableName{}
	for _, e := range r.entries {
		if e.Kind != "SEQUENCE" && e.Kind != "SEQUENCE OWNED BY" {
			continue
		}
		sequence := r.sequences[migration.TableName{Schema: e.Schema, Name: e.Tag}]
		if sequence.Owner.Name != "" {
			owners[e.ID] = r.names.Relation(sequence.Owner)
		}
	}
	return owners
}

// ours tells a migration's publications, whose names begin as no user's do.
func ours(e Entry) bool {
	return strings.HasPrefix(e.Kind, "PUBLICATION") && strings.HasPrefix(e.Tag, "dts_sync_") ||
		e.Kind == "COMMENT" && strings.HasPrefix(e.Tag, "PUBLICATION dts_sync_")
}

func (c *classifier) add(e Entry, part, reason string) {
	e, secret := withoutSecrets(e)
	object := &planned{entry: e, part: part, oid: e.OID, position: len(c.objects), Object: ledger.Object{
		DumpID: e.ID, Kind: e.Kind, Schema: e.Schema, Name: e.Tag, DDL: c.ddl(e), Undo: c.undo(e), State: ledger.ObjectPending,
	}}
	object.place, object.Relid = c.home(e, c.replicaRole)
	object.Locks = c.locks(e, object.Relid)
	object.Depends = slices.DeleteFunc(slices.Clone(e.Depends), func(id int) bool {
		// pg_dump lets a partition's index wait for its root's; it is the attaching that needs both.
		needed := c.byID[id]
		return needed != nil && class(needed.Object) == building && class(object.Object) == building
	})
	switch out, isOut := leftOut[e.Kind]; {
	case reason != "":
		object.State, object.Message = ledger.ObjectSkipped, reason
	case isOut:
		object.State, object.Message = ledger.ObjectSkipped, out
	case secret:
		object.State, object.Message = ledger.ObjectSkipped, secretReason
	case e.Kind == "SCHEMA" && c.schemas[e.Tag]:
		object.State, object.Message = ledger.ObjectDone, ledger.WasThere
	case (e.Kind == "FUNCTION" || e.Kind == "PROCEDURE" || e.Kind == "AGGREGATE") && c.foreignCode[e.OID]:
		object.State, object.Message = ledger.ObjectSkipped, "it is written in C outside an extension: its library has to be installed on the target first"
	}
	if e.Kind == "SCHEMA" {
		c.schemas[e.Tag] = true // two schemas of the source may become one
	}
	c.keepExisting(object)
	for _, id := range object.Depends {
		if needed := c.byID[id]; needed != nil {
			object.dependOn(needed)
		}
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
	if needed.State == ledger.ObjectSkipped && p.State == ledger.ObjectPending {
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

// addSchemas makes the schemas of the target that no entry makes: those that single tables go to, and new names of schemas
// that every database has.
func (c *classifier) addSchemas() {
	added := map[string]int{}
	for name := range c.schemas {
		added[name] = 0
	}
	for _, object := range slices.Clone(c.objects) {
		id, there := added[object.Schema]
		if object.Schema == "" || there && id == 0 || object.State == ledger.ObjectSkipped {
			continue
		}
		if !there {
			id = c.newID()
			added[object.Schema] = id
			c.keep(&planned{position: -1, place: place{Before, rankFirst}, Object: ledger.Object{
				DumpID: id, Kind: "SCHEMA", Name: object.Schema, State: ledger.ObjectPending,
				DDL: "create schema " + migration.Quote(object.Schema), Undo: "drop schema " + migration.Quote(object.Schema),
			}})
		}
		object.Depends = append(object.Depends, id)
	}
}

// addRefreshes fills materialized views that are filled on the source, each after those it reads, through whatever
// views and functions.
func (c *classifier) addRefreshes(section string, generation int) {
	refresh := map[int]int{} // view → its refresh
	for _, view := range slices.Clone(c.objects) {
		if view.Kind != "MATERIALIZED VIEW" || view.State != ledger.ObjectPending || !c.relations[view.oid].Populated {
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
		if fk.Kind != "FK CONSTRAINT" || fk.section != Opening || !strings.HasSuffix(fk.DDL, notValid) || fk.State != ledger.ObjectPending {
			continue
		}
		name := c.names.Relation(c.relations[fk.Relid].Name)
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
