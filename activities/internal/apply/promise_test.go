package apply_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// What a definition promises, followed event by event in memory: random tables with random mappings, random changes on the
// source, and for each change what the source itself says about the row before and after it: the row that the target gets,
// its key there, and whether it is wanted. The rules of the promise are in follow, apart from the applier's.

const (
	promisedTables  = 220
	promisedChanges = 9_000
)

// promise is one table of the source with what its target must hold.
type promise struct {
	mapping.Table
	name    string // on the source
	kind    keyKind
	full    bool // the stream brings old rows in full
	keyless bool
	fromNow bool

	columns []string // of the target, but for those that hold the time
	exprs   []string // what they are computed by
	types   []string
	unsent  []string // of them, those that are not known when big is not sent

	rows  map[string]map[string]string // what the target must hold, by key: values by column
	bag   map[string]int               // of a table without key: how often each row is there
	marks map[string]bool              // of rows that the copy kept
	begun []seen                       // rows of the source when it begins
}

// seen is what the source says of a row.
type seen struct {
	ctid string // "" = there is none
	key  string // on the target
	keep bool
	row  map[string]string
	big  string
}

// look asks the source for one row.
func (p *promise) look(ctx context.Context, conn *pgx.Conn, where string) (seen, error) {
	condition := p.RowCondition()
	if condition == "" {
		condition = "true"
	}
	var s seen
	var values []*string
	err := conn.QueryRow(ctx, fmt.Sprintf("select ctid::text, %s, coalesce((%s\n), false), array[%s]::text[], coalesce(big, '') from %s where %s limit 1",
		p.keyText(p.exprs), condition, strings.Join(p.exprs, ", "), p.name, where)).Scan(&s.ctid, &s.key, &s.keep, &values, &s.big)
	if errors.Is(err, pgx.ErrNoRows) {
		return seen{}, nil
	}
	s.row = p.named(values)
	return s, err
}

// keyText is SQL for the key on the target, of columns or what they are computed by.
func (p *promise) keyText(of []string) string {
	var terms []string
	for _, name := range p.TargetKey { // of a table without key it tells nothing, and nobody asks
		terms = append(terms, of[slices.Index(p.columns, name)])
	}
	return "row(" + strings.Join(terms, ", ") + ")::text"
}

func (p *promise) named(values []*string) map[string]string {
	row := map[string]string{}
	for i, v := range values {
		row[p.columns[i]] = "NULL"
		if v != nil {
			row[p.columns[i]] = "=" + *v
		}
	}
	return row
}

func (p *promise) put(s seen) {
	if p.keyless {
		if s.keep {
			p.bag[fmt.Sprint(s.row)]++
		}
		return
	}
	delete(p.marks, s.key)
	delete(p.rows, s.key)
	if s.keep {
		p.rows[s.key] = maps.Clone(s.row)
	}
}

func (p *promise) remove(s seen) bool {
	if p.keyless {
		row := fmt.Sprint(s.row)
		if !s.keep || p.bag[row] == 0 {
			return false
		}
		if p.bag[row]--; p.bag[row] == 0 {
			delete(p.bag, row)
		}
		return true
	}
	_, there := p.rows[s.key]
	delete(p.marks, s.key)
	delete(p.rows, s.key)
	return there
}

// follow keeps the promise for one change.
func (p *promise) follow(op migration.Operation, before, after seen) {
	if !p.Operations.Has(op) {
		return
	}
	inserts := p.Operations.Has(migration.OperationInsert)
	switch {
	case op == migration.OperationInsert:
		p.put(after)
	case op == migration.OperationDelete:
		p.remove(before)
	case op == migration.OperationTruncate:
		p.truncate()
	case p.keyless && inserts:
		p.remove(before)
		p.put(after)
	case p.keyless:
		if p.remove(before) {
			p.put(after)
		}
	case before.key != after.key && inserts:
		p.remove(before)
		p.put(after)
	case before.key != after.key:
		p.move(before, after)
	default:
		p.change(before, after, inserts)
	}
}

// truncate leaves rows alone that came from elsewhere.
func (p *promise) truncate() {
	clear(p.bag)
	maps.DeleteFunc(p.rows, func(_ string, row map[string]string) bool { return !p.Merged || row["src"] == "=here" })
}

// change is an update that leaves the key. A value that was not sent stays what it was, but of a row that the target had
// first, or that nobody knows to be there.
func (p *promise) change(before, after seen, inserts bool) {
	old, there := p.rows[after.key]
	lacks := p.lacks(before, after)
	switch {
	case !there && !inserts && !p.marks[after.key]:
		return
	case !lacks || p.marks[after.key] || !there && p.fromNow:
		p.put(after)
	case there && after.keep:
		p.rows[after.key] = p.sent(old, after.row)
	}
}

