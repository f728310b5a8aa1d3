package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Evidence is what a cutover, or the end without one, leaves for the report. It commits together with the opening.
type Evidence struct {
	Opened       time.Time           `json:"opened,omitzero"`
	WriteBlocked migration.Duration  `json:"writeBlocked"`
	Verified     string              `json:"verified,omitempty"`
	Verdicts     []migration.Verdict `json:"verdicts,omitempty"` // tables that differ, and those copied again
	Sequences    int                 `json:"sequences"`
	Changes      int64               `json:"changes"`
	Notes        []string            `json:"notes,omitempty"`
}

// Evidence reads what was left; ErrUnknown when the ledger does not know the migration, zero when there is none yet.
func (l Ledger) Evidence(ctx context.Context) (Evidence, error) {
	var encoded []byte
	err := l.Conn.QueryRow(ctx, "select evidence from dts_sync.migration where id = $1", l.ID).Scan(&encoded)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return Evidence{}, ErrUnknown
	case err != nil || encoded == nil:
		return Evidence{}, err
	}
	var evidence Evidence
	return evidence, json.Unmarshal(encoded, &evidence)
}

// RecordFence says that something on the source is about to refuse writes, before it does (I4).
func (n Lane) RecordFence(ctx context.Context, conn *pgx.Conn) error {
	return n.guarded(ctx, conn, "update dts_sync.migration set fenced_at = clock_timestamp() where id = $1", n.ID)
}

// ForgetFence says that nothing of ours refuses writes on the source any more.
func (n Lane) ForgetFence(ctx context.Context, conn *pgx.Conn) error {
	return n.guarded(ctx, conn, "update dts_sync.migration set fenced_at = null where id = $1", n.ID)
}

// RecordEvidence keeps what a migration leaves that ends without an opening.
func (n Lane) RecordEvidence(ctx context.Context, conn *pgx.Conn, evidence Evidence) error {
	encoded, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	return n.guarded(ctx, conn, "update dts_sync.migration set evidence = $2 where id = $1", n.ID, encoded)
}

func (n Lane) guarded(ctx context.Context, conn *pgx.Conn, sql string, args ...any) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := n.Guard(ctx, tx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, sql, args...)
		return err
	})
}

// holdMain waits for every guarded transaction: those lock the row for key share.
const holdMain = `select from dts_sync.migration where id = $1 for update`

// BeginOpening must be the first statement of the transaction that opens the target: it waits for all guarded
// transactions, lets none follow until this one ends, and refuses like Guard.
func (n Lane) BeginOpening(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, holdMain, n.ID); err != nil {
		return err
	}
	return n.Guard(ctx, tx)
}

const setOpened = `
update dts_sync.migration set opened_at = $2, evidence = $3 where id = $1 and opened_at is null`

// SetOpened sets the tombstone (I3), as the last statement of a transaction that began with BeginOpening. An error of
// its commit leaves it open whether the target was opened: read opened_at in another session, after this one is gone.
func (n Lane) SetOpened(ctx context.Context, tx pgx.Tx, evidence Evidence) error {
	encoded, err := json.Marshal(evidence)
	if err != nil {
		return err
	}
	tag, err := tx.Exec(ctx, setOpened, n.ID, evidence.Opened, encoded)
	if err == nil && tag.RowsAffected() != 1 {
		return errOpened(n.ID)
	}
	return err
}

const setVerdicts = `
update dts_sync.tbl t set verdict = v.verdict
from unnest($2::oid[], $3::text[]) v (relid, verdict)
where t.migration = $1 and t.relid = v.relid`

// RecordVerdicts keeps the outcome of comparing tables, by their oid on the source.
func (n Lane) RecordVerdicts(ctx context.Context, conn *pgx.Conn, verdicts map[uint32]string) error {
	relids, texts := make([]uint32, 0, len(verdicts)), make([]string, 0, len(verdicts))
	for relid, verdict := range verdicts {
		relids, texts = append(relids, relid), append(texts, verdict)
	}
	return n.guarded(ctx, conn, setVerdicts, n.ID, relids, texts)
}
