package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

type installed struct {
	Name, Version, Schema string
	OID                   uint32
}

const readExtensions = `
select e.extname::text, e.extversion, n.nspname::text, e.oid from pg_extension e join pg_namespace n on n.oid = e.extnamespace
where e.extname <> 'plpgsql' order by 1`

type offer struct {
	Name      string
	Available bool
	Version   string // installed, or ""
	Default   string
	Trusted   bool
	Schema    string // where it is installed
	Moves     bool   // it may be moved to another one
}

// readOffers asks what the target has. A trusted extension (13) may be created by whoever may create in the database.
const readOffers = `
select w.name, a.name is not null, coalesce(a.installed_version, ''), coalesce(a.default_version, ''), coalesce((
    select bool_or(coalesce((to_jsonb(v) ->> 'trusted')::boolean, false) or not v.superuser)
    from pg_available_extension_versions v where v.name = w.name and v.version = a.default_version), false),
    coalesce(n.nspname, '')::text, coalesce(e.extrelocatable, false)
from unnest($1::text[]) w (name) left join pg_available_extensions a on a.name = w.name
left join pg_extension e on e.extname = w.name left join pg_namespace n on n.oid = e.extnamespace order by 1`

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
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	versions, homes := map[string]string{}, map[string]string{}
	var wanted []string
	for _, u := range used {
		versions[u.Name], homes[u.Name], wanted = u.Version, c.Names.Schema(u.Schema), append(wanted, u.Name)
	}
	offers, err := rows[offer](ctx, l.target, readOffers, wanted)
	if err != nil {
		return finding{}, err
	}
	var absent, forbidden, other []string
	var astray strays
	for _, o := range offers {
		switch {
		case !o.Available:
			absent = append(absent, o.Name)
		case o.Version == "" && !o.Trusted && !l.target.super:
			forbidden = append(forbidden, o.Name)
		case o.Version != "" && o.Schema != homes[o.Name]:
			astray.add(o, homes[o.Name])
		case (o.Version != "" && o.Version != versions[o.Name]) || (o.Version == "" && o.Default != versions[o.Name]):
			other = append(other, fmt.Sprintf("%s (%s there, %s here)", o.Name, versions[o.Name], o.Version+o.pending()))
		}
	}
	if len(astray.named) > 0 && len(absent) == 0 {
		return failed(statements(astray.fixes), "extensions are in other schemas on the target, where what names their types and functions "+
			"does not find them: %s", list(astray.named)), nil
	}
	return verdictOnExtensions(absent, forbidden, other, homes, len(used)), nil
}

// strays are extensions that are installed in another schema than the source's objects name.
type strays struct{ named, fixes []string }

func (s *strays) add(o offer, home string) {
	s.named = append(s.named, fmt.Sprintf("%s (in %s instead of %s)", o.Name, o.Schema, home))
	s.fixes = append(s.fixes, fmt.Sprintf("create schema if not exists %s;", migration.Quote(home)))
	if o.Moves {
		s.fixes = append(s.fixes, fmt.Sprintf("alter extension %s set schema %s;", migration.Quote(o.Name), migration.Quote(home)))
		return
	}
	s.fixes = append(s.fixes, fmt.Sprintf("drop extension %s; -- which fails while something uses it", migration.Quote(o.Name)),
		fmt.Sprintf("create extension %s with schema %s cascade;", migration.Quote(o.Name), migration.Quote(home)))
}

func (o offer) pending() string {
	if o.Version == "" {
		return o.Default
	}
	return ""
}

func verdictOnExtensions(absent, forbidden, other []string, homes map[string]string, n int) finding {
	switch {
	case len(absent) > 0:
		return failed("install the packages that hold them on the target's host (or allow them in the service's settings): "+
			strings.Join(absent, ", "), "extensions of the source are not available on the target: %s", list(absent))
	case len(forbidden) > 0:
		var fixes []string
		for _, name := range forbidden {
			home := migration.Quote(homes[name])
			if homes[name] != "pg_catalog" {
				fixes = append(fixes, fmt.Sprintf("create schema if not exists %s;", home))
			}
			fixes = append(fixes, fmt.Sprintf("create extension if not exists %s with schema %s cascade;", migration.Quote(name), home))
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

type language struct {
	Name string
	OID  uint32
}

const readLanguages = `
select c.lanname::text, c.oid from pg_language c where c.oid >= 16384 and` + notOfExtension + ` order by 1`

// readLackingLanguages counts what create language would make an extension of.
const readLackingLanguages = `
select w.name from unnest($1::text[]) w (name)
where not exists (select from pg_language l where l.lanname = w.name) and not exists (select from pg_available_extensions a where a.name = w.name)
order by 1`

// languages are extensions on newer servers, and are looked at as such; those that are not need a handler on the target.
func languages(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	all, err := rows[language](ctx, l.source, readLanguages)
	if err != nil {
		return finding{}, err
	}
	var wanted []string
	for _, language := range all {
		if need.has("pg_language", language.OID) {
			wanted = append(wanted, language.Name)
		}
	}
	if len(wanted) == 0 {
		return passed("none beside those that extensions bring"), nil
	}
	missing, err := rows[struct{ Name string }](ctx, l.target, readLackingLanguages, wanted)
	if err != nil {
		return finding{}, err
	}
	if len(missing) == 0 {
		return passed("the target has or can make %s", list(wanted)), nil
	}
	var lacking []string
	for _, m := range missing {
		lacking = append(lacking, m.Name)
	}
	return l.unmade("install the packages of these languages on the target's host, or drop them on the source",
		"the target does not have languages that functions are written in, and cannot make them: %s", list(lacking)), nil
}

const readEventTriggers = `
select e.evtname::text, format('create event trigger %I on %s%s execute procedure %I.%I();', e.evtname, e.evtevent,
    (select ' when tag in (' || string_agg(quote_literal(t.tag), ', ') || ')' from unnest(e.evttags) t (tag)), n.nspname, p.proname)
from pg_event_trigger e join pg_proc p on p.oid = e.evtfoid join pg_namespace n on n.oid = p.pronamespace
where not exists (select from pg_depend d where d.classid = e.tableoid and d.objid = e.oid and d.deptype = 'e')
order by 1`

// eventTriggers are made by superusers only. They belong to the database, so they come with all of it or not at all.
func eventTriggers(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil || !c.Everything {
		return passed("a selection of schemas or tables brings none"), err
	}
	found, err := rows[struct{ Name, Statement string }](ctx, l.source, readEventTriggers)
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	triggers, fixes := make([]string, len(found)), make([]string, len(found))
	for i, f := range found {
		triggers[i], fixes[i] = f.Name, oneLine(f.Statement)
	}
	if l.target.super {
		return passed("%d, and role %s may create them on the target", len(found), l.target.role), nil
	}
	return notice("-- on the target as a superuser, after the cutover, where the migration could not make them:\n"+statements(fixes),
		"event triggers need a superuser on the target, and role %s is none: what it may not make is left out: %s", l.target.role, list(triggers)), nil
}