// move is an update of the key where nothing may be inserted.
func (p *promise) move(before, after seen) {
	old, there := p.rows[before.key]
	switch {
	case !there && !after.keep:
		p.remove(after)
	case !there:
	case !p.lacks(before, after) || p.marks[before.key]:
		p.remove(before)
		p.put(after)
	default:
		p.remove(before)
		p.remove(after)
		p.rows[after.key] = p.sent(old, after.row)
	}
}

// lacks reports whether the stream leaves a value of the new row out.
func (p *promise) lacks(before, after seen) bool {
	return !p.full && len(p.unsent) > 0 && before.big == after.big && len(after.big) > 2000
}

func (p *promise) sent(old, row map[string]string) map[string]string {
	merged := maps.Clone(row)
	for _, column := range p.unsent {
		merged[column] = old[column]
	}
	return merged
}

// keyKind is a kind of key, and SQL of its values by a number.
type keyKind struct {
	columns [][2]string
	value   func(n int) string
}

var keyKinds = []keyKind{
	{[][2]string{{"id", "int"}}, func(n int) string { return fmt.Sprint(n) }},
	{[][2]string{{"k", "text"}}, func(n int) string { return fmt.Sprintf("'K%d'", n) }},
	{[][2]string{{"k", "numeric"}}, func(n int) string { return fmt.Sprintf("%d.50", n) }},
	{[][2]string{{"a", "int"}, {"B c", "text"}}, func(n int) string { return fmt.Sprintf("%d, 'b%d'", n%3, n) }},
	{[][2]string{{"k", "interval"}}, func(n int) string { return fmt.Sprintf("interval '%d hours'", n) }},
	{[][2]string{{"id", "uuid"}}, func(n int) string { return fmt.Sprintf("md5('%d')::uuid", n) }},
}

func (p *promise) keyNames() []string {
	var names []string
	for _, c := range p.kind.columns {
		names = append(names, c[0])
	}
	return names
}

// dice makes tables and changes.
type dice struct {
	*rand.Rand
	fromNow bool
	count   int
}

func (d *dice) one(in ...string) string { return in[d.IntN(len(in))] }

func (d *dice) odds(in int) bool { return d.IntN(in) == 0 }

func (d *dice) condition() string {
	return d.one("n % 3 <> 0", "flag", "m = 'ok'", "length(big) > 10", "v < 'm' -- end", "n > 20 and not flag", "coalesce(v, '') <> 'drop'")
}

// table makes the n-th table.
func (d *dice) table(n int) *promise {
	p := &promise{
		name: fmt.Sprintf("s%d.t%d", n%3, n), kind: keyKinds[d.IntN(len(keyKinds))], keyless: !d.fromNow && d.odds(10), fromNow: d.fromNow,
		rows: map[string]map[string]string{}, bag: map[string]int{}, marks: map[string]bool{},
	}
	p.Target = migration.TableName{Schema: fmt.Sprint("g", n%2), Name: d.one(fmt.Sprint("t", n), fmt.Sprint("Re named ", n))}
	for _, c := range p.kind.columns {
		column := mapping.Column{Name: d.one(c[0], "K_"+c[0]), Source: c[0]}
		p.TargetKey = append(p.TargetKey, column.Name)
		if c[0] == "id" && c[1] == "int" && d.odds(3) {
			column.Set, column.Reads = "id::int8 + 7000000000", []string{"id"}
			p.add(column, "bigint", column.Set)
			continue
		}
		p.add(column, c[1], migration.Quote(c[0]))
	}
	d.data(p)
	if !p.keyless && d.odds(5) {
		p.Merged, p.Existing = true, true
		p.add(mapping.Column{Name: "src", Set: "'here'"}, "text", "'here'::text")
		p.TargetKey = append(p.TargetKey, "src")
	}
	if d.odds(3) {
		p.Where = d.condition()
	}
	if d.odds(6) {
		p.DropIf = d.condition()
	}
	for bit, op := range []migration.Operation{migration.OperationInsert, migration.OperationUpdate, migration.OperationDelete, migration.OperationTruncate} {
		if !d.fromNow && n%2 == 0 && n/2&(1<<bit) != 0 { // every subset, several times
			p.Operations = append(p.Operations, op)
		}
	}
	p.Keep = !p.keyless && !d.fromNow && d.odds(4)
	p.full = p.keyless || p.Filtered() || d.odds(4) ||
		slices.ContainsFunc(p.Into, func(c mapping.Column) bool { return slices.Contains(c.Reads, "big") && len(c.Reads) > 1 })
	return p
}

