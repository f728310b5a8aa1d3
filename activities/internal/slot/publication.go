package slot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// publication is one list of tables, never FOR ALL TABLES: that would make updates of every table without a key fail.
type publication struct {
	name    string
	publish string // "" = everything
	tables  []member
	marker  bool // with the marker table
}

type member struct {
	oid  uint32
	name migration.TableName
}

// ownMark is the comment of a publication that we made. One without it is somebody else's: an administrator may have made
// it for a role that may not. It is neither changed nor dropped.
const ownMark = "made by pgdts"

// create makes the publication, or makes its own anew, unless one stands that is just so. One of somebody else that is not
// as it is wanted is refused: what it publishes besides, or not, is not ours to change. It returns what it found.
func (p publication) create(ctx context.Context, server *pg.Server, conn *pgx.Conn) (sight, error) {
	found, err := p.look(ctx, conn)
	if err != nil {
		return found, server.Fault("read publication", p.name, err)
	}
	switch {
	case found.standing == asWanted:
		return found, nil
	case found.standing == absent || found.ours:
		return found, p.run(ctx, server, conn, append([]string{p.drop(), p.createEmpty(ownMark)}, p.additions()...)...)
	case found.standing == markerless:
		return found, p.run(ctx, server, conn, p.addMarker())
	}
	fault := migration.NewFault(migration.FaultDrift, "use publication", p.name,
		fmt.Errorf("somebody has made it, and not as this definition needs it: %s", found.difference),
		"`pgdts check` prints the SQL that makes it as it must be; or drop it, where the role may publish the tables itself: "+p.drop())
	fault.Side = migration.Source
	return found, fault
}

func (p publication) run(ctx context.Context, server *pg.Server, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if err := execLocking(ctx, conn, lockTimeoutPublish, statement); err != nil {
			return hinted(server.Fault("create publication", p.name, err), "42501",
				"the role must own the tables and may create publications: grant create on database "+
					migration.Quote(server.Database())+"; or let an administrator run what `pgdts check` prints: "+p.prescription())
		}
	}
	return nil
}

// standing is how a publication of this name is.
type standing int

const (
	absent     standing = iota
	otherwise           // not as it is wanted
	markerless          // as it is wanted, but for the marker table, of which an administrator knows nothing
	asWanted
)

// sight is a publication as it was found.
type sight struct {
	standing
	ours       bool   // it has our mark
	difference string // why it is otherwise
}

const readPublication = `
select p.pubinsert, p.pubupdate, p.pubdelete, coalesce(to_jsonb(p) ->> 'pubtruncate', 'true')::boolean,
       p.puballtables or coalesce(to_jsonb(p) ->> 'pubviaroot', 'false')::boolean
           or exists (select from pg_catalog.pg_depend d
                      where d.refclassid = 'pg_catalog.pg_publication'::regclass and d.refobjid = p.oid
                        and d.classid = pg_catalog.to_regclass('pg_catalog.pg_publication_namespace')),
       array(select r.prrelid from pg_catalog.pg_publication_rel r where r.prpubid = p.oid),
       array(select r.prrelid::regclass::text from pg_catalog.pg_publication_rel r, pg_catalog.to_jsonb(r) j
             where r.prpubid = p.oid and (j ->> 'prqual' is not null or j ->> 'prattrs' is not null)),
       coalesce(pg_catalog.obj_description(p.oid, 'pg_publication'), '')
from pg_catalog.pg_publication p where p.pubname = $1`

func (p publication) look(ctx context.Context, conn *pgx.Conn) (sight, error) {
	var insert, update, remove, truncate, other bool
	var members []uint32
	var narrowed []string
	var mark string
	err := conn.QueryRow(ctx, readPublication, p.name).Scan(&insert, &update, &remove, &truncate, &other, &members, &narrowed, &mark)
	if errors.Is(err, pgx.ErrNoRows) {
		return sight{}, nil
	}
	if err != nil {
		return sight{}, err
	}
	wanted, err := p.members(ctx, conn)
	if err != nil {
		return sight{}, err
	}
	found := sight{standing: otherwise, ours: mark == ownMark}
	everything := p.publish == ""
	switch {
	case !insert || !truncate || update != everything || remove != everything:
		found.difference = "it must publish " + p.operations()
	case other:
		found.difference = "it is for all tables or for schemas, or publishes partitions as their root"
	case len(narrowed) > 0:
		found.difference = "it leaves out rows or columns of " + first(narrowed)
	default:
		found.standing, found.difference, err = p.compare(ctx, conn, members, wanted)
	}
	return found, err
}

