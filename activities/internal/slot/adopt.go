package slot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// adopt takes the slot that a person has made: the stream begins where it was confirmed. What the source writes into its
// log, and what it makes of a publication, is as it was at each change, so that publications and replica identities that
// came after the slot are too late for the changes before them (I6).
func (p *preparation) adopt(ctx context.Context, exists bool) (migration.LSN, error) {
	status, err := p.adoptable(ctx, exists)
	if err != nil {
		return 0, err
	}
	if err := p.record(ctx); err != nil {
		return 0, err
	}
	if err := failpoint.Hit(failpoint.PrepareRecorded); err != nil {
		return 0, err
	}
	if err := p.makeMarker(ctx); err != nil {
		return 0, err
	}
	for _, publication := range p.plan.publications {
		if err := p.publishBeside(ctx, publication); err != nil {
			return 0, err
		}
	}
	if err := p.mustHavePublished(ctx); err != nil {
		return 0, err
	}
	if err := p.recordStart(ctx, status.Confirmed, ""); err != nil {
		return 0, err
	}
	p.Logger.Info("adopted slot", zap.String(migration.KeySlot, p.plan.slot), zap.Stringer(migration.KeyLSN, status.Confirmed))
	return status.Confirmed, nil
}

// adoptable refuses a slot that cannot be read from, or whose changes cannot be applied.
func (p *preparation) adoptable(ctx context.Context, exists bool) (Status, error) {
	if !exists {
		return Status{}, p.refuse(migration.FaultSlotLost, "the source has no such slot",
			fmt.Sprintf("make it together with the snapshot that you restore: select pg_create_logical_replication_slot(%s, 'pgoutput')",
				migration.Literal(p.plan.slot)))
	}
	status, err := Inspect(ctx, p.source, p.plan.slot)
	if err != nil {
		return status, err
	}
	switch {
	case status.Plugin != "pgoutput" || !status.Here:
		err = p.refuse(migration.FaultSlotLost, fmt.Sprintf("it belongs to plugin %q and database %q", status.Plugin, status.Database),
			"name a slot of plugin pgoutput that was made in database "+p.Source.Database())
	case status.Temporary:
		err = p.refuse(migration.FaultSlotLost, "it is temporary: no other session can use it", "make a slot that stays")
	case status.ActivePID != 0:
		err = p.refuse(migration.FaultOther, fmt.Sprintf("process %d reads from it", status.ActivePID), "end what reads from it")
	case len(p.plan.identities) > 0:
		var statements []string
		for _, table := range p.plan.identities {
			statements = append(statements, "alter table only "+table.SQL()+" replica identity full")
		}
		err = p.refuse(migration.FaultDrift, fmt.Sprintf("%d tables need another replica identity, and changes that the slot holds were written without", len(statements)),
			first(statements)+"; then make the slot and the snapshot again")
	default:
		err = status.usable(p.plan.slot)
	}
	return status, err
}

func (p *preparation) refuse(kind migration.FaultKind, what, hint string) error {
	fault := migration.NewFault(kind, "adopt slot", p.plan.slot, errors.New(what), hint)
	fault.Side = migration.Source
	return fault
}

// first joins the first few of many statements.
func first(statements []string) string {
	const shown = 3
	if len(statements) > shown {
		return strings.Join(statements[:shown], "; ") + fmt.Sprintf("; … (%d in all)", len(statements))
	}
	return strings.Join(statements, "; ")
}

// publishBeside makes a publication at once with all its tables, so that there is no moment at which it has a part of
// them, and leaves one alone that stands: made anew, it would not have been there when the changes were made.
func (p *preparation) publishBeside(ctx context.Context, wanted publication) error {
	found, err := wanted.look(ctx, p.source)
	if err != nil {
		return p.Source.Fault("read publication", wanted.name, err)
	}
	name := migration.Quote(wanted.name)
	switch found.standing {
	case absent:
		statement := "create publication " + name
		if names := wanted.sqlNames(); len(names) > 0 {
			statement += " for table " + strings.Join(names, ", ")
		}
		if wanted.publish != "" {
			statement += " with (publish = " + migration.Literal(wanted.publish) + ")"
		}
		return wanted.run(ctx, p.Source, p.source, statement+"; comment on publication "+name+" is "+migration.Literal(ownMark))
	case markerless:
		return wanted.run(ctx, p.Source, p.source, wanted.addMarker())
	case otherwise:
		return p.refuse(migration.FaultDrift, "publication "+wanted.name+" is not as this definition needs it: "+found.difference,
			"drop it, run: "+wanted.prescription()+"; then make the slot and the snapshot again")
	case asWanted:
	}
	return nil
}

// publishedBefore compares the transactions that made the publications with the oldest one that was running when the
// slot began: what is older had ended by then.
const publishedBefore = `
select coalesce(bool_and(pg_catalog.age(x.xmin) > pg_catalog.age(s.catalog_xmin)), true)
from pg_catalog.pg_replication_slots s, (
    select p.xmin from pg_catalog.pg_publication p where p.pubname = any ($2)
    union all
    select r.xmin from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid
    where p.pubname = any ($2) and r.prrelid is distinct from (select c.oid` + findMarker + `)
) x
where s.slot_name = $1`

// peek decodes what the slot holds and forgets the answer.
const peek = `
select count(*) from pg_catalog.pg_logical_slot_peek_binary_changes($1, pg_catalog.pg_current_wal_lsn(), null,
    'proto_version', '1', 'publication_names', $2)`

// skipsMissing is the version that passes over changes from before a publication, and says nothing.
const skipsMissing = 180000

// mustHavePublished makes sure that the slot holds no change from before the publications: it would be an error of the
// stream or, since 18, be missing from it.
func (p *preparation) mustHavePublished(ctx context.Context) error {
	var before bool
	err := p.source.QueryRow(ctx, publishedBefore, p.plan.slot, p.plan.names()).Scan(&before)
	if err != nil || before {
		return p.Source.Fault("look at publications of slot", p.plan.slot, err)
	}
	if p.version < skipsMissing {
		var names []string
		for _, name := range p.plan.names() {
			names = append(names, migration.Quote(name))
		}
		var count int64
		err = p.source.QueryRow(ctx, peek, p.plan.slot, strings.Join(names, ",")).Scan(&count)
		if err == nil {
			return nil
		}
		if pg.SQLState(err) != "42704" { // undefined_object: the publication
			return p.Source.Fault("look at changes of slot", p.plan.slot, err)
		}
	}
	return p.refuse(migration.FaultDrift, "it may hold changes from before the publications, which the stream cannot bring",
		"the publications are there now: make the slot and the snapshot again")
}
