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

// Object is one object of the schema: its SQL, what it needs, and how far it is.
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
       coalesce(message, ''), undo
from dts_sync.object
where migration = $1 and (cardinality($2::text[]) = 0 or section = any ($2)) and ($3::oid = 0 or relid = $3)
order by no`

// Objects reads the objects of some sections, or of all when none is named, in order of creation.
func (l Ledger) Objects(ctx context.Context, sections ...string) ([]Object, error) {
	return l.objects(ctx, sections, 0)
}

// ObjectsOf reads the objects of a section that belong to a table of the source.
func (l Ledger) ObjectsOf(ctx context.Context, section string, relid uint32) ([]Object, error) {
	return l.objects(ctx, []string{section}, relid)
}

func (l Ledger) objects(ctx context.Context, sections []string, relid uint32) ([]Object, error) {
	rows, err := l.Conn.Query(ctx, readObjects, l.ID, append([]string{}, sections...), relid)
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

// LockObject reads an object's state and keeps others from working on it until the transaction ends.
func (l Ledger) LockObject(ctx context.Context, tx pgx.Tx, no int) (state string, err error) {
	err = tx.QueryRow(ctx, "select state from dts_sync.object where migration = $1 and no = $2 for update", l.ID, no).Scan(&state)
	return state, err
}

const setObject = `
update dts_sync.object set state = $3, sqlstate = nullif($4, ''), message = nullif($5, '') where migration = $1 and no = $2`

// SetObject records how an object went, in the caller's transaction.
func (l Ledger) SetObject(ctx context.Context, tx pgx.Tx, no int, state, sqlstate, message string) error {
	_, err := tx.Exec(ctx, setObject, l.ID, no, state, sqlstate, message)
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
// refuses, as fenced, when a later attempt has entered the lane or another execution has the lease.
func (n Lane) GuardOpened(ctx context.Context, tx pgx.Tx) error {
	var newest, leased bool
	err := tx.QueryRow(ctx, guardOpened, n.ID, n.Name, n.Token, n.Run).Scan(&newest, &leased)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return migration.Faultf(migration.FaultFenced, "work in lane", n.Name, "the migration's ledger is gone")
	case err != nil:
		return err
	case !newest:
		return migration.Faultf(migration.FaultFenced, "work in lane", n.Name, "a later attempt has taken over")
	case !leased:
		return migration.Faultf(migration.FaultFenced, "work in lane", n.Name, "another execution has taken the lease")
	}
	return nil
}