func (p *promise) add(c mapping.Column, typ, expr string) {
	p.Into = append(p.Into, c)
	p.types = append(p.types, typ)
	if !c.Stamp {
		p.columns, p.exprs = append(p.columns, c.Name), append(p.exprs, expr)
	}
}

// data chooses what becomes of the columns beside the key.
func (d *dice) data(p *promise) {
	switch d.IntN(4) {
	case 0:
		p.add(mapping.Column{Name: "n", Source: "n", Set: "n * 2 + 1", Reads: []string{"n"}}, "numeric", "n * 2 + 1")
	case 1: // left out
	default:
		p.add(mapping.Column{Name: "N", Source: "n"}, "int", "n")
	}
	switch d.IntN(4) {
	case 0:
		const sql = "upper(v) || coalesce(m::text, '') || flag"
		p.add(mapping.Column{Name: "v", Source: "v", Set: sql, Reads: []string{"v", "m", "flag"}}, "text", sql)
	default:
		p.add(mapping.Column{Name: "v", Source: "v"}, "text", "v")
	}
	if !d.odds(5) {
		p.unsent = append(p.unsent, "big")
		p.add(mapping.Column{Name: "big", Source: "big"}, "text", "big")
	}
	if d.odds(4) {
		p.unsent = append(p.unsent, "len")
		p.add(mapping.Column{Name: "len", Set: "length(big)", Reads: []string{"big"}}, "int", "length(big)")
	}
	if d.odds(8) {
		p.add(mapping.Column{Name: "both", Set: "left(big, 3) || n", Reads: []string{"big", "n"}}, "text", "left(big, 3) || n")
	}
	if d.odds(4) {
		p.add(mapping.Column{Name: "at", Set: "now()", Stamp: true}, "timestamptz", "")
	}
	if !d.odds(3) {
		p.add(mapping.Column{Name: "m", Source: "m"}, "g0.mood", "m")
	}
}

func (p *promise) onSource() string {
	var columns []string
	for _, c := range p.kind.columns {
		columns = append(columns, migration.Quote(c[0])+" "+c[1]+" not null")
	}
	sql := fmt.Sprintf("create table %s (%s, n int, v text, big text, flag bool, m s0.mood); alter table %[1]s alter big set storage external;\n",
		p.name, strings.Join(columns, ", "))
	if !p.keyless {
		sql += fmt.Sprintf("alter table %s add primary key (%s);\n", p.name, migration.QuoteList(p.keyNames()))
	}
	if p.full {
		sql += "alter table " + p.name + " replica identity full;\n"
	}
	return sql
}

func (p *promise) onTarget() string {
	var columns []string
	for i, c := range p.Into {
		columns = append(columns, migration.Quote(c.Name)+" "+p.types[i])
	}
	if !p.keyless {
		columns = append(columns, "primary key ("+migration.QuoteList(p.TargetKey)+")")
	}
	return fmt.Sprintf("create table %s (%s);\n", p.Target.SQL(), strings.Join(columns, ", "))
}

func (p *promise) plan(t *mapping.Table) {
	m := p.Table
	m.Table = t.Table
	if p.keyless {
		m.TargetKey = nil
	}
	*t = m
}

// values are new values of the columns beside the key.
func (d *dice) values() [5]string {
	d.count++
	return [...]string{
		fmt.Sprint(d.IntN(40)), d.one("null", "'drop'", fmt.Sprintf("'a%d'", d.count), fmt.Sprintf("'z%d'", d.count)),
		d.one("null", fmt.Sprintf("'s%d'", d.count), fmt.Sprintf("repeat('b', 2200) || %d", d.count), fmt.Sprintf("repeat('c', 2300) || %d", d.count)),
		d.one("true", "false", "null"), d.one("'sad'", "'ok'", "null"),
	}
}

var dataColumns = [5]string{"n", "v", "big", "flag", "m"}

