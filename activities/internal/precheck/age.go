package precheck

import (
	"context"
	"fmt"
)

// ageMax is a quarter of the way to where a server takes no more writes. A slot keeps the catalog from being frozen.
const ageMax = 500_000_000

type age struct {
	Database string
	Age      int64
}

// readAge leaves out databases that nobody can connect to: the server itself freezes them.
const readAge = `select datname::text, age(datfrozenxid)::bigint from pg_database where datallowconn order by 2 desc, 1`

func xidAge(ctx context.Context, l *look) (finding, error) {
	found, err := rows[age](ctx, l.source, readAge)
	if err != nil {
		return finding{}, err
	}
	var names, fixes []string
	for _, f := range found {
		if f.Age >= ageMax {
			names = append(names, fmt.Sprintf("%s (%d million)", f.Database, f.Age/1_000_000))
			fixes = append(fixes, elsewhere(f.Database, l.source.server.Database(), "vacuum (freeze);"))
		}
	}
	if len(names) == 0 {
		return passed("the oldest is %d transactions old, in database %s", found[0].Age, found[0].Database), nil
	}
	return alert(statements(fixes), "databases have rows that were last frozen very many transactions ago: %s; the slot keeps the catalog from "+
		"being frozen as long as the migration takes, and at two thousand million the source takes no more writes", list(names)), nil
}
