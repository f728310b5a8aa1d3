package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/display"
	"github.com/pgdts/pgdts/starter"
	"github.com/pgdts/pgdts/workflows/migration"
)

// screen shows progress: a live picture on a terminal, a line per event elsewhere.
type screen struct {
	app    *app
	live   *display.Live
	events *display.Events
	footer string

	mu   sync.Mutex
	last *migration.Status
}

func (a *app) newScreen(footer string) *screen {
	s := &screen{app: a, footer: footer}
	if _, terminal := a.terminal(); terminal {
		s.live = display.NewLive(a.stderr)
	} else {
		s.events = display.NewEvents(a.stderr)
	}
	return s
}

func (s *screen) see(status migration.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = &status
	if s.events != nil {
		s.events.See(status, time.Now())
	}
	s.draw()
}

func (s *screen) draw() {
	if s.live == nil || s.last == nil {
		return
	}
	width, _ := s.app.terminal()
	lines := display.Picture(*s.last, time.Now(), width)
	if s.footer != "" {
		lines = append(lines, s.footer)
	}
	s.live.Draw(lines)
}

// status is the last one seen.
func (s *screen) status() migration.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		return migration.Status{}
	}
	return *s.last
}

// redrawInterval keeps clocks moving between statuses.
const redrawInterval = 250 * time.Millisecond

// watch shows progress until the migration has ended or ctx does.
func (s *screen) watch(ctx context.Context, from *starter.Starter, id migration.ID, also ...func(migration.Status)) error {
	drawing, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() {
		ticker := time.NewTicker(redrawInterval)
		defer ticker.Stop()
		for {
			select {
			case <-drawing.Done():
				return
			case <-ticker.C:
				s.mu.Lock()
				s.draw()
				s.mu.Unlock()
			}
		}
	})
	err := from.Watch(ctx, id, func(status migration.Status) {
		s.see(status)
		for _, see := range also {
			see(status)
		}
	})
	cancel()
	done.Wait()
	return err
}

// follow shows progress until the migration has ended, prints the report, and turns the end into an exit code.
func (a *app) follow(ctx context.Context, service *connection, id migration.ID) error {
	s := a.newScreen("")
	if err := s.watch(ctx, service.Starter, id); err != nil {
		return err
	}
	report, err := service.Wait(ctx, id)
	return a.conclude(completed(report, err, id), s.status().Precheck)
}

// completed is a report even where the workflow could not write one.
func completed(report migration.Report, err error, id migration.ID) migration.Report {
	if report.ID == "" {
		report.ID, report.Name = id, id.Name()
	}
	if err == nil {
		return report
	}
	report.State = migration.PhaseFailed
	fault, ok := migration.AsFault(err)
	if !ok {
		fault = migration.NewFault(migration.FaultOther, "", "", err, "")
	}
	report.Failure = fault
	return report
}

// conclude prints the report and gives the exit code that it means.
func (a *app) conclude(report migration.Report, precheck *migration.CheckResult) error {
	display.Report(a.stdout, report)
	if report.State == migration.PhaseFailed && report.Failure != nil {
		if report.Failure.Kind == migration.FaultPrecheck {
			if precheck != nil {
				fmt.Fprintln(a.stderr)
				display.Check(a.stderr, *precheck)
			}
			return &coded{exitPrecheck, failure(report)}
		}
		return &coded{exitFailed, failure(report)}
	}
	if report.State == migration.PhaseStopped && report.Failure != nil && report.Failure.Kind == migration.FaultStopped {
		return &coded{exitFailed, failure(report)}
	}
	if differ := display.Differences(report); differ > 0 {
		return &coded{exitDifferent, fmt.Errorf("verification of %s found %d tables that differ", report.Name, differ)}
	}
	return nil
}

func failure(report migration.Report) error {
	text := strings.TrimSpace(report.Failure.Error())
	if text == "" {
		text = string(report.Failure.Kind)
	}
	return errors.New(text)
}
