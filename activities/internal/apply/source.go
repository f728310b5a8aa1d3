package apply

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/wal"
)

// onSource runs work in a session of the source, which is opened when it is first needed.
func (a *Applier) onSource(ctx context.Context, op, object string, work func(*pgx.Conn) error) error {
	if a.source == nil {
		conn, err := a.config.Source.Connect(ctx, a.config.Lane.Session())
		if err != nil {
			return err
		}
		a.source = conn
	}
	return a.config.Source.Fault(op, object, work(a.source))
}

// nameTypes names types as plans do.
const nameTypes = `
select coalesce(format_type(o, m), '') from unnest($1::oid[], $2::int4[]) with ordinality as u(o, m, n) order by n`

type typeKey struct {
	oid    uint32
	mod    int32
	target bool // its name there
}

// sourceTypes names the types of a relation's columns, "" where the type's oid tells enough: no modifier is or was there.
func (a *Applier) sourceTypes(ctx context.Context, t *table, relation *wal.Relation) ([]string, error) {
	types := make([]string, len(relation.Columns))
	var oids []uint32
	var mods []int32
	for _, column := range relation.Columns {
		key := typeKey{oid: column.TypeOID, mod: column.TypeMod}
		if _, known := a.types[key]; !known && t.needsType(column) {
			a.types[key] = ""
			oids, mods = append(oids, key.oid), append(mods, key.mod)
		}
	}
	if len(oids) > 0 {
		if err := a.readTypes(ctx, relation, oids, mods); err != nil {
			return nil, err
		}
	}
	for i, column := range relation.Columns {
		if t.needsType(column) {
			types[i] = a.types[typeKey{oid: column.TypeOID, mod: column.TypeMod}]
		}
	}
	return types, nil
}

func (t *table) needsType(column wal.RelationColumn) bool {
	planned := t.plannedColumn(column.Name)
	return planned == nil || planned.TypeOID != column.TypeOID || column.TypeMod != -1 || strings.Contains(planned.Type, "(")
}

func (a *Applier) readTypes(ctx context.Context, relation *wal.Relation, oids []uint32, mods []int32) error {
	return a.onSource(ctx, "name types of", relation.Name.String(), func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, nameTypes, oids, mods)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if len(names) != len(oids) {
			return fmt.Errorf("%d types, %d names", len(oids), len(names))
		}
		for i, name := range names {
			a.types[typeKey{oid: oids[i], mod: mods[i]}] = name
		}
		return nil
	})
}
