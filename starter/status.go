package starter

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// answerTimeout bounds how long a worker may take to answer a question; then Temporal's own knowledge must do.
const answerTimeout = 4 * time.Second

// Status tells where a migration stands: what its workflow knows, joined with what its running steps last reported
// (up to a heartbeat interval old). When no worker answers, it tells what Temporal knows, and sets WorkerAway.
func (s *Starter) Status(ctx context.Context, id migration.ID) (migration.Status, error) {
	described, err := s.describe(ctx, id)
	if err != nil {
		return migration.Status{}, err
	}
	status, answered := s.ask(ctx, id)
	if !answered || !running(described.GetWorkflowExecutionInfo()) && !status.Phase.Ended() {
		// A terminated workflow still answers, with what it last believed.
		status = s.fromTemporal(ctx, id, described)
		status.WorkerAway = !answered
	}
	join(&status, s.reports(described.GetPendingActivities()))
	s.neverBack(&status)
	noteWAL(&status)
	finish(&status, time.Now())
	return status, nil
}

func (s *Starter) ask(ctx context.Context, id migration.ID) (migration.Status, bool) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	var status migration.Status
	value, err := s.client.QueryWorkflow(ctx, string(id), "", workflows.QueryStatus)
	if err != nil || value.Get(&status) != nil {
		return migration.Status{}, false
	}
	return status, true
}

// fromTemporal is the status as far as Temporal alone knows it.
func (s *Starter) fromTemporal(ctx context.Context, id migration.ID, described *workflowservice.DescribeWorkflowExecutionResponse) migration.Status {
	info := described.GetWorkflowExecutionInfo()
	status := migration.Status{ID: id, Name: id.Name()}
	if !running(info) {
		status.Phase = closedState(info.GetStatus())
		report, err := s.result(ctx, id)
		if report.State != "" {
			status.Phase, status.Report = report.State, &report
		}
		if fault, ok := migration.AsFault(err); ok {
			status.LastError = fault
		}
		status.State = string(status.Phase)
		return status
	}
	status.State = "running"
	status.Actions = []string{"pause", "throttle", "retry", "stop", "release"}
	for _, pending := range described.GetPendingActivities() {
		if phase, ok := phaseOf[pending.GetActivityType().GetName()]; ok {
			status.Phase = phase
		}
		if failure := pending.GetLastFailure(); failure != nil {
			status.LastError = &migration.Fault{
				Kind: migration.FaultKind(failure.GetApplicationFailureInfo().GetType()), Message: failure.GetMessage(),
			}
		}
	}
	return status
}

// phaseOf tells the phase from a pending step, for as long as it is a step of one phase only.
var phaseOf = map[string]migration.Phase{
	step.Precheck.Name:    migration.PhasePrecheck,
	step.Prepare.Name:     migration.PhasePrepare,
	step.Schema.Name:      migration.PhaseSchema,
	step.Hold.Name:        migration.PhaseCopy,
	step.Copy.Name:        migration.PhaseCopy,
	step.Constraints.Name: migration.PhaseConstraints,
	step.Stream.Name:      migration.PhaseIncremental,
	step.Cutover.Name:     migration.PhaseCutover,
}

// Observe takes a report from a worker in this process. It reaches Status at once, where a heartbeat would be delayed.
func (s *Starter) Observe(beat migration.Beat) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observed[of(beat)] = beat
}

// of names what a beat is about: a step, and of the copy a lane.
func of(beat migration.Beat) string { return strings.ToLower(beat.Step) + "/" + beat.Lane }

// laneSilent is how much older than the newest the report of a lane may be, where reports come at once: it has ended.
const laneSilent = 10 * time.Second

