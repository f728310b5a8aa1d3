package compare

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Dialect is how two servers compute comparable hashes.
type Dialect struct {
	// Fast: hashtextextended gives the same on both; else MD5.
	Fast bool
	// Bits: the servers print floating-point values differently (one is older than 12). Plain columns are then compared by
	// their bits; those inside arrays, composites and geometric values by 15 digits.
	Bits bool
}

// floatsSince is the version that prints the shortest text that is exact.
const floatsSince = 120000

// Agree finds out how these two servers can be compared.
func Agree(ctx context.Context, source, target *pgx.Conn) (Dialect, error) {
	var versions [2]int
	var probes [2]string
	for i, conn := range []*pgx.Conn{source, target} {
		side := []migration.Side{migration.Source, migration.Target}[i]
		var err error
		if versions[i], err = pg.Version(ctx, conn); err != nil {
			return Dialect{}, pg.Fault(side, "read version", "", err)
		}
		if probes[i], err = probe(ctx, conn, versions[i]); err != nil {
			return Dialect{}, pg.Fault(side, "try hash function", "", err)
		}
	}
	return Dialect{
		Fast: probes[0] != "" && probes[0] == probes[1],
		Bits: (versions[0] < floatsSince) != (versions[1] < floatsSince),
	}, nil
}

// fastSince is the version that brought hashtextextended.
const fastSince = 110000

// hashProbe takes texts of every length modulo twelve, the function's stride, and one above its first block.
const hashProbe = `
select string_agg(hashtextextended((repeat('pgdts é', n) || n) collate "C", 0)::text, ' ' order by n)
from generate_series(0, 40) n`

func probe(ctx context.Context, conn *pgx.Conn, version int) (string, error) {
	if version < fastSince {
		return "", nil
	}
	var answers string
	err := conn.QueryRow(ctx, hashProbe).Scan(&answers)
	return answers, err
}

// settings of a session that hashes.
func (d Dialect) settings() string {
	if d.Bits {
		return "set extra_float_digits = 0"
	}
	return "set extra_float_digits = 3"
}

const (
	float4OID = 700
	float8OID = 701
)

// hash is the hash of one row of values.
func (d Dialect) hash(values []string) string {
	row := `(row(` + strings.Join(values, ", ") + `)::text collate "C")`
	if d.Fast {
		return `hashtextextended(` + row + `, 0)`
	}
	return `('x' || left(md5(` + row + `), 16))::bit(64)::bigint`
}

// hashQuery counts rows and adds up their hashes. The sum of bigint is numeric and so cannot overflow.
func (d Dialect) hashQuery(r rows) string {
	return fmt.Sprintf("select count(*), coalesce(sum(%s), 0)::text %s", d.hash(d.values(r)), r.from)
}

func (d Dialect) values(r rows) []string {
	values := make([]string, len(r.values))
	for i, value := range r.values {
		values[i] = d.text(value)
	}
	return values
}

// text is what of a value goes into the row's text.
func (d Dialect) text(v value) string {
	switch {
	case d.Bits && v.base == float4OID:
		return "float4send(" + v.sql + "::float4)"
	case d.Bits && v.base == float8OID:
		return "float8send(" + v.sql + "::float8)"
	}
	return v.sql
}
