package bulk

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	samplePagesMin      = 300 // a sample of fewer pages says little about the whole
	samplePagesPerBound = 32
)

// span is a half-open range of a table, by its key or by the place of its rows; nil is unbounded. One without a lower and
// one without an upper bound at the ends hold every row together, whatever is inserted later.
type span struct {
	low, high []string
	byPlace   bool
}

// spanOf is what a chunk holds. A table of one snapshot that is cut at all is cut by place.
func spanOf(t ledger.Table, c ledger.Chunk) span {
	return span{low: c.Low, high: c.High, byPlace: t.Mode == migration.ModeOneSnapshot}
}

// cutter cuts the tables of one source.
type cutter struct {
	Config
	source  *pgx.Conn
	version int
	size    int64 // of a chunk
}

// chunkBytes is how large chunks are: so that lanes end together where there is little, and that one takes a minute where
// the rate is capped.
func (c Config) chunkBytes(total int64) int64 {
	size := c.ChunkBytes
	if size == 0 {
		size = max(chunkBytesLeast, min(chunkBytesDefault, total/int64(chunksPerLane*c.lanes(math.MaxInt32))))
	}
	if rate := c.Gate.BytesPerSecond(); rate > 0 {
		size = min(size, c.minuteOf(rate))
	}
	return size
}

// minuteOf is how much one of the lanes, which share the rate, copies in the time that a chunk should take.
func (c Config) minuteOf(rate float64) int64 {
	return max(chunkBytesThrottled, int64(rate*chunkTime.Seconds()/float64(c.lanes(math.MaxInt32))))
}

// parts is how many chunks a table of that size makes.
func (c cutter) parts(bytes int64) int {
	size := max(c.size, min(bytes/int64(c.ChunksMax), chunkBytesMax))
	return int(min(bytes/size+1, 1<<20))
}

// byPlace reports whether ranges of pages are right for a table: all of them are of one snapshot. Under one that is held for
// all tables they always are, because a range of pages is read faster than one of the key. A snapshot that is held for
// the table alone is for keys that are scattered over it, or that are none, and for tables that may be emptied when it is lost.
func (c cutter) byPlace(ctx context.Context, t *ledger.Table) (bool, error) {
	switch {
	case c.version < tidRangeSince || t.Kind != "r" || t.Extension != "":
		return false, nil
	case !c.Spec.Has(migration.TypeIncremental):
		return true, nil
	case t.Existing || t.Keep || t.Merged:
		return false, nil
	case t.Mode == migration.ModeKeyRange:
		return c.scattered(ctx, t.Table.Table)
	}
	return true, nil
}

// tidRangeSince is the version that scans ranges of pages without reading what is before them.
const tidRangeSince = 140000

