package bulk

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// form is how the values of a table travel.
type form struct {
	binary bool
	frozen bool // rows are as old as the table for everybody: it was emptied in the same transaction
	// casts are the types that expressions are cast to, by the column of the target. One without goes as text, which the
	// target reads as its own type.
	casts map[string]string
}

func (f form) option() string {
	if f.binary {
		return " with (format binary)"
	}
	return ""
}

// inOption is option for the side that writes.
func (f form) inOption() string {
	switch {
	case f.frozen && f.binary:
		return " with (format binary, freeze)"
	case f.frozen:
		return " with (freeze)"
	}
	return f.option()
}

// copyOut reads a range of the table itself, without partitions or children, as the target wants it. Rows that its
// extension made are left to the extension on the target.
func copyOut(t mapping.Table, part span, as form) string {
	values := make([]string, len(t.Into))
	for i, column := range t.Into {
		values[i] = value(column, as.casts[column.Name])
	}
	return fmt.Sprintf("copy (select %s from %s) to stdout", strings.Join(values, ", "), rowsOf(t, part)) + as.option()
}

// value is a column's, or what a transformation makes of the row. The line's end is for a comment in it. The cast names no
// length: a value that is too long is an error on the target, where a cast would cut it off.
func value(column mapping.Column, cast string) string {
	switch {
	case column.Set == "":
		return migration.Quote(column.Source)
	case cast == "":
		return "(" + column.Set + "\n)"
	}
	return "(" + column.Set + "\n)::" + cast
}

// rowsOf is what stands behind FROM. An extension's condition is a WHERE clause of its own.
func rowsOf(t mapping.Table, part span) string {
	from, wanted := "only "+t.Name.SQL(), t.RowCondition()
	switch {
	case t.Condition != "" && wanted != "":
		return fmt.Sprintf("(select * from %s %s\n) as %s where %s", from, t.Condition, migration.Quote(t.Name.Name), wanted)
	case t.Condition != "":
		return from + " " + t.Condition
	}
	condition := where(t.Table, part)
	switch {
	case wanted == "":
		return from + condition
	case condition == "":
		return from + " where " + wanted
	}
	return from + condition + " and " + wanted
}

// copyIn names the columns: generated ones cannot be written, GENERATED ALWAYS identities can by COPY alone.
func copyIn(into string, t mapping.Table, as form) string {
	columns := t.TargetColumns()
	if len(columns) == 0 {
		return fmt.Sprintf("copy %s from stdin", into) + as.inOption()
	}
	return fmt.Sprintf("copy %s (%s) from stdin", into, migration.QuoteList(columns)) + as.inOption()
}

// form chooses the binary form where both servers give the same meaning to the same bytes, else text.
func (w *worker) form(ctx context.Context, t mapping.Table) (form, error) {
	as := form{binary: true}
	expressions := false
	for _, column := range t.Into {
		source, _ := t.Column(column.Source)
		as.binary = as.binary && (column.Set != "" || binarySafe(source))
		expressions = expressions || column.Set != ""
	}
	if !as.binary && !expressions {
		return as, nil
	}
	there, err := w.targetTypes(ctx, t)
	if err != nil {
		return as, err
	}
	if expressions {
		if as.casts, err = w.casts(ctx, t, there); err != nil {
			return as, err
		}
	}
	for _, column := range t.Into {
		to := there[column.Name]
		if column.Set != "" {
			as.binary = as.binary && as.casts[column.Name] != "" && builtinSafe(to.oid)
			continue
		}
		source, _ := t.Column(column.Source)
		as.binary = as.binary && to.name == source.Type
	}
	return as, nil
}

// targetType is a column's type on the target.
type targetType struct {
	name string // with its length
	bare string // without
	oid  uint32
}

// readTargetTypes writes a type without a length as no length, where format_type of null would write one of 1.
const readTargetTypes = `
select a.attname, format_type(a.atttypid, a.atttypmod), format_type(a.atttypid, -1), a.atttypid
from pg_attribute a where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped`

func (w *worker) targetTypes(ctx context.Context, t mapping.Table) (map[string]targetType, error) {
	rows, err := w.target.Query(ctx, readTargetTypes, t.Target.SQL())
	if err != nil {
		return nil, w.config.Target.Fault("look at", t.Target.String(), err)
	}
	types := map[string]targetType{}
	var name string
	var typ targetType
	_, err = pgx.ForEachRow(rows, []any{&name, &typ.name, &typ.bare, &typ.oid}, func() error {
		types[name] = typ
		return nil
	})
	return types, w.config.Target.Fault("look at", t.Target.String(), err)
}

// casts finds the types of the target that the source knows by the same name.
func (w *worker) casts(ctx context.Context, t mapping.Table, there map[string]targetType) (map[string]string, error) {
	var columns, types []string
	for _, column := range t.Into {
		if to, ok := there[column.Name]; ok && column.Set != "" {
			columns, types = append(columns, column.Name), append(types, to.bare)
		}
	}
	rows, err := w.source.Query(ctx, `select c, t from unnest($1::text[], $2::text[]) u (c, t) where to_regtype(t) is not null`, columns, types)
	if err != nil {
		return nil, w.config.Source.Fault("look for types of", t.Name.String(), err)
	}
	casts := map[string]string{}
	var column, typ string
	_, err = pgx.ForEachRow(rows, []any{&column, &typ}, func() error {
		casts[column] = typ
		return nil
	})
	return casts, w.config.Source.Fault("look for types of", t.Name.String(), err)
}

// binarySafe knows the types whose binary form holds no number of a catalog entry (as regclass and arrays of a user's
// types do) and is the same in every version. An enum's is its label.
func binarySafe(c catalog.Column) bool { return c.TypeKind == "e" || builtinSafe(c.BaseOID) }

func builtinSafe(oid uint32) bool {
	switch oid {
	case 16, 17, 18, 19, 20, 21, 23, 25, 26, // bool bytea "char" name int8 int2 int4 text oid
		114, 3802, 2950, 3220, // json jsonb uuid pg_lsn
		700, 701, 1700, 790, // float4 float8 numeric money
		1042, 1043, 1560, 1562, // bpchar varchar bit varbit
		1082, 1083, 1114, 1184, 1186, 1266, // date time timestamp timestamptz interval timetz
		869, 650, 829, 774, // inet cidr macaddr macaddr8
		600, 601, 602, 603, 604, 628, 718: // point lseg path box polygon line circle
		return true
	case 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, // arrays of those
		1115, 1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 199, 3807, 2951, 1041, 651, 1040, 775:
		return true
	}
	return false
}
