package display_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows/migration"
)

var update = flag.Bool("update", false, "write the golden files")

var (
	start = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	now   = start.Add(90 * time.Minute)
)

const id = migration.ID("pgdts/shop/abcdefghij")

func golden(t *testing.T, name, got string) {
	path := filepath.Join("testdata", name+".txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// in is a status whose phases before the present one are done, each after five minutes.
func in(phase migration.Phase) migration.Status {
	status := migration.Status{
		ID: id, Name: "shop", State: "running", Phase: phase, Actions: []string{"pause", "retry", "stop", "release"},
		Tables: migration.TableCounts{Total: 1234},
		Rows:   migration.Amount{Total: 2_000_000_000}, Bytes: migration.Amount{Total: 1 << 40},
	}
	at := start
	for _, name := range migration.Phases {
		begun, done := at, at.Add(5*time.Minute)
		line := migration.PhaseStatus{Name: name, State: "pending"}
		switch {
		case name.Before(phase):
			line = migration.PhaseStatus{Name: name, State: "done", Percent: 100, Started: &begun, Finished: &done}
		case name == phase:
			line = migration.PhaseStatus{Name: name, State: "running", Started: &begun}
		}
		status.Phases = append(status.Phases, line)
		at = done
	}
	return status
}

func statuses() map[string]migration.Status {
	precheck := in(migration.PhasePrecheck)
	precheck.Tables, precheck.Rows, precheck.Bytes = migration.TableCounts{}, migration.Amount{}, migration.Amount{}
	precheck.State, precheck.Attention = "attention", &migration.Attention{
		Fault:   migration.Fault{Kind: migration.FaultPrecheck, Op: "precheck", Message: "WAL_LEVEL: replica", Hint: "alter system set wal_level = logical"},
		Since:   now.Add(-42 * time.Second),
		Command: "pgdts recheck abcdefghij",
	}
	copying := in(migration.PhaseCopy)
	copying.Tables.Copied, copying.Rows.Copied, copying.Bytes.Copied = 310, 612_345_678, 300<<30
	copying.Phases[3].Percent = 29.3
	copying.Rates = migration.Rates{RowsPerSecond: 182_345, BytesPerSecond: 91 << 20}
	copying.ETASeconds, copying.WALRetainedBytes, copying.Doing = 8112, 5<<30, "copying sales.orders\n(chunk 17)"
	outage := copying
	outage.State, outage.Outage = "retrying", &migration.Outage{
		Kind: migration.FaultConnection, Since: now.Add(-3 * time.Minute), WindowLeftSeconds: 42_963,
		Error: "copy chunk 17 of sales.orders: source: connection refused",
	}
	incremental := in(migration.PhaseIncremental)
	incremental.Tables = migration.TableCounts{Total: 1234, Copied: 1234, Exact: 1234}
	incremental.Rows.Copied, incremental.Bytes.Copied = incremental.Rows.Total, incremental.Bytes.Total
	incremental.LatencySeconds, incremental.CaughtUp, incremental.Changes = 0.234, true, 12_345_678
	incremental.Rates.ChangesPerSecond, incremental.WALRetainedBytes = 8_123, 900
	incremental.LSN = migration.Positions{Applied: 0x16B374D848, Confirmed: 0x16B374D000, Source: 0x16B374D900}
	incremental.Actions = []string{"pause", "cutover", "retry", "stop", "release"}
	paused := incremental
	paused.State, paused.Paused, paused.CaughtUp, paused.LatencySeconds = "paused", true, false, 7260
	full := paused
	full.WALRetainedBytes, full.WALLimitBytes, full.WALGrowthBytesPerSecond = 78<<27, 100<<27, 2<<20
	full.WALSecondsToLimit, full.WALAlertPercent = 1408, 75
	full.Notes = []string{full.WAL().Text(true)}
	aborted := incremental
	aborted.Cutover = &migration.CutoverNote{Step: "aborted", Since: now, Message: "verify: public.users differs"}
	failed := copying
	failed.Phase, failed.State, failed.Actions, failed.Doing = migration.PhaseFailed, "failed", []string{"report", "release"}, ""
	failed.LastError = &migration.Fault{Kind: migration.FaultWindow, Message: "retry.connection of 12h0m0s ended: source: connection refused"}
	moment := in(migration.PhaseCopy)
	moment.Types = []migration.Type{migration.TypeSchema, migration.TypeFull}
	moment.Actions = []string{"resume", "retry", "stop", "release"}
	skip(&moment)
	moment.Objects = migration.ObjectStatus{Pending: 120, Done: 77, Failed: 2, Skipped: 1}
	changes := in(migration.PhaseIncremental)
	changes.Types = []migration.Type{migration.TypeIncremental}
	skip(&changes)
	changes.Rows, changes.Bytes = migration.Amount{}, migration.Amount{}
	throttled := copying
	throttled.Throttle = migration.Throttle{
		Full:        migration.FullThrottle{QueriesPerSecond: 50, RowsPerSecond: 10_000, MegabytesPerSecond: 2.5},
		Incremental: migration.IncrementalThrottle{RowsPerSecond: 11_000},
	}
	throttled.SnapshotsLost = 2
	behind := incremental
	behind.CaughtUp, behind.LatencySeconds, behind.NotCatchingUp = false, 300, true
	behind.Throttle = throttled.Throttle
	gaining := in(migration.PhaseCatchup)
	gaining.LatencySeconds, gaining.ETASeconds, gaining.LSN = 300, 125, incremental.LSN
	away := migration.Status{ID: id, Name: "shop", State: "running", Phase: migration.PhaseCopy, WorkerAway: true}
	return map[string]migration.Status{
		"picture-precheck-waits": precheck, "picture-copy": copying, "picture-outage": outage, "picture-incremental": incremental,
		"picture-paused": paused, "picture-slot-fills": full, "picture-cutover-aborted": aborted, "picture-failed": failed, "picture-worker-away": away,
		"picture-one-moment": moment, "picture-changes-alone": changes,
		"picture-throttled": throttled, "picture-not-catching-up": behind, "picture-catching-up": gaining,
	}
}

// skip marks the phases that are not of the status's types.
func skip(status *migration.Status) {
	phases := (migration.Spec{Types: status.Types}).Phases()
	for i, phase := range status.Phases {
		if !slices.Contains(phases, phase.Name) {
			status.Phases[i] = migration.PhaseStatus{Name: phase.Name, State: "skipped"}
		}
	}
}

func TestPictures(t *testing.T) {
	for name, status := range statuses() {
		golden(t, name, strings.Join(display.Picture(status, now, 0), "\n")+"\n")
	}
}

// TestPicturesOfEightyColumnsLoseNothing: the time to go stands at the end of a line of a hundred and thirty characters.
func TestPicturesOfEightyColumnsLoseNothing(t *testing.T) {
	for name, status := range statuses() {
		picture := display.Picture(status, now, 80)
		golden(t, strings.Replace(name, "picture", "eighty", 1), strings.Join(picture, "\n")+"\n")
		words := func(lines []string) []string {
			what := func(line string) bool { return strings.Contains(line, "▶") } // what a step does at this moment may be cut
			return strings.Fields(strings.Join(slices.DeleteFunc(slices.Clone(lines), what), " "))
		}
		require.Equal(t, words(display.Picture(status, now, 0)), words(picture), name)
		for _, line := range picture {
			require.LessOrEqual(t, utf8.RuneCountInString(line), 80, name)
		}
	}
}

// TestPictureFitsItsScreen: a line that wraps would shift every redraw.
func TestPictureFitsItsScreen(t *testing.T) {
	for name, status := range statuses() {
		for _, line := range display.Picture(status, now, 40) {
			require.LessOrEqual(t, utf8.RuneCountInString(line), 40, name)
			require.NotContains(t, line, "\n", name)
		}
	}
}

func TestRedrawLeavesNothingOfALongerPicture(t *testing.T) {
	var screen strings.Builder
	live := display.NewLive(&screen)
	live.Draw([]string{"one", "two", "three"})
	live.Draw([]string{"uno"})
	require.Equal(t, "\r\x1b[Kone\n\r\x1b[Ktwo\n\r\x1b[Kthree\n\x1b[J"+"\x1b[3A\r\x1b[Kuno\n\x1b[J", screen.String())
}

// TestEvents tells a whole story, one line per event, and nothing twice.
func TestEvents(t *testing.T) {
	all := statuses()
	var out strings.Builder
	events := display.NewEvents(&out)
	clock := now
	see := func(status migration.Status, after time.Duration) {
		clock = clock.Add(after)
		events.See(status, clock)
	}
	see(all["picture-precheck-waits"], 0)
	see(all["picture-precheck-waits"], time.Second)
	see(all["picture-copy"], time.Second)
	see(all["picture-copy"], 4*time.Second)
	see(all["picture-copy"], 7*time.Second)
	see(all["picture-outage"], time.Second)
	see(all["picture-outage"], time.Second)
	see(all["picture-copy"], time.Second)
	see(all["picture-incremental"], time.Second)
	see(all["picture-incremental"], time.Second)
	see(all["picture-paused"], time.Second)
	see(all["picture-slot-fills"], time.Second)
	see(all["picture-slot-fills"], time.Second)
	see(all["picture-incremental"], time.Second)
	see(all["picture-worker-away"], time.Second)
	see(all["picture-worker-away"], time.Second)
	see(all["picture-cutover-aborted"], time.Second)
	see(all["picture-failed"], time.Second)
	golden(t, "events", out.String())
}

func report() migration.Report {
	return migration.Report{
		ID: id, Name: "shop", State: migration.PhaseFinished, Source: "app@10.0.0.5:5432/shop", Target: "owner@10.0.0.9:5432/shop",
		Started: start, Finished: now, Tables: 1234, Rows: 2_000_000_000, Bytes: 1 << 40, Chunks: 16_400, Recopied: 3,
		Changes: 12_345_678, Sequences: 87, WriteBlocked: migration.Duration(1234 * time.Millisecond), Verified: "hash",
		Objects: migration.ObjectCounts{Done: 4000, Skipped: 1},
		Notes:   []string{"skipped function public.f(integer): language plpython3u is missing", "unfence with `pgdts unfence`"},
	}
}

func TestReports(t *testing.T) {
	var out strings.Builder
	display.Report(&out, report())
	golden(t, "report-finished", out.String())

	differs := report()
	differs.Verdicts = []migration.Verdict{
		{Table: "public.users", SourceRows: 10, TargetRows: 9, Method: "hash"},
		{Table: "public.log", Equal: true, SourceRows: 5, TargetRows: 5, Method: "recopied"},
	}
	out.Reset()
	display.Report(&out, differs)
	golden(t, "report-differs", out.String())
	require.Equal(t, 1, display.Differences(differs))

	promised := report()
	promised.Types, promised.Kept = []migration.Type{migration.TypeFull, migration.TypeIncremental}, 12
	promised.Verdicts = []migration.Verdict{
		{Table: "public.users", Equal: true, SourceRows: 10, TargetRows: 9, Kept: 1, Method: "subset"},
		{Table: "public.log", Equal: true, Method: "none", Reason: "deletes are not migrated"},
		{Table: "public.t", SourceRows: 10, TargetRows: 7, Missing: 2, Different: 1, Method: "subset"},
	}
	out.Reset()
	display.Report(&out, promised)
	golden(t, "report-promised", out.String())
	require.Equal(t, 1, display.Differences(promised))

	schemaAlone := report()
	schemaAlone.Types, schemaAlone.Tables, schemaAlone.Verified, schemaAlone.WriteBlocked = []migration.Type{migration.TypeSchema}, 0, "none", 0
	out.Reset()
	display.Report(&out, schemaAlone)
	golden(t, "report-schema-alone", out.String())

	failed := migration.Report{
		ID: id, Name: "shop", State: migration.PhaseFailed, Source: "app@10.0.0.5:5432/shop", Target: "owner@10.0.0.9:5432/shop",
		Failure: &migration.Fault{Kind: migration.FaultPrivilege, Op: "create table", Object: "public.users", Message: "permission denied for schema public", Hint: "grant create on schema public to owner"},
	}
	out.Reset()
	display.Report(&out, failed)
	golden(t, "report-failed", out.String())
}

func TestChecks(t *testing.T) {
	items := []migration.Item{
		{Code: "CONNECT", Name: "connection", Side: migration.Source, State: migration.ItemPassed, Found: "PostgreSQL 15.4"},
		{Code: "WAL_LEVEL", Name: "logical decoding", Side: migration.Source, State: migration.ItemFailed, Found: "replica", Fix: "alter system set wal_level = logical;", Restart: true},
		{Code: "VERSION", Name: "versions", State: migration.ItemAlert, Found: "source 15, target 14", Ignorable: true},
		{Code: "COLLATION", Name: "collation versions", State: migration.ItemAlert, Found: "2.31 and 2.36", Ignorable: true},
	}
	var out strings.Builder
	display.Check(&out, migration.NewCheckResult(items, []string{"COLLATION"}))
	golden(t, "check-blocks", out.String())
	out.Reset()
	display.Check(&out, migration.NewCheckResult(items[:1], nil))
	golden(t, "check-passes", out.String())
}

func TestTablesAndLists(t *testing.T) {
	var out strings.Builder
	display.Tables(&out, []migration.TableStatus{
		{
			Table: "public.orders", Percent: 17.6, Stage: migration.StagePlanned, Mode: migration.ModeKeyRange, Key: []string{"id"},
			Chunks: migration.Amount{Copied: 3, Total: 17}, Rows: migration.Amount{Copied: 300_000, Total: 1_700_000}, Bytes: migration.Amount{Copied: 3 << 20, Total: 17 << 20},
		},
		{Table: "public.log", Percent: 100, Stage: migration.StageExact, Mode: migration.ModeOneSnapshot, Chunks: migration.Amount{Copied: 1, Total: 1}, Conflicts: 2, Verification: "equal"},
	})
	golden(t, "tables", out.String())
	out.Reset()
	display.Tables(&out, []migration.TableStatus{{
		Table: "sales.Orders", Target: "shop.orders", Percent: 100, Stage: migration.StageExact, Mode: migration.ModeKeyRange, Key: []string{"id"}, Kept: 3,
	}})
	display.Objects(&out, []migration.SchemaObject{
		{No: 17, Section: "before", Kind: "VIEW", Name: "public.v", State: "failed", SQLState: "42883", Message: "function f() does not exist"},
		{No: 18, Section: "before", Kind: "VIEW", Name: "public.w", State: "skipped", Message: "needs an object that is left out"},
		{No: 3, Section: "before", Kind: "TABLE", Name: "public.t", State: "done"},
	})
	golden(t, "tables-renamed-and-objects", out.String())
	out.Reset()
	display.List(&out, []starter.Entry{{ID: id, Name: "shop", State: "running", Phase: migration.PhaseCopy, Started: start}})
	golden(t, "list", out.String())
}
