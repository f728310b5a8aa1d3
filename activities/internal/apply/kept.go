package apply

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// readMarked lists tables of which the copy kept rows. Only the copy makes marks, so that who has none gets none.
const readMarked = `
select t.relid from dts_sync.tbl t
where t.migration = $1 and exists (select from dts_sync.kept k where k.migration = t.migration and k.relid = t.relid)`

func (a *Applier) readMarks(ctx context.Context) error {
	rows, err := a.conn.Query(ctx, readMarked, a.config.Lane.ID)
	if err != nil {
		return err
	}
	var relid uint32
	_, err = pgx.ForEachRow(rows, []any{&relid}, func() error {
		if t := a.tables[relid]; t != nil {
			t.marked = true
		}
		return nil
	})
	return err
}

// marks is a query that gives the mark of a row that the copy kept, if it has one.
func (t *table) marks(s side) string {
	return "select from dts_sync.kept as m where " + t.isMark(s)
}

func (t *table) isMark(s side) string {
	var values []string
	for _, i := range t.found {
		values = append(values, fmt.Sprintf("(%s)::%s", t.value(s, i), t.columns[i].typ))
	}
	return fmt.Sprintf("m.migration = %s and m.relid = %d and m.key = row(%s)::text", migration.Literal(string(t.id)), t.relid, strings.Join(values, ", "))
}

// buildUnmark forgets the mark of the key that rows are found by, or of their new key if they go there.
func (t *table) buildUnmark(moved bool) *prepared {
	if !moved {
		p := &prepared{at: t.key}
		p.sql = fmt.Sprintf("delete from dts_sync.kept as m using %s%s where %s", t.arrays(p), t.evaluate(before, t.found, false), t.isMark(before))
		return p
	}
	p := &prepared{at: t.key, image: t.takes(t.found, t.condition != "")}
	p.sql = fmt.Sprintf("delete from dts_sync.kept as m using %s%s%s where %s and %s", t.arrays(p), t.evaluate(before, t.found, false),
		t.evaluate(after, t.found, t.condition != ""), t.isMark(after), t.goes())
	return p
}
