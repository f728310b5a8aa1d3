package syntax

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"

	"github.com/pgdts/pgdts/workflows/migration"
)

// A string that names an object is read as part of a statement about such an object.
type carrier struct{ head, tail string }

var carriers = map[string]carrier{
	"regclass":      {"lock table ", ""},
	"regtype":       {"select null::", ""},
	"regproc":       {"comment on function ", " is null"},
	"regprocedure":  {"comment on function ", " is null"},
	"regoper":       {"select 1 operator(", ") 1"},
	"regoperator":   {"comment on operator ", " is null"},
	"regcollation":  {"comment on collation ", " is null"},
	"regconfig":     {"comment on text search configuration ", " is null"},
	"regdictionary": {"comment on text search dictionary ", " is null"},
	"regnamespace":  {"comment on schema ", " is null"},
}

// takers are functions whose first argument names an object as a text.
var takers = map[string]string{
	"nextval": "regclass", "currval": "regclass", "setval": "regclass", "pg_get_serial_sequence": "regclass", "to_regclass": "regclass",
	"to_regtype": "regtype", "to_regproc": "regproc", "to_regprocedure": "regprocedure", "to_regoper": "regoper",
	"to_regoperator": "regoperator", "to_regcollation": "regcollation", "to_regnamespace": "regnamespace",
}

func (r *renamer) cast(n *pg.TypeCast) error {
	if len(n.GetTypeName().GetArrayBounds()) > 0 {
		return nil
	}
	return r.named(r.builtin(n.GetTypeName().GetNames()), n.GetArg())
}

func (r *renamer) call(n *pg.FuncCall) error {
	if len(n.GetArgs()) == 0 {
		return nil
	}
	return r.named(takers[r.builtin(n.GetFuncname())], n.GetArgs()[0])
}

// builtin is the name of what is in pg_catalog or has no schema; "" for what is elsewhere.
func (r *renamer) builtin(names []*pg.Node) string {
	list := parts(names)
	switch {
	case len(list) == 1:
		return *list[0]
	case len(list) == 2:
		if name := r.plainName(*list[0], *list[1]); name.Schema == "pg_catalog" {
			return name.Name
		}
	}
	return ""
}

// texts are types through which a constant may be cast on its way.
var texts = []string{"text", "varchar", "bpchar", "unknown", "name", "cstring"}

// named changes the names in a constant that an object is named by.
func (r *renamer) named(kind string, node *pg.Node) error {
	in, ok := carriers[kind]
	if !ok {
		return nil
	}
	for {
		cast := node.GetTypeCast()
		if cast == nil || !slices.Contains(texts, r.builtin(cast.GetTypeName().GetNames())) {
			break
		}
		node = cast.GetArg()
	}
	constant, ok := node.GetAConst().GetVal().(*pg.A_Const_Sval)
	if !ok {
		return nil
	}
	renamed, err := Rename(in.head+constant.Sval.GetSval()+in.tail, r.names)
	var refused *Error
	if errors.As(err, &refused) {
		return nil // an oid, or "-": the server reads such constants too
	}
	if err != nil {
		return err
	}
	return r.setConstant(node.GetAConst(), strings.TrimSuffix(strings.TrimPrefix(renamed, in.head), in.tail))
}

func (r *renamer) setConstant(constant *pg.A_Const, to string) error {
	text := constant.GetSval()
	if text.GetSval() == to {
		return nil
	}
	at, ok := r.text.at[int(constant.GetLocation())]
	if !ok || r.text.tokens[at].kind != pg.Token_SCONST {
		return fmt.Errorf("constant %q is not where it was expected in the text", text.GetSval())
	}
	text.Sval = r.text.shield(to)
	return r.edit(at, migration.Literal(to))
}

// searchPath changes the schemas of SET search_path, which stand there as names or as constants.
func (r *renamer) searchPath(n *pg.VariableSetStmt) error {
	if n.GetName() != "search_path" {
		return nil
	}
	for _, argument := range n.GetArgs() {
		constant := argument.GetAConst()
		text, ok := constant.GetVal().(*pg.A_Const_Sval)
		if !ok {
			continue
		}
		plain, at := r.text.plain(text.Sval.GetSval())
		if at >= 0 {
			if err := r.schema(&text.Sval.Sval); err != nil {
				return err
			}
			continue
		}
		if err := r.setConstant(constant, r.names.Schema(plain)); err != nil {
			return err
		}
	}
	return nil
}
