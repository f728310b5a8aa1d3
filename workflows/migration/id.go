package migration

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// ID names one migration: "pgdts/<name>/<short>". It is the workflow id, and the key of every ledger row.
type ID string

const (
	idPrefix    = "pgdts/"
	shortLength = 10
	// identifierMax is PostgreSQL's NAMEDATALEN - 1.
	identifierMax = 63
)

// DerivedID is the id that the same name and endpoints always give, so that `run` finds its migration again.
func DerivedID(name string, source, target Endpoint) ID {
	sum := sha256.Sum256([]byte(strings.Join([]string{name, source.Address(), target.Address()}, "\x00")))
	return ID(idPrefix + name + "/" + short(sum[:]))
}

// RandomID is a fresh id for `start`.
func RandomID(name string) ID {
	seed := make([]byte, 16)
	_, _ = rand.Read(seed)
	return ID(idPrefix + name + "/" + short(seed))
}

func short(seed []byte) string {
	return strings.ToLower(base32.StdEncoding.EncodeToString(seed))[:shortLength]
}

// ParseID checks the form of an id.
func ParseID(s string) (ID, error) {
	rest, ok := strings.CutPrefix(s, idPrefix)
	cut := strings.LastIndexByte(rest, '/')
	if !ok || cut < 1 || len(rest)-cut-1 != shortLength {
		return "", fmt.Errorf("migration id %q: want pgdts/<name>/<%d characters>", s, shortLength)
	}
	return ID(s), nil
}

// Short is the last part of the id: lower-case letters and digits 2-7, unique for a migration.
func (id ID) Short() string { return string(id[strings.LastIndexByte(string(id), '/')+1:]) }

// Name is the middle part of the id, which its user chose.
func (id ID) Name() string {
	return strings.TrimPrefix(string(id[:strings.LastIndexByte(string(id), '/')]), idPrefix)
}

// Slot is the name of the replication slot on the source.
func (id ID) Slot() string { return limited("dts_sync_" + id.Short()) }

// SlotAhead is the name of a temporary copy of the slot, from which a backlog is read.
func (id ID) SlotAhead() string { return limited("dts_sync_" + id.Short() + "_ahead") }

// Publication is the name of the publication for tables whose rows can be found again by a key.
func (id ID) Publication() string { return limited("dts_sync_" + id.Short()) }

// PublicationInsertOnly is the name of the publication for tables without a usable key.
func (id ID) PublicationInsertOnly() string { return limited("dts_sync_" + id.Short() + "_ins") }

// Session is the application_name of a connection: who works there, so that a later attempt can find and end it.
func (id ID) Session(lane string, token int64) string {
	return limited(fmt.Sprintf("%s%d", id.SessionPrefix(lane), token))
}

// SessionPrefix is what all sessions of a lane have in common.
func (id ID) SessionPrefix(lane string) string { return "pgdts/" + id.Short() + "/" + lane + "/" }

func limited(name string) string {
	if len(name) > identifierMax {
		panic("name too long: " + name)
	}
	return name
}
