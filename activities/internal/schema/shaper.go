package schema

import (
	"fmt"
	"maps"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// shaper knows which objects the columns' changes concern.
type shaper struct {
	shapes   map[uint32]shape           // by the oid of the table that is altered
	parents  map[uint32]uint32          // of every selected table that has one
	leftOut  map[uint32]map[string]bool // table → columns
	lacking  map[objectKey]string       // object → the left-out column that it needs
	touching map[objectKey]bool         // objects that depend on a renamed column
	parts    map[objectKey]bool         // defaults and sequences of left-out columns, which go with them
	computed []string                   // generated columns that are left out with what they are computed from
}

// objectKey is how entries and dependencies name an object; indexes also by table and name, as constraints do.
type objectKey struct {
	class, oid uint32
	name       string
}

// Catalogs whose rows depend on columns.
const (
	classRelation  = 1259
	classDefault   = 2604
	classAttribute = 1 // none: a constraint's index, by its table and name
)

func newShaper(tables []mapping.Table, f facts) *shaper {
	s := &shaper{
		shapes: map[uint32]shape{}, parents: map[uint32]uint32{}, leftOut: map[uint32]map[string]bool{},
		lacking: map[objectKey]string{}, touching: map[objectKey]bool{}, parts: map[objectKey]bool{},
	}
	byName, byOID := map[migration.TableName]mapping.Table{}, map[uint32]mapping.Table{}
	for _, table := range tables {
		byName[table.Name], byOID[table.OID] = table, table
	}
	for _, table := range tables {
		if parent, ok := byName[table.Parent]; ok {
			s.parents[table.OID] = parent.OID
		}
		s.leftOut[table.OID] = map[string]bool{}
		for _, name := range columnsOf(table).left {
			s.leftOut[table.OID][name] = true
		}
	}
	s.readNeeds(f, byOID)
	for _, table := range tables {
		s.addShape(table, byOID)
	}
	return s
}

// readNeeds sorts what depends on changed columns.
func (s *shaper) readNeeds(f facts, tables map[uint32]mapping.Table) {
	for _, n := range f.needed {
		table := tables[n.Column.Relation]
		at := slices.IndexFunc(table.Columns, func(c catalog.Column) bool { return c.Num == n.Column.Num })
		if at < 0 {
			continue
		}
		name, key := table.Columns[at].Name, objectKey{class: n.Class, oid: n.OID}
		if index, ok := f.indexes[n.OID]; ok && n.Class == classRelation {
			s.note(objectKey{classAttribute, index.Relation, index.Name}, table, name)
		}
		of, isDefault := f.defaults[n.OID]
		switch {
		case !s.leftOut[table.OID][name]:
			s.note(key, table, name)
		case isDefault && n.Class == classDefault && of == n.Column, n.Class == classRelation && s.isSequence(f, n.OID):
			s.parts[key] = true
		case isDefault && n.Class == classDefault:
			s.leaveComputed(tables[of.Relation], of.Num, name)
		default:
			s.note(key, table, name)
		}
	}
}

// isSequence: of the relations that depend on columns, only sequences are neither indexes nor views.
func (s *shaper) isSequence(f facts, oid uint32) bool {
	_, isIndex := f.indexes[oid]
	_, isRelation := f.relations[oid]
	return !isIndex && !isRelation
}

func (s *shaper) note(key objectKey, table mapping.Table, column string) {
	if s.leftOut[table.OID][column] {
		s.lacking[key] = table.Name.String() + "." + column
		return
	}
	if slices.ContainsFunc(columnsOf(table).renamed, func(r renaming) bool { return r.from == column }) {
		s.touching[key] = true
	}
}

// leaveComputed leaves out a generated column, which cannot do without what it is computed from.
func (s *shaper) leaveComputed(table mapping.Table, num int16, from string) {
	for _, column := range table.Columns {
		if column.Num == num && column.Generated && !s.leftOut[table.OID][column.Name] {
			s.leftOut[table.OID][column.Name] = true
			s.computed = append(s.computed, fmt.Sprintf("left out: column %s.%s: it is computed from %s, which is left out", table.Name, column.Name, from))
		}
	}
}

// addShape finds what has to be done to a table itself. A partition's columns follow those of its root. An inheriting
// table's do so too, but a column that it also has by itself stays when the parent's goes.
func (s *shaper) addShape(table mapping.Table, tables map[uint32]mapping.Table) {
	if _, follows := s.parents[table.OID]; table.Partition && follows {
		return
	}
	own := shape{table: table}
	inherited, columns := map[string]bool{}, map[string]bool{}
	for parent, ok := s.parents[table.OID]; ok; parent, ok = s.parents[parent] {
		for _, column := range tables[parent].Columns {
			inherited[column.Name] = true
		}
		own.again = true
	}
	for _, column := range slices.Backward(table.Columns) { // generated ones first: nothing else can need a column
		if s.leftOut[table.OID][column.Name] && column.Generated {
			own.left = append(own.left, column.Name)
		}
	}
	for _, column := range table.Columns {
		switch {
		case !s.leftOut[table.OID][column.Name]:
			columns[column.Name] = true
		case !column.Generated:
			own.left = append(own.left, column.Name)
		}
	}
	var renamed []renaming
	for _, r := range columnsOf(table).renamed {
		if !inherited[r.from] && !s.leftOut[table.OID][r.from] {
			renamed = append(renamed, r)
		}
	}
	own.renamed = inTurn(renamed, maps.Clone(columns))
	if len(own.left)+len(own.renamed) > 0 {
		s.shapes[table.OID] = own
	}
}

// above lists the tables whose shapes concern a table: itself and those that it inherits from.
func (s *shaper) above(table uint32) []uint32 {
	var all []uint32
	for {
		if _, ok := s.shapes[table]; ok {
			all = append(all, table)
		}
		parent, ok := s.parents[table]
		if !ok {
			return all
		}
		table = parent
	}
}
