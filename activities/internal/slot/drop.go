package slot

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Drop removes what the migration has on the source: its walsender, slot, publications, marker and the replica identities
// it set. All names derive from the id, so that it works without a ledger (Conn nil), except that identities are then
// left as they are. A second call finds nothing left to do. What could not be removed is returned as the statements that
// remove it on the source; the error is that of the source itself, when it cannot be reached or fails, and then owed
// holds the whole list; or ledger.ErrTaken, when l.Run has lost the migration to another execution, whose slot is not touched.
//
// What a person has made stays, and is said in owed: a slot, which holds back the source's log until it is dropped, and
// publications and the marker table that an administrator prepared for a role that may not make them. A source
// that does not answer is no error where the ledger says that nothing was made there.
func Drop(ctx context.Context, source *pg.Server, l ledger.Ledger) (owed []string, err error) {
	d := dropping{id: l.ID, server: source}
	if l.Conn != nil {
		if err := d.recorded(ctx, l); err != nil {
			return nil, pg.Fault(migration.Target, "read what is on the source of", string(l.ID), err)
		}
	}
	if d.conn, err = source.Connect(ctx, l.ID.Session("cleanup", 0)); err != nil {
		if d.nothing {
			return nil, nil
		}
		return d.everything(), err
	}
	defer pg.Close(d.conn)
	// Asked after connecting: who takes the migration over ends the sessions that were open before.
	if err := l.Holds(ctx); errors.Is(err, ledger.ErrTaken) {
		return nil, err
	} else if err != nil {
		return d.everything(), pg.Fault(migration.Target, "read the lease on", string(l.ID), err)
	}
	if err := d.slot(ctx); err != nil {
		return d.owed, err
	}
	if err := failpoint.Hit(failpoint.CleanupSlot); err != nil {
		return d.owed, err
	}
	for _, step := range []func(context.Context) error{d.publications, d.restore, d.marker} {
		if err := step(ctx); err != nil {
			return d.owed, err
		}
	}
	return d.owed, nil
}

type dropping struct {
	id         migration.ID
	server     *pg.Server
	conn       *pgx.Conn
	identities identities
	borrowed   string // a slot that a person has made; "" = ours
	nothing    bool   // the ledger knows that nothing was made on the source
	owed       []string
}

// recorded reads what the ledger says about the source.
func (d *dropping) recorded(ctx context.Context, l ledger.Ledger) error {
	exists, err := ledger.Exists(ctx, l.Conn)
	if err != nil || !exists {
		return err
	}
	known, err := l.Read(ctx)
	if errors.Is(err, ledger.ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	d.nothing = known.Slot == ""
	if known.Slot != "" && known.Slot != d.id.Slot() {
		d.borrowed = known.Slot
	}
	d.identities, err = readIdentities(ctx, l.Conn, l.ID)
	return err
}

// everything is owed when the source cannot be asked.
func (d *dropping) everything() []string {
	owed := []string{dropSlotStatement(d.id)}
	if d.borrowed != "" {
		owed[0] = borrowedText(d.borrowed)
	}
	for _, name := range []string{d.id.Publication(), d.id.PublicationInsertOnly()} {
		owed = append(owed, "drop publication if exists "+migration.Quote(name))
	}
	for _, table := range d.identities {
		owed = append(owed, table.restore())
	}
	return owed
}

func borrowedText(slot string) string {
	return fmt.Sprintf("slot %s is yours and was left: it holds back the source's log until you drop it: select pg_drop_replication_slot(%s)",
		slot, migration.Literal(slot))
}

func dropSlotStatement(id migration.ID) string {
	return fmt.Sprintf("select pg_drop_replication_slot('%s')", id.Slot())
}

// owe turns a refusal that only a person can lift into a statement for that person. A source that is gone stays an error.
func (d *dropping) owe(op, object, statement string, err error) error {
	if err == nil {
		return nil
	}
	classified := d.server.Fault(op, object, err)
	if fault, ok := migration.AsFault(classified); ok && fault.Kind != migration.FaultConnection {
		d.owed = append(d.owed, statement)
		return nil
	}
	return classified
}

func (d *dropping) slot(ctx context.Context) error {
	if d.borrowed != "" {
		return d.leave(ctx)
	}
	return d.owe("drop slot", d.id.Slot(), dropSlotStatement(d.id), dropSlot(ctx, d.conn, d.id))
}

// leave ends our walsender on a person's slot, and says that the slot is still there.
func (d *dropping) leave(ctx context.Context) error {
	if _, err := pg.Terminate(ctx, d.conn, d.id.SessionPrefix("stream")); err != nil {
		return d.server.Fault("end the stream of", d.borrowed, err)
	}
	_, err := Inspect(ctx, d.conn, d.borrowed)
	if fault, ok := migration.AsFault(err); ok && fault.Kind == migration.FaultSlotLost {
		return nil
	}
	if err != nil {
		return err
	}
	d.owed = append(d.owed, borrowedText(d.borrowed))
	return nil
}

const slotUser = `
select coalesce(s.active_pid, 0), coalesce(left(a.application_name, length($2)) = $2, false)
from pg_catalog.pg_replication_slots s left join pg_catalog.pg_stat_activity a on a.pid = s.active_pid
where s.slot_name = $1`

const (
	dropTries = 100
	dropPause = 100 * time.Millisecond
)

// errSlotUsed is a slot of ours that a stranger reads.
var errSlotUsed = errors.New("a process that is not ours uses the slot")

// dropSlot ends our walsender and drops the slot; no slot is fine. A terminated walsender takes a moment to let go.
func dropSlot(ctx context.Context, conn *pgx.Conn, id migration.ID) error {
	for try := 1; ; try++ {
		var pid int
		var ours bool
		err := conn.QueryRow(ctx, slotUser, id.Slot(), "pgdts/"+id.Short()+"/").Scan(&pid, &ours)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return nil
		case err != nil:
			return err
		case pid != 0 && ours:
			_, err = conn.Exec(ctx, "select pg_catalog.pg_terminate_backend($1)", pid)
		case pid == 0:
			_, err = conn.Exec(ctx, "select pg_catalog.pg_drop_replication_slot($1)", id.Slot())
			if err == nil {
				return nil
			}
		}
		busy := pid != 0 || pg.SQLState(err) == "55006"
		switch {
		case !busy:
			return err
		case try == dropTries && err == nil:
			return errSlotUsed
		case try == dropTries:
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(dropPause):
		}
	}
}

