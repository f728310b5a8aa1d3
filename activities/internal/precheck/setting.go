package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

// configured is a parameter that somebody has set for a database, for a role, or for a role in a database.
type configured struct {
	Role       string // "" = of every role
	InDatabase bool
	Name       string
	Value      string
}

const readConfigured = `
select coalesce(r.rolname::text, ''), s.setdatabase <> 0, split_part(c.text, '=', 1), substr(c.text, strpos(c.text, '=') + 1)
from pg_db_role_setting s
left join pg_roles r on r.oid = s.setrole
cross join lateral unnest(s.setconfig) c (text)
where (s.setdatabase = (select d.oid from pg_database d where d.datname = current_database()) or s.setdatabase = 0)
  and (s.setrole = 0 or r.rolname is not null)
order by 1, 2, 3`

const readKnownParameters = `select name::text from pg_settings`

// listParameters hold names, each of which is quoted by itself (variable_is_guc_list_quote of pg_dump).
var listParameters = []string{
	"local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces",
	"unix_socket_directories",
}

func (c configured) statement(database string) string {
	object := "database " + migration.Quote(database)
	switch {
	case c.Role != "" && c.InDatabase:
		object = fmt.Sprintf("role %s in %s", migration.Quote(c.Role), object)
	case c.Role != "":
		object = "role " + migration.Quote(c.Role)
	}
	value := migration.Literal(c.Value)
	if slices.Contains(listParameters, strings.ToLower(c.Name)) {
		value = c.Value // the server keeps it as it has to be written
		if value == "" {
			value = "''"
		}
	}
	return fmt.Sprintf("alter %s set %s = %s;", object, parameter(c.Name), value)
}

// parameter quotes a parameter's name, part by part.
func parameter(name string) string {
	parts := strings.Split(name, ".")
	if len(parts) == 1 {
		return name
	}
	for i, part := range parts {
		parts[i] = migration.Quote(part)
	}
	return strings.Join(parts, ".")
}

// databaseSettings are kept in the catalog of the server, not of the database, and nobody's dump of a database holds them.
func databaseSettings(ctx context.Context, l *look) (finding, error) {
	here, err := rows[configured](ctx, l.source, readConfigured)
	if err != nil {
		return finding{}, err
	}
	there, err := rows[configured](ctx, l.target, readConfigured)
	if err != nil {
		return finding{}, err
	}
	known, err := rows[struct{ Name string }](ctx, l.target, readKnownParameters)
	if err != nil {
		return finding{}, err
	}
	roles, err := rows[struct{ Name string }](ctx, l.target, `select rolname::text from pg_roles`)
	if err != nil {
		return finding{}, err
	}
	is := func(name string) func(struct{ Name string }) bool {
		return func(k struct{ Name string }) bool { return strings.EqualFold(k.Name, name) }
	}
	var named, fixes []string
	for _, c := range here {
		alters := c.statement(l.target.server.Database())
		switch {
		case slices.Contains(there, c):
			continue
		case c.Role != "" && !slices.ContainsFunc(roles, is(c.Role)):
			fixes = append(fixes, "-- when the target has role "+oneLine(c.Role)+": "+oneLine(alters))
		case !strings.Contains(c.Name, ".") && !slices.ContainsFunc(known, is(c.Name)):
			fixes = append(fixes, "-- the target's version does not have it: "+oneLine(alters))
		default:
			fixes = append(fixes, alters)
		}
		named = append(named, c.title())
	}
	if len(named) == 0 {
		return passed("the target has all %s", count(len(here), "setting")), nil
	}
	return notice("-- on the target, before the applications come:\n"+statements(fixes),
		"settings of the database and of roles do not travel with it: %s", list(named)), nil
}

func (c configured) title() string {
	switch {
	case c.Role == "":
		return c.Name
	case c.InDatabase:
		return fmt.Sprintf("%s (role %s in the database)", c.Name, c.Role)
	}
	return fmt.Sprintf("%s (role %s)", c.Name, c.Role)
}
