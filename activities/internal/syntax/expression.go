package syntax

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Use is what an SQL expression over one row needs.
type Use struct {
	Columns []string // that it reads, each once, in the order of the tree, which is mostly the text's
	Stamp   bool     // it asks for the time
}

// The line breaks keep a comment at the end of a text from swallowing the parenthesis.
const (
	expressionHead = "select (\n"
	expressionTail = "\n)"
)

// Expression reads an expression over the columns of one row, as a definition has them in where, dropIf and set. It
// refuses what is more than that: several expressions or statements, subqueries, aggregates and window functions where
// the text shows them as such, parameters, columns with a table's name, and system columns, which another server has
// other values in. Whether the columns and functions exist, and are what is wanted, only a server can say. The error is
// an *Error whose position counts in the text.
func Expression(text string) (Use, error) {
	if err := alone(text); err != nil {
		return Use{}, err
	}
	statement := expressionHead + text + expressionTail
	tree, err := parse(statement)
	if err != nil {
		return Use{}, inText(err, text)
	}
	value, ok := onlyValue(tree)
	if !ok {
		return Use{}, &Error{Message: "this is more than one expression"}
	}
	reader := &expressionReader{sql: statement}
	if err := reader.read(value.ProtoReflect()); err != nil {
		return Use{}, inText(err, text)
	}
	return reader.found, nil
}

// inText moves a position from the statement into the expression.
func inText(err error, text string) error {
	var refused *Error
	if !errors.As(err, &refused) || refused.Position == 0 {
		return err
	}
	at := refused.Position - len(expressionHead)
	if length := len([]rune(text)); at > length {
		return &Error{Message: "syntax error at end of input", Position: length + 1}
	}
	return &Error{Message: refused.Message, Position: at}
}

// alone refuses what would end the parenthesis around the text, or make a list in it.
func alone(text string) error {
	list, err := tokens(text)
	if err != nil {
		return err
	}
	depth := 0
	for _, t := range list {
		refuse := func(message string) error { return &Error{Message: message, Position: position(text, t.start)} }
		switch {
		case t.is("(") || t.is("["):
			depth++
		case t.is(")") || t.is("]"):
			if depth--; depth < 0 {
				return refuse(fmt.Sprintf("syntax error at or near %q", t.text))
			}
		case t.is(";"):
			return refuse("a semicolon: one expression is wanted")
		case t.is(",") && depth == 0:
			return refuse("a comma: one expression is wanted")
		case t.kind == pg.Token_PARAM:
			return refuse("a parameter has no value here")
		}
	}
	return nil
}

// onlyValue is the expression of a statement that is nothing but a select of one.
func onlyValue(tree *pg.ParseResult) (*pg.Node, bool) {
	if len(tree.GetStmts()) != 1 {
		return nil, false
	}
	statement := tree.GetStmts()[0].GetStmt().GetSelectStmt()
	if len(statement.GetTargetList()) != 1 {
		return nil, false
	}
	target := statement.GetTargetList()[0].GetResTarget()
	bare := &pg.SelectStmt{
		TargetList:  []*pg.Node{{Node: &pg.Node_ResTarget{ResTarget: &pg.ResTarget{Val: target.GetVal(), Location: target.GetLocation()}}}},
		LimitOption: statement.GetLimitOption(), Op: statement.GetOp(),
	}
	return target.GetVal(), proto.Equal(bare, statement)
}

type expressionReader struct {
	sql   string // the statement around the text
	found Use
}

// read walks over every node.
func (r *expressionReader) read(node protoreflect.Message) error {
	switch n := node.Interface().(type) {
	case *pg.SubLink:
		return r.refuse("a subquery reads other rows than the one that is meant", node)
	case *pg.SelectStmt:
		return r.refuse("a subquery reads other rows than the one that is meant", node)
	case *pg.ParamRef:
		return r.refuse("a parameter has no value here", node)
	case *pg.SetToDefault:
		return r.refuse("DEFAULT is not allowed in this context", node)
	case *pg.CurrentOfExpr, *pg.MergeSupportFunc, *pg.GroupingFunc, *pg.MultiAssignRef:
		return r.refuse("this is not an expression over one row", node)
	case *pg.JsonObjectAgg, *pg.JsonArrayAgg:
		return r.refuse("aggregate functions are not allowed", node)
	case *pg.A_Star:
		return r.refuse("a star means all columns: one expression is wanted", node)
	case *pg.ColumnRef:
		return r.column(n)
	case *pg.FuncCall:
		if err := r.function(n); err != nil {
			return err
		}
	case *pg.SQLValueFunction:
		r.found.Stamp = r.found.Stamp || isTime(n.GetOp())
	case *pg.TypeCast:
		r.found.Stamp = r.found.Stamp || isMoment(n)
	}
	return each(node, r.read)
}

