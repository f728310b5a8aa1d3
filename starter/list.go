package starter

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/workflows"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Entry is one line of a list of migrations.
type Entry struct {
	ID      migration.ID    `json:"id"`
	Name    string          `json:"name"`
	State   string          `json:"state"`
	Phase   migration.Phase `json:"phase"`
	Started time.Time       `json:"started"`
}

const (
	listMax         = 1000 // migrations in a list; the newest
	listConcurrency = 8    // questions at once
)

// List names the migrations that Temporal still keeps, newest first, each with its last run. The phase of one whose
// worker does not answer stays empty.
func (s *Starter) List(ctx context.Context) ([]Entry, error) {
	executions, err := s.executions(ctx)
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(executions))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listConcurrency)
	for i, info := range executions {
		group.Go(func() error {
			entries[i] = s.entry(ctx, info)
			return nil
		})
	}
	return entries, group.Wait()
}

func (s *Starter) entry(ctx context.Context, info *workflowpb.WorkflowExecutionInfo) Entry {
	id := migration.ID(info.GetExecution().GetWorkflowId())
	entry := Entry{ID: id, Name: id.Name(), State: "running", Started: info.GetStartTime().AsTime()}
	if running(info) {
		if status, answered := s.ask(ctx, id); answered {
			entry.State, entry.Phase = status.State, status.Phase
		}
		return entry
	}
	entry.Phase = closedState(info.GetStatus())
	if report, _ := s.result(ctx, id); report.State != "" {
		entry.Phase = report.State
	}
	entry.State = string(entry.Phase)
	return entry
}

// executions are the newest runs of the migrations, newest first.
func (s *Starter) executions(ctx context.Context) ([]*workflowpb.WorkflowExecutionInfo, error) {
	newest := map[string]*workflowpb.WorkflowExecutionInfo{}
	request := &workflowservice.ListWorkflowExecutionsRequest{Query: "WorkflowType = '" + workflows.MigrationName + "'"}
	for {
		page, err := s.client.ListWorkflow(ctx, request)
		if err != nil {
			return nil, fmt.Errorf("list migrations: %w", err)
		}
		for _, info := range page.GetExecutions() {
			id := info.GetExecution().GetWorkflowId()
			if _, err := migration.ParseID(id); err != nil {
				continue
			}
			if seen := newest[id]; seen == nil || info.GetStartTime().AsTime().After(seen.GetStartTime().AsTime()) {
				newest[id] = info
			}
		}
		request.NextPageToken = page.GetNextPageToken()
		if len(request.NextPageToken) == 0 || len(newest) >= listMax {
			break
		}
	}
	executions := make([]*workflowpb.WorkflowExecutionInfo, 0, len(newest))
	for _, info := range newest {
		executions = append(executions, info)
	}
	slices.SortFunc(executions, func(a, b *workflowpb.WorkflowExecutionInfo) int {
		if order := b.GetStartTime().AsTime().Compare(a.GetStartTime().AsTime()); order != 0 {
			return order
		}
		return cmp.Compare(a.GetExecution().GetWorkflowId(), b.GetExecution().GetWorkflowId())
	})
	return executions, nil
}

// Find completes what a person typed: a whole id, its last part, a name, or nothing when one migration is meant by
// itself (the only one, or the only one that runs). It refuses to guess between several.
func (s *Starter) Find(ctx context.Context, typed string) (migration.ID, error) {
	if id, err := migration.ParseID(typed); err == nil {
		return id, nil
	}
	executions, err := s.executions(ctx)
	if err != nil {
		return "", err
	}
	var all, alive []migration.ID
	for _, info := range executions {
		id := migration.ID(info.GetExecution().GetWorkflowId())
		if typed != "" && typed != id.Short() && typed != id.Name() {
			continue
		}
		all = append(all, id)
		if running(info) {
			alive = append(alive, id)
		}
	}
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(alive) == 1:
		return alive[0], nil
	case len(all) == 0 && typed != "":
		return "", &UnknownError{ID: typed}
	}
	return "", &AmbiguousError{Typed: typed, Count: len(all)}
}

// AmbiguousError says that the id is needed.
type AmbiguousError struct {
	Typed string
	Count int
}

// Error is one sentence.
func (e *AmbiguousError) Error() string {
	switch {
	case e.Count == 0:
		return "no migration is known here"
	case e.Typed == "":
		return fmt.Sprintf("%d migrations are known here: give the id of one, see `pgdts list`", e.Count)
	}
	return fmt.Sprintf("%d migrations are named %q: give the id of one, see `pgdts list`", e.Count, e.Typed)
}
