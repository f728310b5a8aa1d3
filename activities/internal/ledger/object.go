package ledger

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// States of an object. failed and pending ones are tried by every call; done and skipped ones never again.
const (
	ObjectPending = "pending"
	ObjectDone    = "done"
	ObjectFailed  = "failed"
	ObjectSkipped = "skipped"
)

// WasThere is the message of an object that is done without our doing: the target had one of its name, which is kept as it
// is and never dropped, emptied or altered.
const WasThere = "was there already"

// Object is one object of the schema: its SQL, what it needs, and how far it is. Schema, Name, DDL and Undo are in names of
// the target.
type Object struct {
	No       int   // order of creation
	DumpID   int   // what Depends of others refers to
	Depends  []int // DumpIDs of objects that must be done before
	Section  string
	Kind     string // pg_dump's description: TABLE, FK CONSTRAINT, …
	Schema   string
	Name     string
	Relid    uint32   // the table on the source that it belongs to, for keys and indexes; else 0
	Locks    []uint32 // tables on the source whose targets its DDL locks; objects with none in common may run at once
	DDL      string
	State    string
	SQLState string
	Message  string
	Hint     string // PostgreSQL's, where it had one
	Undo     string // what drops it again; "" where it goes with another object, or may simply be made twice
}

// Title is kind and name, for messages.
func (o Object) Title() string {
	if o.Schema == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Schema + "." + o.Name
}

var objectColumns = []string{
	"migration", "no", "dump_id", "depends", "section", "kind", "schema", "name", "relid", "locks", "ddl", "state", "message", "undo",
}

// AddObjects writes the objects of a schema, in the caller's transaction.
func (l Ledger) AddObjects(ctx context.Context, tx pgx.Tx, objects []Object) error {
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"dts_sync", "object"}, objectColumns,
		pgx.CopyFromSlice(len(objects), func(i int) ([]any, error) {
			o := objects[i]
			return []any{
				string(l.ID), int32(o.No), int32(o.DumpID), int32s(o.Depends), o.Section, o.Kind, o.Schema, o.Name,
				o.Relid, append([]uint32{}, o.Locks...), o.DDL, o.State, o.Message, o.Undo,
			}, nil
		}))
	return err
}

func int32s(numbers []int) []int32 {
	narrow := make([]int32, len(numbers))
	for i, n := range numbers {
		narrow[i] = int32(n)
	}
	return narrow
}

const readObjects = `
select no, dump_id, depends, section, kind, schema, name, coalesce(relid, 0), locks, ddl, state, coalesce(sqlstate, ''),
       coalesce(message, ''), coalesce(hint, ''), undo
from dts_sync.object
where migration = $1`

const (
	ofSections = ` and (cardinality($2::text[]) = 0 or section = any ($2)) order by no`
	ofTable    = ` and section = $2 and relid = $3 order by no`
	ofTables   = ` and section = any ($2) and relid = any ($3) order by no`
)

// Objects reads the objects of some sections, or of all when none is named, in order of creation.
func (l Ledger) Objects(ctx context.Context, sections ...string) ([]Object, error) {
	return l.objects(ctx, readObjects+ofSections, append([]string{}, sections...))
}

// ObjectsOf reads the objects of a section that belong to a table of the source.
func (l Ledger) ObjectsOf(ctx context.Context, section string, relid uint32) ([]Object, error) {
	return l.objects(ctx, readObjects+ofTable, section, relid)
}

// ObjectsOfTables reads the objects of some sections that belong to several tables of the source.
func (l Ledger) ObjectsOfTables(ctx context.Context, sections []string, relids []uint32) ([]Object, error) {
	return l.objects(ctx, readObjects+ofTables, sections, relids)
}

func (l Ledger) objects(ctx context.Context, sql string, args ...any) ([]Object, error) {
	rows, err := l.Conn.Query(ctx, sql, append([]any{l.ID}, args...)...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Object])
}

// ObjectStates tells the state of every object by its DumpID.
func (l Ledger) ObjectStates(ctx context.Context) (map[int]string, error) {
	rows, err := l.Conn.Query(ctx, "select dump_id, state from dts_sync.object where migration = $1", l.ID)
	if err != nil {
		return nil, err
	}
	states := map[int]string{}
	var id int
	var state string
	_, err = pgx.ForEachRow(rows, []any{&id, &state}, func() error { states[id] = state; return nil })
	return states, err
}