// step makes a change and keeps the promise for it.
func (d *dice) step(ctx context.Context, conn *pgx.Conn, p *promise) error {
	key := fmt.Sprintf("(%s)", migration.QuoteList(p.keyNames()))
	before, err := p.look(ctx, conn, fmt.Sprintf("%s = (%s)", key, p.kind.value(d.IntN(9))))
	if err != nil {
		return err
	}
	var sql string
	op, values := migration.OperationUpdate, d.values()
	switch n := d.IntN(20); {
	case before.ctid == "" || p.keyless && n < 5:
		value := p.kind.value(d.IntN(9))
		if there, err := p.look(ctx, conn, fmt.Sprintf("%s = (%s)", key, value)); err != nil || there.ctid != "" && !p.keyless {
			return err
		}
		op, sql = migration.OperationInsert, fmt.Sprintf("insert into %s values (%s, %s)", p.name, value, strings.Join(values[:], ", "))
	case n < 4:
		op, sql = migration.OperationDelete, fmt.Sprintf("delete from %s where ctid = '%s'", p.name, before.ctid)
	case n < 5 && !p.Keep && d.odds(3):
		op, sql = migration.OperationTruncate, "truncate "+p.name
	default:
		var sets []string
		for i, column := range dataColumns {
			if d.odds(3) {
				sets = append(sets, column+" = "+values[i])
			}
		}
		value := p.kind.value(d.IntN(9))
		there, err := p.look(ctx, conn, fmt.Sprintf("%s = (%s)", key, value))
		if err != nil {
			return err
		}
		if n < 10 && (p.keyless || there.ctid == "") {
			sets = append(sets, fmt.Sprintf("%s = (select %s)", key, value))
		}
		if len(sets) == 0 {
			sets = append(sets, "n = n")
		}
		sql = fmt.Sprintf("update %s set %s where ctid = '%s'", p.name, strings.Join(sets, ", "), before.ctid)
	}
	var after seen
	if op == migration.OperationInsert || op == migration.OperationUpdate {
		var ctid string
		if err := conn.QueryRow(ctx, sql+" returning ctid::text").Scan(&ctid); err != nil {
			return fmt.Errorf("%s: %w", sql, err)
		}
		if after, err = p.look(ctx, conn, "ctid = '"+ctid+"'"); err != nil {
			return err
		}
	} else if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	p.follow(op, before, after)
	return nil
}

// begin puts rows on the source, and on the target what the copy leaves: the rows that are wanted, or where it keeps rows
// of the target, others under some of their keys. Where nothing was copied, anything may be there.
func (d *dice) begin(t *testing.T, source, target *pgx.Conn, p *promise) {
	t.Helper()
	ctx := t.Context()
	for n := range 9 {
		if d.odds(2) {
			continue
		}
		values := d.values()
		_, err := source.Exec(ctx, fmt.Sprintf("insert into %s values (%s, %s)", p.name, p.kind.value(n), strings.Join(values[:], ", ")))
		must(t, err)
		row, err := p.look(ctx, source, fmt.Sprintf("(%s) = (%s)", migration.QuoteList(p.keyNames()), p.kind.value(n)))
		must(t, err)
		if p.fromNow && d.odds(3) {
			continue
		}
		p.put(row)
		p.begun = append(p.begun, row)
		if _, there := p.rows[row.key]; there && (p.Keep || p.fromNow) && d.odds(2) {
			row.row["v"] = "=other"
			if slices.Contains(p.columns, "big") {
				row.row["big"] = "=other"
			}
			p.rows[row.key], p.marks[row.key] = row.row, p.Keep
		}
		if p.Merged && d.odds(3) {
			row.row = maps.Clone(row.row)
			row.row["src"] = "=there"
			p.rows[strings.Replace(row.key, "here)", "there)", 1)] = row.row
		}
	}
	p.load(t, target)
}

func (p *promise) load(t *testing.T, target *pgx.Conn) {
	t.Helper()
	all := slices.Collect(maps.Values(p.rows))
	for _, row := range p.begun {
		if p.keyless && row.keep {
			all = append(all, row.row)
		}
	}
	for _, row := range all {
		var values []string
		for _, column := range p.columns {
			value := "null"
			if text, there := strings.CutPrefix(row[column], "="); there {
				value = migration.Literal(text)
			}
			values = append(values, value)
		}
		_, err := target.Exec(t.Context(), fmt.Sprintf("insert into %s (%s) values (%s)", p.Target.SQL(), migration.QuoteList(p.columns), strings.Join(values, ", ")))
		must(t, err)
	}
	maps.DeleteFunc(p.marks, func(_ string, marked bool) bool { return !marked })
	for key := range p.marks {
		_, err := target.Exec(t.Context(), `insert into dts_sync.kept (migration, relid, key)
			select migration, relid, $2 from dts_sync.tbl where schema || '.' || name = $1`, p.name, key)
		must(t, err)
	}
}

