package schema

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/activities/internal/failpoint"
	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// session is one connection that creates objects.
type session struct {
	ledger.Ledger
	cfg    Config
	memory int64 // bytes that a build may use
}

// prepareSession sets what pg_restore sets: names in pg_dump's text are qualified, bodies may name what comes later.
const prepareSession = `
set search_path = '';
set check_function_bodies = off;
set client_min_messages = warning;
set default_tablespace = '';
select pg_catalog.set_config(name, 'heap', false) from pg_catalog.pg_settings where name = 'default_table_access_method';
select pg_catalog.set_config(name, 'off', false) from pg_catalog.pg_settings where name = 'default_with_oids'`

func (c Config) open(ctx context.Context) (*session, error) {
	conn, err := c.Target.Connect(ctx, c.Lane.Session())
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, prepareSession); err != nil {
		pg.Close(conn)
		return nil, c.Target.Fault("prepare", "session", err)
	}
	var buffers, own int64
	if err := conn.QueryRow(ctx, readMemory).Scan(&buffers, &own); err != nil {
		pg.Close(conn)
		return nil, c.Target.Fault("prepare", "session", err)
	}
	return &session{Ledger: ledger.Ledger{ID: c.Lane.ID, Conn: conn}, cfg: c, memory: BuildMemory(c.Spec, buffers, own)}, nil
}

func (s *session) close() { pg.Close(s.Conn) }

// guard must begin every transaction. After the opening only what is left to be done then may run.
func (s *session) guard(ctx context.Context, tx pgx.Tx, section string) error {
	if section == After {
		return s.cfg.Lane.GuardOpened(ctx, tx)
	}
	return s.cfg.Lane.Guard(ctx, tx)
}

// objectError is a failure that says something about the object and nothing about the servers.
type objectError struct{ err *pgconn.PgError }

func (e *objectError) Error() string { return e.err.Message }
func (e *objectError) Unwrap() error { return e.err }

// create makes an object and records it as done, in one transaction, unless somebody has done so (I1). An object's own
// failure comes back as *objectError, everything else as it is.
func (s *session) create(ctx context.Context, o ledger.Object) error {
	tx, err := s.Conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := s.guard(ctx, tx, o.Section); err != nil {
		return err
	}
	state, err := s.LockObject(ctx, tx, o.No)
	if err != nil || state == ledger.ObjectDone || state == ledger.ObjectSkipped {
		return err
	}
	if err := s.execute(ctx, class(o), o.DDL); err != nil {
		return ownFailure(err)
	}
	if err := s.SetObject(ctx, tx, o.No, ledger.ObjectDone, "", ""); err != nil {
		return err
	}
	if err := failpoint.Hit(failpointOf(o)); err != nil {
		return err
	}
	return ownFailure(tx.Commit(ctx))
}

func failpointOf(o ledger.Object) string {
	if o.Section == Before {
		return failpoint.SchemaObject
	}
	return failpoint.ConstraintObject
}

// buildMemoryMax is what one build gets at most, and what all at once have at least, for those who chose no class.
const buildMemoryMax int64 = 256 << 20

// BuildMemory is how many bytes one build of an index may use on a target with such shared_buffers and maintenance_work_mem: what
// the class says, or else a share of what all builds at once may: as much as the server's buffers, which is what its owner
// thinks a good part of the machine's memory is. It is never less than the server's own setting. Workers of a parallel build
// share its memory.
func BuildMemory(spec migration.Spec, buffers, own int64) int64 {
	if preset, chosen := spec.Class.Preset(); chosen {
		return preset.IndexMemory
	}
	builds := cmp.Or(spec.Parallel.Index, spec.Parallel.Copy, max(2, runtime.NumCPU()))
	return max(own, min(buildMemoryMax, max(buildMemoryMax, buffers)/int64(builds)))
}

const readMemory = `
select pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')),
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))`

// readyToBuild holds until the transaction ends. Builds of several indexes of one table read it together, and from the disk once.
const readyToBuild = `
select pg_catalog.set_config('maintenance_work_mem', $1::bigint / 1024 || 'kB', true), pg_catalog.set_config('synchronize_seqscans', 'on', true)`

func (s *session) execute(ctx context.Context, class int, ddl string) error {
	if class != alone {
		if _, err := s.Conn.Exec(ctx, readyToBuild, s.memory); err != nil {
			return err
		}
	}
	// The simple protocol takes several statements.
	_, err := s.Conn.PgConn().Exec(ctx, ddl).ReadAll()
	return err
}

// ownFailure tells an object's failure from those that another attempt may not meet: connection, rollback by a
// deadlock, resources, an operator's cancellation, a lock that was not had, an error of the system.
func ownFailure(err error) error {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return err
	}
	for _, class := range []string{"08", "40", "53", "57", "58", "55P03", "25P"} {
		if strings.HasPrefix(pgErr.Code, class) {
			return err
		}
	}
	return &objectError{err: pgErr}
}

// record writes how an object went when it was not created: its State, SQLState, Message and Hint.
func (s *session) record(ctx context.Context, o ledger.Object) error {
	return pgx.BeginFunc(ctx, s.Conn, func(tx pgx.Tx) error {
		if err := s.guard(ctx, tx, o.Section); err != nil {
			return err
		}
		return s.SetOutcome(ctx, tx, o)
	})
}

func (s *session) fault(o ledger.Object, err error) error {
	return s.cfg.Target.Fault("create", o.Title(), err)
}

func beat(message string, done, total int) migration.Beat {
	return migration.Beat{Message: message, Done: int64(done), Total: int64(total)}
}
