package syntax

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// nameLists are the fields that hold a name as a list of its parts.
var nameLists = map[string]func(*renamer, []*pg.Node) error{
	"FuncCall.funcname":                    (*renamer).object,
	"A_Expr.name":                          (*renamer).object,
	"SubLink.oper_name":                    (*renamer).object,
	"SortBy.use_op":                        (*renamer).object,
	"CollateClause.collname":               (*renamer).object,
	"IndexElem.collation":                  (*renamer).object,
	"IndexElem.opclass":                    (*renamer).object,
	"PartitionElem.collation":              (*renamer).object,
	"PartitionElem.opclass":                (*renamer).object,
	"RangeTableSample.method":              (*renamer).object,
	"ObjectWithArgs.objname":               (*renamer).object,
	"CreateFunctionStmt.funcname":          (*renamer).object,
	"CreateTrigStmt.funcname":              (*renamer).object,
	"CreateEventTrigStmt.funcname":         (*renamer).object,
	"CreateConversionStmt.conversion_name": (*renamer).object,
	"CreateConversionStmt.func_name":       (*renamer).object,
	"CreateOpClassStmt.opclassname":        (*renamer).object,
	"CreateOpClassStmt.opfamilyname":       (*renamer).object,
	"CreateOpClassItem.order_family":       (*renamer).object,
	"CreateOpFamilyStmt.opfamilyname":      (*renamer).object,
	"AlterOpFamilyStmt.opfamilyname":       (*renamer).object,
	"CreateStatsStmt.defnames":             (*renamer).object,
	"AlterStatsStmt.defnames":              (*renamer).object,
	"AlterCollationStmt.collname":          (*renamer).object,
	"AlterTSConfigurationStmt.cfgname":     (*renamer).object,
	"AlterTSConfigurationStmt.dicts":       (*renamer).objects,
	"AlterTSDictionaryStmt.dictname":       (*renamer).object,
	"CreatePLangStmt.plhandler":            (*renamer).object,
	"CreatePLangStmt.plinline":             (*renamer).object,
	"CreatePLangStmt.plvalidator":          (*renamer).object,
	"CreateAmStmt.handler_name":            (*renamer).object,
	"CreateEnumStmt.type_name":             (*renamer).relation,
	"AlterEnumStmt.type_name":              (*renamer).relation,
	"CreateRangeStmt.type_name":            (*renamer).relation,
	"CreateRangeStmt.params":               (*renamer).definition,
	"CreateDomainStmt.domainname":          (*renamer).relation,
	"AlterDomainStmt.type_name":            (*renamer).relation,
	"AlterTypeStmt.type_name":              (*renamer).relation,
	"AlterTypeStmt.options":                (*renamer).definition,
	"AlterOperatorStmt.options":            (*renamer).definition,
	"DefineStmt.definition":                (*renamer).definition,
	"Constraint.exclusions":                (*renamer).exclusions,
}

// node changes what a node names by other means than one of nameLists.
func (r *renamer) node(node protoreflect.Message) error {
	switch n := node.Interface().(type) {
	case *pg.RangeVar:
		return r.rangeVar(n)
	case *pg.TypeName:
		if n.GetPctType() {
			return r.member(n.GetNames())
		}
		return r.relation(n.GetNames())
	case *pg.ColumnRef:
		return r.column(n)
	case *pg.TypeCast:
		return r.cast(n)
	case *pg.FuncCall:
		return r.call(n)
	case *pg.VariableSetStmt:
		return r.searchPath(n)
	case *pg.DefElem:
		return r.option(n)
	case *pg.DefineStmt:
		return r.target(n.GetKind(), &pg.Node{Node: &pg.Node_List{List: &pg.List{Items: n.GetDefnames()}}})
	case *pg.CreateSchemaStmt:
		return r.schema(&n.Schemaname)
	case *pg.CreateExtensionStmt:
		return r.extension(n)
	case *pg.GrantStmt:
		return r.grant(n)
	}
	return r.about(node)
}

// about changes the names that statements about any kind of object hold.
func (r *renamer) about(node protoreflect.Message) error {
	switch n := node.Interface().(type) {
	case *pg.CommentStmt:
		return r.target(n.GetObjtype(), n.GetObject())
	case *pg.SecLabelStmt:
		return r.target(n.GetObjtype(), n.GetObject())
	case *pg.DropStmt:
		for _, object := range n.GetObjects() {
			if err := r.target(n.GetRemoveType(), object); err != nil {
				return err
			}
		}
	case *pg.AlterOwnerStmt:
		return r.target(n.GetObjectType(), n.GetObject())
	case *pg.AlterObjectDependsStmt:
		return r.target(n.GetObjectType(), n.GetObject())
	case *pg.AlterExtensionContentsStmt:
		return r.target(n.GetObjtype(), n.GetObject())
	case *pg.AlterObjectSchemaStmt:
		if err := r.schema(&n.Newschema); err != nil {
			return err
		}
		return r.target(n.GetObjectType(), n.GetObject())
	case *pg.RenameStmt:
		return r.target(n.GetRenameType(), n.GetObject())
	}
	return nil
}

