package precheck

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

func sourcePrimary(ctx context.Context, l *look) (finding, error) {
	return l.source.primary(ctx, "a snapshot there does not tell which transactions it leaves out")
}

func targetPrimary(ctx context.Context, l *look) (finding, error) {
	return l.target.primary(ctx, "nothing can be written there")
}

func (s session) primary(ctx context.Context, harm string) (finding, error) {
	standby, err := value[bool](ctx, s, "select pg_is_in_recovery()")
	if err != nil || !standby {
		return passed("not in recovery"), err
	}
	side := s.server.Side
	promote := "" // a function since 12
	if s.version >= 120000 {
		promote = ", or promote this server (select pg_promote())"
	}
	return failed(fmt.Sprintf("name the primary in %s%s", side, promote), "the %s is a standby: %s", side, harm), nil
}

// sourceFenced notices a database whose writes a cutover has moved away: its triggers would be migrated too, and its rows
// are no longer the newest.
func sourceFenced(ctx context.Context, l *look) (finding, error) {
	fenced, err := value[bool](ctx, l.source, "select exists (select from pg_namespace where nspname = 'pgdts_fence')")
	if err != nil || !fenced {
		return passed("no cutover has closed it"), err
	}
	return failed("if its rows are the ones to move: pgdts unfence -f FILE of the migration that closed it",
		"a cutover has moved the writes of this database to another server; schema pgdts_fence refuses them here"), nil
}

// sameDatabase asks the servers, not the addresses: one database has many. An advisory lock is seen in its own database
// only; a clone of the source has the same system identifier and the same oids, and does not see it.
func sameDatabase(ctx context.Context, l *look) (finding, error) {
	key := rand.Int64()
	locked, err := l.source.conn.Begin(ctx)
	if err != nil {
		return finding{}, err
	}
	defer func() { _ = locked.Rollback(ctx) }()
	if _, err := locked.Exec(ctx, tryLock, key); err != nil {
		return finding{}, err
	}
	free := false
	err = pgx.BeginFunc(ctx, l.target.conn, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, tryLock, key).Scan(&free)
	})
	if err != nil {
		return finding{}, err
	}
	if !free {
		return failed("name another database in target; create database <name>; makes one",
			"source %s and target %s are the same database", l.source.server.Address(), l.target.server.Address()), nil
	}
	return passed("two databases"), nil
}

const tryLock = `select pg_try_advisory_xact_lock($1)`
