package syntax

import (
	"errors"
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/pgdts/pgdts/workflows/migration"
)

// renamer changes the names in a tree and notes the same changes for the text.
type renamer struct {
	names Names
	text  marked
	edits map[int]string         // token → what stands there instead
	seen  map[proto.Message]bool // changed before their turn
	bare  map[*pg.RangeVar]bool  // read by a query under their own names

	scopes  []scope             // queries around the node, the innermost last
	subject migration.TableName // the table that the statement is about, as on the source
}

func (r *renamer) all(tree *pg.ParseResult) error {
	for _, statement := range tree.GetStmts() {
		r.subject = r.subjectOf(statement.GetStmt())
		if err := r.walk(statement.ProtoReflect()); err != nil {
			return err
		}
	}
	return r.text.unmark(tree.ProtoReflect())
}

// walk changes the names of a node and of all below it.
func (r *renamer) walk(node protoreflect.Message) error {
	if r.seen[node.Interface()] {
		return nil
	}
	inner, isQuery := r.scopeOf(node)
	if isQuery {
		r.scopes = append(r.scopes, inner)
		r.settle(node)
		defer func() { r.scopes = r.scopes[:len(r.scopes)-1] }()
	}
	if err := r.node(node); err != nil {
		return err
	}
	if err := r.lists(node); err != nil {
		return err
	}
	return each(node, r.walk)
}

// lists changes the names that a node holds as lists of their parts.
func (r *renamer) lists(node protoreflect.Message) (err error) {
	kind := string(node.Descriptor().Name())
	node.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if change := nameLists[kind+"."+string(field.Name())]; change != nil && field.IsList() {
			err = change(r, nodesOf(value.List()))
		}
		return err == nil
	})
	return err
}

func nodesOf(list protoreflect.List) []*pg.Node {
	nodes := make([]*pg.Node, list.Len())
	for i := range nodes {
		nodes[i], _ = list.Get(i).Message().Interface().(*pg.Node)
	}
	return nodes
}

// parts are the strings of a list, as far as it holds nothing else.
func parts(nodes []*pg.Node) []*string {
	var list []*string
	for _, node := range nodes {
		text, ok := node.GetNode().(*pg.Node_String_)
		if !ok {
			break
		}
		list = append(list, &text.String_.Sval)
	}
	return list
}

// object changes the schema of a qualified name.
func (r *renamer) object(nodes []*pg.Node) error {
	list := parts(nodes)
	if len(list) < 2 {
		return nil
	}
	return r.schema(list[len(list)-2])
}

// relation changes a qualified name of a table or a type.
func (r *renamer) relation(nodes []*pg.Node) error {
	list := parts(nodes)
	if len(list) < 2 {
		return nil
	}
	return r.pair(list[len(list)-2], list[len(list)-1])
}

// member changes the table's part of the name of a column, constraint, trigger, rule or policy.
func (r *renamer) member(nodes []*pg.Node) error {
	if len(nodes) < 3 {
		return nil
	}
	return r.relation(nodes[:len(nodes)-1])
}

// schemas changes names of schemas.
func (r *renamer) schemas(nodes []*pg.Node) error {
	for _, name := range parts(nodes) {
		if err := r.schema(name); err != nil {
			return err
		}
	}
	return nil
}

func (r *renamer) schema(name *string) error {
	plain, _ := r.text.plain(*name)
	if catalog(plain) {
		return nil
	}
	return r.set(name, r.names.Schema(plain))
}

func (r *renamer) pair(schema, name *string) error {
	from := r.plainName(*schema, *name)
	if catalog(from.Schema) {
		return nil
	}
	to := r.names.Relation(from)
	return errors.Join(r.set(schema, to.Schema), r.set(name, to.Name))
}

func (r *renamer) plainName(schema, name string) migration.TableName {
	schema, _ = r.text.plain(schema)
	name, _ = r.text.plain(name)
	return migration.TableName{Schema: schema, Name: name}
}

// set changes a name in the tree and in the text.
func (r *renamer) set(name *string, to string) error {
	plain, at := r.text.plain(*name)
	if plain == to {
		return nil
	}
	if at < 0 {
		return fmt.Errorf("name %q is not where it was expected in the text", plain)
	}
	*name = r.text.shield(to)
	return r.edit(at, migration.Quote(to))
}

func (r *renamer) edit(at int, text string) error {
	if before, ok := r.edits[at]; ok && before != text {
		return fmt.Errorf("%s would become both %s and %s", r.text.tokens[at].text, before, text)
	}
	r.edits[at] = text
	return nil
}
