package cutover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/compare"
	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// recopied is the method of a verdict on a table that was copied again under the fence.
const recopied = "recopied"

// verify compares the tables, after copying again those whose updates and deletes the stream does not carry.
func (a *attempt) verify(ctx context.Context) error {
	a.at(stepVerify)
	a.say("", 0, 0)
	tables, err := a.ledger().Tables(ctx)
	if err != nil {
		return a.Target.Fault("read tables of", string(a.Spec.ID), err)
	}
	late, lateVerdicts, err := a.settleMembers(ctx, tables)
	if err != nil {
		return err
	}
	if a.Spec.FromNow() {
		a.evidence.Verified = string(compare.MethodNone)
		a.note("nothing was compared: the target was given the changes from one moment on, and not the rows before them")
		if err := a.noteUnseen(ctx, tables); err != nil {
			return err
		}
		return failpoint.Hit(failpoint.CutoverVerified)
	}
	streamed, keyless := split(tables)
	verdicts, err := a.settleKeyless(ctx, keyless)
	if err != nil {
		return err
	}
	others, err := a.compare(ctx, streamed, compare.Method(a.Spec.Cutover.Verify))
	if err != nil {
		return err
	}
	a.evidence.Verified = string(compare.MethodOf(others))
	if len(streamed) == 0 {
		a.evidence.Verified = string(compare.MethodOf(verdicts))
	}
	if a.Spec.Cutover.Verify == string(compare.MethodAuto) {
		a.noteCounted(others)
	}
	a.noteUncompared(others)
	if err := a.judge(ctx, slices.Concat(streamed, keyless, late), slices.Concat(others, verdicts, lateVerdicts)); err != nil {
		return err
	}
	return failpoint.Hit(failpoint.CutoverVerified)
}

// split tells tables whose every change is in the stream from those that may have changed unseen, and could be copied
// again: what holds rows of others too, or is given a part of the changes, can not.
func split(tables []ledger.Table) (streamed, keyless []ledger.Table) {
	for _, table := range tables {
		switch {
		case table.Mode == migration.ModeRoot:
		case (table.Unlogged || table.Published != catalog.PublishedAll) && promise(table) == compare.Equal:
			keyless = append(keyless, table)
		default:
			streamed = append(streamed, table)
		}
	}
	return streamed, keyless
}

func promise(table ledger.Table) compare.Promise {
	promise, _ := compare.PromiseOf(table.Table)
	return promise
}

// compare leaves a quarter of the deadline to what comes after it.
func (a *attempt) compare(ctx context.Context, tables []ledger.Table, method compare.Method) ([]migration.Verdict, error) {
	definitions := make([]mapping.Table, len(tables))
	for i, table := range tables {
		definitions[i] = table.Table
	}
	budget := a.Spec.Cutover.Deadline.D()
	if !a.blocked.IsZero() {
		budget -= time.Since(a.blocked)
	}
	return compare.Verify(ctx, compare.Config{
		Source: a.Source, Target: a.Target, Session: a.lane.Session(), ID: a.Spec.ID, Tables: definitions, Method: method,
		Parallel: a.Spec.Parallel.Copy, Budget: max(budget*3/4, time.Millisecond),
		Holder: a.fence.holder(),
		Report: func(done, total int) { a.say("", done, total) },
	})
}

func (a *attempt) noteCounted(verdicts []migration.Verdict) {
	counted := 0
	for _, verdict := range verdicts {
		if verdict.Method == string(compare.MethodCounts) {
			counted++
		}
	}
	if counted > 0 {
		a.note("%d of %d tables were compared by their number of rows only: hashing them did not fit the deadline of %s",
			counted, len(verdicts), a.Spec.Cutover.Deadline)
	}
}

