package pg

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Version is server_version_num, such as 150018.
func Version(ctx context.Context, conn *pgx.Conn) (int, error) {
	var version int
	err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int").Scan(&version)
	return version, err
}

// identify reads the timeline off the name of a log file: IDENTIFY_SYSTEM would need a replication session.
const identify = `
select (select system_identifier::text from pg_catalog.pg_control_system()),
       ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int`

// Identify tells one server from another, and one life of it from the next. It fails on a standby.
func Identify(ctx context.Context, conn *pgx.Conn) (system string, timeline int, err error) {
	err = conn.QueryRow(ctx, identify).Scan(&system, &timeline)
	return system, timeline, err
}

// TryReplicaRole sets session_replication_role = replica: triggers and foreign keys do not fire for what we apply. It
// reports whether the role may (a superuser, or one that was granted the right).
func TryReplicaRole(ctx context.Context, conn *pgx.Conn) (bool, error) {
	_, err := conn.Exec(ctx, "set session_replication_role = replica")
	if SQLState(err) == "42501" {
		return false, nil
	}
	return err == nil, err
}

// Strings reads one column of text.
func Strings(ctx context.Context, conn *pgx.Conn, sql string, args ...any) ([]string, error) {
	rows, err := conn.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// terminateSessions ends sessions of ours by the start of their application_name, other than those named. A backend in
// COPY FROM STDIN of a stopped client stays active for ever, and no time-out of ours or of Temporal ends it.
const terminateSessions = `
select count(pg_terminate_backend(pid)) from pg_stat_activity
where left(application_name, length($1)) = $1 and application_name <> all($2) and pid <> pg_backend_pid()`

// Terminate ends the sessions whose application_name begins with prefix, but for the names kept. It needs the same
// role, or pg_signal_backend.
func Terminate(ctx context.Context, conn *pgx.Conn, prefix string, keep ...string) (int, error) {
	var n int
	if keep == nil {
		keep = []string{}
	}
	err := conn.QueryRow(ctx, terminateSessions, prefix, keep).Scan(&n)
	return n, err
}
