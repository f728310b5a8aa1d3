package starter_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
	"github.com/pgdts/pgdts/workflows/step"
)

// service is one Temporal server for all tests, each with a task queue and a name of its own.
var service client.Client

func TestMain(m *testing.M) {
	binary, err := filepath.Abs("../bin/temporal")
	if err == nil {
		_, err = os.Stat(binary)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bin/temporal is missing: build it with `make temporal`")
		os.Exit(1)
	}
	server, err := testsuite.StartDevServer(context.Background(), testsuite.DevServerOptions{ExistingPath: binary, LogLevel: "error"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	service = server.Client()
	code := m.Run()
	_ = server.Stop()
	os.Exit(code)
}

// script is how the fake migration behaves: a stand-in for the workflow, with the real names on the wire.
type script struct {
	phase migration.Phase
	fault *migration.Fault // how it ends after stop; nil = stopped
	copy  func(ctx context.Context) error
}

// fake registers the stand-in and serves its queue until the test, or the function returned, ends it.
func fake(t *testing.T, spec migration.Spec, s script) (stop func()) {
	w := worker.New(service, spec.TaskQueue, worker.Options{
		DisableRegistrationAliasing: true, MaxHeartbeatThrottleInterval: 50 * time.Millisecond, DefaultHeartbeatThrottleInterval: 50 * time.Millisecond,
	})
	w.RegisterWorkflowWithOptions(s.run, workflow.RegisterOptions{Name: workflows.MigrationName})
	if s.copy != nil {
		w.RegisterActivityWithOptions(func(ctx context.Context, _ step.CopyIn) (step.CopyOut, error) {
			return step.CopyOut{}, s.copy(ctx)
		}, activity.RegisterOptions{Name: step.Copy.Name})
	}
	require.NoError(t, w.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			w.Stop()
		}
	}
	t.Cleanup(stop)
	return stop
}

func (s script) run(ctx workflow.Context, in workflows.Input) (migration.Report, error) {
	status := migration.Status{ID: in.Spec.ID, Name: in.Spec.Name, State: "running", Phase: s.phase}
	status.Rows.Total, status.Tables.Total = 1000, 4
	started := workflow.Now(ctx)
	for _, phase := range migration.Phases {
		state := migration.PhaseStatus{Name: phase, State: "pending"}
		if phase == s.phase {
			state.State, state.Started = "running", &started
		}
		status.Phases = append(status.Phases, state)
	}
	if err := workflow.SetQueryHandler(ctx, workflows.QueryStatus, func() (migration.Status, error) { return status, nil }); err != nil {
		return migration.Report{}, err
	}
	err := workflow.SetUpdateHandlerWithOptions(ctx, workflows.UpdateCutover,
		func(workflow.Context) (migration.CutoverNote, error) {
			return migration.CutoverNote{Step: "asked"}, nil
		},
		workflow.UpdateHandlerOptions{Validator: func(workflow.Context) error {
			if s.phase != migration.PhaseIncremental {
				return fmt.Errorf("cutover is possible in phase incremental")
			}
			return nil
		}})
	if err != nil {
		return migration.Report{}, err
	}
	if s.copy != nil {
		for lane := range 2 {
			step.Copy.Start(ctx, step.CopyIn{Lane: lane + 1}, "")
		}
	}
	var order workflows.Stop
	workflow.GetSignalChannel(ctx, workflows.SignalStop).Receive(ctx, &order)
	report := migration.Report{ID: in.Spec.ID, State: migration.PhaseStopped, Rows: 7}
	if order.Release {
		report.Notes = []string{"released"}
	}
	if s.fault != nil {
		report.State = migration.PhaseFailed
		return migration.Report{}, temporal.NewNonRetryableApplicationError(s.fault.Error(), string(s.fault.Kind), nil, s.fault, &report)
	}
	return report, nil
}

// spec is a definition with a name and a queue of this test's own.
func spec(t *testing.T) migration.Spec {
	id := migration.RandomID("x")
	s := migration.Spec{
		Name:      "shop-" + id.Short(),
		Source:    migration.Endpoint{URI: "postgres://app@source/shop", PasswordFrom: &migration.SecretRef{Env: "PW"}},
		Target:    migration.Endpoint{Host: "target", Database: "shop", User: "owner"},
		TaskQueue: t.Name(),
		Tags:      map[string]string{"team": "shop"},
	}
	s.Defaults()
	return s
}

func begin(t *testing.T, s *starter.Starter, spec migration.Spec, options ...starter.Option) migration.ID {
	id, err := s.Start(t.Context(), spec, options...)
	require.NoError(t, err)
	return id
}

// TestDuplicateStartIsRefused: the default of Temporal would hand back the running one without a word.
func TestDuplicateStartIsRefused(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	asked.ID = migration.RandomID(asked.Name)
	fake(t, asked, script{phase: migration.PhaseCopy})
	id := begin(t, s, asked)

	var taken *starter.TakenError
	_, err := s.Start(t.Context(), asked)
	require.ErrorAs(t, err, &taken, "while it runs")
	_, err = s.Start(t.Context(), asked, starter.Again)
	require.ErrorAs(t, err, &taken, "while it runs, again")

	require.NoError(t, s.Stop(t.Context(), id))
	_, err = s.Wait(t.Context(), id)
	require.NoError(t, err)
	_, err = s.Start(t.Context(), asked)
	require.ErrorAs(t, err, &taken, "after it ended well")
	require.Equal(t, id, begin(t, s, asked, starter.Again))
	require.NoError(t, s.Stop(t.Context(), id))
}

func TestFailedMigrationMayBeginAnew(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	asked.ID = migration.RandomID(asked.Name)
	fault := migration.NewFault(migration.FaultWindow, "stream", "", errors.New("source: connection refused"), "start it")
	fault.SQLState = "08006"
	fake(t, asked, script{phase: migration.PhaseCopy, fault: fault})
	id := begin(t, s, asked)
	require.NoError(t, s.Release(t.Context(), id))

	report, err := s.Wait(t.Context(), id)
	got, ok := migration.AsFault(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "08006", got.SQLState)
	require.Equal(t, fault.Error(), got.Error())
	require.Equal(t, []string{"released"}, report.Notes, "the report of a failure arrives too")
	require.Equal(t, id, begin(t, s, asked))
	require.NoError(t, s.Stop(t.Context(), id))
}

func TestStartRefusesSecretsAndFiles(t *testing.T) {
	s := starter.New(service)
	for name, spoil := range map[string]func(*migration.Spec){
		"password":       func(s *migration.Spec) { s.Source.URI = "postgres://app:pw@source/shop" },
		"query password": func(s *migration.Spec) { s.Source.URI = "postgres://app@source/shop?password=pw" },
		"password file":  func(s *migration.Spec) { s.Source.PasswordFrom = &migration.SecretRef{File: "pw"} },
		"ca file":        func(s *migration.Spec) { s.Target.SSL = &migration.SSL{CA: "/etc/ca.pem"} },
		"window":         func(s *migration.Spec) { s.Retry.Other = migration.Duration(time.Second) },
	} {
		asked := spec(t)
		spoil(&asked)
		_, err := s.Start(t.Context(), asked)
		var refused *migration.DefinitionError
		require.ErrorAs(t, err, &refused, name)
	}
	asked := spec(t)
	asked.Source.PasswordFrom = &migration.SecretRef{File: "/run/secrets/pw"}
	id := begin(t, s, asked, starter.WorkerHere)
	kept, err := s.Spec(t.Context(), id)
	require.NoError(t, err)
	asked.ID = id
	require.Equal(t, asked, kept)
	require.NoError(t, service.TerminateWorkflow(t.Context(), string(id), "", "end of test"))
}

// TestStatusJoinsWorkflowAndHeartbeats: the workflow does not see what its steps report.
func TestStatusJoinsWorkflowAndHeartbeats(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	fake(t, asked, script{phase: migration.PhaseCopy, copy: func(ctx context.Context) error {
		for {
			activity.RecordHeartbeat(ctx, migration.Beat{
				Step: "copy", At: time.Now(), Rows: 250, RowsTotal: 1000, Bytes: 4096, Tables: &migration.TableCounts{Total: 4, Copied: 1}, Message: "copying public.orders",
			})
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
	}})
	id := begin(t, s, asked)
	var status migration.Status
	require.Eventually(t, func() bool {
		var err error
		status, err = s.Status(t.Context(), id)
		require.NoError(t, err)
		return status.Rows.Copied > 0
	}, 20*time.Second, 20*time.Millisecond)
	require.False(t, status.WorkerAway)
	require.Equal(t, migration.Amount{Copied: 250, Total: 1000}, status.Rows, "two lanes that tell of the whole are not added up")
	require.Equal(t, migration.TableCounts{Total: 4, Copied: 1}, status.Tables)
	require.Equal(t, "copying public.orders", status.Doing)
	require.InDelta(t, 25, status.Phases[3].Percent, 0.1)

	s.Observe(migration.Beat{Step: "copy", At: time.Now().Add(time.Minute), Rows: 999, RowsTotal: 1000})
	status, err := s.Status(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, int64(999), status.Rows.Copied, "what a worker in this process says is newer than its heartbeat")
	require.NoError(t, s.Stop(t.Context(), id))
	_, err = s.Wait(t.Context(), id)
	require.NoError(t, err)
}

// Without a worker nobody answers queries; what Temporal itself knows must come within seconds.
func TestStatusWithoutWorkerTellsWhatTemporalKnows(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	stop := fake(t, asked, script{phase: migration.PhaseCopy, copy: func(ctx context.Context) error {
		activity.RecordHeartbeat(ctx, migration.Beat{Rows: 250, RowsTotal: 1000, At: time.Now()})
		<-activity.GetWorkerStopChannel(ctx)
		return temporal.NewApplicationErrorWithOptions("no route to source", string(migration.FaultShutdown),
			temporal.ApplicationErrorOptions{NextRetryDelay: time.Hour})
	}})
	id := begin(t, s, asked)
	require.Eventually(t, func() bool {
		status, err := s.Status(t.Context(), id)
		require.NoError(t, err)
		return status.Rows.Copied > 0
	}, 20*time.Second, 20*time.Millisecond)
	stop()

	var status migration.Status
	var err error
	require.Eventually(t, func() bool { // the failure is on its way while the worker stops
		asking := time.Now()
		status, err = s.Status(t.Context(), id)
		require.NoError(t, err)
		require.Less(t, time.Since(asking), 8*time.Second)
		return status.LastError != nil
	}, 30*time.Second, 50*time.Millisecond)
	require.True(t, status.WorkerAway)
	require.Equal(t, "running", status.State)
	require.Equal(t, migration.PhaseCopy, status.Phase)
	require.Equal(t, "no route to source", status.LastError.Message)

	_, err = s.Cutover(t.Context(), id)
	var away *starter.AwayError
	require.ErrorAs(t, err, &away)
	require.ErrorContains(t, err, "pgdts worker --task-queue "+t.Name())
	require.NoError(t, s.Pause(t.Context(), id), "a signal is durable without a worker")
	require.NoError(t, service.TerminateWorkflow(t.Context(), string(id), "", "end of test"))

	_, err = s.Wait(t.Context(), id)
	fault, ok := migration.AsFault(err)
	require.True(t, ok)
	require.Contains(t, fault.Error(), id.Slot(), "a terminated migration names the slot it left")
}

func TestOrdersAreRefusedInWords(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	fake(t, asked, script{phase: migration.PhaseCopy})
	id := begin(t, s, asked)

	_, err := s.Cutover(t.Context(), id)
	require.EqualError(t, err, "cutover "+string(id)+": cutover is possible in phase incremental")

	require.NoError(t, s.Stop(t.Context(), id))
	_, err = s.Wait(t.Context(), id)
	require.NoError(t, err)
	for name, order := range map[string]func() error{
		"stop":    func() error { return s.Stop(t.Context(), id) },
		"pause":   func() error { return s.Pause(t.Context(), id) },
		"cutover": func() error { _, err := s.Cutover(t.Context(), id); return err },
	} {
		var ended *starter.EndedError
		require.ErrorAs(t, order(), &ended, name)
		require.Equal(t, "stopped", ended.State)
	}
	var unknown *starter.UnknownError
	require.ErrorAs(t, s.Stop(t.Context(), migration.RandomID("nobody")), &unknown)
	_, err = s.Status(t.Context(), migration.RandomID("nobody"))
	require.ErrorAs(t, err, &unknown)
}

func TestCutoverIsTakenInIncremental(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	fake(t, asked, script{phase: migration.PhaseIncremental})
	id := begin(t, s, asked)
	note, err := s.Cutover(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, "asked", note.Step)
	require.NoError(t, s.Stop(t.Context(), id))
}

func TestFindNeverGuesses(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	fake(t, asked, script{phase: migration.PhaseCopy})
	first := begin(t, s, asked)
	visible(t, s, first)
	for _, typed := range []string{string(first), first.Short(), first.Name()} {
		id, err := s.Find(t.Context(), typed)
		require.NoError(t, err)
		require.Equal(t, first, id)
	}

	second := begin(t, s, asked)
	visible(t, s, second)
	_, err := s.Find(t.Context(), asked.Name)
	var ambiguous *starter.AmbiguousError
	require.ErrorAs(t, err, &ambiguous)
	require.Equal(t, 2, ambiguous.Count)

	require.NoError(t, s.Stop(t.Context(), second))
	_, err = s.Wait(t.Context(), second)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		id, err := s.Find(t.Context(), asked.Name)
		return err == nil && id == first
	}, 20*time.Second, 50*time.Millisecond, "one that runs is meant before one that ended")

	var unknown *starter.UnknownError
	_, err = s.Find(t.Context(), "nobody")
	require.ErrorAs(t, err, &unknown)
	require.NoError(t, s.Stop(t.Context(), first))
}

