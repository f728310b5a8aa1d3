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

// create makes the publication anew, unless one stands that is just so: an administrator may have made it for a role
// that may not.
func (p publication) create(ctx context.Context, server *pg.Server, conn *pgx.Conn) error {
	stands, err := p.look(ctx, conn)
	if err != nil {
		return server.Fault("read publication", p.name, err)
	}
	if stands == asWanted {
		return nil
	}
	return p.run(ctx, server, conn, p.statements()...)
}

func (p publication) run(ctx context.Context, server *pg.Server, conn *pgx.Conn, statements ...string) error {
	for _, statement := range statements {
		if err := execLocking(ctx, conn, lockTimeoutPublish, statement); err != nil {
			return hinted(server.Fault("create publication", p.name, err), "42501",
				"the role must own the tables and may create publications: grant create on database "+
					migration.Quote(server.Database())+"; or let an administrator run: "+p.prescription())
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

const readPublication = `
select p.pubinsert, p.pubupdate, p.pubdelete, coalesce(to_jsonb(p) ->> 'pubtruncate', 'true')::boolean,
       p.puballtables or coalesce(to_jsonb(p) ->> 'pubviaroot', 'false')::boolean or exists (
           select from pg_catalog.pg_publication_rel r, pg_catalog.to_jsonb(r) j
           where r.prpubid = p.oid and (j ->> 'prqual' is not null or j ->> 'prattrs' is not null)),
       array(select r.prrelid from pg_catalog.pg_publication_rel r where r.prpubid = p.oid)
from pg_catalog.pg_publication p where p.pubname = $1`

func (p publication) look(ctx context.Context, conn *pgx.Conn) (standing, error) {
	var insert, update, remove, truncate, other bool
	var members []uint32
	err := conn.QueryRow(ctx, readPublication, p.name).Scan(&insert, &update, &remove, &truncate, &other, &members)
	if errors.Is(err, pgx.ErrNoRows) {
		return absent, nil
	}
	if err != nil {
		return absent, err
	}
	wanted, err := p.members(ctx, conn)
	if err != nil {
		return absent, err
	}
	everything := p.publish == ""
	if !insert || !truncate || update != everything || remove != everything || other {
		return otherwise, nil
	}
	slices.Sort(members)
	switch {
	case slices.Equal(members, slices.Sorted(slices.Values(wanted))):
		return asWanted, nil
	case p.marker && slices.Equal(members, slices.Sorted(slices.Values(wanted[:len(p.tables)]))):
		return markerless, nil
	}
	return otherwise, nil
}

// members ends with the marker table.
func (p publication) members(ctx context.Context, conn *pgx.Conn) ([]uint32, error) {
	var oids []uint32
	for _, table := range p.tables {
		oids = append(oids, table.oid)
	}
	if p.marker {
		var oid uint32
		if err := conn.QueryRow(ctx, "select $1::text::regclass::oid", wal.MarkerTable.SQL()).Scan(&oid); err != nil {
			return nil, err
		}
		oids = append(oids, oid)
	}
	return oids, nil
}

// statements are each a transaction: one that named every table would hold as many locks.
func (p publication) statements() []string {
	name := migration.Quote(p.name)
	create := "create publication " + name
	if p.publish != "" {
		create += " with (publish = " + migration.Literal(p.publish) + ")"
	}
	statements := []string{"drop publication if exists " + name, create}
	for batch := range slices.Chunk(p.sqlNames(), batchTables) {
		statements = append(statements, "alter publication "+name+" add table "+strings.Join(batch, ", "))
	}
	return statements
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
