package schema

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const readKeyNeeds = `
select distinct c.oid, coalesce(e.refclassid, d.refclassid), coalesce(e.refobjid, d.refobjid)
from pg_catalog.pg_constraint c
join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.objid = c.conindid and d.deptype = 'n'
left join pg_catalog.pg_depend e on e.classid = d.refclassid and e.objid = d.refobjid and e.deptype = 'e'
where c.contype in ('p', 'u', 'x') and coalesce(e.refobjid, d.refobjid) >= 16384`

// withKeyNeeds has constraints depend on what their indexes need: operator classes and collations, or the extensions that
// bring these. pg_dump does not say so, because in its order they come long before; but where the definition means some
// tables only, nobody else would bring them along.
func withKeyNeeds(ctx context.Context, conn *pgx.Conn, entries []Entry) error {
	byKey := make(map[objectKey]int, len(entries))
	constraints := map[uint32]*Entry{}
	for i, e := range entries {
		byKey[objectKey{class: e.TableOID, oid: e.OID}] = e.ID
		if e.Kind == "CONSTRAINT" {
			constraints[e.OID] = &entries[i]
		}
	}
	rows, err := conn.Query(ctx, readKeyNeeds)
	if err != nil {
		return fmt.Errorf("read what keys need: %w", err)
	}
	var constraint uint32
	var needed objectKey
	_, err = pgx.ForEachRow(rows, []any{&constraint, &needed.class, &needed.oid}, func() error {
		if id, there := byKey[needed]; there && constraints[constraint] != nil {
			constraints[constraint].Depends = append(constraints[constraint].Depends, id)
		}
		return nil
	})
	return err
}
