package mapping

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/workflows/migration"
)

// source reads tables from lines like
//
//	shop.orders: id* state! note~ sum=
//	shop.orders_1 of shop.orders: id* state!
//	shop.child inherits shop.orders: id* more
//
// A column of the key ends in *, one that is NOT NULL without a default in !, one whose values may be out of line in ~,
// and a generated one in =. A table that others are partitions of is partitioned.
func source(lines string) []catalog.Table {
	var tables []catalog.Table
	parents := map[migration.TableName]bool{}
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		head, columns, _ := strings.Cut(strings.TrimSpace(line), ":")
		words := strings.Fields(head)
		t := catalog.Table{OID: uint32(len(tables) + 1), Name: name(words[0]), Kind: "r", Identity: "d"}
		if len(words) == 3 {
			t.Parent, t.Partition = name(words[2]), words[1] == "of"
			parents[t.Parent] = parents[t.Parent] || t.Partition
		}
		for i, text := range strings.Fields(columns) {
			c := catalog.Column{Name: strings.TrimRight(text, "*!~="), Num: int16(i + 1), Type: "integer", Storage: "p", HasDefault: true}
			if strings.Contains(text, "~") {
				c.Type, c.Storage = "text", "x"
			}
			c.NotNull, c.Generated = strings.ContainsAny(text, "*!"), strings.Contains(text, "=")
			c.HasDefault = !strings.ContainsAny(text, "*!")
			if strings.Contains(text, "*") {
				t.Key, t.Found = append(t.Key, c.Name), true
			}
			t.Columns = append(t.Columns, c)
		}
		tables = append(tables, t)
	}
	for i := range tables {
		if parents[tables[i].Name] {
			tables[i].Kind = "p"
		}
	}
	return tables
}

func name(text string) migration.TableName {
	schema, name, _ := strings.Cut(text, ".")
	return migration.TableName{Schema: schema, Name: name}
}