// visible waits until the list shows a migration: it is filled a moment after the start.
func visible(t *testing.T, s *starter.Starter, id migration.ID) {
	require.Eventually(t, func() bool {
		entries, err := s.List(t.Context())
		require.NoError(t, err)
		for _, entry := range entries {
			if entry.ID == id {
				require.Equal(t, "running", entry.State)
				require.Equal(t, migration.PhaseCopy, entry.Phase)
				return true
			}
		}
		return false
	}, 20*time.Second, 50*time.Millisecond)
}

// TestKickHandsTheStepsOfADeadWorkerOn: the dead worker is one that takes a task and is never heard of again.
func TestKickHandsTheStepsOfADeadWorkerOn(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	attempts := make(chan int32, 8)
	workflowOnly := worker.New(service, asked.TaskQueue, worker.Options{DisableRegistrationAliasing: true, LocalActivityWorkerOnly: true})
	laborious := script{phase: migration.PhaseCopy, copy: func(context.Context) error { return nil }}
	workflowOnly.RegisterWorkflowWithOptions(laborious.run, workflow.RegisterOptions{Name: workflows.MigrationName})
	require.NoError(t, workflowOnly.Start())
	id := begin(t, s, asked)
	polling, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range 2 {
		task, err := service.WorkflowService().PollActivityTaskQueue(polling, &workflowservice.PollActivityTaskQueueRequest{
			Namespace: client.DefaultNamespace, TaskQueue: &taskqueuepb.TaskQueue{Name: asked.TaskQueue}, Identity: "dead",
		})
		require.NoError(t, err)
		require.Equal(t, int32(1), task.GetAttempt())
	}
	workflowOnly.Stop()

	require.NoError(t, s.Kick(t.Context(), client.DefaultNamespace, id))
	kicked := time.Now()
	fake(t, asked, script{phase: migration.PhaseCopy, copy: func(ctx context.Context) error {
		attempts <- activity.GetInfo(ctx).Attempt
		return nil
	}})
	for range 2 {
		select {
		case attempt := <-attempts:
			require.Equal(t, int32(2), attempt)
		case <-time.After(20 * time.Second):
			t.Fatal("the steps waited for a heartbeat time-out")
		}
	}
	t.Logf("both steps went on %s after the kick", time.Since(kicked).Round(time.Millisecond))
	require.NoError(t, s.Kick(t.Context(), client.DefaultNamespace, id), "nothing is left to kick")
	require.NoError(t, s.Stop(t.Context(), id))
}

func TestWatchEndsWithTheMigration(t *testing.T) {
	s, asked := starter.New(service), spec(t)
	fake(t, asked, script{phase: migration.PhaseCopy})
	id := begin(t, s, asked)
	seen := make(chan migration.Status, 100)
	done := make(chan error, 1)
	go func() { done <- s.Watch(t.Context(), id, func(status migration.Status) { seen <- status }) }()
	require.Equal(t, migration.PhaseCopy, (<-seen).Phase)
	require.NoError(t, service.TerminateWorkflow(t.Context(), string(id), "", "end of test"))
	select {
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(20 * time.Second):
		t.Fatal("still watching")
	}
}