// chunksOf cuts a table into parts that are about as large as each other, TOAST included.
func (c cutter) chunksOf(ctx context.Context, t *ledger.Table) ([]ledger.Chunk, error) {
	var bounds [][]string
	var err error
	if parts := c.parts(t.Bytes); parts > 1 {
		var byPlace bool
		if byPlace, err = c.byPlace(ctx, t); err != nil {
			return nil, err
		}
		switch {
		case byPlace:
			t.Mode, t.Held = migration.ModeOneSnapshot, c.Spec.Has(migration.TypeIncremental)
			bounds, err = c.places(ctx, t.Table.Table, parts)
		case t.Mode == migration.ModeKeyRange:
			bounds, err = c.quantiles(ctx, t.Table.Table, parts)
		}
	}
	if err != nil {
		return nil, err
	}
	t.Held = t.Held && len(bounds) > 0
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

// quantiles samples pages; the source orders the keys, in its own collations, and weighs the rows. Where the sample gives
// less than half of what was asked for (a table with mostly empty pages) it walks along the key's index.
func (c cutter) quantiles(ctx context.Context, t catalog.Table, parts int) ([][]string, error) {
	bounds, whole, err := c.sample(ctx, t, migration.QuoteList(t.Key), order(t), parts)
	if err != nil || whole || len(bounds) >= (parts-1)/2 {
		return bounds, err
	}
	step := int64(walkStep)
	if t.Rows > 0 {
		step = max(1, t.Rows/int64(parts))
	}
	return c.walk(ctx, t, span{}, step, 4*parts)
}

// sampled takes the rows at which the weight of those before passes another part of the whole. Values that are stored out
// of line count by their size there, which is known without fetching them.
const sampled = `
select %[1]s from (
    select s.*, sum(dts_sync_weight) over (order by %[2]s rows unbounded preceding) - dts_sync_weight as dts_sync_before,
           lag(dts_sync_weight) over (order by %[2]s) as dts_sync_last, sum(dts_sync_weight) over () as dts_sync_total
    from (select %[1]s, %[6]s as dts_sync_weight from only %[3]s tablesample system (%[4]s)) s
) s
where floor(dts_sync_before * %[5]d / dts_sync_total) > floor((dts_sync_before - dts_sync_last) * %[5]d / dts_sync_total)
order by %[2]s`

// sample returns up to parts-1 bounds, and whether it has seen the whole table.
func (c cutter) sample(ctx context.Context, t catalog.Table, columns, order string, parts int) ([][]string, bool, error) {
	pages, err := c.heapPages(ctx, t)
	if err != nil {
		return nil, false, err
	}
	if err := c.Gate.Query(ctx); err != nil {
		return nil, false, err
	}
	percent := min(100, 100*float64(max(samplePagesMin, parts*samplePagesPerBound))/float64(pages))
	bounds, err := texts(ctx, c.source, fmt.Sprintf(sampled, columns, order, t.Name.SQL(),
		strconv.FormatFloat(percent, 'f', -1, 64), parts, weight(t)))
	return bounds, percent == 100, err
}

// weight is what a row takes, by SQL over the row.
func weight(t catalog.Table) string {
	terms := []string{"28"} // header and line pointer
	for _, column := range t.Columns {
		if !column.Generated {
			terms = append(terms, "coalesce(pg_column_size("+migration.Quote(column.Name)+"), 0)")
		}
	}
	return "(" + strings.Join(terms, " + ") + ")::numeric"
}

// heapPages counts the pages of the table itself, without TOAST; at least one.
func (c cutter) heapPages(ctx context.Context, t catalog.Table) (int64, error) {
	var pages int64
	err := c.source.QueryRow(ctx, "select pg_relation_size($1) / current_setting('block_size')::int", t.OID).Scan(&pages)
	return max(pages, 1), err
}

// toastSmall is which part of a table may be stored out of line before rows are weighed.
const toastSmall = 4

// places cuts a table by the place of its rows: into as many pages each, or, where a good part of it is stored out of line, by
// weight.
func (c cutter) places(ctx context.Context, t catalog.Table, parts int) ([][]string, error) {
	var heap, block int64
	err := c.source.QueryRow(ctx, "select pg_relation_size($1), current_setting('block_size')::int", t.OID).Scan(&heap, &block)
	if err != nil {
		return nil, err
	}
	if t.Bytes-heap > t.Bytes/toastSmall || heap/block < int64(parts) {
		bounds, _, err := c.sample(ctx, t, "ctid", "ctid", parts)
		return bounds, err
	}
	bounds := make([][]string, parts-1)
	for i := range bounds {
		bounds[i] = []string{fmt.Sprintf("(%d,0)", heap/block*int64(i+1)/int64(parts))}
	}
	return bounds, nil
}

// readScattered compares the order of a sample's rows by key with that by place. Few rows say nothing.
const readScattered = `
select coalesce(abs(corr(by_key, by_place)) < 0.9, false) from (
    select row_number() over (order by %[1]s) as by_key, row_number() over (order by place) as by_place
    from (select %[2]s, ctid as place from only %[3]s tablesample system (%[4]s)) s
) s having count(*) >= 100`

// scattered reports whether rows that follow each other by key lie far apart, as with random keys: a range of the key then
// reads most of the table's pages.
func (c cutter) scattered(ctx context.Context, t catalog.Table) (bool, error) {
	pages, err := c.heapPages(ctx, t)
	if err != nil {
		return false, err
	}
	if err := c.Gate.Query(ctx); err != nil {
		return false, err
	}
	var scattered bool
	percent := min(100, 100*float64(samplePagesMin)/float64(pages))
	err = c.source.QueryRow(ctx, fmt.Sprintf(readScattered, order(t), migration.QuoteList(t.Key), t.Name.SQL(),
		strconv.FormatFloat(percent, 'f', -1, 64))).Scan(&scattered)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	return scattered, err
}

// walkStep is how far a walk goes where the number of rows is not known.
const walkStep = 100_000

// walk takes every step-th key of a span from the index, one statement each, so that none runs long. It stops at the most
// that are wanted, when the number of rows was estimated far too low: then the last range is large.
func (c cutter) walk(ctx context.Context, t catalog.Table, s span, step int64, most int) ([][]string, error) {
	var bounds [][]string
	for len(bounds) < most {
		if err := c.Gate.Query(ctx); err != nil {
			return nil, err
		}
		next, err := texts(ctx, c.source, fmt.Sprintf("select %s from only %s%s order by %s offset %d limit 1",
			migration.QuoteList(t.Key), t.Name.SQL(), where(t, s), order(t), step))
		if err != nil || len(next) == 0 {
			return bounds, err
		}
		s.low = next[0]
		bounds = append(bounds, s.low)
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

// where selects the rows of a span. For keys it must use the very order that the bounds were found in.
func where(t catalog.Table, s span) string {
	var conditions []string
	if s.low != nil {
		conditions = append(conditions, s.compare(t, s.low, true))
	}
	if s.high != nil {
		conditions = append(conditions, s.compare(t, s.high, false))
	}
	if conditions == nil {
		return ""
	}
	return " where " + strings.Join(conditions, " and ")
}

func (s span) compare(t catalog.Table, bound []string, above bool) string {
	switch {
	case !s.byPlace:
		return compare(t, bound, above)
	case above:
		return "ctid >= " + migration.Literal(bound[0]) + "::tid"
	}
	return "ctid < " + migration.Literal(bound[0]) + "::tid"
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