// told writes a selection and its problems, a line for each.
func told(s Selection, problems []Problem) string {
	var lines []string
	for _, t := range s.Tables {
		line := t.Name.String()
		if t.Target != t.Name {
			line += " → " + t.Target.String()
		}
		lines = append(lines, line+toldColumns(t)+toldRows(t))
	}
	for _, p := range problems {
		sign := "!"
		if p.Alert {
			sign = "?"
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", sign, p.Kind, p.Text))
	}
	return strings.Join(lines, "\n")
}

func toldColumns(t Table) string {
	var columns []string
	whole := len(t.Into) == len(t.DataColumns())
	for _, c := range t.Into {
		whole = whole && c.Name == c.Source && c.Set == ""
		text := c.Source
		if c.Name != c.Source {
			text = strings.TrimSpace(c.Source + " → " + c.Name)
		}
		if c.Set != "" {
			text += " = " + c.Set
		}
		columns = append(columns, text)
	}
	if whole {
		return ""
	}
	return " (" + strings.Join(columns, ", ") + ")"
}

func toldRows(t Table) string {
	text := ""
	if strings.Join(t.TargetKey, ",") != strings.Join(t.Key, ",") {
		text += strings.TrimRight(" by "+strings.Join(t.TargetKey, ", "), " ")
	}
	if t.Where != "" {
		text += " where " + t.Where
	}
	if t.DropIf != "" {
		text += " drop if " + strings.ReplaceAll(t.DropIf, "\n", "")
	}
	for i, op := range t.Operations {
		text += []string{" only ", " "}[min(i, 1)] + string(op)
	}
	if t.WithoutKey != migration.InsertOnly {
		text += " " + string(t.WithoutKey)
	}
	for _, flag := range []struct {
		is   bool
		text string
	}{{t.NeedsOldRows, " needs old rows"}, {t.Merged, " merged"}, {t.Existing, " existing"}, {t.Keep, " keep"}} {
		if flag.is {
			text += flag.text
		}
	}
	return text
}

func schema(name string, change ...func(*migration.Object)) migration.Object {
	o := migration.Object{Schema: name}
	for _, c := range change {
		c(&o)
	}
	return o
}

func table(name string, change ...func(*migration.Object)) migration.Object {
	o := migration.Object{Table: name}
	for _, c := range change {
		c(&o)
	}
	return o
}

func rename(to string) func(*migration.Object) { return func(o *migration.Object) { o.Rename = to } }

func where(sql string) func(*migration.Object) { return func(o *migration.Object) { o.Where = sql } }

func except(patterns ...string) func(*migration.Object) {
	return func(o *migration.Object) { o.Exclude = patterns }
}

func columns(c migration.Columns) func(*migration.Object) {
	return func(o *migration.Object) { o.Columns = c }
}

func only(ops ...migration.Operation) func(*migration.Object) {
	return func(o *migration.Object) { o.Operations = ops }
}

const (
	shop = `
shop.customers: id* name~
shop.orders: id* customer! state note~
shop.audit: at line~`

	tree = `
shop.orders: id* note~ n
shop.orders_1 of shop.orders: id* note~ n
shop.orders_2 of shop.orders: id* note~ n
shop.orders_2a of shop.orders_2: id* note~ n
parts.orders_3 of shop.orders: id* note~ n`
)

type scenario struct {
	name   string
	tables string
	spec   migration.Spec
	want   string
}

var (
	withoutSchema = []migration.Type{migration.TypeFull, migration.TypeIncremental}
	include       = migration.IncludeElse
)

var selecting = []scenario{
	{"nothing said means everything", shop, migration.Spec{}, `
shop.customers
shop.orders
shop.audit`},
	{"a schema without some of its tables", shop, migration.Spec{Objects: []migration.Object{schema("shop", except("aud*"))}}, `
shop.customers
shop.orders`},
	{"one table", shop, migration.Spec{Objects: []migration.Object{table("shop.orders")}}, `shop.orders`},
	{"all, but one table filtered", shop, migration.Spec{
		EverythingElse: include, Objects: []migration.Object{table("shop.orders", where("state = 1"))},
	}, `
shop.customers
shop.orders where state = 1 needs old rows
shop.audit`},
	{"an entry of a table beats one of its schema, more characters beat fewer, later beats earlier", shop, migration.Spec{
		Operations: migration.Operations{migration.OperationInsert},
		Objects: []migration.Object{
			table("shop.o*", rename("orders_$1")), table("shop.*", rename("t_$1")), table("shop.???????*", rename("long_$8")),
			table("shop.*", rename("later_$1"), only("delete")), schema("shop", rename("market"), only("update")),
		},
	}, `
shop.customers → market.later_customers only delete
shop.orders → market.orders_rders only update
shop.audit → market.later_audit only delete`},
	{"a name that has a wildcard or a dot in it", `
"a.b".x: id*
"a.b".y*: id*`, migration.Spec{Objects: []migration.Object{table(`shop.orders`), schema("no*")}}, `
! selection: objects[0] (table shop.orders) means no table of the source
! selection: objects[1] (schema no*) means no schema of the source`},
	{"the top says what entries do not", shop, migration.Spec{
		WithoutKey: migration.Refuse, Operations: migration.Operations{migration.OperationInsert, migration.OperationUpdate},
		Objects: []migration.Object{
			schema("shop", func(o *migration.Object) { o.WithoutKey = migration.FullIdentity }),
			table("shop.audit", only("insert", "update", "delete", "truncate")),
		},
	}, `
shop.customers only insert update full
shop.orders only insert update full
shop.audit full`},
	{"misspelt names are said", shop, migration.Spec{
		Objects: []migration.Object{
			schema("shop", except("audits")), table("shop.order", where("x = 1")),
			table("shop.customers", columns(migration.Columns{Exclude: []string{"nam"}, Rename: map[string]string{"ID": "i"}})),
			schema("shop.orders"), table("shop.o*", rename("$2")), table(`shop."o`),
		},
		Transform: []migration.Transform{{Tables: []string{"shop.ordr"}, DropIf: "true"}},
	}, `
shop.customers
shop.orders
shop.audit
! selection: objects[4] (table shop.o*): rename "$2": $2 stands for nothing: the pattern has 1 wildcards
! selection: objects[5] (table shop."o): a double quote is not closed
? selection: objects[0].exclude[0]: audits means nothing that objects[0] (schema shop) means
! selection: objects[1] (table shop.order) means no table of the source
! columns: objects[2] (table shop.customers): no table that it means has a column nam or ID
! selection: objects[3] (schema shop.orders) means no schema of the source
! transform: transform[0]: shop.ordr means no table that is migrated`},
	{"a table both ways", shop, migration.Spec{
		Objects: []migration.Object{schema("shop", except("audit", "c*")), table("shop.audit"), table("shop.audit", where("at > 1"))},
	}, `
shop.orders
shop.audit where at > 1 needs old rows
? selection: table shop.audit has two entries, objects[1] and objects[2]: the later one holds
? selection: table shop.audit is left out by objects[0].exclude[0] and selected by objects[2]: the entry of the table holds, it is migrated`},
}

var partitions = []scenario{
	{"partitions follow their root", tree, migration.Spec{
		Objects: []migration.Object{table("shop.orders", where("n > 1"), rename("archive.orders"), columns(migration.Columns{
			Exclude: []string{"note"}, Rename: map[string]string{"n": "number"},
		}), only("insert", "update"))},
		Transform: []migration.Transform{{Tables: []string{"shop.orders"}, Set: map[string]string{"n": "n + 1"}}},
	}, `
shop.orders → archive.orders (id, n → number = n + 1) where n > 1 only insert update
shop.orders_1 (id, n → number = n + 1) where n > 1 only insert update
shop.orders_2 (id, n → number = n + 1) where n > 1 only insert update
shop.orders_2a (id, n → number = n + 1) where n > 1 only insert update
parts.orders_3 (id, n → number = n + 1) where n > 1 only insert update`},
	{"a pattern that also means the partitions does not hide what the root's own entry says", tree, migration.Spec{
		Objects: []migration.Object{table("shop.*", rename("new_$1")), table("shop.orders", where("n > 1"))},
	}, `
shop.orders where n > 1 needs old rows
shop.orders_1 → shop.new_orders_1 where n > 1 needs old rows
shop.orders_2 → shop.new_orders_2 where n > 1 needs old rows
shop.orders_2a → shop.new_orders_2a where n > 1 needs old rows
parts.orders_3 where n > 1 needs old rows`},
	{"an exclude means what is below it too", tree, migration.Spec{Objects: []migration.Object{schema("shop", except("orders_2"))}}, `
shop.orders
shop.orders_1
parts.orders_3`},
	{"an excluded root takes its partitions with it, unless they have an entry", tree, migration.Spec{
		EverythingElse: include, Objects: []migration.Object{schema("shop", except("orders")), table("shop.orders_2a")},
	}, `shop.orders_2a`},
	{"a partition without its root stands alone", tree, migration.Spec{Objects: []migration.Object{schema("parts"), table("shop.orders_1", columns(migration.Columns{Exclude: []string{"note"}}))}}, `
shop.orders_1 (id, n)
parts.orders_3`},
	{"a partition may be filtered by itself, but has its root's columns", tree, migration.Spec{
		Objects: []migration.Object{
			schema("shop"), table("shop.orders_1", where("n > 1"), columns(migration.Columns{Exclude: []string{"note"}})),
		},
	}, `
shop.orders
shop.orders_1 where n > 1 needs old rows
shop.orders_2
shop.orders_2a
parts.orders_3
! columns: table shop.orders_1 has column note from shop.orders: it cannot be chosen or renamed in shop.orders_1 alone`},
	{"an inheriting table has its parent's columns, and decides about its own", `
shop.mother: id* a b
shop.child inherits shop.mother: id* a b c d`, migration.Spec{
		Objects: []migration.Object{
			table("shop.mother", columns(migration.Columns{Exclude: []string{"a"}, Rename: map[string]string{"b": "B"}}), where("id > 1")),
			table("shop.child"),
		},
	}, `
shop.mother (id, b → B) where id > 1
shop.child (id, b → B, c, d)`},
	{"a key that is left out is said once for a tree", tree, migration.Spec{
		Objects: []migration.Object{table("shop.orders", columns(migration.Columns{Exclude: []string{"id"}}))},
	}, `
shop.orders (note, n) by
shop.orders_1 (note, n) by
shop.orders_2 (note, n) by
shop.orders_2a (note, n) by
parts.orders_3 (note, n) by
! columns: column id of shop.orders cannot be left out: it is part of the key`},
}

var naming = []scenario{
	{"batches are renamed with what the wildcards stand for", `
sales_eu.t_orders: id*
sales_us.t_items: id*
sales_us.other: id*`, migration.Spec{Objects: []migration.Object{
		schema("sales_*", rename("shop_$1")), table("sales_??.t_*", rename(`"$1$2.x".$3$$1`)), table("sales_us.other", rename("Other")),
	}}, `
sales_eu.t_orders → eu.x.orders$1
sales_us.t_items → us.x.items$1
sales_us.other → shop_us.Other`},
	{"names.case folds what no rename says, and only A to Z", `
Shop.Ärger: Id* ÄB
Shop.Orders: Id* Note~`, migration.Spec{Names: migration.Naming{Case: "lower"}, Objects: []migration.Object{schema("Shop", rename("ShoP")), table("Shop.O*", rename("O$1"))}}, `
Shop.Ärger → ShoP.Ärger (Id → id, ÄB → Äb) by id
Shop.Orders → ShoP.Orders (Id → id, Note → note) by id`},
	{"default folds no columns", `Shop.Orders: Id*`, migration.Spec{Names: migration.Naming{Case: "default"}}, `Shop.Orders → shop.orders`},
	{"upper", `shop.orders: id*`, migration.Spec{Names: migration.Naming{Case: "upper"}}, `shop.orders → SHOP.ORDERS (id → ID) by ID`},
	{"two names that are one in the new case", `
shop.Orders: id* ID
shop.orders: id*`, migration.Spec{Names: migration.Naming{Case: "lower"}}, `
shop.Orders → shop.orders (id, ID → id)
shop.orders
! columns: columns id and ID of shop.Orders would both be called id
! names: tables shop.Orders and shop.orders would all be called shop.orders on the target`},
	{"long, empty and reserved names", `shop.orders: id*`, migration.Spec{Objects: []migration.Object{
		schema("shop", rename("pg_$$")),
		table("shop.orders*", rename("$1."+strings.Repeat("x", 64)), columns(migration.Columns{Rename: map[string]string{"id": strings.Repeat("ä", 32)}})),
	}}, `
shop.orders → .` + strings.Repeat("x", 64) + ` (id → ` + strings.Repeat("ä", 32) + `) by ` + strings.Repeat("ä", 32) + `
! names: schema shop would get to pg_$, which belongs to the system or to pgdts
! names: shop.orders would have an empty name
! names: shop.orders would be called ` + strings.Repeat("x", 64) + `, which is 64 bytes long: PostgreSQL keeps 63
! columns: shop.orders.id would be called ` + strings.Repeat("ä", 32) + `, which is 64 bytes long: PostgreSQL keeps 63`},
}

var choosing = []scenario{
	{"what cannot be left out or renamed", `shop.orders: id* state! note~ sum= n`, migration.Spec{Objects: []migration.Object{
		table("shop.orders", columns(migration.Columns{
			Include: []string{"id", "state", "note", "n", "sum"}, Exclude: []string{"st*", "n"}, Rename: map[string]string{"sum": "total", "note": "sum", "n": "m"},
		})),
	}}, `
shop.orders (id, note → sum)
! columns: column state of shop.orders cannot be left out: it is NOT NULL and has no default
! columns: column n of shop.orders is renamed and left out by objects[0]`},
	{"two columns of one name, one of them generated", `shop.orders: id* note~ sum=`, migration.Spec{
		Objects: []migration.Object{table("shop.orders", columns(migration.Columns{Rename: map[string]string{"note": "sum"}}))},
	}, `
shop.orders (id, note → sum)
! columns: columns note and sum of shop.orders would both be called sum`},
	{"a generated column of a table that is not made here", `shop.orders: id* note~ sum=`, migration.Spec{
		Types:   []migration.Type{migration.TypeFull},
		Objects: []migration.Object{table("shop.orders", columns(migration.Columns{Rename: map[string]string{"sum": "total"}}))},
	}, `
shop.orders
! columns: column sum of shop.orders is generated, and its table is not made here`},
	{"no column is left", `shop.audit: at line~`, migration.Spec{
		Objects: []migration.Object{table("shop.audit", columns(migration.Columns{Exclude: []string{"*"}}))},
	}, `
shop.audit ()
! columns: no column of shop.audit is left`},
}

var transforming = []scenario{
	{"the later set holds, all dropIf hold", shop, migration.Spec{
		Objects: []migration.Object{schema("shop", except("audit")), table("shop.orders", columns(migration.Columns{Rename: map[string]string{"state": "status"}}))},
		Transform: []migration.Transform{
			{Tables: []string{"shop.*"}, Set: map[string]string{"state": "1", "note": "upper(note)"}, DropIf: "id < 0"},
			{Tables: []string{"shop.orders"}, Set: map[string]string{"status": "state + 1"}, DropIf: "state = 9"},
		},
	}, `
shop.customers drop if id < 0 needs old rows
shop.orders (id, customer, state → status = state + 1, note = upper(note)) drop if (id < 0) or (state = 9) needs old rows
! transform: set note of shop.customers reads column note, which the table does not have: upper(note)
! transform: set note of shop.customers: neither the source nor the table that is made after it has such a column
! transform: set state of shop.customers: neither the source nor the table that is made after it has such a column`},
	{"expressions that cannot work", `shop.orders: id* n sum=`, migration.Spec{
		Objects: []migration.Object{table("shop.orders", where("sum > 1 and"))},
		Transform: []migration.Transform{
			{Tables: []string{"shop.orders"}, Set: map[string]string{"id": "id + n", "sum": "1", "n": "sum + m"}, DropIf: "n > extract(day from now())"},
		},
	}, `
shop.orders (id = id + n, n = sum + m) where sum > 1 and drop if n > extract(day from now())
! filter: where of shop.orders: syntax error at end of input (character 12), in: sum > 1 and
! transform: dropIf of shop.orders asks for the time, which is another one for every row and on every server: n > extract(day from now())
! transform: set n of shop.orders reads column sum, which is generated and not in the stream: sum + m
! transform: set n of shop.orders reads column m, which the table does not have: sum + m
! transform: set sum of shop.orders: the column is generated
! transform: set id of shop.orders: a column of the key may be computed from columns of the key only, because a deleted row tells no others`},
	{"old rows are needed where an unchanged value may stay behind", `
shop.a: id* note~ n
shop.b: id* note~ n
shop.c: id* note~ n
shop.d: id* note~ n
shop.e: id* note~ n`, migration.Spec{
		EverythingElse: include,
		Objects: []migration.Object{
			table("shop.a", where("n > 0")), table("shop.b", where("n > 0"), columns(migration.Columns{Exclude: []string{"note"}})),
			table("shop.e", where("n > 0"), only("insert", "delete")),
		},
		Transform: []migration.Transform{
			{Tables: []string{"shop.c"}, Set: map[string]string{"n": "n * 2"}}, {Tables: []string{"shop.d"}, Set: map[string]string{"n": "length(note)"}},
		},
	}, `
shop.a where n > 0 needs old rows
shop.b (id, n) where n > 0
shop.c (id, note, n = n * 2)
shop.d (id, note, n = length(note)) needs old rows
shop.e where n > 0 only insert delete`},
	{"a stamp is not for the key", `shop.a: id* at`, migration.Spec{
		Transform: []migration.Transform{{Tables: []string{"shop.a"}, Set: map[string]string{"at": "now()", "id": "now()"}}},
	}, `
shop.a (id = now(), at = now())
! transform: set id of shop.a: a column of the key may be computed from columns of the key only, because a deleted row tells no others`},
}

const two = `
eu.orders: id* n
us.orders: id* n`

var merging = []scenario{
	{"a constant of its own tells each source apart", two, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{table("*.orders", rename("shop.orders"))},
		Transform: []migration.Transform{
			{Tables: []string{"eu.*"}, Set: map[string]string{"region": "'eu'"}}, {Tables: []string{"us.*"}, Set: map[string]string{"region": "'us'"}},
		},
	}, `
eu.orders → shop.orders (id, n, → region = 'eu') by id, region merged
us.orders → shop.orders (id, n, → region = 'us') by id, region merged`},
	{"so does one in the key itself", `
eu.orders: region* id*
us.orders: region* id*`, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{table("*.orders", rename("shop.orders"))},
		Transform: []migration.Transform{
			{Tables: []string{"eu.*"}, Set: map[string]string{"region": "1"}}, {Tables: []string{"us.*"}, Set: map[string]string{"region": "2"}},
		},
	}, `
eu.orders → shop.orders (region = 1, id) merged
us.orders → shop.orders (region = 2, id) merged`},
	{"or somebody vouches", two, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{table("*.orders", rename("shop.orders"))},
		Transform: []migration.Transform{{Tables: []string{"*.orders"}, Disjoint: true}},
	}, `
eu.orders → shop.orders merged
us.orders → shop.orders merged`},
	{"but not the same constant, and not for one of the two", two, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{table("*.orders", rename("shop.orders"))},
		Transform: []migration.Transform{
			{Tables: []string{"*.orders"}, Set: map[string]string{"region": "'eu'"}}, {Tables: []string{"us.orders"}, Disjoint: true},
		},
	}, `
eu.orders → shop.orders (id, n, → region = 'eu') merged
us.orders → shop.orders (id, n, → region = 'eu') merged
! merge: tables eu.orders and us.orders become shop.orders, and nothing tells their rows apart there`},
	{"without a key, with other keys, with the schema", `
a.keyed: id*
b.keyed: id
c.other: id*
d.other: no*`, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{table("*.keyed", rename("m.keyed")), table("*.other", rename("m.other"))},
	}, `
a.keyed → m.keyed merged
b.keyed → m.keyed merged
c.other → m.other merged
d.other → m.other merged
! merge: tables a.keyed and b.keyed become m.keyed, but b.keyed has no key by which its rows could be told apart there
! merge: tables c.other and d.other become m.other, but their keys there are (id) and (no)`},
	{"no merge while the schema is migrated", two, migration.Spec{Objects: []migration.Object{table("*.orders", rename("shop.orders"))}}, `
eu.orders → shop.orders
us.orders → shop.orders
! names: tables eu.orders and us.orders would all be called shop.orders on the target`},
	{"partitions of one tree may become one table", tree, migration.Spec{
		Types: withoutSchema, Objects: []migration.Object{schema("shop", except("orders_2")), table("shop.orders_*", rename("orders")), table("parts.*", rename("shop.orders"))},
	}, `
shop.orders
shop.orders_1 → shop.orders
shop.orders_2 → shop.orders
shop.orders_2a → shop.orders
parts.orders_3 → shop.orders`},
}

