package schema

import (
	"slices"
	"strings"
)

// Sections, in the order of work.
const (
	Before     = "before"
	Key        = "key"
	Index      = "index"
	Constraint = "constraint"
	Opening    = "opening"
	After      = "after"
)

var sections = []string{Before, Key, Index, Constraint, Opening, After}

// place is where an object comes: its section, and inside the section its rank. Objects of equal rank keep pg_dump's
// order.
type place struct {
	section string
	rank    int
}

const (
	rankFirst    = iota // what stands before the data
	rankIndex           // indexes and constraints made of indexes; at once, table by table
	rankAttach          // a partition's index under its root's
	rankPromoted        // views that need a key
	rankCheck
	rankForeignKey // at once, where they share no table
	rankTrigger
	rankRule
	rankPolicy
	rankRefresh
	rankStoredIndex // indexes of materialized views, cheaper after they are filled
	rankNote        // comments, labels, grants
	rankColumns     // columns renamed and left out, when everything before the data refers to them
	rankEvent       // event triggers, which would fire for everything above
)

// ignored kinds are no objects: settings of the archive, or data.
var ignored = []string{
	"ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "DATABASE PROPERTIES", "TABLE DATA", "SEQUENCE SET", "STATISTICS DATA",
	"MATERIALIZED VIEW DATA", "BLOBS", "BLOB COMMENTS",
}

// leftOut kinds are not migrated, each with what the report says.
var leftOut = map[string]string{
	"PUBLICATION":                  "publications are not migrated: create it on the target when somebody subscribes there",
	"PUBLICATION TABLE":            "publications are not migrated",
	"PUBLICATION TABLES IN SCHEMA": "publications are not migrated",
	"SUBSCRIPTION":                 "subscriptions are not migrated: two subscribers of one slot would lose changes",
	"SUBSCRIPTION TABLE":           "subscriptions are not migrated",
	"BLOB":                         "large objects are not migrated",
	"BLOB METADATA":                "large objects are not migrated",
}

// optional kinds change nothing about the data. The target's role may lack the right or the role they name; then they
// are left out with a note instead of stopping the migration.
var optional = []string{"COMMENT", "ACL", "DEFAULT ACL", "SECURITY LABEL"}

// attached kinds belong to the object they are about and come with it.
func attached(kind string) bool { return slices.Contains(optional, kind) && kind != "DEFAULT ACL" }

// home is where an entry belongs by itself, and the table whose key or index it is.
func (f facts) home(e Entry, replicaRole bool) (place, uint32) {
	switch e.Kind {
	case "INDEX":
		return f.indexHome(e)
	case "CONSTRAINT":
		c := f.constraints[e.OID]
		if c.Relation != 0 && f.keys[c.Relation] == c.Name {
			return place{Key, rankIndex}, c.Relation
		}
		if c.Deferred && f.insertOnly[c.Relation] {
			// A value may be freed by a change that is not in the stream, and be taken again by one that is. What is not
			// deferrable lets such a row be left out; the table is copied again at the cutover.
			return place{Opening, rankIndex}, c.Relation
		}
		return place{Constraint, rankIndex}, c.Relation
	case "INDEX ATTACH":
		return place{Constraint, rankAttach}, 0
	case "CHECK CONSTRAINT":
		return place{Constraint, rankCheck}, 0
	case "FK CONSTRAINT":
		return place{whenQuiet(replicaRole), rankForeignKey}, f.constraints[e.OID].Relation
	case "TRIGGER":
		enabled := f.triggers[e.OID].Enabled
		return place{whenQuiet(replicaRole && enabled != "A" && enabled != "R"), rankTrigger}, 0
	case "EVENT TRIGGER":
		return place{Opening, rankEvent}, 0
	case "RULE":
		if kind := f.relations[f.rules[e.OID]].Kind; kind == "v" || kind == "m" {
			return place{Before, rankFirst}, 0
		}
		return place{Opening, rankRule}, 0
	case "POLICY":
		return place{Constraint, rankPolicy}, 0
	case "ROW SECURITY":
		return place{whenQuiet(!f.relations[e.OID].Forced), rankPolicy}, 0
	case "ACL", "DEFAULT ACL":
		return place{Constraint, rankNote}, 0
	}
	return place{Before, rankFirst}, 0
}

// whenQuiet puts off to the opening what would fire for, or stand against, the changes that are applied until then.
func whenQuiet(quiet bool) string {
	if quiet {
		return Constraint
	}
	return Opening
}

func (f facts) indexHome(e Entry) (place, uint32) {
	i := f.indexes[e.OID]
	switch {
	case f.relations[i.Relation].Kind == "m":
		return place{Constraint, rankStoredIndex}, i.Relation
	case f.keys[i.Relation] == i.Name:
		return place{Key, rankIndex}, i.Relation
	case i.Unique:
		return place{Constraint, rankIndex}, i.Relation
	}
	return place{Index, rankIndex}, i.Relation
}

// late moves an object behind what it depends on. Tables stay before the data: without them there is nothing to copy
// into, and one that cannot be made there fails visibly.
func late(kind string, at, needs place) place {
	order := slices.Index(sections, needs.section)
	if slices.Index(sections, at.section) >= order || strings.HasSuffix(kind, "TABLE") || kind == "TABLE ATTACH" {
		return at
	}
	if needs.section == Key || needs.section == Index {
		needs.section = Constraint
	}
	if at.rank == rankFirst {
		at.rank = rankPromoted
	}
	return place{needs.section, at.rank}
}