// reports are the newest beats of the steps that are running, one per step and lane.
func (s *Starter) reports(pending []*workflowpb.PendingActivityInfo) []migration.Beat {
	s.mu.Lock()
	defer s.mu.Unlock()
	var beats []migration.Beat
	var lanes map[string]migration.Beat
	for _, activity := range pending {
		if activity.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED {
			continue
		}
		beat, found := beatOf(activity.GetHeartbeatDetails())
		beat.Step = activity.GetActivityType().GetName()
		if beat.Step == step.Copy.Name {
			if lanes == nil {
				lanes = s.observedLanes()
			}
			if beat.Lane == "" { // while it builds indexes, and of older workers
				if seen, ok := s.observed[of(beat)]; ok && seen.At.After(beat.At) && whole(seen) {
					seen.Step = beat.Step
					beat, found = seen, true
				}
				if found {
					beats = append(beats, beat)
				}
			} else if seen, ok := lanes[beat.Lane]; !ok || beat.At.After(seen.At) {
				lanes[beat.Lane] = beat
			}
			continue
		}
		if seen, ok := s.observed[of(beat)]; ok && seen.At.After(beat.At) {
			seen.Step = beat.Step
			beat, found = seen, true
		}
		if found {
			beats = append(beats, beat)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lanes)) {
		beats = append(beats, lanes[name])
	}
	return beats
}

