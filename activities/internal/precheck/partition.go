package precheck

import (
	"context"
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

// bound is a level of partitions above a table that holds rows.
type bound struct {
	Leaf         uint32
	Schema, Name string // of the partitioned table
	Strategy     string // h hash, l list, r range
	Enum         bool   // of its key: an enum's, whose hash is made of a number of the catalog
	Text         bool   // a text's
	Ordered      bool   // a text's under the database's own collation
}

const readBounds = `
with recursive up (leaf, above) as (
    select h.inhrelid, h.inhparent from pg_inherits h join pg_class c on c.oid = h.inhrelid and c.relispartition where h.inhrelid = any ($1)
    union all
    select u.leaf, h.inhparent from up u join pg_inherits h on h.inhrelid = u.above join pg_class c on c.oid = h.inhrelid and c.relispartition
)
select u.leaf, n.nspname::text, c.relname::text, p.partstrat::text,
       coalesce(bool_or(b.typtype = 'e'), false), coalesce(bool_or(b.typcollation <> 0), false), coalesce(bool_or(k.ordered = 100), false)
from up u
join pg_partitioned_table p on p.partrelid = u.above
join pg_class c on c.oid = u.above join pg_namespace n on n.oid = c.relnamespace
cross join lateral unnest(p.partattrs::int2[], p.partcollation::oid[]) k (num, ordered)
left join pg_attribute a on a.attrelid = u.above and a.attnum = k.num and k.num > 0
left join pg_type t on t.oid = a.atttypid
left join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
group by 1, 2, 3, 4 order by 2, 3, 1`

func (b bound) name() string { return migration.TableName{Schema: b.Schema, Name: b.Name}.String() }

// partitionBounds: rows are copied partition by partition, and the target's server may think that a row belongs into
// another one. The hash of an enum's value is made of its number, which is another one on each server, and that of a text of
// its bytes; what is between two texts depends on the collation.
func partitionBounds(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.met()
	if err != nil {
		return finding{}, err
	}
	var leaves []uint32
	for _, table := range c.Tables {
		if table.Partition && table.Kind == "r" && table.Name.Name == table.Target.Name {
			leaves = append(leaves, table.OID) // else its rows go through another table, which finds their place
		}
	}
	if len(leaves) == 0 {
		return passed("no partition is copied into one"), nil
	}
	bounds, err := rows[bound](ctx, l.source, readBounds, leaves)
	if err != nil {
		return finding{}, err
	}
	encodings, orders, err := l.textDiffers(ctx)
	if err != nil {
		return finding{}, err
	}
	var hashed, encoded, ordered []string
	add := func(to *[]string, name string) {
		if !slices.Contains(*to, name) {
			*to = append(*to, name)
		}
	}
	for _, b := range bounds {
		switch {
		case b.Strategy == "h" && b.Enum:
			add(&hashed, b.name())
		case b.Strategy == "h" && b.Text && encodings:
			add(&encoded, b.name())
		case b.Strategy == "r" && b.Ordered && orders:
			add(&ordered, b.name())
		}
	}
	const fix = "make these tables on the target with partitions of other names, and take schema out of types: their rows go through the root then"
	var found []finding
	if len(hashed) > 0 {
		found = append(found, failed(fix, "tables are partitioned by the hash of an enum, which is another one on every server: %s", list(hashed)))
	}
	if len(encoded) > 0 {
		found = append(found, alert(fix, "tables are partitioned by the hash of a text, which is another one in the target's encoding where it is not ASCII: %s", list(encoded)))
	}
	if len(ordered) > 0 {
		found = append(found, alert(fix, "tables are partitioned by ranges of texts, and the target orders texts in another way, "+
			"so that a row may belong into another partition, which stops the copy: %s", list(ordered)))
	}
	if all := together(found); all.state != "" {
		return all, nil
	}
	return passed("%s, whose rows belong into the same on the target", count(len(leaves), "partition")), nil
}

// textDiffers compares the encodings, and how the databases order texts.
func (l *look) textDiffers(ctx context.Context) (encodings, orders bool, err error) {
	read := func(s session) (string, defaultCollation, error) {
		encoding, err := value[string](ctx, s, readEncoding)
		if err != nil {
			return "", defaultCollation{}, err
		}
		own, err := rows[defaultCollation](ctx, s, readDefaultCollation)
		if err != nil {
			return "", defaultCollation{}, err
		}
		return encoding, own[0], nil
	}
	here, from, err := read(l.source)
	if err != nil {
		return false, false, err
	}
	there, to, err := read(l.target)
	from.Ctype, to.Ctype = "", ""
	return here != there, from != to, err
}

func qualified(schema, name string) string {
	return migration.TableName{Schema: schema, Name: name}.SQL()
}

// withSchemaAndRows: tables are made and filled.
func withSchemaAndRows(s migration.Spec) bool { return withSchema(s) && withRows(s) }
