package precheck

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgdts/pgdts/workflows/migration"
)

const readEncoding = `select current_setting('server_encoding')`

func encoding(ctx context.Context, l *look) (finding, error) {
	from, err := value[string](ctx, l.source, readEncoding)
	if err != nil {
		return finding{}, err
	}
	to, err := value[string](ctx, l.target, readEncoding)
	if err != nil {
		return finding{}, err
	}
	fix := fmt.Sprintf("create database %s encoding 'UTF8' template template0; -- then name it in target",
		migration.Quote(l.target.server.Database()+"_utf8"))
	switch {
	case from == "SQL_ASCII":
		return alert("find out which encoding the source's text really has, and make it valid UTF-8 where it is not",
			"the source's encoding is SQL_ASCII: its text was never checked, and what is not UTF-8 stops the copy"), nil
	case to == "SQL_ASCII":
		return alert(fix, "the target's encoding is SQL_ASCII: it takes any bytes and checks none"), nil
	case from == to || to == "UTF8":
		return passed("source %s, target %s", from, to), nil
	}
	return failed(fix, "the target's encoding %s cannot hold everything that the source's, %s, can", to, from), nil
}

// readCollations lists those that come with the server and that columns, domains or indexes name, with what names them.
const readCollations = `
select distinct c.collname::text, u.catalog, u.oid
from pg_collation c
join pg_namespace s on s.oid = c.collnamespace
join (
    select a.attcollation as collation, 'pg_class' as catalog, a.attrelid as oid
    from pg_attribute a join pg_class r on r.oid = a.attrelid join pg_namespace n on n.oid = r.relnamespace
    where not a.attisdropped and` + ofUsers + `
    union
    select t.typcollation, 'pg_type', t.oid from pg_type t join pg_namespace n on n.oid = t.typnamespace where` + ofUsers + `
    union
    select i.oid, 'pg_class', x.indrelid
    from pg_index x join pg_class r on r.oid = x.indrelid join pg_namespace n on n.oid = r.relnamespace
    cross join unnest(x.indcollation::oid[]) i (oid)
    where` + ofUsers + `
) u on u.collation = c.oid
where s.nspname = 'pg_catalog' and c.collname not in ('default', 'C', 'POSIX')
order by 1`

type collationUse struct {
	Name, Catalog string
	OID           uint32
}

const readMissingCollations = `
select w.name from unnest($1::text[]) w (name)
where not exists (
    select from pg_collation c join pg_namespace n on n.oid = c.collnamespace
    where n.nspname = 'pg_catalog' and c.collname = w.name and c.collencoding in (-1, pg_char_to_encoding(getdatabaseencoding())))
order by 1`

func collations(ctx context.Context, l *look) (finding, error) {
	need, err := l.facts.needed()
	if err != nil {
		return finding{}, err
	}
	used, err := rows[collationUse](ctx, l.source, readCollations)
	if err != nil {
		return finding{}, err
	}
	wanted := []string{}
	for _, u := range used {
		if need.has(u.Catalog, u.OID) && !slices.Contains(wanted, u.Name) {
			wanted = append(wanted, u.Name)
		}
	}
	missing, err := rows[struct{ Name string }](ctx, l.target, readMissingCollations, wanted)
	if err != nil {
		return finding{}, err
	}
	if len(missing) > 0 {
		var lacking []string
		for _, m := range missing {
			lacking = append(lacking, m.Name)
		}
		return failed(collationFix(lacking), "the target lacks collations that the source uses: %s", list(lacking)), nil
	}
	if found, err := l.ownCollations(ctx, need); err != nil || found.state != "" {
		return found, err
	}
	return l.defaultCollations(ctx)
}

type ownCollation struct {
	Schema, Name     string
	OID              uint32
	Provider, Locale string
}

const readOwnCollations = `
select n.nspname::text, c.collname::text, c.oid, c.collprovider::text, coalesce(c.collcollate::text, '')
from pg_collation c join pg_namespace n on n.oid = c.collnamespace
where c.oid >= 16384 and coalesce(c.collcollate::text, '') not in ('C', 'POSIX') and` + ofUsers + ` and` + notOfExtension + ` order by 1, 2`

