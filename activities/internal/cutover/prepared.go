package cutover

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/workflows/migration"
)

// PreparedFence is the fence for a role that may read the tables and not lock them: functions that an administrator makes
// and owns, which run with his rights (security definer), on a list of tables that is fixed in them, and which that role
// alone may call. They live in dts_sync of the source, and stay when the migration ends: they are his to drop, and Unfence
// needs them as long as the source is closed.
type PreparedFence struct {
	id  migration.ID
	sql string // with the role's name still open
}

//go:embed prepared.sql
var prepareFence string

// NewPreparedFence is about the selected tables, of which published are in the publications.
func NewPreparedFence(id migration.ID, tables []mapping.Table, published []migration.TableName) PreparedFence {
	var others []migration.TableName
	for _, table := range tables {
		if !slices.Contains(published, table.Name) {
			others = append(others, table.Name)
		}
	}
	return PreparedFence{id, strings.NewReplacer(
		"{short}", id.Short(), "{published}", textArray(published), "{others}", textArray(others),
		"{functions}", strings.Join(preparedFunctions(id), ", "),
	).Replace(prepareFence)}
}

func textArray(names []migration.TableName) string {
	slices.SortFunc(names, func(a, b migration.TableName) int { return strings.Compare(a.SQL(), b.SQL()) })
	literals := make([]string, len(names))
	for i, name := range names {
		literals[i] = migration.Literal(name.SQL())
	}
	return "array[" + strings.Join(literals, ", ") + "]::text[]"
}

func preparedFunctions(id migration.ID) []string {
	var functions []string
	for _, signature := range []string{"tables_%s()", "lock_%s(oid[])", "block_%s(text)", "disarm_%s()", "lift_%s(oid)"} {
		functions = append(functions, "dts_sync.fence_"+fmt.Sprintf(signature, id.Short()))
	}
	return functions
}

// findPrepared joins functions by their signatures in the catalog: to_regprocedure would be an error for who may not use
// the schema.
const findPrepared = `
pg_proc p join pg_namespace n on n.oid = p.pronamespace and n.nspname = 'dts_sync'
    on w.signature = n.nspname || '.' || p.proname || '(' || oidvectortypes(p.proargtypes) || ')'`

// SQL makes the fence for a role, or makes it anew.
func (f PreparedFence) SQL(role string) string {
	return strings.TrimSpace(strings.ReplaceAll(f.sql, "{role}", migration.Quote(role)))
}

// bodies are the sources of the functions, in the order of preparedFunctions.
func (f PreparedFence) bodies() []string {
	var bodies []string
	for i, part := range strings.Split(f.sql, "$pgdts$") {
		if i%2 == 1 {
			bodies = append(bodies, part)
		}
	}
	return bodies
}

const readPreparedFence = `
select coalesce(p.prosrc, ''),
       coalesce(has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute'), false),
       coalesce(p.prosecdef or p.prolang = (select oid from pg_language where lanname = 'sql'), false),
       coalesce(p.proowner::regrole::text, ''), coalesce(n.nspowner = p.proowner, false),
       coalesce(array(select c.oid::regclass::text from pg_class c
                      where c.oid = any ($2) and not pg_has_role(p.proowner, c.relowner, 'usage') order by 1), '{}')
from unnest($1::text[]) with ordinality w (signature, no)
left join` + findPrepared + `
order by w.no`

// Lacking says what keeps the fence from serving the role of the session, or "" when it stands as SQL makes it. tables are
// those that it is to close.
func (f PreparedFence) Lacking(ctx context.Context, conn *pgx.Conn, tables []uint32) (string, error) {
	rows, err := conn.Query(ctx, readPreparedFence, preparedFunctions(f.id), tables)
	if err != nil {
		return "", err
	}
	bodies, names := f.bodies(), preparedFunctions(f.id)
	var lacking string
	var source, owner string
	var callable, definer, alone bool
	var foreign []string
	no := 0
	_, err = pgx.ForEachRow(rows, []any{&source, &callable, &definer, &owner, &alone, &foreign}, func() error {
		name, body := names[no], bodies[no]
		no++
		switch {
		case lacking != "":
		case owner == "":
			lacking = "there is no function " + name
		case source != body || !definer:
			lacking = "function " + name + " is not as this definition needs it"
		case !alone:
			lacking = fmt.Sprintf("schema dts_sync does not belong to %s, who owns function %s: its owner could replace it", owner, name)
		case !callable:
			lacking = "the role may not call function " + name
		case len(foreign) > 0:
			lacking = fmt.Sprintf("function %s belongs to %s, who does not own %s", name, owner, some(foreign))
		}
		return nil
	})
	return lacking, err
}