// refuse points at a node, if the parser has kept where it stands.
func (r *expressionReader) refuse(message string, node protoreflect.Message) error {
	at := node.Descriptor().Fields().ByName("location")
	if at == nil {
		return &Error{Message: message}
	}
	return &Error{Message: message, Position: position(r.sql, int(node.Get(at).Int()))}
}

// systemColumns are in every table, with other values on every server.
var systemColumns = []string{"ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"}

func (r *expressionReader) column(ref *pg.ColumnRef) error {
	fields := ref.GetFields()
	name := fields[0].GetString_()
	switch {
	case slices.ContainsFunc(fields, func(f *pg.Node) bool { return f.GetAStar() != nil }):
		return r.refuse("a star means all columns: one expression is wanted", ref.ProtoReflect())
	case len(fields) > 1:
		return r.refuse("a column is named without its table here; write (column).field for a part of a column", ref.ProtoReflect())
	case slices.Contains(systemColumns, name.GetSval()):
		return r.refuse(fmt.Sprintf("system column %q has other values on every server", name.GetSval()), ref.ProtoReflect())
	case !slices.Contains(r.found.Columns, name.GetSval()):
		r.found.Columns = append(r.found.Columns, name.GetSval())
	}
	return nil
}

// clocks are the functions that give the time.
var clocks = []string{"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday"}

func (r *expressionReader) function(call *pg.FuncCall) error {
	if call.GetOver() != nil {
		return r.refuse("window functions are not allowed", call.ProtoReflect())
	}
	if len(call.GetAggOrder()) > 0 || call.GetAggFilter() != nil || call.GetAggWithinGroup() || call.GetAggStar() || call.GetAggDistinct() {
		return r.refuse("aggregate functions are not allowed", call.ProtoReflect())
	}
	if name := plainName(call.GetFuncname()); slices.Contains(clocks, name) {
		r.found.Stamp = true
	}
	return nil
}

// plainName is the name of what is in pg_catalog or has no schema; "" for what is elsewhere.
func plainName(names []*pg.Node) string {
	if len(names) == 1 || len(names) == 2 && names[0].GetString_().GetSval() == "pg_catalog" {
		return names[len(names)-1].GetString_().GetSval()
	}
	return ""
}

func isTime(op pg.SQLValueFunctionOp) bool {
	return op >= pg.SQLValueFunctionOp_SVFOP_CURRENT_DATE && op <= pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP_N
}

// isMoment finds constants such as 'now'::timestamptz, which mean another time whenever they are read.
func isMoment(cast *pg.TypeCast) bool {
	word := strings.ToLower(strings.TrimSpace(cast.GetArg().GetAConst().GetSval().GetSval()))
	name := plainName(cast.GetTypeName().GetNames())
	return (name == "date" || strings.HasPrefix(name, "time")) && slices.Contains([]string{"now", "today", "tomorrow", "yesterday"}, word)
}

// each calls visit for every message that stands directly in another, field by field as they are declared: Range would
// take them in an order that differs from build to build.
func each(node protoreflect.Message, visit func(protoreflect.Message) error) error {
	fields := node.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Kind() != protoreflect.MessageKind || !node.Has(field) {
			continue
		}
		if !field.IsList() {
			if err := visit(node.Get(field).Message()); err != nil {
				return err
			}
			continue
		}
		list := node.Get(field).List()
		for i := range list.Len() {
			if err := visit(list.Get(i).Message()); err != nil {
				return err
			}
		}
	}
	return nil
}
