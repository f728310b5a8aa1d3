package catalog

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Sequence is a sequence of the source with its state.
type Sequence struct {
	Name      migration.TableName `json:"name"`
	Last      int64               `json:"last"`
	Called    bool                `json:"called"` // Last has been handed out
	Increment int64               `json:"increment"`

	Owner    migration.TableName `json:"owner,omitzero"` // the table whose column owns it
	Column   string              `json:"column,omitempty"`
	Identity bool                `json:"identity,omitempty"` // made for an identity column
	// UsedBy are the tables that a default of a column takes values from it for, by name.
	UsedBy []migration.TableName `json:"usedBy,omitempty"`
}

// sequencesPerQuery bounds a statement's length and the locks that it takes at once.
const sequencesPerQuery = 500

// readSequences compares classid in a way that no index helps with: until the catalog has been analyzed, the server would
// look through all defaults for each sequence.
const readSequences = `
select n.nspname, c.relname, s.seqincrement, coalesce(tn.nspname, ''), coalesce(t.relname, ''), coalesce(a.attname, ''),
       coalesce(o.deptype = 'i', false), u.schemas, u.names
from pg_sequence s
join pg_class c on c.oid = s.seqrelid and c.relpersistence <> 't'
join pg_namespace n on n.oid = c.relnamespace
left join pg_depend o on o.classid = 'pg_class'::regclass and o.objid = c.oid and o.objsubid = 0
    and o.refclassid = 'pg_class'::regclass and o.refobjsubid > 0 and o.deptype in ('a', 'i')
left join pg_class t on t.oid = o.refobjid
left join pg_namespace tn on tn.oid = t.relnamespace
left join pg_attribute a on a.attrelid = o.refobjid and a.attnum = o.refobjsubid
cross join lateral (
    select coalesce(array_agg(un.nspname::text order by un.nspname, ut.relname), '{}') as schemas,
           coalesce(array_agg(ut.relname::text order by un.nspname, ut.relname), '{}') as names
    from (select distinct f.adrelid from pg_depend d join pg_attrdef f on f.oid = d.objid
          where (d.classid = 'pg_attrdef'::regclass) is true and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid) f
    join pg_class ut on ut.oid = f.adrelid and ut.relkind in ('r', 'p') and ut.relpersistence <> 't'
    join pg_namespace un on un.oid = ut.relnamespace
) u
where n.nspname not in ('pg_catalog', 'information_schema', 'dts_sync')
  and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
order by n.nspname, c.relname`

// Sequences reads all sequences of a user, other than extensions', with the exact state of each: pg_sequences would hide
// whether the last value has been handed out. The order is by name.
func Sequences(ctx context.Context, conn *pgx.Conn) ([]Sequence, error) {
	sequences, err := SequencesThere(ctx, conn)
	if err != nil {
		return nil, err
	}
	for first := 0; first < len(sequences); first += sequencesPerQuery {
		part := sequences[first:min(first+sequencesPerQuery, len(sequences))]
		if err := readValues(ctx, conn, part); err != nil {
			return nil, fmt.Errorf("read values of sequences: %w", err)
		}
	}
	return sequences, nil
}

// SequencesThere is Sequences without their states, which the role may not be allowed to read.
func SequencesThere(ctx context.Context, conn *pgx.Conn) ([]Sequence, error) {
	rows, err := conn.Query(ctx, readSequences)
	if err != nil {
		return nil, err
	}
	sequences, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Sequence, error) {
		var s Sequence
		var schemas, names []string
		err := row.Scan(&s.Name.Schema, &s.Name.Name, &s.Increment, &s.Owner.Schema, &s.Owner.Name, &s.Column, &s.Identity, &schemas, &names)
		for i := range names {
			s.UsedBy = append(s.UsedBy, migration.TableName{Schema: schemas[i], Name: names[i]})
		}
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read sequences: %w", err)
	}
	return sequences, nil
}

func readValues(ctx context.Context, conn *pgx.Conn, sequences []Sequence) error {
	selects := make([]string, len(sequences))
	for i, sequence := range sequences {
		selects[i] = fmt.Sprintf("select %d, last_value, is_called from %s", i, sequence.Name.SQL())
	}
	// The simple protocol keeps a statement that is never asked again out of the driver's cache.
	rows, err := conn.Query(ctx, strings.Join(selects, " union all "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return err
	}
	var i int
	var last int64
	var called bool
	_, err = pgx.ForEachRow(rows, []any{&i, &last, &called}, func() error {
		sequences[i].Last, sequences[i].Called = last, called
		return nil
	})
	return err
}
