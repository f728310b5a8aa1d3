package precheck

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// refusal is what the server says to something that was tried: "" is nothing, so that it may be done.
type refusal struct {
	state   string
	message string
}

func (r refusal) refused() bool { return r.state != "" }

// forbidden tells a missing right from anything else that stands in the way, such as an event trigger.
func (r refusal) forbidden() bool { return r.state == "42501" }

func (r refusal) text() string { return fmt.Sprintf("%s (SQLSTATE %s)", r.message, r.state) }

// rehearse tries statements in a transaction that writes and is rolled back. They are about objects of their own, in the
// schema of rehearsal: a lock on a table of the application would make its writers wait. An error is one of the session.
func (s session) rehearse(ctx context.Context, statements ...string) (refusal, error) {
	tx, err := s.conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadWrite})
	if err != nil {
		return heard(err)
	}
	for _, statement := range statements {
		if _, err = tx.Exec(ctx, statement); err != nil {
			break
		}
	}
	found, err := heard(err)
	return found, errors.Join(err, tx.Rollback(ctx))
}

// heard takes the server's word, and leaves an error of the session, or a lock that was waited for in vain, an error.
func heard(err error) (refusal, error) {
	var said *pgconn.PgError
	if !errors.As(err, &said) || strings.HasPrefix(said.Code, "57") || strings.HasPrefix(said.Code, "08") || said.Code == "55P03" {
		return refusal{}, err
	}
	return refusal{said.Code, said.Message}, nil
}

// rehearsal is the schema in which things are tried: the name is this migration's, so that two that look at once do not
// wait for each other.
func (l *look) rehearsal() string { return migration.Quote("pgdts_rehearsal_" + l.Spec.ID.Short()) }

// findOut is the fix of what is no matter of rights.
func findOut(side string) string {
	return "find out what refuses it on the " + side + ", such as an event trigger, and let it pass"
}
