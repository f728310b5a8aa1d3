package precheck

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// What stands beside the tables and does not travel, or not as one might think.

type publication struct {
	Name      string
	Statement string
}

// readPublications writes each as a statement. Row filters, column lists and whole schemas (%[1]s, %[2]s) came with 15; what
// came with 11 and 13 is taken from the row as a whole.
const readPublications = `
select p.pubname::text, format('create publication %%I%%s with (publish = %%L%%s);', p.pubname,
    case when p.puballtables then ' for all tables' else coalesce(' for ' || m.members, '') end,
    concat_ws(', ', case when p.pubinsert then 'insert' end, case when p.pubupdate then 'update' end, case when p.pubdelete then 'delete' end,
        case when (to_jsonb(p) ->> 'pubtruncate')::boolean then 'truncate' end),
    case when (to_jsonb(p) ->> 'pubviaroot')::boolean then ', publish_via_partition_root' else '' end)
from pg_publication p
cross join lateral (
    select string_agg(x.member, ', ' order by x.member) as members
    from (select format('table only %%I.%%I', n.nspname, c.relname) || %[1]s as member
          from pg_publication_rel r join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace where r.prpubid = p.oid
          %[2]s) x
) m
where p.pubname !~ '^dts_sync_' order by 1`

const filtersAndColumns = `
coalesce((select format(' (%s)', string_agg(quote_ident(a.attname), ', ' order by a.attnum))
          from pg_attribute a where a.attrelid = r.prrelid and a.attnum = any (r.prattrs)), '')
|| coalesce(format(' where (%s)', pg_get_expr(r.prqual, r.prrelid)), '')`

const wholeSchemas = `
union all select format('tables in schema %I', n.nspname) from pg_publication_namespace s join pg_namespace n on n.oid = s.pnnspid where s.pnpubid = p.oid`

// publications belong to who reads them, and nobody reads them on the target yet.
func publications(ctx context.Context, l *look) (finding, error) {
	beside, more := "''", ""
	if l.source.version >= 150000 {
		beside, more = filtersAndColumns, wholeSchemas
	}
	all, err := rows[publication](ctx, l.source, fmt.Sprintf(readPublications, beside, more))
	if err != nil || len(all) == 0 {
		return passed("none"), err
	}
	var named, fixes []string
	for _, p := range all {
		named, fixes = append(named, p.Name), append(fixes, oneLine(p.Statement))
	}
	return notice("-- on the target after the cutover, where somebody subscribes there:\n"+statements(fixes),
		"publications are not migrated, and their subscribers go on reading the source: %s", list(named)), nil
}

const readCron = `
select case when to_regclass('cron.job') is null then 0
    else (xpath('/row/n/text()', query_to_xml('select count(*) as n from cron.job', false, true, '')))[1]::text::int end`

// cronJobs are rows of an extension's table, which says that they are the user's: they are copied with the rows. The
// scheduler looks at its table when a trigger tells it to, which is still while the migration writes.
func cronJobs(ctx context.Context, l *look) (finding, error) {
	n, err := value[int](ctx, l.source, readCron)
	if err != nil || n == 0 {
		return passed("none"), err
	}
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	job := migration.TableName{Schema: "cron", Name: "job"}
	for _, table := range tables {
		if table.Name == job && l.Spec.Has(migration.TypeFull) {
			return notice("-- on the target after the cutover, so that its scheduler reads them; before that it does so only when it is restarted:\n"+
				"update cron.job set active = active;", "pg_cron: %s: their rows are copied, and the target runs them when its scheduler reads them",
				count(n, "job")), nil
		}
	}
	return notice("make them on the target by cron.schedule after the cutover", "pg_cron: %s: they are not migrated", count(n, "job")), nil
}

type extensionTable struct {
	Schema, Name, Extension string
	Filled                  bool
}

// readExtensionTables lists the tables of extensions that no dump takes rows of.
const readExtensionTables = `
select n.nspname::text, c.relname::text, e.extname::text, c.reltuples > 0 or pg_relation_size(c.oid) > 0
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0 and d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'
join pg_extension e on e.oid = d.refobjid
where c.relkind = 'r' and c.oid <> all (coalesce(e.extconfig, '{}')) and` + ofUsers + ` order by 1, 2`