const countPrepared = `
select count(*) from unnest($1::text[]) w (signature) join` + findPrepared

// leftPrepared is what is said of an administrator's functions that stay, or "" where there are none.
func leftPrepared(ctx context.Context, conn *pgx.Conn, id migration.ID) (string, error) {
	functions := preparedFunctions(id)
	var count int
	if err := conn.QueryRow(ctx, countPrepared, functions).Scan(&count); err != nil || count == 0 {
		return "", err
	}
	return "the fence's functions were made by an administrator and stay, because pgdts unfence may need them; dropped by: " +
		"drop function if exists " + strings.Join(functions, ", ") + "; " + slot.DropSchema, nil
}

const existsPrepared = `
select coalesce(bool_and(has_schema_privilege(n.oid, 'usage') and has_function_privilege(p.oid, 'execute')), false) and count(*) = $2
from unnest($1::text[]) w (signature) join` + findPrepared

// preparedFor reports whether the role may call the functions that an administrator made for a migration.
func preparedFor(ctx context.Context, conn *pgx.Conn, id migration.ID) (bool, error) {
	var exists bool
	functions := preparedFunctions(id)
	err := conn.QueryRow(ctx, existsPrepared, functions, len(functions)).Scan(&exists)
	return exists, err
}

const ownsAll = `
select coalesce(bool_and(pg_has_role(relowner, 'usage')), true) from pg_class where oid = any ($1)`

// usesPrepared decides how the fence is made: by the role itself where it owns all tables, because only an owner makes
// triggers that fire always; else by the administrator's functions where they are.
func (a *attempt) usesPrepared(ctx context.Context, tables []relation) (bool, error) {
	oids := make([]uint32, len(tables))
	for i, table := range tables {
		oids[i] = table.oid
	}
	var owns bool
	if err := a.source.QueryRow(ctx, ownsAll, oids).Scan(&owns); err != nil || owns {
		return false, err
	}
	return preparedFor(ctx, a.source, a.Spec.ID)
}

// lockPrepared asks for the same locks in the same order as lockStatement.
func lockPrepared(id migration.ID, tables []relation) string {
	oids := make([]string, len(tables))
	for i, table := range tables {
		oids[i] = fmt.Sprint(table.oid)
	}
	return fmt.Sprintf("select dts_sync.fence_lock_%s('{%s}')", id.Short(), strings.Join(oids, ","))
}

const readLocked = `
select relation from pg_locks
where pid = pg_backend_pid() and locktype = 'relation' and granted and mode = 'ShareRowExclusiveLock'`

// mustHold makes sure that the administrator's function has locked every table that is wanted: its list may be older than
// the plan. It runs in the session of the fence.
func (a *attempt) mustHold(ctx context.Context, wanted []relation) error {
	return a.mustCover(ctx, readLocked, wanted, "lock tables of", "does not lock")
}

const readBlocked = `
select t.tgrelid from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'pgdts_fence' and p.proname = $1 and t.tgenabled = 'A' and t.tgtype & 1 = 0`

// blockPrepared lets the administrator's function make the triggers, and makes sure that they are on every table.
func (a *attempt) blockPrepared(ctx context.Context) error {
	place := a.Target.Address()
	if _, host, found := strings.Cut(place, "@"); found {
		place = host
	}
	err := a.fence.exec(ctx, fmt.Sprintf("select dts_sync.fence_block_%s(%s)", a.Spec.ID.Short(), migration.Literal(place)))
	if err == nil {
		return a.mustCover(ctx, readBlocked, a.fence.tables, "close tables of", "does not close", movedFunction(a.Spec.ID))
	}
	if pg.SQLState(err) == "42501" {
		return notReady("close tables of", a.Source.Database(), err.Error(), prepareAgain)
	}
	return err
}

const prepareAgain = "let an administrator run the SQL that `pgdts check` prints for item FENCE_RIGHT, and cut over again"

// mustCover compares with the tables that a question in the fence's session answers.
func (a *attempt) mustCover(ctx context.Context, question string, wanted []relation, op, fails string, args ...any) error {
	var covered []uint32
	err := a.fence.do(ctx, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, question, args...)
		if err != nil {
			return err
		}
		covered, err = pgx.CollectRows(rows, pgx.RowTo[uint32])
		return err
	})
	if err != nil {
		return a.Source.Fault(op, a.Source.Database(), err)
	}
	var bare []string
	for _, table := range wanted {
		if !slices.Contains(covered, table.oid) {
			bare = append(bare, table.name.String())
		}
	}
	if len(bare) == 0 {
		return nil
	}
	return notReady(op, a.Source.Database(), fmt.Sprintf("the fence that an administrator prepared %s %s", fails, some(bare)), prepareAgain)
}
