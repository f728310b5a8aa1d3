package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/follow"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot"
	"github.com/pgdts/pgdts/tests/bench/arena"
	"github.com/pgdts/pgdts/workflows/migration"
)

// contestant replays a backlog. Its place is the name of its slot, and of its database on the target.
type contestant struct {
	name    string
	writes  bool // something on the target
	prepare func(ctx context.Context, b *bench, w workload, place string) error
	replay  func(ctx context.Context, b *bench, w workload, place, end string) (time.Duration, error)
}

var contestants = []contestant{
	{"pg_recvlogical", false, prepareSlot, receive},
	{"native", true, prepareNative, replayNative},
	{arena.Ours, true, prepareOurs, replayOurs},
	{"pgcopydb", true, preparePgcopydb, replayPgcopydb},
}

func (c contestant) place(round int) string { return fmt.Sprintf("%s_%d", c.name, round+1) }

func prepareSlot(ctx context.Context, b *bench, w workload, place string) error {
	return b.Source.Exec(ctx, w.name, fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", place))
}

func receive(ctx context.Context, b *bench, w workload, place, end string) (time.Duration, error) {
	began := time.Now()
	err := arena.Do(b.Source.Command(ctx, "pg_recvlogical", "-d", b.Source.URI(w.name), "-S", place, "--start", "-f", "/dev/null",
		"-o", "proto_version=1", "-o", "publication_names=bench", "--endpos", end, "--no-loop"))
	return time.Since(began), err
}

// into makes a database of the target that is as the source was before the backlog.
func (b *bench) into(ctx context.Context, place string) error {
	return b.Target.Exec(ctx, "postgres", fmt.Sprintf("drop database if exists %s with (force)", place),
		fmt.Sprintf("create database %s template %s", place, base))
}

func prepareNative(ctx context.Context, b *bench, w workload, place string) error {
	if err := b.into(ctx, place); err != nil {
		return err
	}
	return prepareSlot(ctx, b, w, place)
}

func replayNative(ctx context.Context, b *bench, w workload, place, _ string) (time.Duration, error) {
	began := time.Now()
	err := b.Target.Exec(ctx, place, fmt.Sprintf(
		"create subscription bench connection '%s' publication bench with (create_slot = false, slot_name = '%s', copy_data = false)",
		b.Source.URI(w.name), place))
	if err != nil {
		return 0, err
	}
	err = arrived(ctx, b.Target, place)
	took := time.Since(began)
	return took, errors.Join(err, b.Target.Exec(context.WithoutCancel(ctx), place,
		"alter subscription bench disable", "alter subscription bench set (slot_name = none)", "drop subscription bench"))
}

// replay is a migration whose tables are equal at its slot.
type replay struct {
	source, target *pg.Server
	spec           migration.Spec
}

const execution = "bench"

func prepareOurs(ctx context.Context, b *bench, w workload, place string) error {
	if err := b.into(ctx, place); err != nil {
		return err
	}
	r := &replay{spec: migration.Spec{
		ID:     migration.RandomID("bench"),
		Source: migration.Endpoint{URI: b.Source.URI(w.name)}, Target: migration.Endpoint{URI: b.Target.URI(place)},
	}}
	r.spec.Defaults()
	var err error
	if r.source, err = pg.NewServer(migration.Source, r.spec.Source, nil); err != nil {
		return err
	}
	if r.target, err = pg.NewServer(migration.Target, r.spec.Target, nil); err != nil {
		return err
	}
	b.ours[place] = r
	return r.begin(ctx)
}

// begin makes ledger, publications and slot, and plans the tables as copied while nobody wrote.
func (r *replay) begin(ctx context.Context) error {
	conn, err := r.target.Connect(ctx, execution)
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	if err := ledger.Create(ctx, conn); err != nil {
		return err
	}
	l := ledger.Ledger{ID: r.spec.ID, Conn: conn}
	if err := l.Acquire(ctx, execution, r.spec); err != nil {
		return err
	}
	tables, err := r.tables(ctx)
	if err != nil {
		return err
	}
	lane, err := l.Enter(ctx, execution, "prepare")
	if err != nil {
		return err
	}
	if _, err = slot.Prepare(ctx, slot.Config{
		Source: r.source, Target: r.target, Lane: lane, Spec: r.spec, Tables: tables,
		Report: func(migration.Beat) {}, Logger: zap.NewNop(),
	}); err != nil {
		return err
	}
	var planned []ledger.Table
	for _, t := range tables {
		planned = append(planned, ledger.Table{Table: t, Mode: t.Mode(r.spec.WithoutKey), Published: t.Published(r.spec.WithoutKey)})
	}
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error { return ledger.WritePlan(ctx, tx, r.spec.ID, planned, nil) }); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `update dts_sync.tbl t set stage = 'exact', smin = m.start_snapshot, smax = m.start_snapshot, hi_lsn = m.start_lsn
		from dts_sync.migration m where m.id = t.migration`)
	return err
}

