package syntax

import (
	"errors"
	"fmt"
	"slices"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgdts/pgdts/workflows/migration"
)

// scope holds what a query reads, by the names that its columns are qualified with.
type scope map[string]source

// source is something that a query reads: a table without an alias, or anything else, which has no table here.
type source struct {
	table migration.TableName
	// follows: what is qualified by the table's name gets its new one. Else the table keeps its old name as an alias.
	follows bool
}

// scopeOf is the scope that a node opens, if it is a query.
func (r *renamer) scopeOf(node protoreflect.Message) (scope, bool) {
	s := scope{}
	switch n := node.Interface().(type) {
	case *pg.SelectStmt:
		r.collect(s, n.GetFromClause()...)
	case *pg.InsertStmt:
		r.collectTable(s, n.GetRelation())
	case *pg.UpdateStmt:
		r.collectTable(s, n.GetRelation())
		r.collect(s, n.GetFromClause()...)
	case *pg.DeleteStmt:
		r.collectTable(s, n.GetRelation())
		r.collect(s, n.GetUsingClause()...)
	case *pg.MergeStmt:
		r.collectTable(s, n.GetRelation())
		r.collect(s, n.GetSourceRelation())
	default:
		return nil, false
	}
	return s, true
}

func (r *renamer) collect(s scope, items ...*pg.Node) {
	for _, item := range items {
		var alias *pg.Alias
		switch n := item.GetNode().(type) {
		case *pg.Node_RangeVar:
			r.collectTable(s, n.RangeVar)
		case *pg.Node_RangeTableSample:
			r.collect(s, n.RangeTableSample.GetRelation())
		case *pg.Node_JoinExpr:
			r.collect(s, n.JoinExpr.GetLarg(), n.JoinExpr.GetRarg())
			alias = n.JoinExpr.GetAlias()
		case *pg.Node_RangeSubselect:
			alias = n.RangeSubselect.GetAlias()
		case *pg.Node_RangeFunction:
			alias = n.RangeFunction.GetAlias()
		case *pg.Node_RangeTableFunc:
			alias = n.RangeTableFunc.GetAlias()
		case *pg.Node_JsonTable:
			alias = n.JsonTable.GetAlias()
		}
		if alias != nil {
			name, _ := r.text.plain(alias.GetAliasname())
			s[name] = source{}
		}
	}
}

func (r *renamer) collectTable(s scope, table *pg.RangeVar) {
	name := r.plainName(table.GetSchemaname(), table.GetRelname())
	switch {
	case table == nil:
	case table.GetAlias() != nil:
		alias, _ := r.text.plain(table.GetAlias().GetAliasname())
		s[alias] = source{}
	default:
		s[name.Name] = source{table: name}
		r.bare[table] = true
	}
}

// settle decides which tables of a query that has just been entered are called by their new names throughout it.
func (r *renamer) settle(query protoreflect.Message) {
	s := r.scopes[len(r.scopes)-1]
	for name, from := range s {
		if from.table == (migration.TableName{}) {
			continue
		}
		to := r.names.Relation(from.table).Name
		from.follows = to != name && !r.taken(to) && r.only(query, name, to)
		s[name] = from
	}
}

// taken reports whether a name would mean something else around or inside a query. The statement's own table, which a
// query cannot give an alias, is known by its new name.
func (r *renamer) taken(name string) bool {
	own := r.subject.Name != "" && r.names.Relation(r.subject).Name == name
	return name == "new" || name == "old" || name == "excluded" || own || r.visible(name)
}

// only reports whether a query uses a table's name in front of columns only, and nothing in it goes by the new one: no
// table, before or after, no alias, and nothing in front of a column, such as a function's name before its parameter.
func (r *renamer) only(node protoreflect.Message, name, to string) bool {
	plain := func(text string) string { text, _ = r.text.plain(text); return text }
	switch n := node.Interface().(type) {
	case *pg.ColumnRef: // a whole row, unless a column is called so
		list := parts(n.GetFields())
		if len(n.GetFields()) == 1 && len(list) == 1 && plain(*list[0]) == name {
			return false
		}
		if len(n.GetFields()) == 2 && len(list) > 0 && plain(*list[0]) == to {
			return false
		}
	case *pg.RangeVar:
		table := r.plainName(n.GetSchemaname(), n.GetRelname())
		if table.Schema == "" && table.Name == name { // what FOR UPDATE OF names
			return false
		}
		if n.GetAlias() == nil && table.Name != name && (table.Name == to || r.names.Relation(table).Name == to) {
			return false
		}
	case *pg.Alias:
		if plain(n.GetAliasname()) == to {
			return false
		}
	case *pg.CommonTableExpr:
		if plain(n.GetCtename()) == to {
			return false
		}
	}
	return each(node, func(inner protoreflect.Message) error {
		if !r.only(inner, name, to) {
			return errFound
		}
		return nil
	}) == nil
}

