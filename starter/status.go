package starter

import (
	"context"
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
	name := strings.ToLower(beat.Step)
	if before := s.observed[name]; before.BytesTotal == beat.BytesTotal {
		beat.Bytes = max(beat.Bytes, before.Bytes) // each lane of the copy adds only what it has in flight itself
	}
	s.observed[name] = beat
}

// reports are the newest beats of the steps that are running, one per step and lane.
func (s *Starter) reports(pending []*workflowpb.PendingActivityInfo) []migration.Beat {
	s.mu.Lock()
	defer s.mu.Unlock()
	var beats []migration.Beat
	for _, activity := range pending {
		if activity.GetState() != enumspb.PENDING_ACTIVITY_STATE_STARTED {
			continue
		}
		beat, found := beatOf(activity.GetHeartbeatDetails())
		name := activity.GetActivityType().GetName()
		if seen, ok := s.observed[strings.ToLower(name)]; ok && seen.At.After(beat.At) && (name != step.Copy.Name || whole(seen)) {
			beat, found = seen, true
		}
		if found {
			beat.Step = name
			beats = append(beats, beat)
		}
	}
	return beats
}

// whole reports whether a beat tells of all the migration's rows rather than of one lane's.
func whole(beat migration.Beat) bool {
	return beat.RowsTotal > 0 || beat.BytesTotal > 0 || beat.Total > 0
}

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

// oneBeat makes one report of those of the copy's lanes: the newest that tells of the whole, or their sum.
func oneBeat(lanes []migration.Beat) migration.Beat {
	var newest, sum migration.Beat
	var most int64
	for _, lane := range lanes {
		most = max(most, lane.Bytes)
		if whole(lane) && lane.At.After(newest.At) {
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
	if whole(newest) {
		newest.Fault, newest.Bytes = sum.Fault, most
		newest.Rates = fastest(lanes)
		return newest
	}
	return sum
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
	set(&status.Changes, beat.Changes)
	set(&status.WALRetainedBytes, beat.WALRetained)
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
	case status.Report != nil:
		status.Rows = migration.Amount{Copied: status.Report.Rows, Total: status.Report.Rows}
		status.Bytes = migration.Amount{Copied: status.Report.Bytes, Total: status.Report.Bytes}
		status.Changes = max(status.Changes, status.Report.Changes)
	case status.Phase.After(migration.PhaseCopy) && status.Tables.Copied > 0 && !status.WorkerAway:
		status.Rows.Copied = max(status.Rows.Copied, status.Rows.Total)
		status.Bytes.Copied = max(status.Bytes.Copied, status.Bytes.Total)
	}
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
