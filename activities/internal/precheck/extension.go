package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

type installed struct {
	Name, Version string
	OID           uint32
}

const readExtensions = `select extname::text, extversion, oid from pg_extension where extname <> 'plpgsql' order by 1`

type offer struct {
	Name      string
	Available bool
	Version   string // installed, or ""
	Default   string
	Trusted   bool
}

// readOffers asks what the target has. A trusted extension (13) may be created by whoever may create in the database.
const readOffers = `
select w.name, a.name is not null, coalesce(a.installed_version, ''), coalesce(a.default_version, ''), coalesce((
    select bool_or(coalesce((to_jsonb(v) ->> 'trusted')::boolean, false) or not v.superuser)
    from pg_available_extension_versions v where v.name = w.name and v.version = a.default_version), false)
from unnest($1::text[]) w (name) left join pg_available_extensions a on a.name = w.name order by 1`

func extensions(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	used, err := rows[installed](ctx, l.source, readExtensions)
	if err != nil {
		return finding{}, err
	}
	used = slices.DeleteFunc(used, func(e installed) bool { return !need.has("pg_extension", e.OID) })
	versions := map[string]string{}
	var wanted []string
	for _, u := range used {
		versions[u.Name], wanted = u.Version, append(wanted, u.Name)
	}
	offers, err := rows[offer](ctx, l.target, readOffers, wanted)
	if err != nil {
		return finding{}, err
	}
	var absent, forbidden, other []string
	for _, o := range offers {
		switch {
		case !o.Available:
			absent = append(absent, o.Name)
		case o.Version == "" && !o.Trusted && !l.target.super:
			forbidden = append(forbidden, o.Name)
		case (o.Version != "" && o.Version != versions[o.Name]) || (o.Version == "" && o.Default != versions[o.Name]):
			other = append(other, fmt.Sprintf("%s (%s there, %s here)", o.Name, versions[o.Name], o.Version+o.pending()))
		}
	}
	return verdictOnExtensions(absent, forbidden, other, len(used)), nil
}

func (o offer) pending() string {
	if o.Version == "" {
		return o.Default
	}
	return ""
}

func verdictOnExtensions(absent, forbidden, other []string, n int) finding {
	switch {
	case len(absent) > 0:
		return failed("install the packages that hold them on the target's host (or allow them in the service's settings): "+
			strings.Join(absent, ", "), "extensions of the source are not available on the target: %s", list(absent))
	case len(forbidden) > 0:
		fixes := make([]string, len(forbidden))
		for i, name := range forbidden {
			fixes[i] = fmt.Sprintf("create extension if not exists %s cascade;", migration.Quote(name))
		}
		return alert("-- as a superuser, in the target database:\n"+statements(fixes),
			"only a superuser, or a role that the service favours, may create these extensions on the target: %s", list(forbidden))
	case len(other) > 0:
		return notice("", "extensions have another version on the target: %s", list(other))
	case n == 0:
		return passed("none are used")
	}
	return passed("all %d are available on the target", n)
}

const readEventTriggers = `select evtname::text from pg_event_trigger order by 1`

// eventTriggers are made by superusers only. They belong to the database, so they come with all of it or not at all.
func eventTriggers(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil || !c.Everything {
		return passed("a selection of schemas or tables brings none"), err
	}
	found, err := rows[struct{ Name string }](ctx, l.source, readEventTriggers)
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	triggers := make([]string, len(found))
	for i, f := range found {
		triggers[i] = f.Name
	}
	if l.target.super {
		return passed("%d, and role %s may create them on the target", len(found), l.target.role), nil
	}
	return notice("create them on the target as a superuser, after the cutover",
		"event triggers need a superuser on the target, and role %s is none: %s", l.target.role, list(triggers)), nil
}