// errFound ends a search.
var errFound = errors.New("found")

// keepAlias leaves a table that a query reads its old name inside the query, so that columns, locks and whole rows that
// are named after it go on meaning it.
func (r *renamer) keepAlias(table *pg.RangeVar, name string, at int) error {
	table.Alias = &pg.Alias{Aliasname: r.text.shield(name)}
	text := r.edits[at]
	delete(r.edits, at)
	return r.edit(at, text+" as "+migration.Quote(name))
}

// subjectOf is the table whose columns the expressions of a statement name, without any query.
func (r *renamer) subjectOf(statement *pg.Node) migration.TableName {
	var table *pg.RangeVar
	switch n := statement.GetNode().(type) {
	case *pg.Node_CreateStmt:
		table = n.CreateStmt.GetRelation()
	case *pg.Node_CreateForeignTableStmt:
		table = n.CreateForeignTableStmt.GetBaseStmt().GetRelation()
	case *pg.Node_AlterTableStmt:
		table = n.AlterTableStmt.GetRelation()
	case *pg.Node_IndexStmt:
		table = n.IndexStmt.GetRelation()
	case *pg.Node_CreatePolicyStmt:
		table = n.CreatePolicyStmt.GetTable()
	case *pg.Node_AlterPolicyStmt:
		table = n.AlterPolicyStmt.GetTable()
	case *pg.Node_CreateStatsStmt:
		if len(n.CreateStatsStmt.GetRelations()) == 1 {
			table = n.CreateStatsStmt.GetRelations()[0].GetRangeVar()
		}
	}
	return r.plainName(table.GetSchemaname(), table.GetRelname())
}

// column follows the table's name in front of a column: where it is qualified by its schema, and where it is the
// statement's own table, which can have no alias.
func (r *renamer) column(ref *pg.ColumnRef) error {
	fields := ref.GetFields()
	names := parts(fields)
	switch {
	case len(fields) >= 3 && len(names) >= len(fields)-1:
		schema, table := names[len(fields)-3], names[len(fields)-2]
		if r.kept(r.plainName(*schema, *table)) {
			return r.shorten(ref, *schema)
		}
		return r.pair(schema, table)
	case len(fields) == 2:
		return r.tableOf(names[0])
	}
	return nil
}

// tableOf changes the table's name in front of a column, if the table goes by its new name there.
func (r *renamer) tableOf(table *string) error {
	name, _ := r.text.plain(*table)
	for _, s := range slices.Backward(r.scopes) {
		if from, ok := s[name]; ok {
			if !from.follows {
				return nil
			}
			return r.set(table, r.names.Relation(from.table).Name)
		}
	}
	return r.ownColumn(table)
}

func (r *renamer) ownColumn(table *string) error {
	name, _ := r.text.plain(*table)
	if name != r.subject.Name || catalog(r.subject.Schema) {
		return nil
	}
	to := r.names.Relation(r.subject).Name
	if to != name && r.visible(to) {
		return fmt.Errorf("columns of %s would be taken for columns of another table inside a query that reads one named %s", r.subject, to)
	}
	return r.set(table, to)
}

// visible reports whether a query around the node reads something under a name.
func (r *renamer) visible(name string) bool {
	for _, s := range r.scopes {
		if _, ok := s[name]; ok {
			return true
		}
	}
	return false
}

// kept reports whether a query around the node reads a table that keeps its old name as an alias there.
func (r *renamer) kept(table migration.TableName) bool {
	for _, s := range r.scopes {
		if from := s[table.Name]; from.table == table && !from.follows && r.names.Relation(table).Name != table.Name {
			return true
		}
	}
	return false
}

// shorten takes the schema from a column's name: a table with an alias is known by that alone.
func (r *renamer) shorten(ref *pg.ColumnRef, schema string) error {
	_, at := r.text.plain(schema)
	if at < 0 {
		return fmt.Errorf("schema %q is not where it was expected in the text", schema)
	}
	ref.Fields = ref.GetFields()[len(ref.GetFields())-2:]
	r.edits[at], r.edits[at+1] = "", ""
	return nil
}