func TestDefinitionsMeanWhatTheySay(t *testing.T) {
	t.Parallel()
	for _, group := range [][]scenario{selecting, partitions, naming, choosing, transforming, merging} {
		for _, s := range group {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.spec.Defaults()
				require.Equal(t, strings.TrimSpace(s.want), told(Resolve(s.spec, source(s.tables))))
			})
		}
	}
}

func TestNamesAreFoundWhateverTheirNumber(t *testing.T) {
	t.Parallel()
	var lines strings.Builder
	spec := migration.Spec{EverythingElse: include, Names: migration.Naming{Case: migration.CaseLower}}
	for i := range 10_000 {
		fmt.Fprintf(&lines, "S%d.Table_%d: id* a b c d e\n", i%100, i)
		if i < 500 {
			spec.Objects = append(spec.Objects, table(fmt.Sprintf("S%d.Table_%d", i%100, i), rename(fmt.Sprintf("renamed_%d", i))))
		} else if i < 1000 {
			spec.Objects = append(spec.Objects, table(fmt.Sprintf("S%d.Table_%d*", i%100, i), rename(fmt.Sprintf("batch_%d_$1", i))))
		}
	}
	spec.Defaults()
	tables := source(lines.String())
	var s Selection
	var problems []Problem
	took := time.Hour
	for range 3 { // others have work to do on this machine too
		began := time.Now()
		s, problems = Resolve(spec, tables)
		wrong := 0
		for _, table := range tables {
			if found, ok := s.Table(table.OID); !ok || found.Target != s.Names.Relation(table.Name) {
				wrong++
			}
		}
		took = min(took, time.Since(began))
		require.Zero(t, wrong)
	}
	require.Empty(t, problems)
	require.Len(t, s.Tables, 10_000)
	require.Equal(t, "s7.renamed_7", s.Names.Relation(name("S7.Table_7")).String())
	require.Equal(t, "s99.batch_999_", s.Names.Relation(name("S99.Table_999")).String())
	require.Equal(t, "s99.table_1099", s.Names.Relation(name("S99.Table_1099")).String())
	require.Less(t, took, time.Second)
	t.Logf("10,000 tables and 1,000 entries in %s", took)
}
