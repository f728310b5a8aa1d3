package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// pgdts is the program that is shown: always by its command line, as a person uses it.
type pgdts struct {
	definition, state, target string

	mu      sync.Mutex
	running *child
	last    migration.Status
	phases  map[migration.Phase]migration.PhaseStatus
	steady  time.Time // since when it is caught up in incremental; zero when it is not
	ui      string
	givenUp string // why the cutover was
	seen    measurements
}

func newPgdts(definition, state, target string) *pgdts {
	return &pgdts{definition: definition, state: state, target: target, phases: map[migration.Phase]migration.PhaseStatus{}}
}

// line is what a person types.
func (p *pgdts) line() string {
	return fmt.Sprintf("%s run -f %s --state-dir %s", pgdtsBinary, p.definition, p.state)
}

func (p *pgdts) command(ctx context.Context, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, pgdtsBinary, append(arguments, "-f", p.definition, "--state-dir", p.state)...)
	command.Env = environment()
	return command
}

// environment is ours without what would point pgdts to a Temporal service or a database of somebody else.
func environment() []string {
	return append(slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "TEMPORAL_") || strings.HasPrefix(variable, "PG")
	}), "TEMPORAL_CONFIG_FILE="+os.DevNull)
}

// run starts the migration, or resumes it. The terminal is its own, Ctrl-C too.
func (p *pgdts) run() error {
	command := p.command(context.Background(), "run")
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	started, err := startChild(command)
	if err != nil {
		return fmt.Errorf("start %s: %w", pgdtsBinary, err)
	}
	p.mu.Lock()
	p.running, p.steady = started, time.Time{}
	p.mu.Unlock()
	return nil
}

func (p *pgdts) process() *child {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running
}

// end is for a demo that ends early.
func (p *pgdts) end(patience time.Duration) {
	if running := p.process(); running != nil {
		running.end(syscall.SIGINT, patience)
	}
}

// cutover gives the order. What it says is shown only if it refuses: the display shows the rest.
func (p *pgdts) cutover(ctx context.Context) error {
	out, err := apart(p.command(ctx, "cutover")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("pgdts cutover: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// refresh asks for the status. Nothing answers while pgdts starts.
func (p *pgdts) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := apart(p.command(ctx, "status", "-o", "json")).Output()
	var status migration.Status
	if err != nil || json.Unmarshal(out, &status) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = status
	for _, phase := range status.Phases {
		p.phases[phase.Name] = phase
	}
	switch {
	case status.Phase != migration.PhaseIncremental || !status.CaughtUp || status.WorkerAway:
		p.steady = time.Time{}
	case p.steady.IsZero():
		p.steady = time.Now()
	}
	if p.ui == "" {
		p.ui = p.address().UI
	}
}

// address is what a run writes down for other commands.
type address struct {
	UI     string `json:"ui"`
	Server int    `json:"server"`
}

func (p *pgdts) address() address {
	var a address
	content, err := os.ReadFile(filepath.Join(p.state, "address.json"))
	if err == nil {
		_ = json.Unmarshal(content, &a) // a half is none
	}
	return a
}

// condition is asked under the lock.
type condition func(p *pgdts) bool

func steadily(d time.Duration) condition {
	return func(p *pgdts) bool { return !p.steady.IsZero() && time.Since(p.steady) >= d }
}

// awaitLimit bounds each wait: a demo that hangs tells less than one that fails.
const awaitLimit = 5 * time.Minute

// errEnded says that pgdts ended although nobody asked it to; it has said why itself.
var errEnded = errors.New("pgdts ended")

// errInOrder is its exit status where that is 0.
var errInOrder = errors.New("in order")

// await returns when the condition holds for the status that was seen last.
func (p *pgdts) await(ctx context.Context, what string, holds condition) error {
	return p.poll(ctx, what, 50*time.Millisecond, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return holds(p)
	})
}

func (p *pgdts) poll(ctx context.Context, what string, interval time.Duration, holds func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, awaitLimit)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-p.process().exited:
			return fmt.Errorf("%w before %s: %w", errEnded, what, cmp.Or(p.process().err, errInOrder))
		case <-time.After(interval):
		}
	}
	return nil
}

// awaitEnd returns when the migration has finished, and fails when the cutover was given up.
func (p *pgdts) awaitEnd(ctx context.Context) error {
	err := p.await(ctx, "the end", func(p *pgdts) bool {
		note := p.last.Cutover
		if note != nil && note.Step == "aborted" {
			p.givenUp = note.Message
		}
		return p.givenUp != ""
	})
	switch {
	case err == nil:
		return fmt.Errorf("the cutover was given up: %s", p.givenUp)
	case !errors.Is(err, errEnded):
		return err
	}
	if err := p.process().err; err != nil {
		return fmt.Errorf("pgdts run: %w", err)
	}
	return nil
}

// report is the evidence that pgdts leaves.
func (p *pgdts) report(ctx context.Context) (migration.Report, error) {
	var report migration.Report
	out, err := apart(p.command(ctx, "report", "-o", "json")).Output()
	if err == nil {
		err = json.Unmarshal(out, &report)
	}
	if err != nil {
		return report, fmt.Errorf("pgdts report: %w", err)
	}
	return report, nil
}

// ledger reads one row of what pgdts keeps on the target. It is false while there is none.
func (p *pgdts) ledger(ctx context.Context, sql string, to ...any) bool {
	conn, err := pgx.Connect(ctx, p.target)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return conn.QueryRow(ctx, sql).Scan(to...) == nil
}

// opened is when the target was opened for writes, by the clock that all servers here share.
func (p *pgdts) opened(ctx context.Context) (time.Time, error) {
	var at time.Time
	if !p.ledger(ctx, "select opened_at from dts_sync.migration", &at) {
		return at, errors.New("the ledger does not tell when the target was opened")
	}
	return at, nil
}