func (p publication) operations() string {
	if p.publish == "" {
		return "all operations"
	}
	return "only " + p.publish
}

const readNames = `
select oid::regclass::text from pg_catalog.pg_class where oid = any ($1) order by 1`

// compare says how the tables differ.
func (p publication) compare(ctx context.Context, conn *pgx.Conn, members, wanted []uint32) (standing, string, error) {
	slices.Sort(members)
	if slices.Equal(members, slices.Sorted(slices.Values(wanted))) {
		return asWanted, "", nil
	}
	if p.marker && slices.Equal(members, slices.Sorted(slices.Values(wanted[:len(p.tables)]))) {
		return markerless, "it lacks " + markerName, nil
	}
	var differences []string
	for _, side := range []struct {
		what string
		of   []uint32
		not  []uint32
	}{{"it lacks ", wanted, members}, {"it has besides ", members, wanted}} {
		names, err := pg.Strings(ctx, conn, readNames, slices.DeleteFunc(slices.Clone(side.of), func(oid uint32) bool {
			return slices.Contains(side.not, oid)
		}))
		if err != nil {
			return otherwise, "", err
		}
		if len(names) > 0 {
			differences = append(differences, side.what+first(names))
		}
	}
	return otherwise, strings.Join(differences, ", "), nil
}

// members ends with the marker table, which is 0 while there is none.
func (p publication) members(ctx context.Context, conn *pgx.Conn) ([]uint32, error) {
	var oids []uint32
	for _, table := range p.tables {
		oids = append(oids, table.oid)
	}
	if p.marker {
		var oid uint32
		err := conn.QueryRow(ctx, "select c.oid"+findMarker).Scan(&oid)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return nil, err
		}
		oids = append(oids, oid)
	}
	return oids, nil
}

func (p publication) drop() string {
	return "drop publication if exists " + migration.Quote(p.name)
}

// createEmpty is one transaction with the comment, so that none of ours is ever without it.
func (p publication) createEmpty(mark string) string {
	create := "create publication " + migration.Quote(p.name)
	if p.publish != "" {
		create += " with (publish = " + migration.Literal(p.publish) + ")"
	}
	if mark != "" {
		create += "; comment on publication " + migration.Quote(p.name) + " is " + migration.Literal(mark)
	}
	return create
}

// additions are each a transaction: one that named every table would hold as many locks.
func (p publication) additions() []string {
	var statements []string
	for batch := range slices.Chunk(p.sqlNames(), batchTables) {
		statements = append(statements, "alter publication "+migration.Quote(p.name)+" add table "+strings.Join(batch, ", "))
	}
	return statements
}

func (p publication) addMarker() string {
	return "alter publication " + migration.Quote(p.name) + " add table only " + wal.MarkerTable.SQL()
}

// sqlNames say ONLY, because a parent by inheritance would bring its children, which have a publication of their own
// choosing. For a partitioned table the word means nothing.
func (p publication) sqlNames() []string {
	var names []string
	for _, table := range p.tables {
		names = append(names, "only "+table.name.SQL())
	}
	if p.marker {
		names = append(names, "only "+wal.MarkerTable.SQL())
	}
	return names
}

func (p publication) prescription() string {
	const shown = 3
	names := p.sqlNames()
	more := ""
	if len(names) > shown {
		more = fmt.Sprintf(", … (%d tables)", len(names))
		names = names[:shown]
	}
	return "create publication " + migration.Quote(p.name) + " for table " + strings.Join(names, ", ") + more
}

// execLocking runs a statement that must not wait for ever for locks.
func execLocking(ctx context.Context, conn *pgx.Conn, timeout, statement string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local lock_timeout = '"+timeout+"'"); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, statement)
		return err
	})
}
