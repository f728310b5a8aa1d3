package slot

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/catalog"
	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// replicaIdentity is what a table had before we set FULL.
type replicaIdentity struct {
	migration.TableName
	Identity string `json:"identity"` // relreplident: d n i
	Index    string `json:"index,omitempty"`
}

func (r replicaIdentity) restore() string {
	statement := "alter table only " + r.SQL() + " replica identity "
	switch {
	case r.Identity == "i" && r.Index != "":
		return statement + "using index " + migration.Quote(r.Index)
	case r.Identity == "d":
		return statement + "default"
	}
	return statement + "nothing"
}

type identities []replicaIdentity

// toChange are the tables that become identifiable by all their columns, where the definition allows it: those that
// nothing else identifies, and those of whose old rows an expression needs more than the key.
func toChange(spec migration.Spec, tables []mapping.Table) identities {
	var changed identities
	for _, table := range tables {
		keyless := table.WithoutKey == migration.FullIdentity && table.Kind == "r" && !table.Unlogged &&
			table.Published(migration.InsertOnly) != catalog.PublishedAll
		if table.Identity != "f" && (keyless || needsFull(spec, table)) {
			changed = append(changed, replicaIdentity{TableName: table.Name, Identity: table.Identity, Index: table.KeyIndex})
		}
	}
	return changed
}

// with adds what is not recorded yet. What is recorded stays: a second look would find our own FULL.
func (l identities) with(more identities) identities {
	known := map[migration.TableName]bool{}
	for _, table := range l {
		known[table.TableName] = true
	}
	for _, table := range more {
		if !known[table.TableName] {
			l = append(l, table)
		}
	}
	return l
}

func (l identities) encode() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal(l)
}

type querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func readIdentities(ctx context.Context, conn querier, id migration.ID) (identities, error) {
	var encoded []byte
	err := conn.QueryRow(ctx, "select identities from dts_sync.migration where id = $1", id).Scan(&encoded)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var recorded identities
	return recorded, json.Unmarshal(encoded, &recorded)
}

func setIdentities(ctx context.Context, server *pg.Server, conn *pgx.Conn, changed identities) error {
	for _, table := range changed {
		if err := alterSoon(ctx, conn, "alter table only "+table.SQL()+" replica identity full"); err != nil {
			return hinted(server.Fault("set replica identity of", table.String(), err), "55P03",
				"a transaction has kept the table locked; end it, the step is tried again")
		}
	}
	return nil
}

const (
	// alterTimeout is how long others queue behind our wait for the table's strongest lock.
	alterTimeout = "1s"
	alterTries   = 20
	alterPause   = 500 * time.Millisecond
)

// alterSoon tries again and again for a short lock instead of once for a long one, because everybody who comes after a
// waiting ALTER TABLE waits too.
func alterSoon(ctx context.Context, conn *pgx.Conn, statement string) error {
	for try := 1; ; try++ {
		err := execLocking(ctx, conn, alterTimeout, statement)
		if pg.SQLState(err) != "55P03" || try == alterTries { // lock_not_available
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(alterPause):
		}
	}
}