// HasObjects reports whether the schema was read already.
func (l Ledger) HasObjects(ctx context.Context) (bool, error) {
	var has bool
	err := l.Conn.QueryRow(ctx, "select exists (select from dts_sync.object where migration = $1)", l.ID).Scan(&has)
	return has, err
}

// KeptObjects are the DumpIDs of objects, other than schemas, that were on the target already.
func (l Ledger) KeptObjects(ctx context.Context) (map[int]bool, error) {
	rows, err := l.Conn.Query(ctx, "select dump_id from dts_sync.object where migration = $1 and kind <> 'SCHEMA' and state = 'done' and message = $2",
		l.ID, WasThere)
	if err != nil {
		return nil, err
	}
	kept := map[int]bool{}
	var id int
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error { kept[id] = true; return nil })
	return kept, err
}

const readMade = `
select schema, name from dts_sync.object
where migration = $1 and kind = 'TABLE' and state = 'done' and message is distinct from $2`

// Made lists the tables that this migration has created, by their names on the target; whether they are there still is
// not asked.
func (l Ledger) Made(ctx context.Context) (map[migration.TableName]bool, error) {
	rows, err := l.Conn.Query(ctx, readMade, l.ID, WasThere)
	if err != nil {
		return nil, err
	}
	made := map[migration.TableName]bool{}
	var name migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&name.Schema, &name.Name}, func() error { made[name] = true; return nil })
	return made, err
}

// IndexNames lists the indexes that the schema has, by their names on the target, whatever became of them.
func (l Ledger) IndexNames(ctx context.Context) (map[migration.TableName]bool, error) {
	rows, err := l.Conn.Query(ctx, "select schema, name from dts_sync.object where migration = $1 and kind = 'INDEX'", l.ID)
	if err != nil {
		return nil, err
	}
	known := map[migration.TableName]bool{}
	var name migration.TableName
	_, err = pgx.ForEachRow(rows, []any{&name.Schema, &name.Name}, func() error { known[name] = true; return nil })
	return known, err
}

const readObjectStatuses = `
select no, section, kind, case when schema = '' then name else schema || '.' || name end, state, ddl, coalesce(sqlstate, ''),
       coalesce(message, ''), coalesce(hint, '')
from dts_sync.object
where migration = $1 and (cardinality($2::text[]) = 0 or state = any ($2))
order by case state when 'failed' then 0 when 'skipped' then 1 when 'pending' then 2 else 3 end, no
limit nullif($3::int, 0)`

// ObjectStatuses tells how objects in some states, or in all when none is named, went: failed ones first, then those left
// out, each in order of creation. limit 0 = all.
func (l Ledger) ObjectStatuses(ctx context.Context, limit int, states ...string) ([]migration.SchemaObject, error) {
	rows, err := l.Conn.Query(ctx, readObjectStatuses, l.ID, append([]string{}, states...), limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[migration.SchemaObject])
}

const countStates = `
select count(*) filter (where state = 'pending'), count(*) filter (where state = 'done'),
       count(*) filter (where state = 'failed'), count(*) filter (where state = 'skipped')
from dts_sync.object where migration = $1`

// ddlMax bounds what a status carries of each object's SQL, in characters.
const ddlMax = 2000

// ObjectStatus counts all objects, and tells of the first that failed or were left out.
func (l Ledger) ObjectStatus(ctx context.Context) (migration.ObjectStatus, error) {
	var status migration.ObjectStatus
	err := l.Conn.QueryRow(ctx, countStates, l.ID).Scan(&status.Pending, &status.Done, &status.Failed, &status.Skipped)
	if err != nil {
		return status, err
	}
	status.Failures, err = l.ObjectStatuses(ctx, migration.ObjectFailuresMax, ObjectFailed, ObjectSkipped)
	for i := range status.Failures {
		failure := &status.Failures[i]
		if ddl := []rune(failure.DDL); len(ddl) > ddlMax {
			failure.DDL = string(ddl[:ddlMax]) + "…"
		}
	}
	return status, err
}

// LockObjects is LockObject for several. It returns the state of each by number.
func (l Ledger) LockObjects(ctx context.Context, tx pgx.Tx, numbers []int) (map[int]string, error) {
	rows, err := tx.Query(ctx, "select no, state from dts_sync.object where migration = $1 and no = any ($2) order by no for update",
		l.ID, int32s(numbers))
	if err != nil {
		return nil, err
	}
	states := make(map[int]string, len(numbers))
	var no int
	var state string
	_, err = pgx.ForEachRow(rows, []any{&no, &state}, func() error { states[no] = state; return nil })
	return states, err
}

