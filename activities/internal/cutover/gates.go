package cutover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/schema"
	"github.com/pgdts/pgdts/workflows/migration"
)

// gates waits, at most the deadline and steadyFor, until a fence would be short. It blocks nobody.
func (a *attempt) gates(ctx context.Context) error {
	a.say("", 0, 0)
	patience := a.Spec.Cutover.Deadline.D() + a.Spec.Cutover.SteadyFor.D()
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := a.gateObjects(ctx); err != nil {
		return err
	}
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	// Also for the sequences, which are set where no catalog is read any more.
	if err := a.readScope(ctx, a.source); err != nil {
		return err
	}
	if _, err := a.gateMembers(ctx, a.source, tables); err != nil {
		return err
	}
	if err := a.gateExact(ctx, waiting); err != nil {
		return err
	}
	if err := a.gateConflicts(ctx); err != nil {
		return err
	}
	if err := a.gateTransactions(ctx, waiting); err != nil {
		return err
	}
	err = a.follower.AwaitSteady(waiting, latencyMax, a.Spec.Cutover.SteadyFor.D())
	if ranOut(ctx, waiting, err) {
		return notReady("pass the gates for", string(a.Spec.ID),
			fmt.Sprintf("the latency was not below %s for %s; it is %s", latencyMax, a.Spec.Cutover.SteadyFor,
				a.follower.Latency().Round(100*time.Millisecond)),
			a.latencyHint())
	}
	return err
}

func (a *attempt) latencyHint() string {
	if a.Gate != nil && a.Gate.BytesPerSecond() > 0 {
		return "throttle.incremental holds the changes back: raise it or take it away, pgdts throttle " + a.Spec.ID.Short() +
			" --incremental-rows 0 --incremental-mb 0"
	}
	return "wait until the target has caught up, or cut over when the source has less to write"
}

// ranOut tells a gate's patience from the end of everything.
func ranOut(ctx, waiting context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && errors.Is(waiting.Err(), context.DeadlineExceeded)
}

func (a *attempt) gateObjects(ctx context.Context) error {
	pending, err := a.ledger().PendingObjects(ctx, schema.Before, schema.Key, schema.Index, schema.Constraint)
	if err != nil {
		return a.Target.Fault("read ledger", string(a.Spec.ID), err)
	}
	if pending > 0 {
		return notReady("pass the gates for", string(a.Spec.ID), fmt.Sprintf("%d objects are not created on the target", pending),
			"repair what keeps them from being created, or let them be skipped (schema.onObjectFailure: skip)")
	}
	return nil
}

func (a *attempt) gateExact(ctx, waiting context.Context) error {
	err := a.follower.AwaitExact(waiting)
	if !ranOut(ctx, waiting, err) {
		return err
	}
	return a.gateTables(ctx, "are not exact yet", "wait until the target has caught up",
		func(t ledger.Table) bool { return t.Stage != migration.StageExact })
}

// gateConflicts lets rows that were found different pass only where every value is compared under the fence. Where the
// target differs on purpose nothing is counted that would mean something.
func (a *attempt) gateConflicts(ctx context.Context) error {
	if a.Spec.Cutover.Verify == "hash" {
		return nil
	}
	return a.gateTables(ctx, "had rows that were not as they must be (table dts_sync.conflict on the target lists them)",
		"find out who else wrote to the target; then cut over with cutover.verify: hash, which proves the tables equal",
		func(t ledger.Table) bool { return t.Plain() && t.Conflicts > 0 })
}

// gateTables refuses when a table fits, and names the first few.
func (a *attempt) gateTables(ctx context.Context, what, hint string, fits func(ledger.Table) bool) error {
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	var names []string
	for _, table := range tables {
		if fits(table) {
			names = append(names, table.Name.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	return notReady("pass the gates for", some(names), fmt.Sprintf("%d tables %s", len(names), what), hint)
}

// some joins the first few of many names.
func some(names []string) string {
	const shown = 5
	if len(names) > shown {
		return strings.Join(names[:shown], ", ") + fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return strings.Join(names, ", ")
}

// oldTransactions are those that a fence would wait for, or a drain: they write, and they are old. Prepared ones are
// all named, since nobody knows whether anybody will ever end them.
const oldTransactions = `
select 'pid ' || pid || coalesce(' of ' || usename, '') || coalesce(' (' || nullif(application_name, '') || ')', '')
       || ', ' || coalesce(state, 'busy') || ' since ' || date_trunc('second', state_change)
       || ', transaction since ' || date_trunc('second', xact_start)
from pg_stat_activity
where datname = current_database() and backend_xid is not null and pid <> pg_backend_pid()
  and xact_start < clock_timestamp() - $1::interval and left(application_name, length($2)) <> $2
union all
select 'prepared transaction ' || quote_literal(gid) || coalesce(' of ' || owner, '') || ' since ' || date_trunc('second', prepared)
from pg_prepared_xacts where database = current_database()`

func (a *attempt) gateTransactions(ctx, waiting context.Context) error {
	own := "pgdts/" + a.Spec.ID.Short() + "/"
	for {
		found, err := pg.Strings(ctx, a.source, oldTransactions, a.TransactionAgeMax.String(), own)
		if err != nil {
			return a.Source.Fault("read transactions", "", err)
		}
		if len(found) == 0 {
			return nil
		}
		a.say("waiting for "+some(found), 0, 0)
		if !pause(waiting, time.Second) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return notReady("pass the gates for", string(a.Spec.ID), "old transactions write on the source: "+some(found),
				"let them end, or end them: select pg_terminate_backend(<pid>), rollback prepared '<gid>'")
		}
	}
}

// pause reports whether the time has passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