// mustBeKept compares what the target holds with the promise.
func (p *promise) mustBeKept(t *testing.T, target *pgx.Conn) {
	t.Helper()
	var columns []string
	for _, column := range p.columns {
		columns = append(columns, migration.Quote(column))
	}
	rows, err := target.Query(t.Context(), fmt.Sprintf("select %s, array[%s]::text[] from %s", p.keyText(columns), strings.Join(columns, ", "), p.Target.SQL()))
	must(t, err)
	found, bag := map[string]map[string]string{}, map[string]int{}
	var key string
	var values []*string
	_, err = pgx.ForEachRow(rows, []any{&key, &values}, func() error {
		if row := p.named(values); p.keyless {
			bag[fmt.Sprint(row)]++
		} else {
			found[key] = row
		}
		values = nil
		return nil
	})
	must(t, err)
	for key := range merge(found, p.rows) {
		if fmt.Sprint(found[key]) != fmt.Sprint(p.rows[key]) {
			t.Fatalf("%s\nwhere %q dropIf %q operations %v keep %t merged %t full %t, key %v, into %+v\nrow %s is\n%.600s, promised is\n%.600s", p.name, p.Where, p.DropIf,
				p.Operations, p.Keep, p.Merged, p.full, p.kind.columns, p.Into, key, fmt.Sprint(found[key]), fmt.Sprint(p.rows[key]))
		}
	}
	if fmt.Sprint(bag) != fmt.Sprint(p.bag) {
		t.Fatalf("%s\nwhere %q dropIf %q operations %v, into %+v\nholds\n%.2000s, promised is\n%.2000s", p.name, p.Where, p.DropIf, p.Operations, p.Into, fmt.Sprint(bag), fmt.Sprint(p.bag))
	}
	if p.Keep {
		marks, err := target.Query(t.Context(), "select k.key from dts_sync.kept k join dts_sync.tbl t using (migration, relid) where t.schema || '.' || t.name = $1 order by 1", p.name)
		must(t, err)
		keys, err := pgx.CollectRows(marks, pgx.RowTo[string])
		must(t, err)
		if want := slices.Sorted(maps.Keys(p.marks)); !slices.Equal(slices.Sorted(slices.Values(keys)), want) {
			t.Fatalf("%s: marks are %v, want %v", p.name, keys, want)
		}
	}
}

func merge(a, b map[string]map[string]string) map[string]bool {
	all := map[string]bool{}
	for key := range a {
		all[key] = true
	}
	for key := range b {
		all[key] = true
	}
	return all
}

func TestRandomMappingsHoldWhatWasPromised(t *testing.T) {
	t.Parallel()
	for name, fromNow := range map[string]bool{"after a copy": false, "from now": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepPromises(t, &dice{Rand: rand.New(rand.NewPCG(1, 2)), fromNow: fromNow})
		})
	}
}

func keepPromises(t *testing.T, d *dice) {
	var promises []*promise
	source := "create schema s0; create schema s1; create schema s2; create type s0.mood as enum ('sad', 'ok');\n"
	target := "create schema s0; create type s0.mood as enum ('sad', 'ok'); create schema g0; create schema g1; create type g0.mood as enum ('sad', 'ok');\n"
	named := map[string]*promise{}
	for n := range promisedTables {
		p := d.table(n)
		promises, named[p.name] = append(promises, p), p
		source, target = source+p.onSource(), target+p.onTarget()
	}
	r := newMapped(t, pgtest.Shared(t), pgtest.Shared(t), source, target, func(m *mapping.Table) { named[m.Name.String()].plan(m) })
	if d.fromNow {
		r.spec.Types = []migration.Type{migration.TypeIncremental}
	}
	from, to := r.source.Conn(t), r.target.Conn(t)
	for _, p := range promises {
		d.begin(t, from, to, p)
	}
	r.source.Exec(t, "select pg_replication_slot_advance(slot_name, pg_current_wal_insert_lsn()) from pg_replication_slots where slot_name = $1", r.spec.ID.Slot())
	for done := 0; done < promisedChanges; {
		_, err := from.Exec(t.Context(), "begin")
		must(t, err)
		for range 1 + d.IntN(5) {
			p := promises[d.IntN(len(promises))]
			for range 1 + d.IntN(3) {
				must(t, d.step(t.Context(), from, p))
				done++
			}
		}
		_, err = from.Exec(t.Context(), "commit")
		must(t, err)
		if d.odds(200) || done >= promisedChanges {
			r.drain(1 + d.IntN(200))
			for _, p := range promises {
				p.mustBeKept(t, to)
			}
		}
	}
	if n := r.applier.Stats().Conflicts; n != 0 {
		t.Fatalf("%d conflicts", n)
	}
}
