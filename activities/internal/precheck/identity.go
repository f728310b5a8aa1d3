package precheck

import (
	"context"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

func sourcePrimary(ctx context.Context, l *look) (finding, error) {
	standby, err := value[bool](ctx, l.source, "select pg_is_in_recovery()")
	if err != nil {
		return finding{}, err
	}
	if standby {
		return failed("name the primary in source, or promote this server: select pg_promote();",
			"the source is a standby: a snapshot there does not tell which transactions it leaves out"), nil
	}
	return passed("not in recovery"), nil
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
