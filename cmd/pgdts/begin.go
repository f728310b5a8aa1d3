package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/server"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows/migration"
)

// begin starts the migration, or joins the one that runs under its id. It reports true when the migration is over and
// is to stay so.
func (r *runner) begin(ctx context.Context) (bool, error) {
	ended, err := r.service.Ended(ctx, r.spec.ID)
	switch {
	case isUnknown(err):
		return false, r.start(ctx)
	case err != nil:
		return false, err
	case !ended:
		return false, r.join(ctx)
	}
	report, err := r.service.Wait(ctx, r.spec.ID)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	report = completed(report, err, r.spec.ID)
	if r.again || beginsAnew(report) {
		return false, r.start(ctx)
	}
	return true, errors.Join(r.save(report), r.tellOver(report))
}

func isUnknown(err error) bool {
	var unknown *starter.UnknownError
	return errors.As(err, &unknown)
}

// start begins anew: a report that is left from before would be taken for this migration's.
func (r *runner) start(ctx context.Context) error {
	if err := os.Remove(r.directory.Path(server.ReportFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state directory: %w", err)
	}
	again := starter.Again
	if r.again {
		again = starter.Anew
	}
	_, err := r.service.Start(ctx, r.spec, starter.WorkerHere, again)
	return err
}

// join resumes a running migration. What the file says differently takes effect where it can: everything before the
// slot exists, the retry windows, the rates, the class and the mode of the cutover afterwards.
func (r *runner) join(ctx context.Context) error {
	old, err := r.service.Spec(ctx, r.spec.ID)
	if err != nil {
		return err
	}
	old.Defaults() // keys that were not known when it began
	changed := r.changes(old)
	if len(changed) == 0 {
		return nil
	}
	r.reclassed = slices.Contains(changed, "class")
	status, err := r.service.Status(ctx, r.spec.ID)
	if err != nil {
		return err
	}
	if status.Phase == migration.PhasePrecheck {
		return r.replace(ctx, changed)
	}
	if fixed := slices.DeleteFunc(slices.Clone(changed), r.changeable); len(fixed) > 0 {
		return &coded{exitUsage, fmt.Errorf("%s: %s cannot change while the migration is in phase %s: take the change back, or `pgdts stop` it and run with --again",
			r.file, strings.Join(fixed, ", "), status.Phase)}
	}
	if r.spec.Retry != old.Retry {
		if _, err := r.service.Retry(ctx, r.spec.ID, r.spec.Retry); err != nil {
			return err
		}
	}
	if err := r.throttle(ctx, old, status.Phase); err != nil {
		return err
	}
	r.orders = slices.Contains(changed, "cutover.mode")
	r.logger.Info("definition changed", zap.Strings("keys", changed))
	return nil
}

// changeable reports whether a change of the key takes effect while the migration runs.
func (r *runner) changeable(key string) bool {
	switch {
	case strings.HasPrefix(key, "retry."), strings.HasPrefix(key, "throttle."), key == "class":
		return true
	case strings.HasPrefix(key, "parallel."):
		return r.reclassed // what the class presets; steps that are planned keep theirs
	}
	return key == "cutover.mode" && r.spec.Cutover.Mode == "auto"
}

// throttle sends the rates that the file says differently now. Those of a copy that is done mean nothing any more.
func (r *runner) throttle(ctx context.Context, old migration.Spec, phase migration.Phase) error {
	change := r.spec.Throttle.Change(old.Throttle)
	if !phase.Before(migration.PhaseCatchup) {
		change.Full = nil
	}
	if change == (migration.ThrottleChange{}) {
		return nil
	}
	_, err := r.service.Throttle(ctx, r.spec.ID, change)
	return err
}

// replace ends a migration that has made nothing yet, and starts it with the new definition.
func (r *runner) replace(ctx context.Context, changed []string) error {
	r.logger.Info("definition replaced during precheck", zap.Strings("keys", changed))
	if err := r.service.Stop(ctx, r.spec.ID); err != nil {
		return err
	}
	if _, err := r.service.Wait(ctx, r.spec.ID); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		r.logger.Info("replaced migration ended", zap.Error(err))
	}
	return r.start(ctx)
}

// changes lists the keys in which the definition differs from the one that runs.
func (r *runner) changes(old migration.Spec) []string {
	now := r.spec
	if r.unwatched && old.Schema.OnObjectFailure == "wait" {
		now.Schema.OnObjectFailure = "wait" // the file did not change, the terminal did
	}
	was, is := flat(old), flat(now)
	var changed []string
	for _, key := range slices.Sorted(maps.Keys(merged(was, is))) {
		if !reflect.DeepEqual(was[key], is[key]) {
			changed = append(changed, key)
		}
	}
	return changed
}

func merged(a, b map[string]any) map[string]any {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// flat gives every leaf of a definition under its dotted key.
func flat(spec migration.Spec) map[string]any {
	var tree map[string]any
	content, err := json.Marshal(spec)
	if err == nil {
		err = json.Unmarshal(content, &tree)
	}
	if err != nil {
		panic("a definition is always JSON: " + err.Error())
	}
	leaves := map[string]any{}
	flatten("", tree, leaves)
	return leaves
}

func flatten(prefix string, value any, leaves map[string]any) {
	branch, ok := value.(map[string]any)
	if !ok {
		leaves[strings.TrimPrefix(prefix, ".")] = value
		return
	}
	for key, below := range branch {
		flatten(prefix+"."+key, below, leaves)
	}
}