// readPublicationMark is asked first, because a source of a copy alone may be a server that takes no writes.
const readPublicationMark = `
select coalesce(pg_catalog.obj_description(oid, 'pg_publication'), '') from pg_catalog.pg_publication where pubname = $1`

func (d *dropping) publications(ctx context.Context) error {
	for _, name := range []string{d.id.Publication(), d.id.PublicationInsertOnly()} {
		var mark string
		statement := publication{name: name}.drop()
		switch err := d.conn.QueryRow(ctx, readPublicationMark, name).Scan(&mark); {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return d.server.Fault("look for publication", name, err)
		case mark != ownMark:
			d.owed = append(d.owed, leftText("publication "+name, statement))
			continue
		}
		err := execLocking(ctx, d.conn, lockTimeoutPublish, statement)
		if err := d.owe("drop publication", name, statement, err); err != nil {
			return err
		}
	}
	return nil
}

// stillFull leaves alone what somebody has changed since.
const stillFull = `
select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
               where n.nspname = $1 and c.relname = $2 and c.relreplident = 'f')`

func (d *dropping) restore(ctx context.Context) error {
	for _, table := range d.identities {
		var full bool
		if err := d.conn.QueryRow(ctx, stillFull, table.Schema, table.Name).Scan(&full); err != nil {
			return d.server.Fault("read replica identity of", table.String(), err)
		}
		if !full {
			continue
		}
		err := alterSoon(ctx, d.conn, table.restore())
		if err := d.owe("restore replica identity of", table.String(), table.restore(), err); err != nil {
			return err
		}
	}
	return nil
}

// othersUseMarker: the table stays while another migration of this source publishes it.
const othersUseMarker = `
select exists (select from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid
               where r.prrelid = (select c.oid` + findMarker + `) and p.pubname <> $1)`

// DropSchema removes dts_sync from the source, or leaves it to whatever else is in it, or to whose it is.
const DropSchema = `do $$ begin drop schema if exists dts_sync restrict; ` +
	`exception when dependent_objects_still_exist or insufficient_privilege then null; end $$`

func (d *dropping) marker(ctx context.Context) error {
	const statement = "drop table if exists dts_sync.marker"
	version, err := pg.Version(ctx, d.conn)
	if err != nil || version >= messagesSince {
		return d.server.Fault("read version", "", err)
	}
	found, err := lookMarker(ctx, d.conn)
	if err != nil {
		return d.server.Fault("look for table", markerName, err)
	}
	if !found.exists {
		return nil
	}
	err = pgx.BeginFunc(ctx, d.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('dts_sync'))"); err != nil {
			return err
		}
		var others bool
		if err := tx.QueryRow(ctx, othersUseMarker, d.id.Publication()).Scan(&others); err != nil {
			return err
		}
		if !found.ours && !others {
			d.owed = append(d.owed, leftText("table "+markerName, statement, DropSchema))
		}
		if !found.ours || others {
			_, err := tx.Exec(ctx, "delete from dts_sync.marker where id = pg_catalog.hashtext($1)", d.id.Short())
			return err
		}
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, DropSchema)
		return err
	})
	if !found.ours && pg.SQLState(err) == "42501" {
		return nil // its administrator left us no right to delete
	}
	return d.owe("drop table", markerName, statement, err)
}