// Kinds whose names are those of relations and types, and kinds that are named after the table they belong to.
var (
	relationKinds = []pg.ObjectType{
		pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_FOREIGN_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW,
		pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_INDEX, pg.ObjectType_OBJECT_TYPE, pg.ObjectType_OBJECT_DOMAIN,
	}
	memberKinds = []pg.ObjectType{
		pg.ObjectType_OBJECT_COLUMN, pg.ObjectType_OBJECT_TABCONSTRAINT, pg.ObjectType_OBJECT_TRIGGER,
		pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_POLICY,
	}
)

// target changes the name of what a statement is about. Names of functions, types and the like have nodes of their own.
func (r *renamer) target(kind pg.ObjectType, object *pg.Node) error {
	if name, ok := object.GetNode().(*pg.Node_String_); ok && kind == pg.ObjectType_OBJECT_SCHEMA {
		return r.schema(&name.String_.Sval)
	}
	list := object.GetList().GetItems()
	switch {
	case slices.Contains(relationKinds, kind):
		return r.relation(list)
	case slices.Contains(memberKinds, kind):
		return r.member(list)
	case (kind == pg.ObjectType_OBJECT_OPCLASS || kind == pg.ObjectType_OBJECT_OPFAMILY) && len(list) > 0:
		return r.object(list[1:]) // behind the access method
	}
	return r.object(list)
}

func (r *renamer) rangeVar(v *pg.RangeVar) error {
	from := r.plainName(v.GetSchemaname(), v.GetRelname())
	if catalog(from.Schema) {
		return nil
	}
	_, at := r.text.plain(v.GetRelname())
	if err := r.pair(&v.Schemaname, &v.Relname); err != nil {
		return err
	}
	if to := r.names.Relation(from); r.bare[v] && r.kept(from) && to.Name != from.Name {
		return r.keepAlias(v, from.Name, at)
	}
	return nil
}

func (r *renamer) grant(n *pg.GrantStmt) error {
	if n.GetTargtype() == pg.GrantTargetType_ACL_TARGET_ALL_IN_SCHEMA || n.GetObjtype() == pg.ObjectType_OBJECT_SCHEMA {
		return r.schemas(n.GetObjects())
	}
	for _, object := range n.GetObjects() {
		if err := r.target(n.GetObjtype(), object); err != nil {
			return err
		}
	}
	return nil
}

func (r *renamer) extension(n *pg.CreateExtensionStmt) error {
	for _, option := range n.GetOptions() {
		if name, ok := option.GetDefElem().GetArg().GetNode().(*pg.Node_String_); ok && option.GetDefElem().GetDefname() == "schema" {
			return r.schema(&name.String_.Sval)
		}
	}
	return nil
}

// option changes names in options that mean the same wherever they stand.
func (r *renamer) option(n *pg.DefElem) error {
	list := n.GetArg().GetList().GetItems()
	switch n.GetDefname() {
	case "owned_by":
		return r.member(list)
	case "sequence_name":
		return r.relation(list)
	case "schemas":
		return r.schemas(list)
	case "support", "handler", "validator":
		return r.object(list)
	}
	return nil
}

// typed are the options of a definition that name a type. The parser takes names of functions, collations and text
// search objects for types too.
var typed = []string{"stype", "mstype", "basetype", "leftarg", "rightarg", "subtype", "multirange_type_name", "element", "like"}

func (r *renamer) definition(nodes []*pg.Node) error {
	for _, node := range nodes {
		option := node.GetDefElem()
		if name := option.GetArg().GetTypeName(); name != nil && !slices.Contains(typed, strings.ToLower(option.GetDefname())) {
			r.seen[name] = true
			if err := r.object(name.GetNames()); err != nil {
				return err
			}
		}
		if err := r.object(option.GetArg().GetList().GetItems()); err != nil { // OPERATOR(schema.name)
			return err
		}
	}
	return nil
}

func (r *renamer) objects(nodes []*pg.Node) error {
	for _, node := range nodes {
		if err := r.object(node.GetList().GetItems()); err != nil {
			return err
		}
	}
	return nil
}

// exclusions are pairs of an element and an operator.
func (r *renamer) exclusions(nodes []*pg.Node) error {
	for _, node := range nodes {
		if pair := node.GetList().GetItems(); len(pair) == 2 {
			if err := r.object(pair[1].GetList().GetItems()); err != nil {
				return err
			}
		}
	}
	return nil
}
