package schema

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config is what every call needs.
type Config struct {
	Source, Target *pg.Server
	Lane           ledger.Lane            // entered by the caller; sessions carry its name, transactions its token
	Policy         migration.SchemaPolicy // whose the objects are, and whether grants come along
	Parallel       int                    // sessions that build indexes and foreign keys at once; 0 = 2
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

// Load reads the source's schema and writes its objects into the ledger, in one transaction. A second call does nothing.
// A failure leaves nothing. It needs the migration's row in the ledger, which says whether the replica role is ours.
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
	entries, found, err := readSource(ctx, cfg)
	if err != nil {
		return err
	}
	to, err := readTarget(ctx, l, cfg.Policy)
	if err != nil {
		return cfg.Target.Fault("read", "schemas and roles", err)
	}
	objects := classify(entries, found, to)
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := cfg.Lane.Guard(ctx, tx); err != nil {
			return err
		}
		if err := l.AddObjects(ctx, tx, objects); err != nil {
			return err
		}
		return addNotes(ctx, l, objects, lostOwners(entries, to))
	})
	if err != nil {
		return cfg.Target.Fault("record", "schema objects", err)
	}
	cfg.Log.Info("schema was read", zap.Int("objects", len(objects)))
	return nil
}

// readSource takes dump and facts under one snapshot. Whether a failed pg_dump means that the source is gone is asked
// of the session that holds the snapshot.
func readSource(ctx context.Context, cfg Config) ([]Entry, facts, error) {
	conn, err := cfg.Source.Connect(ctx, cfg.Lane.Session())
	if err != nil {
		return nil, facts{}, err
	}
	defer pg.Close(conn)
	version, err := pg.Version(ctx, conn)
	if err != nil {
		return nil, facts{}, cfg.Source.Fault("read", "version", err)
	}
	program, _, err := FindDump(version)
	if err != nil {
		return nil, facts{}, noDump(err)
	}
	var snapshot string
	if _, err := conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return nil, facts{}, cfg.Source.Fault("begin", "snapshot", err)
	}
	if err := conn.QueryRow(ctx, "select pg_catalog.pg_export_snapshot()").Scan(&snapshot); err != nil {
		return nil, facts{}, cfg.Source.Fault("export", "snapshot", err)
	}
	archive, err := dump(ctx, cfg.Source, program, cfg.Lane.Session(), snapshot, cfg.Policy.Grants)
	if err != nil {
		if ctx.Err() != nil {
			return nil, facts{}, ctx.Err()
		}
		if pingErr := conn.Ping(ctx); pingErr != nil {
			return nil, facts{}, cfg.Source.Fault("dump", "schema", pingErr)
		}
		return nil, facts{}, cfg.Source.Fault("dump", "schema", err)
	}
	found, err := readFacts(ctx, conn)
	return archive.Entries, found, cfg.Source.Fault("read", "catalog", err)
}

const readRoles = `select rolname::text from pg_catalog.pg_roles where pg_catalog.pg_has_role(oid, 'member')`

func readTarget(ctx context.Context, l ledger.Ledger, policy migration.SchemaPolicy) (target, error) {
	to := target{schemas: map[string]bool{}}
	main, err := l.Read(ctx)
	if err != nil {
		return to, err
	}
	to.replicaRole = main.ReplicaRole
	schemas, err := pg.Strings(ctx, l.Conn, "select nspname::text from pg_catalog.pg_namespace")
	if err != nil {
		return to, err
	}
	for _, name := range schemas {
		to.schemas[name] = true
	}
	if policy.Owner == "keep" {
		to.owners = map[string]bool{}
		roles, err := pg.Strings(ctx, l.Conn, readRoles)
		if err != nil {
			return to, err
		}
		for _, role := range roles {
			to.owners[role] = true
		}
	}
	to.identities, err = readIdentities(ctx, l)
	return to, err
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

// lostOwners counts the objects, by owner, that will belong to the target's role though the definition says keep.
func lostOwners(entries []Entry, to target) map[string]int {
	lost := map[string]int{}
	for _, entry := range entries {
		if to.owners != nil && entry.Owner != "" && !to.owners[entry.Owner] && ownable(entry) != "" {
			lost[entry.Owner]++
		}
	}
	return lost
}

// addNotes tells what is left out from the start, in the transaction that is open on the ledger's connection.
func addNotes(ctx context.Context, l ledger.Ledger, objects []ledger.Object, lost map[string]int) error {
	var notes []error
	for _, object := range objects {
		if object.State == ledger.ObjectSkipped && !strings.HasPrefix(object.Message, "needs ") {
			notes = append(notes, l.AddNote(ctx, "left out: "+object.Title()+": "+object.Message))
		}
	}
	owners := make([]string, 0, len(lost))
	for owner := range lost {
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	for _, owner := range owners {
		notes = append(notes, l.AddNote(ctx, fmt.Sprintf(
			"%d objects of role %s belong to the migration's role on the target: it has no role %s, or may not act for it",
			lost[owner], owner, owner)))
	}
	return errors.Join(notes...)
}