// readLocales asks by the locales that the target has imported from its host, however they are spelled.
const readLocales = `
select w.provider, w.locale from unnest($1::text[], $2::text[]) w (provider, locale)
where not exists (
    select from pg_collation c
    where c.collprovider::text = w.provider
      and (w.provider <> 'c' or lower(replace(c.collcollate::text, '-', '')) = lower(replace(w.locale, '-', ''))))`

// ownCollations are made of locales, which the target's host has or has not.
func (l *look) ownCollations(ctx context.Context, need needed) (finding, error) {
	own, err := rows[ownCollation](ctx, l.source, readOwnCollations)
	if err != nil {
		return finding{}, err
	}
	own = slices.DeleteFunc(own, func(c ownCollation) bool { return !need.has("pg_collation", c.OID) })
	providers, locales := []string{}, []string{}
	for _, c := range own {
		providers, locales = append(providers, c.Provider), append(locales, c.Locale)
	}
	type origin struct{ Provider, Locale string }
	missing, err := rows[origin](ctx, l.target, readLocales, providers, locales)
	if err != nil {
		return finding{}, err
	}
	var named []string
	for _, c := range own {
		if slices.Contains(missing, origin{c.Provider, c.Locale}) {
			named = append(named, fmt.Sprintf("%s.%s (%s)", c.Schema, c.Name, c.Locale))
		}
	}
	if len(named) == 0 {
		return finding{}, nil
	}
	return l.unmade("-- after their locales were installed on the target's host, and the server there was restarted:\n"+
		"select pg_import_system_collations('pg_catalog');", "the target has not imported the locales of these collations: %s", list(named)), nil
}

// collationFix: names such as de-x-icu come from ICU, others are locales of the operating system.
func collationFix(lacking []string) string {
	var versions, locales []string
	for _, name := range lacking {
		if strings.Contains(name, "-x-icu") || slices.Contains([]string{"unicode", "ucs_basic", "pg_c_utf8", "pg_unicode_fast"}, name) {
			versions = append(versions, name)
		} else {
			locales = append(locales, name)
		}
	}
	if len(versions) > 0 {
		return "use a target of the source's version that is built with ICU, for " + list(versions)
	}
	return "-- after these locales were installed on the target's host, and the server there was restarted: " + list(locales) +
		"\nselect pg_import_system_collations('pg_catalog');"
}

// readDefaultCollation takes columns that came with 15 and 17 from the row as a whole, so that one statement is right
// for every version.
const readDefaultCollation = `
select d.datcollate::text, d.datctype::text, coalesce(to_jsonb(d) ->> 'datlocprovider', 'c'),
       coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale', ''), coalesce(to_jsonb(d) ->> 'datcollversion', '')
from pg_database d where d.datname = current_database()`

type defaultCollation struct {
	Collate, Ctype, Provider, Locale, Version string
}

func (c defaultCollation) parts() []string {
	return slices.DeleteFunc([]string{"lc_collate " + c.Collate, "lc_ctype " + c.Ctype, "provider " + c.Provider, "locale " + c.Locale, "version " + c.Version},
		func(part string) bool { return strings.HasSuffix(part, " ") })
}

// defaultCollations differ often and harmlessly: each side compares by its own, and rows are told apart by equality. What
// may differ is the order of results, and what a range partition or a check over text takes.
func (l *look) defaultCollations(ctx context.Context) (finding, error) {
	from, err := rows[defaultCollation](ctx, l.source, readDefaultCollation)
	if err != nil {
		return finding{}, err
	}
	to, err := rows[defaultCollation](ctx, l.target, readDefaultCollation)
	if err != nil {
		return finding{}, err
	}
	a, b := strings.Join(from[0].parts(), ", "), strings.Join(to[0].parts(), ", ")
	if a != b {
		return notice("", "text is ordered by %s on the source and by %s on the target: results may come in another order", a, b), nil
	}
	return passed("%s on both sides", a), nil
}
