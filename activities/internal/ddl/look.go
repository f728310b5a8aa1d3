package ddl

import (
	"context"
	"crypto/md5" //nolint:gosec // what the server can compute as well; it protects nothing
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Finding is one thing that is not as it was planned.
type Finding struct {
	Table migration.TableName // on the source
	Text  string
	// Grave findings make the migration incomplete without anything else saying so; Hint is what a person can do.
	Grave bool
	Hint  string
	// Attached: the finding is about a partition that is not of the plan; one that a person has made on the target as well is
	// no harm any more. Left: likewise about one that the target may have let go too.
	Attached, Left bool
}

// String is a line of a status.
func (f Finding) String() string { return f.Table.String() + ": " + f.Text }

// Fault is a grave finding as what stops the stream.
func (f Finding) Fault() *migration.Fault {
	fault := migration.NewFault(migration.FaultDrift, "follow", f.Table.String(), errors.New(f.Text), f.Hint)
	fault.Side = migration.Source
	return fault
}

// readRelations has one line per table whatever its columns. The hashes leave out what moves by itself. A partition is as old
// as its link to the parent when it was created as one: the catalog row of its first system column is written once.
const readRelations = `
select c.oid, n.nspname, c.relname, c.relreplident::text, c.relkind = 'r' and c.relpersistence = 'p',
       (n.nspname, c.relname) in (select p.schemaname, p.tablename from pg_publication_tables p where p.pubname = any ($1)),
       coalesce(i.inhparent, 0)::oid, i.inhrelid is not null and i.xmin <> born.xmin,
       coalesce((select md5(string_agg(format('%s %s %s', a.attnum, a.attname, format_type(a.atttypid, a.atttypmod)), E'\n' order by a.attnum))
                 from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), ''),
       c.relnatts, array(select format('%s %s', d.adnum, pg_get_expr(d.adbin, d.adrelid)) from pg_attrdef d where d.adrelid = c.oid order by d.adnum),
       array(select format('%s %s', k.conname, case k.contype when 'c' then 'check' when 'f' then 'foreign key' when 'p' then 'primary key' when 'u' then 'unique'
             when 'x' then 'exclude' else 'constraint' end) from pg_constraint k where k.conrelid = c.oid and k.contype in ('c', 'f', 'p', 'u', 'x') order by 1),
       array(select x.relname::text from pg_index ix join pg_class x on x.oid = ix.indexrelid where ix.indrelid = c.oid and ix.indisvalid order by 1)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute born on born.attrelid = c.oid and born.attnum = -1
left join pg_inherits i on i.inhrelid = c.oid and c.relispartition
where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync') and n.nspname !~ '^pg_'`

// relation is a table of the source now.
type relation struct {
	oid         uint32
	name        migration.TableName
	identity    string
	decoded     bool // its changes are in the log
	published   bool
	parent      uint32
	attached    bool
	columns     string
	columnsEver int16 // attnum of the last
	defaults    []string
	constraints []string
	indexes     []string
}

// Watch remembers what it saw first, for what a plan does not say: defaults, constraints, indexes.
type Watch struct {
	Publications []string
	// Everything: the definition means every table, so that a new one is missing on the target.
	Everything bool
	// Indexes: new ones are told against what was seen first; else somebody compares them with the schema that was migrated.
	Indexes bool

	first map[uint32]relation
}

// Look compares the source with the plan. A finding may be about something that the stream has not come to yet.
func (w *Watch) Look(ctx context.Context, conn *pgx.Conn, planned []ledger.Table) ([]Finding, error) {
	rows, err := conn.Query(ctx, readRelations, w.Publications)
	if err != nil {
		return nil, err
	}
	now := map[uint32]relation{}
	var r relation
	_, err = pgx.ForEachRow(rows, []any{
		&r.oid, &r.name.Schema, &r.name.Name, &r.identity, &r.decoded, &r.published, &r.parent, &r.attached,
		&r.columns, &r.columnsEver, &r.defaults, &r.constraints, &r.indexes,
	}, func() error {
		now[r.oid] = r
		r.defaults, r.constraints, r.indexes = nil, nil, nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	if w.first == nil {
		w.first = now
	}
	named := map[migration.TableName]uint32{}
	for oid, each := range now {
		named[each.name] = oid
	}
	var found []Finding
	for _, t := range planned {
		each, err := w.table(ctx, conn, t, now, named)
		if err != nil {
			return nil, err
		}
		found = append(found, each...)
	}
	others, err := w.others(ctx, conn, planned, now)
	found = append(found, others...)
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	return found, err
}

// table compares one planned table.
func (w *Watch) table(ctx context.Context, conn *pgx.Conn, t ledger.Table, now map[uint32]relation, named map[migration.TableName]uint32) ([]Finding, error) {
	is, exists := now[t.OID]
	other, taken := named[t.Name]
	finding := func(format string, args ...any) Finding {
		return Finding{Table: t.Name, Text: fmt.Sprintf(format, args...)}
	}
	switch {
	case taken && other != t.OID:
		grave := finding("it was dropped, and another table has its name")
		if exists {
			grave.Text = fmt.Sprintf("it was renamed to %s, and another table has its name", is.name)
		}
		grave.Grave, grave.Hint = true, "give the tables back their names on the source, then `pgdts resume`; or start the migration anew"
		return []Finding{grave}, nil
	case !exists:
		return []Finding{finding("the table was dropped; on the target it stays until somebody drops it there")}, nil
	}
	var found []Finding
	if is.name != t.Name {
		found = append(found, finding("the table was renamed to %s; the stream stops at its next change", is.name))
	}
	if !is.published && t.Mode != migration.ModeRoot && t.Kind == "r" && !t.Unlogged {
		grave := finding("the source publishes it no longer: changes since then are not in the stream")
		grave.Grave, grave.Hint = true, "start the migration anew; or take it into the publication again, copy its rows yourself, then `pgdts resume`"
		if t.Partition && is.parent == 0 {
			grave.Left = true
			grave.Text = "the partition was detached, and the source publishes it no longer: changes since then are not in the stream"
			grave.Hint = "detach it on the target as well, then `pgdts resume`: the table stays there as it is now"
		}
		found = append(found, grave)
	}
	if is.identity != t.Identity && weaker(is.identity) {
		found = append(found, finding("replica identity changed from %s to %s", identities[t.Identity], identities[is.identity]))
	}
	if is.columns != columnsOf(t.Columns) {
		table, err := catalog.ReadTable(ctx, conn, t.OID)
		if err != nil && !errors.Is(err, catalog.ErrNoTable) {
			return nil, err
		}
		for _, text := range differences(t.Columns, table.Columns) {
			found = append(found, finding("%s; the stream has not come to a change of the new shape yet", text))
		}
	}
	return append(found, w.since(is)...), nil
}

var identities = map[string]string{"d": "default", "n": "nothing", "f": "full", "i": "an index"}

func weaker(identity string) bool { return identity != "f" }

func columnsOf(columns []catalog.Column) string {
	lines := make([]string, len(columns))
	for i, c := range columns {
		lines[i] = fmt.Sprintf("%d %s %s", c.Num, c.Name, c.Type)
	}
	sum := md5.Sum([]byte(strings.Join(lines, "\n"))) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// differences says what became of columns, by their numbers.
func differences(planned, now []catalog.Column) []string {
	var texts []string
	for _, p := range planned {
		i := slices.IndexFunc(now, func(c catalog.Column) bool { return c.Num == p.Num })
		switch {
		case i < 0:
			texts = append(texts, fmt.Sprintf("column %s dropped", migration.Quote(p.Name)))
			continue
		case now[i].Name != p.Name:
			texts = append(texts, fmt.Sprintf("column %s renamed to %s", migration.Quote(p.Name), migration.Quote(now[i].Name)))
		}
		if now[i].Type != p.Type {
			texts = append(texts, fmt.Sprintf("type of column %s changed from %s to %s", migration.Quote(now[i].Name), p.Type, now[i].Type))
		}
	}
	for _, c := range now {
		if !slices.ContainsFunc(planned, func(p catalog.Column) bool { return p.Num == c.Num }) {
			texts = append(texts, fmt.Sprintf("column %s %s added", migration.Quote(c.Name), c.Type))
		}
	}
	return texts
}

// since tells what a plan does not say, against what was seen first.
func (w *Watch) since(is relation) []Finding {
	first, known := w.first[is.oid]
	if !known {
		return nil
	}
	var found []Finding
	add := func(format string, args ...any) {
		found = append(found, Finding{Table: is.name, Text: fmt.Sprintf(format, args...)})
	}
	if !slices.Equal(first.defaults, upTo(first.columnsEver, is.defaults)) {
		add("a default was changed; the target has the old one")
	}
	for _, each := range []struct {
		what     string
		was, are []string
	}{{"constraint", first.constraints, is.constraints}, {"index", first.indexes, is.indexes}} {
		for _, name := range each.are {
			if !slices.Contains(each.was, name) && (each.what != "index" || w.Indexes) {
				add("%s %s was added; the target does not have it", each.what, name)
			}
		}
		for _, name := range each.was {
			if !slices.Contains(each.are, name) {
				add("%s %s was dropped; the target still has it", each.what, name)
			}
		}
	}
	return found
}

// upTo leaves out defaults of columns that were added since.
func upTo(last int16, defaults []string) []string {
	return slices.DeleteFunc(slices.Clone(defaults), func(each string) bool {
		var num int16
		_, err := fmt.Sscan(each, &num)
		return err == nil && num > last
	})
}

// others looks at tables that are not of the plan: new ones, and partitions that came below a planned root.
func (w *Watch) others(ctx context.Context, conn *pgx.Conn, planned []ledger.Table, now map[uint32]relation) ([]Finding, error) {
	known := map[uint32]bool{}
	for _, t := range planned {
		known[t.OID] = true
	}
	var found []Finding
	for oid, is := range now {
		if known[oid] {
			continue
		}
		below, attached, links := false, is.attached, []uint32{oid}
		for parent := is.parent; parent != 0 && !below; parent = now[parent].parent {
			below = known[parent]
			if !below {
				attached, links = attached || now[parent].attached, append(links, parent)
			}
		}
		unpublished := below && is.decoded && !is.published && w.Everything
		early := false
		if below && is.decoded && !unpublished {
			var err error
			if early, err = cameWithRows(ctx, conn, is, links, attached); err != nil {
				return nil, err
			}
		}
		switch {
		case unpublished:
			found = append(found, Finding{Table: is.name, Text: "the table is a new partition, and the source does not publish it", Grave: true, Attached: true, Hint: hintUnpublished})
		case early:
			found = append(found, Finding{Table: is.name, Text: "a table was attached as a partition: rows that it had before are not in the stream", Grave: true, Attached: true, Hint: hintAttached})
		case below:
			found = append(found, Finding{Table: is.name, Text: "a partition was created"})
		case w.Everything && w.first[oid].name != is.name && is.parent == 0:
			found = append(found, Finding{Table: is.name, Text: "the table is new, and not part of the migration"})
		}
	}
	return found, nil
}

// readEarly looks for rows that are older than a link between their partition and the tables above, though all came in one
// transaction. Rows that came first lie first, so a few tell, however many there are when somebody looks.
const readEarly = `
select exists (select from (select r.xmin, r.cmin from only %s r limit 1000) r, pg_catalog.pg_inherits i
               where i.inhrelid = any ($1) and i.xmin = r.xmin and r.cmin::text::bigint < i.cmin::text::bigint)`

// cameWithRows reports whether a partition had rows before it came below a planned table. One that was attached by a later
// transaction than the one that made it is taken to have had what it has now, or hides from us.
func cameWithRows(ctx context.Context, conn *pgx.Conn, table relation, links []uint32, attached bool) (rows bool, err error) {
	const hidden = "select not pg_catalog.has_table_privilege($1::oid, 'select') or pg_catalog.row_security_active($1::oid)"
	if err := conn.QueryRow(ctx, hidden, table.oid).Scan(&rows); err != nil || rows {
		return rows && attached, err
	}
	if attached {
		err = conn.QueryRow(ctx, "select exists (select from only "+table.name.SQL()+")").Scan(&rows)
	} else {
		err = conn.QueryRow(ctx, fmt.Sprintf(readEarly, table.name.SQL()), links).Scan(&rows)
	}
	return rows, err
}

const (
	hintUnpublished = "on the source: add it to the migration's publication; make the same table on the target and copy its rows there; then `pgdts resume`"
	hintAttached    = "make the same table on the target, copy its rows there, and attach it; then `pgdts resume`"
)
