package precheck

import (
	"context"
	"fmt"
	"strings"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

const readOpened = `
select coalesce((select opened_at is not null from dts_sync.migration where id = $1), false)`

// readSettled: a stop that drained has left evidence without opening the target.
const readSettled = `
select coalesce((select opened_at is null and evidence is not null from dts_sync.migration where id = $1), false)`

type sharer struct {
	ID    string
	Alive bool
	Table string
}

// readSharers finds unfinished migrations that have planned the same tables of the target.
const readSharers = `
select m.id, m.lease_until > now(), min(t.target_schema || '.' || t.target_name)
from dts_sync.migration m
join dts_sync.tbl t on t.migration = m.id
join unnest($2::text[], $3::text[]) w (schema, name) on w.schema = t.target_schema and w.name = t.target_name
where m.id <> $1 and m.ended is null and m.opened_at is null
group by 1, 2 order by 1`

// targetLedger keeps an opened target from being written again, and two migrations from writing the same tables.
func targetLedger(ctx context.Context, l *look) (finding, error) {
	exists, err := ledger.Exists(ctx, l.target.conn)
	if err != nil || !exists {
		return passed("no migration is known to the target"), err
	}
	usable, err := l.ledgerUsable(ctx)
	if err != nil {
		return finding{}, err
	}
	role := migration.Quote(l.target.role)
	if !usable {
		return failed(fmt.Sprintf("grant usage, create on schema dts_sync to %s;\ngrant all on all tables in schema dts_sync to %s;", role, role),
			"role %s may not use the ledger in schema dts_sync of the target, which another role's migration made", l.target.role), nil
	}
	opened, err := value[bool](ctx, l.target, readOpened, l.Spec.ID)
	if err != nil {
		return finding{}, err
	}
	if opened {
		return failed(fmt.Sprintf("pgdts release %s -- then start again, into an empty database", l.Spec.ID),
			"this migration has opened the target by its cutover; it is never written again"), nil
	}
	settled, err := value[bool](ctx, l.target, readSettled, l.Spec.ID)
	if err != nil {
		return finding{}, err
	}
	if settled {
		return failed(fmt.Sprintf("pgdts release %s -- then drop the tables, or name another target", l.Spec.ID),
			"this migration was stopped after it had brought everything over: the tables exist, and the target is its user's"), nil
	}
	return l.sharers(ctx)
}

func (l *look) sharers(ctx context.Context) (finding, error) {
	c, err := l.facts.met()
	if err != nil {
		return finding{}, err
	}
	schemas, relations := targets(c.Tables)
	found, err := rows[sharer](ctx, l.target, readSharers, l.Spec.ID, schemas, relations)
	if err != nil || len(found) == 0 {
		return passed("no other migration writes these tables"), err
	}
	var others, fixes []string
	for _, s := range found {
		how := "is at work"
		if !s.Alive {
			how = "has not ended"
		}
		others = append(others, fmt.Sprintf("%s, which %s (%s)", s.ID, how, s.Table))
		fixes = append(fixes, "pgdts release "+s.ID)
	}
	return failed("let it end, or give it up: "+strings.Join(fixes, " && "),
		"another migration writes the same tables of the target: %s", list(others)), nil
}
