package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// readReport adds up what the ledger knows. The end of a migration is when it was marked, which ended its lease.
const readReport = `
select m.spec, coalesce(m.ended, ''), m.created_at,
       case when m.ended is null then coalesce(m.opened_at, now()) else m.lease_until end,
       m.changes, m.evidence, m.notes,
       (select count(*) from dts_sync.tbl t where t.migration = m.id and t.mode <> 'root'),
       coalesce(c.rows, 0), coalesce(c.kept, 0), coalesce(c.bytes, 0), coalesce(c.chunks, 0), coalesce(c.recopied, 0),
       coalesce((select sum(t.conflicts) from dts_sync.tbl t where t.migration = m.id), 0)::bigint,
       coalesce(o.done, 0), coalesce(o.failed, 0), coalesce(o.skipped, 0)
from dts_sync.migration m
left join lateral (
    select sum(k.rows) filter (where k.state = 'done')::bigint as rows, sum(k.kept)::bigint as kept,
           sum(k.bytes) filter (where k.state = 'done')::bigint as bytes,
           count(*) filter (where k.state = 'done') as chunks, sum(greatest(k.attempts - 1, 0))::bigint as recopied
    from dts_sync.chunk k where k.migration = m.id
) c on true
left join lateral (
    select count(*) filter (where j.state = 'done') as done, count(*) filter (where j.state = 'failed') as failed,
           count(*) filter (where j.state = 'skipped') as skipped
    from dts_sync.object j where j.migration = m.id
) o on true
where m.id = $1`

// Report reads what was moved, compared and noted so far. ErrUnknown when the ledger does not know the migration.
func (l Ledger) Report(ctx context.Context) (migration.Report, error) {
	report := migration.Report{ID: l.ID}
	var spec, evidence, notes []byte
	err := l.Conn.QueryRow(ctx, readReport, l.ID).Scan(&spec, &report.State, &report.Started, &report.Finished,
		&report.Changes, &evidence, &notes,
		&report.Tables, &report.Rows, &report.Kept, &report.Bytes, &report.Chunks, &report.Recopied, &report.Conflicts,
		&report.Objects.Done, &report.Objects.Failed, &report.Objects.Skipped)
	if errors.Is(err, pgx.ErrNoRows) {
		return report, ErrUnknown
	}
	if err != nil {
		return report, err
	}
	var asked migration.Spec
	if err := json.Unmarshal(spec, &asked); err != nil {
		return report, err
	}
	report.Name, report.Source, report.Target = asked.Name, asked.Source.Address(), asked.Target.Address()
	if err := json.Unmarshal(notes, &report.Notes); err != nil {
		return report, err
	}
	if evidence == nil {
		return report, nil
	}
	var found Evidence
	if err := json.Unmarshal(evidence, &found); err != nil {
		return report, err
	}
	report.WriteBlocked, report.Verified = found.WriteBlocked, found.Verified
	report.Verdicts, report.Sequences = found.Verdicts, found.Sequences
	for _, note := range found.Notes {
		if !slices.Contains(report.Notes, note) {
			report.Notes = append(report.Notes, note)
		}
	}
	return report, nil
}

const readCopied = `
select coalesce(sum(rows), 0)::bigint, coalesce(sum(bytes), 0)::bigint from dts_sync.chunk where migration = $1 and state = 'done'`

// Copied is what the copy has moved so far.
func (l Ledger) Copied(ctx context.Context) (all migration.Amounts, err error) {
	err = l.Conn.QueryRow(ctx, readCopied, l.ID).Scan(&all.Rows, &all.Bytes)
	return all, err
}

const readStatuses = `
select t.schema, t.name, t.target_schema, t.target_name, t.stage, t.mode, t.key, coalesce(c.done, 0), coalesce(c.total, 0),
       coalesce(c.rows, 0), t.est_rows, coalesce(c.kept, 0), coalesce(c.bytes, 0), t.est_bytes, t.conflicts,
       coalesce(t.verdict, ''), coalesce(t.error, c.error, ''),
       case when t.stage <> 'planned' then 100 else coalesce(c.percent, 0) end::float8
from dts_sync.tbl t
left join (
    select k.relid, count(*) filter (where k.state = 'done') as done, count(*) as total,
           sum(k.rows) filter (where k.state = 'done')::bigint as rows, sum(k.bytes) filter (where k.state = 'done')::bigint as bytes,
           sum(k.kept)::bigint as kept,
           round(100 * sum(k.bytes_est) filter (where k.state = 'done') / nullif(sum(k.bytes_est), 0), 1) as percent, max(k.error) filter (where k.state <> 'done') as error
    from dts_sync.chunk k where k.migration = $1 group by k.relid
) c on c.relid = t.relid
where t.migration = $1
order by t.schema, t.name`

// TableStatuses reads how far every table is, by name on the source. Totals of rows and bytes are estimates until the table is copied.
func (l Ledger) TableStatuses(ctx context.Context) ([]migration.TableStatus, error) {
	rows, err := l.Conn.Query(ctx, readStatuses, l.ID)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (migration.TableStatus, error) {
		var s migration.TableStatus
		var name, target migration.TableName
		err := row.Scan(&name.Schema, &name.Name, &target.Schema, &target.Name, &s.Stage, &s.Mode, &s.Key, &s.Chunks.Copied, &s.Chunks.Total,
			&s.Rows.Copied, &s.Rows.Total, &s.Kept, &s.Bytes.Copied, &s.Bytes.Total, &s.Conflicts, &s.Verification, &s.Error, &s.Percent)
		s.Table = name.String()
		if target != name {
			s.Target = target.String()
		}
		if s.Stage != migration.StagePlanned {
			s.Rows.Total, s.Bytes.Total = s.Rows.Copied, s.Bytes.Copied
		}
		return s, err
	})
}