// noteUncompared says why, once for each reason.
func (a *attempt) noteUncompared(verdicts []migration.Verdict) {
	tables := map[string][]string{}
	for _, verdict := range verdicts {
		if verdict.Reason != "" {
			tables[verdict.Reason] = append(tables[verdict.Reason], verdict.Table)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(tables)) {
		a.note("%d tables were not compared (%s): %s", len(tables[reason]), reason, some(tables[reason]))
	}
}

// judge records the verdicts, and gives up when a table differs. verdicts are empty or as long as tables, in their order,
// but for those that were not compared.
func (a *attempt) judge(ctx context.Context, tables []ledger.Table, verdicts []migration.Verdict) error {
	byName := map[string]uint32{}
	for _, table := range tables {
		byName[table.Name.String()] = table.OID
	}
	texts := map[uint32]string{}
	var differ []string
	for _, verdict := range verdicts {
		text := verdict.Method
		if !verdict.Equal {
			text = "differs"
			differ = append(differ, difference(verdict))
		}
		texts[byName[verdict.Table]] = text
		if !verdict.Equal || verdict.Method == recopied || verdict.Kept > 0 {
			a.evidence.Verdicts = append(a.evidence.Verdicts, verdict)
		}
	}
	if err := a.lane.RecordVerdicts(ctx, a.target, texts); err != nil {
		return a.Target.Fault("record verdicts of", string(a.Spec.ID), err)
	}
	if len(differ) > 0 {
		return notReady("verify", some(differ), fmt.Sprintf("%d tables differ under the fence", len(differ)),
			"find out who else wrote to the target; `pgdts release` and a new run copy again")
	}
	return nil
}

func difference(v migration.Verdict) string {
	if v.Method == string(compare.MethodSubset) {
		return fmt.Sprintf("%s (of %d rows of the source the target lacks %d and has %d otherwise)", v.Table, v.SourceRows, v.Missing, v.Different)
	}
	return fmt.Sprintf("%s (%d rows on the source, %d on the target, by %s)", v.Table, v.SourceRows, v.TargetRows, v.Method)
}

// settleKeyless makes tables equal whose updates and deletes are not in the stream: those that the source's counters, or
// a comparison of every value, show to have changed are copied again.
func (a *attempt) settleKeyless(ctx context.Context, tables []ledger.Table) ([]migration.Verdict, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	counters, err := a.writeCounters(ctx, tables)
	if err != nil {
		return nil, err
	}
	var dirty, unknown []ledger.Table
	for _, table := range tables {
		same := counters[table.OID] == table.WriteBase || table.WriteBase < 0 // the source failed over, and counted anew
		if table.Published == catalog.PublishedInsert && !table.Unlogged && same {
			unknown = append(unknown, table)
		} else {
			dirty = append(dirty, table)
		}
	}
	compared, err := a.compare(ctx, unknown, compare.MethodHash)
	if err != nil {
		return nil, err
	}
	var verdicts []migration.Verdict
	for i, verdict := range compared {
		if verdict.Equal {
			verdicts = append(verdicts, verdict)
		} else {
			dirty = append(dirty, unknown[i])
		}
	}
	for i, table := range dirty {
		a.say("copying "+table.Name.String()+" again", i, len(dirty))
		verdict, err := a.copyAgain(ctx, table)
		if err != nil {
			return nil, err
		}
		verdicts = append(verdicts, verdict)
	}
	return verdicts, nil
}

const readCounters = `
select coalesce(string_agg(oid || ' ' || pg_stat_get_tuples_updated(oid) + pg_stat_get_tuples_deleted(oid), ','), '')
from unnest($1::oid[]) oid`

// writeCounters counts updates and deletes since the source's statistics began.
func (a *attempt) writeCounters(ctx context.Context, tables []ledger.Table) (map[uint32]int64, error) {
	oids := make([]uint32, len(tables))
	for i, table := range tables {
		oids[i] = table.OID
	}
	var list string
	if err := a.source.QueryRow(ctx, readCounters, oids).Scan(&list); err != nil {
		return nil, a.Source.Fault("read counters", "", err)
	}
	counters := map[uint32]int64{}
	for _, pair := range strings.Split(list, ",") {
		oid, count, _ := strings.Cut(pair, " ")
		key, err := strconv.ParseUint(oid, 10, 32)
		if err != nil {
			return nil, err
		}
		if counters[uint32(key)], err = strconv.ParseInt(count, 10, 64); err != nil {
			return nil, err
		}
	}
	return counters, nil
}

// copyAgain reads in the fence's own session where there is one: any other would wait behind a queued TRUNCATE.
func (a *attempt) copyAgain(ctx context.Context, table ledger.Table) (migration.Verdict, error) {
	target, err := a.Target.Connect(ctx, a.lane.Session())
	if err != nil {
		return migration.Verdict{}, err
	}
	defer pg.Close(target)
	if _, err := pg.TryReplicaRole(ctx, target); err != nil {
		return migration.Verdict{}, a.Target.Fault("set session_replication_role", "", err)
	}
	config := bulk.Config{Spec: a.Spec, Source: a.Source, Target: a.Target, Log: a.Logger}
	var rows int64
	hold := a.fence.holder()
	if hold == nil {
		hold = a.inTransaction
	}
	err = hold(ctx, func(source *pgx.Conn) (err error) {
		rows, err = bulk.CopyUnderFence(ctx, config, source, target, a.lane, table)
		return err
	})
	if err != nil {
		return migration.Verdict{}, err
	}
	a.Logger.Info("copied a table again under the fence", zap.Stringer(migration.KeyTable, table.Name), zap.Int64(migration.KeyRows, rows))
	return migration.Verdict{Table: table.Name.String(), Equal: true, SourceRows: rows, TargetRows: rows, Method: recopied}, nil
}

// inTransaction is the holder of a fence that locks nothing.
func (a *attempt) inTransaction(ctx context.Context, work func(*pgx.Conn) error) error {
	conn, err := a.Source.Connect(ctx, a.lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	if _, err := conn.Exec(ctx, "begin"); err != nil {
		return a.Source.Fault("begin", "", err)
	}
	return work(conn)
}
