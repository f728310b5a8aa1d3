package precheck

import (
	"context"
	"fmt"
	"slices"

	"github.com/pgdts/pgdts/workflows/migration"
)

// wrapper is a foreign server with what the target's role may do with its wrapper.
type wrapper struct {
	Server, Wrapper string
	Secret          bool // it, or somebody's mapping to it, has options that are left out
}

const readWrappers = `
select s.srvname::text, w.fdwname::text,
       s.srvoptions::text ~* '(password|passwd|passphrase|secret|token|credential)'
       or exists (select from pg_user_mappings m where m.srvid = s.oid and (m.umoptions is null or m.umoptions::text ~* '(password|passwd|passphrase|secret|token|credential)'))
from pg_foreign_server s join pg_foreign_data_wrapper w on w.oid = s.srvfdw
where not exists (select from pg_depend e where e.classid = s.tableoid and e.objid = s.oid and e.deptype = 'e')
order by 1`

const readUsableWrappers = `
select w.name from unnest($1::text[]) w (name) join pg_foreign_data_wrapper f on f.fdwname = w.name
where not has_foreign_data_wrapper_privilege(f.oid, 'usage')`

// foreignServers come with the whole database. Their secrets do not, and so neither do the tables behind them.
func foreignServers(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil || !c.Everything {
		return passed("a selection of schemas or tables brings none"), err
	}
	all, err := rows[wrapper](ctx, l.source, readWrappers)
	if err != nil || len(all) == 0 {
		return passed("none"), err
	}
	var wrappers, secret []string
	for _, w := range all {
		wrappers = append(wrappers, w.Wrapper)
		if w.Secret {
			secret = append(secret, w.Server)
		}
	}
	closed, err := rows[struct{ Name string }](ctx, l.target, readUsableWrappers, wrappers)
	if err != nil {
		return finding{}, err
	}
	if len(closed) > 0 {
		var named, grants []string
		for _, w := range closed {
			if !slices.Contains(named, w.Name) {
				named = append(named, w.Name)
				grants = append(grants, fmt.Sprintf("grant usage on foreign data wrapper %s to %s;", migration.Quote(w.Name), migration.Quote(l.target.role)))
			}
		}
		return l.unmade("-- on the target as a superuser:\n"+statements(grants),
			"role %s may not make servers of foreign data wrappers on the target: %s", l.target.role, list(named)), nil
	}
	if len(secret) > 0 {
		return notice("make the servers' user mappings on the target by hand after the migration",
			"passwords among the options of foreign servers and user mappings are not migrated, nor what holds them: %s", list(secret)), nil
	}
	return passed("%s", count(len(all), "server")), nil
}
