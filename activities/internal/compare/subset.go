package compare

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// portionRows is how many rows are looked up at once: so many lie in a temporary table of the target.
	portionRows = 200_000
	// readBytes is what is read ahead of the source's stream.
	readBytes = 256 << 10
)

// errOtherSide tells the side that had to stop from the one that failed.
var errOtherSide = errors.New("the other side of the comparison has failed")

// lookup sends the key and the hash of each row of the source to the target, which looks whether it has that row. It
// takes the right to make temporary tables there, and no memory that grows with the table. A table without a key is
// compared by how often each row is there.
type lookup struct {
	job
	dialect Dialect
	conn    *pgx.Conn // of the target
	verdict migration.Verdict
}

// run reads in the session given, which a failure on the target closes. A second call begins anew.
func (l *lookup) run(ctx context.Context, source *pgx.Conn) (sourceErr, targetErr error) {
	l.verdict = migration.Verdict{}
	if _, err := source.Exec(ctx, l.dialect.settings()); err != nil {
		return err, nil
	}
	if _, err := l.conn.Exec(ctx, l.prepare(), pgx.QueryExecModeSimpleProtocol); err != nil {
		return nil, err
	}
	reader, writer := io.Pipe()
	var group errgroup.Group // both ends close the pipe, which stops the other
	group.Go(func() error {
		_, sourceErr = source.PgConn().CopyTo(ctx, writer, l.copyOut())
		return writer.CloseWithError(sourceErr)
	})
	group.Go(func() error {
		targetErr = l.receive(ctx, bufio.NewReaderSize(reader, readBytes))
		return reader.CloseWithError(errOtherSide)
	})
	_ = group.Wait() // closing a pipe does not fail
	switch {
	case sourceErr != nil && !errors.Is(sourceErr, errOtherSide):
		return sourceErr, nil
	case targetErr != nil:
		return nil, targetErr
	}
	l.verdict.Equal = l.verdict.Missing == 0 && l.verdict.Different == 0
	return sourceErr, nil
}

func (l *lookup) keyless() bool { return len(l.target.key) == 0 }

// keys writes one thing for each column of the key.
func (l *lookup) keys(write func(no int) string) []string {
	texts := make([]string, len(l.target.key))
	for i := range texts {
		texts[i] = write(i)
	}
	return texts
}

// prepare makes the temporary table, and keeps the planner from reading the whole target for each portion where there is
// an index to look rows up by.
func (l *lookup) prepare() string {
	columns := append(l.keys(func(no int) string { return fmt.Sprintf("%s as k%d", l.target.key[no].sql, no) }), "null::bigint as h")
	join := "off"
	if !l.shape.indexed || l.keyless() {
		join = "on"
	}
	return l.dialect.settings() + "; set enable_hashjoin = " + join + "; set enable_mergejoin = " + join + `;
		drop table if exists pg_temp.pgdts_compare;
		create temp table pgdts_compare as select ` + strings.Join(columns, ", ") + " " + l.target.from + " with no data"
}

func (l *lookup) copyOut() string {
	values := l.keys(func(no int) string { return l.source.key[no].sql })
	values = append(values, l.dialect.hash(l.dialect.values(l.source)))
	return "copy (select " + strings.Join(values, ", ") + " " + l.source.from + ") to stdout"
}

// receive loads portions until the source has no more rows, and looks each up.
func (l *lookup) receive(ctx context.Context, stream *bufio.Reader) error {
	size := portionRows
	if l.keyless() {
		size = math.MaxInt
	}
	for {
		if _, err := l.conn.Exec(ctx, "truncate pg_temp.pgdts_compare"); err != nil {
			return err
		}
		part := &portion{stream: stream, left: size}
		loaded, err := l.conn.PgConn().CopyFrom(ctx, part, "copy pg_temp.pgdts_compare from stdin")
		if err == nil {
			err = l.judge(ctx)
		}
		if err != nil || loaded.RowsAffected() == 0 || part.left > 0 {
			return err
		}
	}
}

// judgeKeys counts the rows of a portion, and those of them that the target lacks, has otherwise, or had before.
const judgeKeys = `
select count(*), count(*) filter (where not p.kept and t.h is null), count(*) filter (where not p.kept and t.h <> s.h),
       count(*) filter (where p.kept)
from pg_temp.pgdts_compare s
left join (select %s as h, %s %s) t on %s
cross join lateral (select %s as kept) p`

// isKept compares the key in both texts: what is equal may be written differently.
const isKept = `exists (select from dts_sync.kept k where k.migration = %s and k.relid = %d and k.key in (row(%s)::text, row(%s)::text))`

// judgeRows counts how many rows the target has less often than the source.
const judgeRows = `
select coalesce(sum(s.n), 0)::bigint, coalesce(sum(greatest(s.n - coalesce(t.n, 0), 0)), 0)::bigint, 0::bigint, 0::bigint
from (select h, count(*) as n from pg_temp.pgdts_compare group by h) s
left join (select %s as h, count(*) as n %s group by 1) t on t.h = s.h`

func (l *lookup) judge(ctx context.Context) error {
	hash := l.dialect.hash(l.dialect.values(l.target))
	query := fmt.Sprintf(judgeRows, hash, l.target.from)
	if !l.keyless() {
		kept := "false"
		if l.table.Keep {
			kept = fmt.Sprintf(isKept, migration.Literal(string(l.id)), l.table.OID,
				strings.Join(l.keys(func(no int) string { return fmt.Sprintf("s.k%d", no) }), ", "),
				strings.Join(l.keys(func(no int) string { return fmt.Sprintf("t.k%d", no) }), ", "))
		}
		query = fmt.Sprintf(judgeKeys, hash,
			strings.Join(l.keys(func(no int) string { return fmt.Sprintf("%s as k%d", l.target.key[no].sql, no) }), ", "), l.target.from,
			strings.Join(l.keys(func(no int) string {
				return fmt.Sprintf("t.k%d %s s.k%d", no, l.shape.equal(l.table.TargetKey[no]), no)
			}), " and "), kept)
	}
	var rows, missing, different, kept int64
	err := l.conn.QueryRow(ctx, query, pgx.QueryExecModeSimpleProtocol).Scan(&rows, &missing, &different, &kept)
	l.verdict.SourceRows += rows
	l.verdict.TargetRows += rows - missing
	l.verdict.Missing += missing
	l.verdict.Different += different
	l.verdict.Kept += kept
	return err
}

// portion is the next so many lines of a stream.
type portion struct {
	stream *bufio.Reader
	left   int
}

func (p *portion) Read(to []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if _, err := p.stream.Peek(1); err != nil {
		return 0, err
	}
	ahead, err := p.stream.Peek(min(len(to), p.stream.Buffered()))
	if err != nil {
		return 0, err
	}
	end := 0
	for end < len(ahead) && p.left > 0 {
		line := bytes.IndexByte(ahead[end:], '\n')
		if line < 0 {
			end = len(ahead)
			break
		}
		end += line + 1
		p.left--
	}
	copy(to, ahead[:end])
	return p.stream.Discard(end)
}