// extensionTables: an extension makes its tables with what it needs in them, and says which rows are the user's.
func extensionTables(ctx context.Context, l *look) (finding, error) {
	tables, err := l.tables()
	if err != nil {
		return finding{}, err
	}
	kept, err := rows[extensionTable](ctx, l.source, readExtensionTables)
	if err != nil {
		return finding{}, err
	}
	var copied, left []string
	for _, table := range tables {
		if table.Extension != "" {
			copied = append(copied, fmt.Sprintf("%s (%s)", table.Name, strings.TrimSpace(table.Extension+" "+table.Condition)))
		}
	}
	for _, k := range kept {
		if k.Filled {
			left = append(left, fmt.Sprintf("%s.%s (%s)", k.Schema, k.Name, k.Extension))
		}
	}
	var said []string
	if len(copied) > 0 {
		said = append(said, "rows of extensions' tables that the extensions call the user's are copied: "+list(copied))
	}
	if len(left) > 0 {
		said = append(said, "rows of extensions' own tables are what create extension puts there, and are not copied: "+list(left))
	}
	if len(said) == 0 {
		return passed("no extension has tables with rows"), nil
	}
	return notice("", "%s", strings.Join(said, "; ")), nil
}

const readLabelProviders = `
select provider::text from pg_seclabel union select provider::text from pg_shseclabel
where classoid = 'pg_database'::regclass and objoid = (select d.oid from pg_database d where d.datname = current_database()) order by 1`

// securityLabels are made by a library's leave. Where it is not loaded they are left out.
func securityLabels(ctx context.Context, l *look) (finding, error) {
	providers, err := rows[struct{ Name string }](ctx, l.source, readLabelProviders)
	if err != nil || len(providers) == 0 {
		return passed("none"), err
	}
	var absent []string
	for _, p := range providers {
		loaded, err := l.target.labels(ctx, p.Name)
		if err != nil {
			return finding{}, err
		}
		if !loaded {
			absent = append(absent, p.Name)
		}
	}
	if len(absent) > 0 {
		return notice("load the providers' libraries on the target by shared_preload_libraries, and restart it",
			"security labels are left out, because the target has not loaded their providers: %s", list(absent)), nil
	}
	return passed("the target has loaded the providers of all labels"), nil
}

// labels tries a provider out on a thing that every database has, and takes it back.
func (s session) labels(ctx context.Context, provider string) (bool, error) {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	_, err = tx.Exec(ctx, fmt.Sprintf("security label for %s on language plpgsql is null", migration.Quote(provider)))
	var said *pgconn.PgError
	switch {
	case err == nil:
		return true, nil
	case !errors.As(err, &said):
		return false, err
	}
	return said.Code != "22023", nil // not a provider that it knows; a role without the right to the language gets another
}

const readUnfilledViews = `
select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'm' and not c.relispopulated and` + ofUsers + ` and` + notOfExtension + ` order by 1, 2`

// unfilledViews stay as they are: nobody knows whether their queries end.
func unfilledViews(ctx context.Context, l *look) (finding, error) {
	c, err := l.facts.chosen()
	if err != nil {
		return finding{}, err
	}
	found, err := rows[migration.TableName](ctx, l.source, readUnfilledViews)
	found = slices.DeleteFunc(found, func(name migration.TableName) bool { return !c.means(name) })
	if err != nil || len(found) == 0 {
		return passed("none"), err
	}
	fixes := make([]string, len(found))
	for i, name := range found {
		fixes[i] = fmt.Sprintf("refresh materialized view %s;", name.SQL())
	}
	return notice("-- on the source, where they are wanted with rows:\n"+statements(fixes),
		"materialized views that were never filled stay empty: %s", list(names(found))), nil
}

const readTemporary = `
select count(*)::int from pg_class where relkind = 'r' and relpersistence = 't'`

// temporaryTables belong to sessions, and end with them.
func temporaryTables(ctx context.Context, l *look) (finding, error) {
	n, err := value[int](ctx, l.source, readTemporary)
	if err != nil || n == 0 {
		return passed("none"), err
	}
	return notice("", "%s of sessions: they are not migrated", count(n, "temporary table")), nil
}