// FinishObjects records that objects were created, in the transaction that created them.
func (l Ledger) FinishObjects(ctx context.Context, tx pgx.Tx, numbers []int) error {
	_, err := tx.Exec(ctx, `update dts_sync.object set state = 'done', sqlstate = null, message = null, hint = null
		where migration = $1 and no = any ($2)`, l.ID, int32s(numbers))
	return err
}

const skipObjects = `
update dts_sync.object set state = 'skipped', message = $3
where migration = $1 and state in ('pending', 'failed')
  and (no::text = any ($2) or kind || ' ' || case when schema = '' then name else schema || '.' || name end = any ($2))
returning no, kind, schema, name`

// SkipObjects leaves out objects that are not done, named by title or number, in the caller's guarded transaction. It
// returns those that were not left out before.
func (l Ledger) SkipObjects(ctx context.Context, tx pgx.Tx, named []string, message string) ([]Object, error) {
	rows, err := tx.Query(ctx, skipObjects, l.ID, named, message)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o Object, err error) {
		return o, row.Scan(&o.No, &o.Kind, &o.Schema, &o.Name)
	})
}

// LockObject reads an object's state and keeps others from working on it until the transaction ends.
func (l Ledger) LockObject(ctx context.Context, tx pgx.Tx, no int) (state string, err error) {
	err = tx.QueryRow(ctx, "select state from dts_sync.object where migration = $1 and no = $2 for update", l.ID, no).Scan(&state)
	return state, err
}

const setObject = `
update dts_sync.object set state = $3, sqlstate = nullif($4, ''), message = nullif($5, ''), hint = nullif($6, '')
where migration = $1 and no = $2`

// SetObject records how an object went, in the caller's transaction.
func (l Ledger) SetObject(ctx context.Context, tx pgx.Tx, no int, state, sqlstate, message string) error {
	return l.SetOutcome(ctx, tx, Object{No: no, State: state, SQLState: sqlstate, Message: message})
}

// SetOutcome is SetObject with what the object's State, SQLState, Message and Hint say.
func (l Ledger) SetOutcome(ctx context.Context, tx pgx.Tx, o Object) error {
	_, err := tx.Exec(ctx, setObject, l.ID, o.No, o.State, o.SQLState, o.Message, o.Hint)
	return err
}

const countObjects = `
select count(*) filter (where state = 'done'), count(*) filter (where state = 'failed'), count(*) filter (where state = 'skipped')
from dts_sync.object
where migration = $1 and (cardinality($2::text[]) = 0 or section = any ($2))`

// CountObjects counts the objects of some sections, or of all, by outcome. Pending ones are in none of the counts.
func (l Ledger) CountObjects(ctx context.Context, sections ...string) (migration.ObjectCounts, error) {
	var counts migration.ObjectCounts
	err := l.Conn.QueryRow(ctx, countObjects, l.ID, append([]string{}, sections...)).Scan(&counts.Done, &counts.Failed, &counts.Skipped)
	return counts, err
}

// PendingObjects counts the objects of some sections that were not created yet.
func (l Ledger) PendingObjects(ctx context.Context, sections ...string) (int, error) {
	var n int
	err := l.Conn.QueryRow(ctx, `select count(*) from dts_sync.object
		where migration = $1 and section = any ($2) and state in ('pending', 'failed')`, l.ID, sections).Scan(&n)
	return n, err
}

const guardOpened = `
select l.token = $3, m.run = $4
from dts_sync.lane l join dts_sync.migration m on m.id = l.migration
where l.migration = $1 and l.lane = $2
for key share of m, l`

// GuardOpened is Guard for the one kind of work that is left after the opening and touches no row of the user's: it
// refuses, as replaced or fenced, when a later attempt has entered the lane or another execution has the lease.
func (n Lane) GuardOpened(ctx context.Context, tx pgx.Tx) error {
	var newest, leased bool
	err := tx.QueryRow(ctx, guardOpened, n.ID, n.Name, n.Token, n.Run).Scan(&newest, &leased)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return migration.Faultf(migration.FaultFenced, "work in lane", n.Name, "the migration's ledger is gone")
	case err != nil:
		return err
	case !newest:
		return migration.Faultf(migration.FaultReplaced, "work in lane", n.Name, "a later attempt has taken over")
	case !leased:
		return migration.Faultf(migration.FaultFenced, "work in lane", n.Name, "another execution has taken the lease")
	}
	return nil
}
