package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/workflows/migration"
)

// subscription is one that brings rows into a table of this database.
type subscription struct {
	Name, Schema, Table string
}

// readSubscriptions takes the name from a view that every role may read. Only the subscriptions of a database have
// tables in it.
const readSubscriptions = `
select distinct s.subname::text, n.nspname::text, c.relname::text
from pg_subscription_rel r
join pg_stat_subscription s on s.subid = r.srsubid
join pg_subscription e on e.subname = s.subname and e.subenabled
join pg_class c on c.oid = r.srrelid
join pg_namespace n on n.oid = c.relnamespace
where e.subdbid = (select d.oid from pg_database d where d.datname = current_database())
order by 1, 2, 3`

// into sorts subscriptions out that bring rows into other tables.
func (s session) into(ctx context.Context, tables []mapping.Table, name func(mapping.Table) migration.TableName) (subscribed, written []string, err error) {
	meant := map[migration.TableName]bool{}
	for _, table := range tables {
		meant[name(table)] = true
	}
	found, err := rows[subscription](ctx, s, readSubscriptions)
	for _, f := range found {
		table := migration.TableName{Schema: f.Schema, Name: f.Table}
		if !meant[table] {
			continue
		}
		written = append(written, fmt.Sprintf("%s (%s)", table, f.Name))
		if !slices.Contains(subscribed, f.Name) {
			subscribed = append(subscribed, f.Name)
		}
	}
	return subscribed, written, err
}

// sourceSubscriptions: what they bring is carried over as it arrives, until the cutover.
func sourceSubscriptions(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	_, written, err := l.source.into(ctx, tables, func(t mapping.Table) migration.TableName { return t.Name })
	if err != nil || len(written) == 0 {
		return passed("none"), err
	}
	return notice("", "subscriptions do not travel: before the cutover disable those that write into these tables, and set them up on the "+
		"target after it: %s", list(written)), nil
}

// targetSubscriptions: two that write the same rows overwrite each other.
func targetSubscriptions(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	subscribed, written, err := l.target.into(ctx, tables, func(t mapping.Table) migration.TableName { return t.Target })
	if err != nil || len(written) == 0 {
		return passed("none writes into these tables"), err
	}
	fixes := make([]string, len(subscribed))
	for i, name := range subscribed {
		fixes[i] = fmt.Sprintf("alter subscription %s disable;", migration.Quote(name))
	}
	return alert(statements(fixes), "subscriptions of the target write into the same tables: %s", list(written)), nil
}
