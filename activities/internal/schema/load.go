package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config is what every call needs.
type Config struct {
	Source, Target *pg.Server
	Lane           ledger.Lane    // entered by the caller; sessions carry its name, transactions its token
	Spec           migration.Spec // which objects, under which names; whose they are, and whether grants come along
	Parallel       int            // sessions that build indexes and foreign keys at once; 0 = 2
	Report         func(migration.Beat)
	Log            *zap.Logger
}

const parallelDefault = 2

func (c Config) parallel() int {
	if c.Parallel > 0 {
		return c.Parallel
	}
	return parallelDefault
}

// Load reads the source's schema and writes what the definition means of it into the ledger, in one transaction, under the
// names that it gets. A second call does nothing. A failure leaves nothing. It needs the migration's row in the ledger,
// which says whether the replica role is ours.
//
// What the definition does not mean is not in the ledger. What it means but what cannot be had, because it needs something
// that is left out, or cannot be renamed, is there as skipped, with the reason.
func Load(ctx context.Context, cfg Config) error {
	conn, err := cfg.Target.Connect(ctx, cfg.Lane.Session())
	if err != nil {
		return err
	}
	defer pg.Close(conn)
	l := ledger.Ledger{ID: cfg.Lane.ID, Conn: conn}
	if has, err := l.HasObjects(ctx); err != nil || has {
		return cfg.Target.Fault("read the ledger of", string(l.ID), err)
	}
	planned, err := readPlan(ctx, cfg, l, nil)
	if err != nil {
		return err
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := cfg.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		return planned.write(ctx, tx, l)
	})
	if err != nil {
		return cfg.Target.Fault("record", "schema objects", err)
	}
	cfg.Log.Info("schema was read", zap.Int("objects", len(planned.objects)))
	return nil
}

// write records objects and notes, in a guarded transaction that is open on the ledger's connection.
func (p plan) write(ctx context.Context, tx pgx.Tx, l ledger.Ledger) error {
	if err := l.AddObjects(ctx, tx, p.objects); err != nil {
		return err
	}
	for _, note := range p.notes {
		if err := l.AddNote(ctx, note); err != nil {
			return err
		}
	}
	return nil
}

// readPlan reads both sides and decides about every object. made are relations that an earlier attempt has made.
func readPlan(ctx context.Context, cfg Config, l ledger.Ledger, made map[migration.TableName]bool) (plan, error) {
	source, err := readSource(ctx, cfg)
	if err != nil {
		return plan{}, err
	}
	to, err := readTarget(ctx, l, cfg)
	if err != nil {
		return plan{}, cfg.Target.Fault("read", "schemas and roles", err)
	}
	to.made = made
	return classify(ctx, source, to)
}

// reading is what was read of the source under one snapshot.
type reading struct {
	facts
	*shaper
	selection mapping.Selection
	names     mapping.Names
	entries   []Entry        // those that the definition means
	reasons   map[int]string // why some of them are left out
}

// readSource takes dump and facts under one snapshot. Whether a failed pg_dump means that the source is gone is asked
// of the session that holds the snapshot.
func readSource(ctx context.Context, cfg Config) (reading, error) {
	conn, err := cfg.Source.Connect(ctx, cfg.Lane.Session())
	if err != nil {
		return reading{}, err
	}
	defer pg.Close(conn)
	version, err := pg.Version(ctx, conn)
	if err != nil {
		return reading{}, cfg.Source.Fault("read", "version", err)
	}
	program, _, err := FindDump(version)
	if err != nil {
		return reading{}, noDump(err)
	}
	var snapshot string
	if _, err := conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return reading{}, cfg.Source.Fault("begin", "snapshot", err)
	}
	if err := conn.QueryRow(ctx, "select pg_catalog.pg_export_snapshot()").Scan(&snapshot); err != nil {
		return reading{}, cfg.Source.Fault("export", "snapshot", err)
	}
	archive, err := dump(ctx, cfg.Source, conn, program, cfg.Lane.Session(), snapshot, cfg.Spec.Schema.Grants)
	if err != nil {
		if ctx.Err() != nil {
			return reading{}, ctx.Err()
		}
		if pingErr := conn.Ping(ctx); pingErr != nil {
			return reading{}, cfg.Source.Fault("dump", "schema", pingErr)
		}
		return reading{}, cfg.Source.Fault("dump", "schema", err)
	}
	return cfg.resolve(ctx, conn, archive.Entries)
}

