package schema

import (
	"slices"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// relationKinds hold rows, or show those of others. Nobody brings one along only because something needs it: without its
// rows it would be another one.
var relationKinds = []string{"TABLE", "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE"}

// chooser finds the entries that a definition means. What is meant brings along what it needs; what needs a relation that
// is not meant is left out, and so said.
type chooser struct {
	facts
	*shaper
	selection mapping.Selection
	whole     bool // the definition means the database, but for what it excludes
	tables    map[uint32]bool
	names     map[migration.TableName]bool // of these tables
	entries   []Entry
	byID      map[int]Entry
	chosen    map[int]bool
	lacking   map[int]string // entry → why it is left out although it is meant
}

// choose returns the entries that are meant, in their order, and the reasons to leave some of them out.
func choose(entries []Entry, selection mapping.Selection, f facts, shaper *shaper, spec migration.Spec) ([]Entry, map[int]string) {
	c := &chooser{
		facts: f, shaper: shaper, selection: selection, entries: entries,
		whole:  selection.Everything || spec.EverythingElse != migration.ExcludeElse,
		tables: map[uint32]bool{}, names: map[migration.TableName]bool{}, byID: map[int]Entry{}, chosen: map[int]bool{}, lacking: map[int]string{},
	}
	for _, table := range selection.Tables {
		c.tables[table.OID], c.names[table.Name] = true, true
	}
	for _, e := range entries {
		c.byID[e.ID] = e
	}
	for _, e := range entries {
		if c.meant(e) {
			c.take(e)
		}
	}
	for _, e := range entries {
		if !c.chosen[e.ID] && c.follows(e) {
			c.take(e)
		}
	}
	var chosen []Entry
	for _, e := range entries {
		if c.chosen[e.ID] {
			chosen = append(chosen, e)
			if reason := c.reason(e); reason != "" {
				c.lacking[e.ID] = reason
			}
		}
	}
	return chosen, c.lacking
}

// meant reports whether the definition itself means an entry.
func (c *chooser) meant(e Entry) bool {
	if c.isPart(e) {
		return false
	}
	if c.selection.Everything {
		return true
	}
	name := migration.TableName{Schema: e.Schema, Name: e.Tag}
	switch e.Kind {
	case "TABLE":
		return c.tables[e.OID]
	case "VIEW", "MATERIALIZED VIEW", "FOREIGN TABLE":
		return c.wholeRelation(name)
	case "SEQUENCE":
		_, selected := c.selection.Sequence(c.sequences[name])
		return selected
	case "SEQUENCE OWNED BY":
		return c.names[c.sequences[name].Owner]
	case "TRIGGER", "RULE":
		of := c.relations[c.owner(e)]
		return c.relation(of) && c.selection.WholeSchema(of.Name.Schema)
	case "SCHEMA":
		return c.selection.WholeSchema(e.Tag)
	}
	switch of, isPart := c.relations[c.owner(e)]; {
	case attached(e.Kind), e.Kind == "TABLE ATTACH", e.Kind == "INDEX ATTACH", c.ofDomain(e):
		return false // they follow
	case isPart:
		return c.relation(of)
	case e.Schema == "":
		return c.whole
	}
	return c.selection.WholeSchema(e.Schema)
}

// relation reports whether a relation is meant.
func (c *chooser) relation(r relation) bool {
	if r.Kind == "r" || r.Kind == "p" {
		return c.tables[r.OID]
	}
	return c.wholeRelation(r.Name)
}

func (c *chooser) wholeRelation(name migration.TableName) bool {
	return c.selection.WholeSchema(name.Schema) && !c.selection.Excluded(name)
}

func (c *chooser) ofDomain(e Entry) bool {
	return strings.HasSuffix(e.Kind, "CHECK CONSTRAINT") && c.constraints[e.OID].Relation == 0
}

// isPart tells what goes with a column that is left out: its default, its sequence, rights to it.
func (c *chooser) isPart(e Entry) bool {
	if e.Kind == "ACL" && strings.HasPrefix(e.Tag, "COLUMN ") {
		for _, id := range e.Depends {
			table := c.byID[id]
			column := strings.TrimPrefix(e.Tag, "COLUMN "+table.Tag+".")
			if table.Kind == "TABLE" && c.leftOut[table.OID][column] {
				return true
			}
		}
	}
	if e.Kind == "SEQUENCE OWNED BY" { // it has no oid, but a sequence
		return slices.ContainsFunc(e.Depends, func(id int) bool { return c.isPart(c.byID[id]) })
	}
	return c.parts[objectKey{class: e.TableOID, oid: e.OID}] && (e.Kind == "DEFAULT" || e.Kind == "SEQUENCE")
}

// take takes an entry with what it needs.
func (c *chooser) take(e Entry) {
	todo := []Entry{e}
	c.chosen[e.ID] = true
	for len(todo) > 0 {
		e, todo = todo[len(todo)-1], todo[:len(todo)-1]
		for _, id := range e.Depends {
			needed, there := c.byID[id]
			if there && !c.chosen[id] && c.comesAlong(needed) {
				c.chosen[id] = true
				todo = append(todo, needed)
			}
		}
	}
}

// comesAlong reports whether an entry is brought along by what needs it.
func (c *chooser) comesAlong(e Entry) bool {
	if slices.Contains(relationKinds, e.Kind) || c.owner(e) != 0 {
		return false
	}
	return !attached(e.Kind) && e.Kind != "EVENT TRIGGER" && e.Kind != "SEQUENCE OWNED BY"
}

// follows reports whether an entry that nothing needs comes because what it is about comes.
func (c *chooser) follows(e Entry) bool {
	if c.isPart(e) {
		return false
	}
	present, missing, types := 0, 0, 0
	for _, id := range e.Depends {
		needed, there := c.byID[id]
		switch {
		case !there:
		case c.chosen[id]:
			present++
			if slices.Contains(typeKinds, needed.Kind) {
				types++
			}
		default:
			missing++
		}
	}
	switch {
	case attached(e.Kind) && present+missing == 0: // about a schema that every database has
		schema, ok := strings.CutPrefix(e.Tag, "SCHEMA ")
		return ok && c.selection.WholeSchema(schema)
	case attached(e.Kind), e.Kind == "TABLE ATTACH", e.Kind == "INDEX ATTACH", c.ofDomain(e):
		return present > 0 && missing == 0
	case e.Kind == "CAST":
		return types > 0 && missing == 0
	}
	return false
}

// reason tells why an entry that is meant has to be left out, or "". A table without which there is nothing to copy into
// is tried, so that it fails where everybody sees it.
func (c *chooser) reason(e Entry) string {
	if lacks := c.lacks(e); lacks != "" {
		return lacks
	}
	if c.selection.Everything || e.Kind == "TABLE" {
		return ""
	}
	if parent := c.relations[c.constraints[e.OID].Refers]; e.Kind == "FK CONSTRAINT" && !c.relation(parent) {
		return "it refers to " + parent.Name.String() + ", which is not migrated"
	}
	for _, id := range e.Depends {
		if needed, there := c.byID[id]; there && !c.chosen[id] && slices.Contains(relationKinds, needed.Kind) {
			return "needs " + needed.title() + ", which is not migrated"
		}
	}
	return ""
}

// keysOf are the names under which dependencies know an entry.
func (f facts) keysOf(e Entry) []objectKey {
	keys := []objectKey{{class: e.TableOID, oid: e.OID}}
	if e.Kind == "CONSTRAINT" {
		constraint := f.constraints[e.OID]
		keys = append(keys, objectKey{classAttribute, constraint.Relation, constraint.Name})
	}
	return keys
}

// lacks tells which left-out column an entry needs, or "".
func (c *chooser) lacks(e Entry) string {
	if slices.Contains([]string{"TABLE", "SEQUENCE", "SEQUENCE OWNED BY"}, e.Kind) {
		return ""
	}
	for _, key := range c.keysOf(e) {
		if column := c.shaper.lacking[key]; column != "" {
			return "needs column " + column + ", which is left out"
		}
	}
	return ""
}