// observedLanes are the lanes of the copy that run in this process.
func (s *Starter) observedLanes() map[string]migration.Beat {
	lanes := map[string]migration.Beat{}
	var newest time.Time
	for _, beat := range s.observed {
		if beat.Lane != "" {
			beat.Step = step.Copy.Name
			lanes[beat.Lane] = beat
			newest = later(newest, beat.At)
		}
	}
	maps.DeleteFunc(lanes, func(_ string, beat migration.Beat) bool { return newest.Sub(beat.At) > laneSilent })
	return lanes
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// whole reports whether a beat tells of all the migration's rows rather than of one lane's.
func whole(beat migration.Beat) bool {
	return measured(beat) || beat.Total > 0
}

// measured tells the reports of the copy from those of the indexes that its lanes build.
func measured(beat migration.Beat) bool { return beat.RowsTotal > 0 || beat.BytesTotal > 0 }

// join writes what steps reported over what the workflow knows.
func join(status *migration.Status, beats []migration.Beat) {
	var lanes []migration.Beat
	for _, beat := range beats {
		if beat.Step == step.Copy.Name {
			lanes = append(lanes, beat)
			continue
		}
		joinBeat(status, beat)
	}
	if len(lanes) > 0 {
		joinBeat(status, oneBeat(lanes))
	}
}

// oneBeat makes one report of those of the copy's lanes: the newest that tells of the whole with what all lanes have in
// flight, or their sum.
func oneBeat(lanes []migration.Beat) migration.Beat {
	var newest, sum migration.Beat
	for _, lane := range lanes {
		if whole(lane) && (measured(lane) && !measured(newest) || measured(lane) == measured(newest) && lane.Tells().After(newest.Tells())) {
			newest = lane
		}
		sum.Step, sum.At = lane.Step, lane.At
		sum.Rows += lane.Rows
		sum.Bytes += lane.Bytes
		sum.Done += lane.Done
		if lane.Fault != nil {
			sum.Fault = lane.Fault
		}
	}
	if !whole(newest) {
		return sum
	}
	done := newest.Bytes - newest.InFlight
	newest.Fault, newest.Bytes, newest.Rates = sum.Fault, done, fastest(lanes)
	for _, lane := range lanes {
		// What is done since a lane has reported may be the chunk that it had in flight then.
		newest.Bytes += max(0, min(lane.InFlight, lane.Bytes-done))
	}
	if newest.BytesTotal > 0 {
		newest.Bytes = min(newest.Bytes, newest.BytesTotal)
	}
	return newest
}

// mark is the furthest that a copy was seen.
type mark struct{ rows, bytes int64 }

// neverBack keeps the figures of a copy from falling when a chunk in flight is given up or a lane reports late. They do fall
// when a snapshot is lost and rows with it; SnapshotsLost says so.
func (s *Starter) neverBack(status *migration.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status.Phase != migration.PhaseCopy {
		delete(s.furthest, status.ID)
		return
	}
	before := s.furthest[status.ID]
	if status.SnapshotsLost == 0 || status.Rows.Copied >= before.rows {
		status.Rows.Copied = max(status.Rows.Copied, before.rows)
		status.Bytes.Copied = max(status.Bytes.Copied, min(before.bytes, status.Bytes.Total))
	}
	s.furthest[status.ID] = mark{status.Rows.Copied, status.Bytes.Copied}
}

// fastest is the rate of the lane that has seen most: each sees all rows, and of the bytes on their way its own alone.
func fastest(lanes []migration.Beat) *migration.Rates {
	var fastest *migration.Rates
	for _, lane := range lanes {
		if lane.Rates != nil && (fastest == nil || lane.Rates.BytesPerSecond > fastest.BytesPerSecond) {
			fastest = lane.Rates
		}
	}
	return fastest
}

func joinBeat(status *migration.Status, beat migration.Beat) {
	set(&status.Rows.Copied, beat.Rows)
	set(&status.Rows.Total, beat.RowsTotal)
	set(&status.Bytes.Copied, beat.Bytes)
	set(&status.Bytes.Total, beat.BytesTotal)
	set(&status.SnapshotsLost, beat.SnapshotsLost)
	set(&status.Changes, beat.Changes)
	if beat.WALRetained > 0 {
		setWAL(status, beat.WAL())
	}
	if beat.Notes != nil {
		status.Notes = beat.Notes
	}
	if t := beat.Tables; t != nil {
		set(&status.Tables.Total, t.Total)
		set(&status.Tables.Copied, t.Copied)
		set(&status.Tables.Exact, t.Exact)
	}
	if o := beat.Objects; o != nil {
		failures := status.Objects.Failures
		status.Objects = *o
		status.Objects.Failures = failures
	}
	if l := beat.LSN; l != nil {
		set(&status.LSN.Applied, l.Applied)
		set(&status.LSN.Confirmed, l.Confirmed)
		set(&status.LSN.Source, l.Source)
	}
	if r := beat.Rates; r != nil {
		rate(&status.Rates.RowsPerSecond, r.RowsPerSecond)
		rate(&status.Rates.BytesPerSecond, r.BytesPerSecond)
		rate(&status.Rates.ChangesPerSecond, r.ChangesPerSecond)
		rate(&status.Rates.AppliedBytesPerSecond, r.AppliedBytesPerSecond)
		rate(&status.Rates.SourceBytesPerSecond, r.SourceBytesPerSecond)
	}
	if beat.Fault != nil {
		status.LastError = beat.Fault
	}
	if beat.Step == step.Stream.Name || beat.Step == step.Cutover.Name {
		status.LatencySeconds = beat.Latency.D().Seconds()
		status.CaughtUp = beat.LSN != nil && beat.Latency.D() < time.Second && status.Phase.After(migration.PhaseConstraints)
	}
	if beat.Message != "" {
		status.Doing = strings.TrimSpace(beat.Message)
	}
	if beat.Total > 0 && phaseOf[beat.Step] == status.Phase {
		setPercent(status, 100*float64(beat.Done)/float64(beat.Total))
	}
}

func setWAL(status *migration.Status, wal migration.WAL) {
	status.WALRetainedBytes, status.WALLimitBytes, status.WALGrowthBytesPerSecond = wal.Retained, wal.Limit, wal.Growth
	status.WALSecondsToLimit, status.WALAlertPercent = wal.SecondsToLimit(), wal.Alert
}

// noteWAL tells in words of a slot that comes near its limit. The notes of a report are shared with later answers.
func noteWAL(status *migration.Status) {
	if text := status.WAL().Text(status.Paused); text != "" {
		status.Notes = append(slices.Clip(status.Notes), text)
	}
}

// set writes what a step knows; zero is not known.
func set[T ~int | ~int64 | ~uint64](to *T, value T) {
	if value != 0 {
		*to = value
	}
}

// rate writes what a step measures; zero may be what another one does not measure.
func rate(to *float64, value float64) {
	if value != 0 {
		*to = value
	}
}

func setPercent(status *migration.Status, percent float64) {
	for i := range status.Phases {
		if phase := &status.Phases[i]; phase.Name == status.Phase && phase.State == "running" {
			phase.Percent = min(percent, 100)
		}
	}
}

// finish computes what follows from the figures: percent of the copy, mean rates since it began, and time to go.
func finish(status *migration.Status, now time.Time) {
	switch {
	case status.Phase == migration.PhaseCopy:
		part := share(status.Bytes)
		if status.Bytes.Total == 0 {
			part = share(status.Rows)
		}
		if part > 0 {
			setPercent(status, 100*part)
		}
		if started := startOf(status); !started.IsZero() && status.Rates == (migration.Rates{}) {
			status.Rates.RowsPerSecond = perSecond(status.Rows.Copied, now.Sub(started))
			status.Rates.BytesPerSecond = perSecond(status.Bytes.Copied, now.Sub(started))
		}
		status.ETASeconds = timeToGo(*status)
		return
	case status.Report != nil:
		status.Rows = migration.Amount{Copied: status.Report.Rows, Total: status.Report.Rows}
		status.Bytes = migration.Amount{Copied: status.Report.Bytes, Total: status.Report.Bytes}
		status.Changes = max(status.Changes, status.Report.Changes)
	case status.Phase.After(migration.PhaseCopy) && status.Tables.Copied > 0 && !status.WorkerAway:
		status.Rows.Copied = max(status.Rows.Copied, status.Rows.Total)
		status.Bytes.Copied = max(status.Bytes.Copied, status.Bytes.Total)
	}
	status.ETASeconds, status.NotCatchingUp = timeToCatchUp(*status)
}

// timeToCatchUp is how long the stream needs until it has applied what the source has written by then, at present rates; 0 =
// not known, or nothing to catch up. never: the source is at least as fast.
func timeToCatchUp(status migration.Status) (seconds float64, never bool) {
	r, l := status.Rates, status.LSN
	streaming := status.Phase == migration.PhaseCatchup || status.Phase == migration.PhaseIncremental
	if !streaming || status.Paused || status.LatencySeconds < 1 || l.Applied == 0 || l.Source <= l.Applied ||
		r.AppliedBytesPerSecond == 0 && r.SourceBytesPerSecond == 0 {
		return 0, false
	}
	if r.AppliedBytesPerSecond <= r.SourceBytesPerSecond {
		return 0, true
	}
	return float64(l.Source-l.Applied) / (r.AppliedBytesPerSecond - r.SourceBytesPerSecond), false
}

func share(a migration.Amount) float64 {
	if a.Total <= 0 {
		return 0
	}
	return min(float64(a.Copied)/float64(a.Total), 1)
}

func startOf(status *migration.Status) time.Time {
	for _, phase := range status.Phases {
		if phase.Name == status.Phase && phase.Started != nil {
			return *phase.Started
		}
	}
	return time.Time{}
}

func perSecond(amount int64, elapsed time.Duration) float64 {
	if amount <= 0 || elapsed < time.Second {
		return 0
	}
	return float64(amount) / elapsed.Seconds()
}

// timeToGo is how long the copy will take at its present rate; 0 = not known.
func timeToGo(status migration.Status) float64 {
	if left := status.Bytes.Total - status.Bytes.Copied; left > 0 && status.Rates.BytesPerSecond > 0 {
		return float64(left) / status.Rates.BytesPerSecond
	}
	if left := status.Rows.Total - status.Rows.Copied; left > 0 && status.Rates.RowsPerSecond > 0 {
		return float64(left) / status.Rates.RowsPerSecond
	}
	return 0
}