// resolve reads the catalog beside the dump and finds what the definition means.
func (c Config) resolve(ctx context.Context, conn *pgx.Conn, entries []Entry) (reading, error) {
	if err := withKeyNeeds(ctx, conn, entries); err != nil {
		return reading{}, c.Source.Fault("read", "catalog", err)
	}
	selection, problems, err := mapping.Read(ctx, conn, c.Spec)
	if err != nil {
		return reading{}, c.Source.Fault("read", "catalog", err)
	}
	for _, problem := range problems {
		// A foreign key whose parent is not selected is left out, with the reason; nobody loses rows by that.
		if !problem.Alert && problem.Kind != mapping.KindParents {
			fault := migration.NewFault(migration.FaultPrecheck, "read schema of", problem.Object, errors.New(problem.Text), problem.Fix)
			fault.Side = migration.Source
			return reading{}, fault
		}
	}
	found, err := readFacts(ctx, conn, selection.Tables)
	if err != nil {
		return reading{}, c.Source.Fault("read", "catalog", err)
	}
	if c.keeps() || !selection.Everything || !selection.Names.Same() {
		if err := found.readSequences(ctx, conn); err != nil {
			return reading{}, c.Source.Fault("read", "catalog", err)
		}
	}
	shaper := newShaper(selection.Tables, found)
	chosen, reasons := choose(entries, selection, found, shaper, c.Spec)
	return reading{
		facts: found, shaper: shaper, selection: selection, names: selection.Names,
		entries: chosen, reasons: reasons,
	}, nil
}

const (
	readRoles    = "select rolname::text from pg_catalog.pg_roles"
	readOwnRoles = "select rolname::text from pg_catalog.pg_roles where pg_catalog.pg_has_role(oid, 'member')"
)

func readTarget(ctx context.Context, l ledger.Ledger, cfg Config) (target, error) {
	to := target{keeps: cfg.keeps()}
	main, err := l.Read(ctx)
	if err != nil {
		return to, err
	}
	to.replicaRole = main.ReplicaRole
	if to.schemas, err = set(ctx, l.Conn, "select nspname::text from pg_catalog.pg_namespace"); err != nil {
		return to, err
	}
	if to.roles, err = set(ctx, l.Conn, readRoles); err != nil {
		return to, err
	}
	if cfg.Spec.Schema.Owner == "keep" {
		if to.owners, err = set(ctx, l.Conn, readOwnRoles); err != nil {
			return to, err
		}
	}
	if to.keeps {
		if to.present, err = readPresence(ctx, l.Conn); err != nil {
			return to, err
		}
	}
	to.identities, err = readIdentities(ctx, l)
	return to, err
}

func set(ctx context.Context, conn *pgx.Conn, sql string) (map[string]bool, error) {
	names, err := pg.Strings(ctx, conn, sql)
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set, nil
}

// readIdentities finds what the migration has set to FULL on the source for its own use: the target gets what the user had.
func readIdentities(ctx context.Context, l ledger.Ledger) (map[migration.TableName]string, error) {
	var encoded []byte
	if err := l.Conn.QueryRow(ctx, "select identities from dts_sync.migration where id = $1", l.ID).Scan(&encoded); err != nil {
		return nil, err
	}
	var changed []struct {
		migration.TableName
		Identity string `json:"identity"`
	}
	if err := json.Unmarshal(encoded, &changed); err != nil {
		return nil, fmt.Errorf("replica identities in the ledger: %w", err)
	}
	identities := map[migration.TableName]string{}
	for _, table := range changed {
		identities[table.TableName] = map[string]string{"d": "default", "n": "nothing"}[table.Identity]
	}
	return identities, nil
}

// notesOf tells what is left out from the start, and what was there.
func notesOf(objects []ledger.Object) []string {
	var notes, kept []string
	unaltered := 0
	for _, object := range objects {
		switch {
		case object.Message == ledger.WasThere && slices.Contains(relationKinds, object.Kind):
			kept = append(kept, object.Title())
		case object.State != ledger.ObjectSkipped || strings.HasPrefix(object.Message, "needs ") && object.Kind != "FK CONSTRAINT":
		case strings.HasSuffix(object.Message, unalteredReason):
			unaltered++
		default:
			notes = append(notes, "left out: "+object.Title()+": "+object.Message)
		}
	}
	if len(kept) > 0 {
		notes = append(notes, fmt.Sprintf("kept as the target has it: %s; %d objects that belong to these are left out", named(kept), unaltered))
	}
	return notes
}

// lostOwners counts the objects, by owner, that will belong to the target's role though the definition says keep.
func lostOwners(entries []Entry, to target) []string {
	lost := map[string]int{}
	for _, entry := range entries {
		if to.owners != nil && entry.Owner != "" && !to.owners[entry.Owner] && ownable(entry) != "" {
			lost[entry.Owner]++
		}
	}
	return byRole(lost, "%d objects of role %s belong to the migration's role on the target: it has no role %[2]s, or may not act for it")
}

func lostGrants(lost map[string]int) []string {
	return byRole(lost, "%d grants to role %s are left out: the target has no such role")
}

func byRole(counts map[string]int, format string) []string {
	var notes []string
	for _, role := range slices.Sorted(maps.Keys(counts)) {
		notes = append(notes, fmt.Sprintf(format, counts[role], role))
	}
	return notes
}