func (r *replay) tables(ctx context.Context) ([]mapping.Table, error) {
	conn, err := r.source.Connect(ctx, execution)
	if err != nil {
		return nil, err
	}
	defer pg.Close(conn)
	selection, _, err := mapping.Read(ctx, conn, r.spec)
	return selection.Tables, err
}

func (r *replay) follower() *follow.Follower {
	return follow.New(follow.Config{
		Source: r.source, Target: r.target, Spec: r.spec, Run: execution, Report: func(migration.Beat) {}, Logger: zap.NewNop(),
	})
}

// follow runs the engine while work is done.
func (r *replay) follow(ctx context.Context, work func(context.Context, *follow.Follower) error) error {
	f := r.follower()
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { // ends with running
		done <- f.Run(running)
		stop()
	}()
	err := work(running, f)
	stop()
	return errors.Join(<-done, err)
}

func replayOurs(ctx context.Context, b *bench, _ workload, place, _ string) (took time.Duration, err error) {
	if b.options.profile != "" {
		file, err := os.Create(b.options.profile)
		if err != nil {
			return 0, err
		}
		defer func() { _ = file.Close() }()
		if err := pprof.StartCPUProfile(file); err != nil {
			return 0, err
		}
		defer pprof.StopCPUProfile()
	}
	began := time.Now()
	err = b.ours[place].follow(ctx, func(ctx context.Context, _ *follow.Follower) error {
		err := arrived(ctx, b.Target, place)
		took = time.Since(began)
		return err
	})
	return took, err
}

func preparePgcopydb(ctx context.Context, b *bench, w workload, place string) error {
	if _, err := exec.LookPath("pgcopydb"); err != nil {
		return errors.New("pgcopydb is not installed")
	}
	if err := b.into(ctx, place); err != nil {
		return err
	}
	if err := arena.Do(b.pgcopydb(ctx, w, place, "stream", "setup", "--slot-name", place, "--origin", place, "--not-consistent")); err != nil {
		return err
	}
	// Its own table on the source is in the publication of all tables, which wants to know its rows.
	return b.Source.Exec(ctx, w.name, "alter table pgcopydb.sentinel replica identity full")
}

// pgcopydbWithin is many times what the others take.
const pgcopydbWithin = 10 * time.Minute

func replayPgcopydb(ctx context.Context, b *bench, w workload, place, end string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, pgcopydbWithin)
	defer cancel()
	if err := arena.Do(b.pgcopydb(ctx, w, place, "stream", "sentinel", "set", "apply")); err != nil {
		return 0, err
	}
	began := time.Now()
	err := arena.Do(b.pgcopydb(ctx, w, place, "follow", "--slot-name", place, "--origin", place, "--endpos", end, "--resume", "--not-consistent"))
	return time.Since(began), err
}

func (b *bench) pgcopydb(ctx context.Context, w workload, place string, arguments ...string) *exec.Cmd {
	command := b.Source.Command(ctx, "pgcopydb", arguments...)
	command.Env = append(command.Env, "PGCOPYDB_SOURCE_PGURI="+b.Source.URI(w.name), "PGCOPYDB_TARGET_PGURI="+b.Target.URI(place),
		"XDG_DATA_HOME="+filepath.Join(b.Dir, place), "TMPDIR="+b.Dir)
	return command
}
