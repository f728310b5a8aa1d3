package bulk

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	samplePagesMin      = 300 // a sample of fewer pages says little about the whole
	samplePagesPerBound = 8
	pageBytes           = 8192
)

// chunksOf cuts a table at quantiles of its key. The first range has no lower and the last no upper bound, so that
// together they hold every key, whatever is inserted later.
func (c Config) chunksOf(ctx context.Context, source *pgx.Conn, t ledger.Table) ([]ledger.Chunk, error) {
	size := max(c.ChunkBytes, min(t.Bytes/int64(c.ChunksMax), chunkBytesMax))
	parts := int(min(t.Bytes/size+1, 1<<20))
	var bounds [][]string
	if t.Mode == migration.ModeKeyRange && parts > 1 {
		var err error
		if bounds, err = quantiles(ctx, source, t.Table.Table, parts); err != nil {
			return nil, err
		}
	}
	chunks := make([]ledger.Chunk, len(bounds)+1)
	for i := range chunks {
		chunks[i] = ledger.Chunk{RelID: t.OID, No: i + 1, Bytes: t.Bytes / int64(len(chunks))}
		if i > 0 {
			chunks[i].Low = bounds[i-1]
		}
		if i < len(bounds) {
			chunks[i].High = bounds[i]
		}
	}
	return chunks, nil
}

// quantiles samples pages; the source orders the keys, in its own collations. Where the sample gives less than half of
// what was asked for (a table with mostly empty pages) it walks along the key's index.
func quantiles(ctx context.Context, source *pgx.Conn, t catalog.Table, parts int) ([][]string, error) {
	pages := max(t.Bytes/pageBytes, 1)
	percent := min(100, 100*float64(max(samplePagesMin, parts*samplePagesPerBound))/float64(pages))
	sample := fmt.Sprintf(`
select %[1]s from (
    select %[1]s, row_number() over (order by %[2]s) - 1 as dts_sync_no, count(*) over () as dts_sync_total
    from only %[3]s tablesample system (%[4]s)
) s
where dts_sync_no > 0 and dts_sync_no * %[5]d / dts_sync_total > (dts_sync_no - 1) * %[5]d / dts_sync_total
order by %[2]s`,
		migration.QuoteList(t.Key), order(t), t.Name.SQL(), strconv.FormatFloat(percent, 'f', -1, 64), parts)
	bounds, err := texts(ctx, source, sample)
	if err != nil || percent == 100 || len(bounds) >= (parts-1)/2 {
		return bounds, err
	}
	return walk(ctx, source, t, parts)
}

// walkStep is how far a walk goes where the number of rows is not known.
const walkStep = 100_000

// walk takes every n-th key from the index, one statement each, so that none runs long. It stops at four times the parts
// asked for, when the number of rows was estimated far too low: then the last range is large.
func walk(ctx context.Context, source *pgx.Conn, t catalog.Table, parts int) ([][]string, error) {
	step := int64(walkStep)
	if t.Rows > 0 {
		step = max(1, t.Rows/int64(parts))
	}
	var bounds [][]string
	var last []string
	for len(bounds) < 4*parts {
		next, err := texts(ctx, source, fmt.Sprintf("select %s from only %s%s order by %s offset %d limit 1",
			migration.QuoteList(t.Key), t.Name.SQL(), where(t, last, nil), order(t), step))
		if err != nil || len(next) == 0 {
			return bounds, err
		}
		last = next[0]
		bounds = append(bounds, last)
	}
	return bounds, nil
}

// texts reads rows in the form that the types' own output functions give.
func texts(ctx context.Context, conn *pgx.Conn, sql string) ([][]string, error) {
	rows, err := conn.Query(ctx, sql, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
		values := make([]string, len(row.RawValues()))
		for i, raw := range row.RawValues() {
			values[i] = string(raw)
		}
		return values, nil
	})
}

// order is the key's order, by the operators of its own index where these are not the types' plain ones.
func order(t catalog.Table) string {
	terms := make([]string, len(t.Key))
	for i, column := range t.Key {
		terms[i] = migration.Quote(column)
		if t.KeyOrder != nil {
			terms[i] += " using " + t.KeyOrder[i].Less
		}
	}
	return strings.Join(terms, ", ")
}

// where selects the keys in [low, high); nil is unbounded. It must use the very order that the bounds were found in.
func where(t catalog.Table, low, high []string) string {
	var conditions []string
	if low != nil {
		conditions = append(conditions, compare(t, low, true))
	}
	if high != nil {
		conditions = append(conditions, compare(t, high, false))
	}
	if conditions == nil {
		return ""
	}
	return " where " + strings.Join(conditions, " and ")
}

func compare(t catalog.Table, bound []string, above bool) string {
	literals := literals(t, bound)
	if t.KeyOrder != nil {
		return compareBy(t, literals, above)
	}
	sign := " < "
	if above {
		sign = " >= "
	}
	if len(t.Key) == 1 {
		return migration.Quote(t.Key[0]) + sign + literals[0]
	}
	return "(" + migration.QuoteList(t.Key) + ")" + sign + "(" + strings.Join(literals, ", ") + ")"
}

// compareBy spells out the row comparison, since one sign cannot stand for the operators of several schemas. The
// condition on the first column alone lets the index be used.
func compareBy(t catalog.Table, literals []string, above bool) string {
	condition := ""
	for i := len(t.Key) - 1; i >= 0; i-- {
		column, by := migration.Quote(t.Key[i]), t.KeyOrder[i]
		strict := by.Less
		if above {
			strict = by.Greater
		}
		switch {
		case condition != "":
			condition = fmt.Sprintf("(%s %s %s or (%s %s %s and %s))", column, strict, literals[i], column, by.Equal, literals[i], condition)
		case above:
			condition = fmt.Sprintf("%s %s %s", column, by.GreaterEqual, literals[i])
		default:
			condition = fmt.Sprintf("%s %s %s", column, by.Less, literals[i])
		}
	}
	if above && len(t.Key) > 1 {
		condition = fmt.Sprintf("%s %s %s and %s", migration.Quote(t.Key[0]), t.KeyOrder[0].GreaterEqual, literals[0], condition)
	}
	return condition
}

// literals are typed constants: COPY takes no parameters.
func literals(t catalog.Table, bound []string) []string {
	types := map[string]string{}
	for _, column := range t.Columns {
		types[column.Name] = column.Type
	}
	literals := make([]string, len(bound))
	for i, value := range bound {
		literals[i] = migration.Literal(value) + "::" + types[t.Key[i]]
	}
	return literals
}
