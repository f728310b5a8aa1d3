package slot

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/activities/internal/mapping"
	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Wanted is what Prepare will look for on the source beside the slot, and how much of it stands there.
type Wanted struct {
	plan    plan
	found   []sight // of each publication
	marker  markerTable
	markers bool // the server needs a marker table
}

// Want looks and changes nothing. A role that may not make what is wanted needs an administrator who runs Statements;
// Prepare then takes what stands.
func Want(ctx context.Context, conn *pgx.Conn, spec migration.Spec, tables []mapping.Table) (Wanted, error) {
	version, err := pg.Version(ctx, conn)
	if err != nil {
		return Wanted{}, err
	}
	parted, err := partedRoots(ctx, conn, spec, tables)
	if err != nil {
		return Wanted{}, err
	}
	w := Wanted{plan: makePlan(spec, tables, version, parted), markers: version < messagesSince}
	for _, publication := range w.plan.publications {
		found, err := publication.look(ctx, conn)
		if err != nil {
			return w, err
		}
		w.found = append(w.found, found)
	}
	if w.markers {
		w.marker, err = lookMarker(ctx, conn)
	}
	return w, err
}

// Members are the tables that are published; of a partitioned one its partitions are, present and future.
func (w Wanted) Members() []migration.TableName {
	var names []migration.TableName
	for _, publication := range w.plan.publications {
		for _, table := range publication.tables {
			names = append(names, table.name)
		}
	}
	return names
}

// Prepared reports whether nothing is left to be made.
func (w Wanted) Prepared() bool { return len(w.Lacking()) == 0 }

// Strange names publications that somebody else has made otherwise than they are wanted, with the difference: who may
// make publications may not change these.
func (w Wanted) Strange() []string {
	var strange []string
	for i, publication := range w.plan.publications {
		if w.found[i].standing == otherwise && !w.found[i].ours {
			strange = append(strange, fmt.Sprintf("publication %s is not as it is wanted: %s", publication.name, w.found[i].difference))
		}
	}
	return strange
}

// Lacking says what is not there, or not as it is wanted.
func (w Wanted) Lacking() []string {
	var lacking []string
	for i, publication := range w.plan.publications {
		switch found := w.found[i]; found.standing {
		case absent:
			lacking = append(lacking, "publication "+publication.name)
		case otherwise, markerless:
			lacking = append(lacking, fmt.Sprintf("publication %s as it is wanted (%s)", publication.name, found.difference))
		case asWanted:
		}
	}
	if w.markers && !w.marker.usable {
		lacking = append(lacking, "table "+markerName+" for the role's use")
	}
	for _, table := range w.plan.identities {
		lacking = append(lacking, "replica identity full of "+table.String())
	}
	return lacking
}

// ToAlter are the tables that only their owner can prepare: those of publications that are not there as they are wanted,
// and those that need REPLICA IDENTITY FULL and have it not.
func (w Wanted) ToAlter() []migration.TableName {
	var names []migration.TableName
	for i, publication := range w.plan.publications {
		if standing := w.found[i].standing; standing == absent || standing == otherwise {
			for _, table := range publication.tables {
				names = append(names, table.name)
			}
		}
	}
	for _, table := range w.plan.identities {
		names = append(names, table.TableName)
	}
	return names
}

// Marker reports whether the marker table exists, and whether the role can use it. Since 14 nobody needs it.
func Marker(ctx context.Context, conn *pgx.Conn) (usable, exists bool, err error) {
	found, err := lookMarker(ctx, conn)
	return found.usable, found.exists, err
}

// MarkerStatements make the marker table for a role, for an administrator to run.
func MarkerStatements(role string) []string {
	return []string{
		createMarkerSchema + ";", createMarkerTable + ";",
		"grant usage on schema dts_sync to " + migration.Quote(role) + ";",
		"grant select, insert, update, delete on dts_sync.marker to " + migration.Quote(role) + ";",
	}
}

// Statements make what is lacking, for an administrator to run on behalf of a role; a second time they make the same
// again. What stands as it is wanted is left alone, so that a stream that uses it is not disturbed.
func (w Wanted) Statements(role string) []string {
	var statements []string
	for _, table := range w.plan.identities {
		statements = append(statements, "alter table only "+table.SQL()+" replica identity full;")
	}
	if w.markers && !w.marker.usable {
		statements = append(statements, MarkerStatements(role)...)
	}
	for i, publication := range w.plan.publications {
		switch w.found[i].standing {
		case absent, otherwise:
			for _, statement := range append([]string{publication.drop(), publication.createEmpty("")}, publication.additions()...) {
				statements = append(statements, statement+";")
			}
		case markerless:
			statements = append(statements, publication.addMarker()+";")
		case asWanted:
		}
	}
	return statements
}

// leftText is what is said of an administrator's things that stay.
func leftText(what string, statements ...string) string {
	return what + " was made by an administrator and stays; dropped by: " + strings.Join(statements, "; ")
}
