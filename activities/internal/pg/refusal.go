package pg

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Refusal is why a session did not come about.
type Refusal string

// What stands between us and a session.
const (
	RefusedConnection Refusal = "connection" // a named connection that this worker does not know
	RefusedSecret     Refusal = "secret"     // a password is not where it was said to be
	RefusedFile       Refusal = "file"       // a file is missing or may not be read, or others may read it

	RefusedName        Refusal = "name"        // the host name does not resolve
	RefusedUnreachable Refusal = "unreachable" // nothing listens there, or no route leads there
	RefusedTimeout     Refusal = "timeout"     // nobody answered

	RefusedNoTLS         Refusal = "no-tls"         // TLS is demanded and the server has it switched off
	RefusedAuthority     Refusal = "authority"      // the server's certificate is signed by somebody who is not trusted
	RefusedExpired       Refusal = "expired"        // the server's certificate is not valid now
	RefusedHostName      Refusal = "host-name"      // the server's certificate is for another name
	RefusedKeyPassword   Refusal = "key-password"   // the client key's password is wrong or missing
	RefusedKey           Refusal = "key"            // the client key does not fit its certificate, or cannot be read
	RefusedNoCertificate Refusal = "no-certificate" // the server demands a client certificate
	RefusedCertificate   Refusal = "certificate"    // the server does not accept the client certificate
	RefusedHolder        Refusal = "holder"         // it accepts it, but not for this role
	RefusedTLS           Refusal = "tls"            // encryption could not be agreed for another reason

	RefusedPassword Refusal = "password"      // 28P01
	RefusedRole     Refusal = "role"          // 28000: no such role, or no right to log in
	RefusedRule     Refusal = "rule"          // 28000: no line of pg_hba.conf lets us in, or one keeps us out
	RefusedDatabase Refusal = "database"      // 3D000
	RefusedRight    Refusal = "right"         // 42501: no CONNECT on the database, or no REPLICATION
	RefusedFull     Refusal = "full"          // 53300: connections or WAL senders are used up
	RefusedStarting Refusal = "starting"      // 57P03: starting up, shutting down, or recovering
	RefusedNotReady Refusal = "not-ready"     // shut down in between, or the database takes no connections
	RefusedAttrs    Refusal = "session-attrs" // no host is what target_session_attrs demands
	RefusedOther    Refusal = "other"
)

// lack is what must be there before a server can be asked: a secret, a file, a connection's name. A person can bring it,
// so it counts like a refusal at the door.
type lack struct {
	refusal       Refusal
	found, remedy string
	cause         error
}

func lackf(refusal Refusal, cause error, remedy, format string, args ...any) *lack {
	return &lack{refusal: refusal, found: fmt.Sprintf(format, args...), remedy: remedy, cause: cause}
}

// Error is what was found.
func (l *lack) Error() string { return l.found }

// Unwrap is why.
func (l *lack) Unwrap() error { return l.cause }

// attempt is a session that did not come about, with what was seen of client certificates.
type attempt struct {
	error
	asked, shown bool
}

// Unwrap is the driver's error.
func (a *attempt) Unwrap() error { return a.error }

// RefusalOf classifies an error of Connect or Replication by SQLSTATE and type, never by its text. What the server said
// goes before what the way to it said: with several hosts or with sslmode=prefer the error holds both.
func RefusalOf(err error) Refusal {
	var missing *lack
	var pgErr *pgconn.PgError
	var dnsErr *net.DNSError
	var opErr *net.OpError
	var connectErr *pgconn.ConnectError
	switch {
	case errors.As(err, &missing):
		return missing.refusal
	case aboutCertificate(err) != "":
		return aboutCertificate(err)
	case errors.As(err, &pgErr):
		return refusalOfServer(pgErr, err)
	case ofAttrs(err):
		return RefusedAttrs
	case errors.As(err, &dnsErr):
		return RefusedName
	case ofTLS(err) != "":
		return ofTLS(err)
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return RefusedTimeout
	case errors.As(err, &opErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return RefusedUnreachable
	case errors.As(err, &connectErr) && connectErr.Config.TLSConfig != nil:
		// What is left without a type is the driver's word that the server answered "no" to a demand for TLS.
		return RefusedNoTLS
	}
	return RefusedOther
}

func ofAttrs(err error) bool {
	for _, sentinel := range []error{
		pgconn.ErrReadOnlyConnection, pgconn.ErrReadWriteConnection, pgconn.ErrPrimaryConnection, pgconn.ErrStandbyConnection,
	} {
		if errors.Is(err, sentinel) {
			return true
		}
	}
	return false
}

func refusalOfServer(pgErr *pgconn.PgError, err error) Refusal {
	switch pgErr.Code {
	case "28P01":
		return RefusedPassword
	case "28000":
		return refusalOfRoutine(pgErr.Routine, err)
	case "3D000":
		return RefusedDatabase
	case "42501":
		return RefusedRight
	case "53300":
		return RefusedFull
	case "57P03":
		return RefusedStarting
	case "57P01", "57P02", "57P04", "55000":
		return RefusedNotReady
	}
	return RefusedOther
}

// refusalOfRoutine tells apart what shares the state 28000, by the place in the server's code: auth.c asks its rules first
// (ClientAuthentication), then for the proof (auth_failed); miscinit.c looks for the role. A rule that demands a
// certificate and one that is missing are told in the same place, and the server asks for certificates only where it has
// an authority for them.
func refusalOfRoutine(routine string, err error) Refusal {
	var seen *attempt
	known := errors.As(err, &seen)
	switch {
	case routine == "ClientAuthentication" && known && seen.asked && !seen.shown:
		return RefusedNoCertificate
	case routine == "ClientAuthentication":
		return RefusedRule
	case routine == "auth_failed" && known && seen.asked && seen.shown:
		return RefusedHolder
	}
	return RefusedRole
}

// unready is the fault of a session for which something is missing on our side.
func (s *Server) unready(op string, err error) error {
	err = s.Fault(op, s.Address(), err)
	var missing *lack
	if fault, ok := migration.AsFault(err); ok && errors.As(err, &missing) {
		fault.Hint = missing.remedy
	}
	return err
}

// refused is the fault of a session that did not come about: one sentence, and what the person should do about it.
func (s *Server) refused(ctx context.Context, op string, r *reach, err error) error {
	if r.certificate != nil && r.asked.Load() && RefusalOf(err) == RefusedUnreachable {
		err = r.whyReset(ctx, err)
	}
	err = s.Fault(op, s.Address(), &attempt{error: err, asked: r.asked.Load(), shown: r.certificate != nil})
	if fault, ok := migration.AsFault(err); ok {
		fault.Message, fault.Hint = r.explain(fault.Unwrap())
	}
	return err
}

// explain says in words what RefusalOf says, and the remedy: SQL or the key of the definition.
func (r *reach) explain(err error) (found, remedy string) {
	at, place := r.address(), r.place
	user, database := migration.Quote(r.config.User), migration.Quote(r.config.Database)
	switch refusal := RefusalOf(err); refusal {
	case RefusedName:
		return fmt.Sprintf("the name of host %s does not resolve", r.config.Host),
			fmt.Sprintf("correct the host in %s, or the name service of the machine where pgdts runs", place)
	case RefusedUnreachable:
		return fmt.Sprintf("%s cannot be reached: %s", at, root(err)),
			fmt.Sprintf("start the server, correct host and port in %s, or let this machine in (listen_addresses, firewall)", place)
	case RefusedTimeout:
		return fmt.Sprintf("%s did not answer within %s", at, connectTimeout),
			fmt.Sprintf("correct host and port in %s, or open the way there: firewall, security group, routing", place)
	case RefusedAttrs:
		return r.explainAttrs(err)
	case RefusedNoTLS, RefusedAuthority, RefusedExpired, RefusedHostName, RefusedTLS, RefusedNoCertificate, RefusedCertificate, RefusedHolder:
		return r.explainTLS(refusal, err)
	case RefusedPassword:
		return r.explainPassword()
	case RefusedRole:
		return said(err), fmt.Sprintf("let role %s log in: create role %s login; or: alter role %s login;", user, user, user)
	case RefusedRule:
		return said(err), fmt.Sprintf("let this machine in by a line of pg_hba.conf, such as: host %s %s <address>/32 scram-sha-256; "+
			"then: select pg_reload_conf();", database, user)
	case RefusedDatabase:
		return fmt.Sprintf("database %s does not exist at %s", database, at),
			fmt.Sprintf("create database %s;", database)
	case RefusedRight:
		return said(err), fmt.Sprintf("grant connect on database %s to %s; for a replication session: alter role %s replication;",
			database, user, user)
	case RefusedFull:
		return said(err), "end sessions that are not needed, or raise max_connections or max_wal_senders (needs a restart)"
	case RefusedStarting:
		return said(err), "wait until the server has started; its log tells what it waits for"
	case RefusedNotReady:
		return said(err), fmt.Sprintf("wait until the server has started; if the database is closed: alter database %s allow_connections true;",
			database)
	case RefusedConnection, RefusedSecret, RefusedFile, RefusedKey, RefusedKeyPassword, RefusedOther:
	}
	return said(err), ""
}

func (r *reach) explainPassword() (found, remedy string) {
	user := migration.Quote(r.config.User)
	if r.config.Password == "" {
		return fmt.Sprintf("role %s needs a password and none was given", user),
			fmt.Sprintf("name one in %s, or put it into ~/.pgpass or PGPASSWORD", r.key("passwordFrom"))
	}
	return fmt.Sprintf("the password of role %s was refused", user),
		fmt.Sprintf("correct the password that %s (or ~/.pgpass, PGPASSWORD) gives; the role must exist", r.key("passwordFrom"))
}

// explainAttrs says of each host why it is not the one.
func (r *reach) explainAttrs(err error) (found, remedy string) {
	var all []string
	for _, one := range each(err) {
		all = append(all, one.Error())
	}
	return fmt.Sprintf("none of %s is %s, which target_session_attrs demands: %s", r.address(), r.parameters["target_session_attrs"], strings.Join(all, "; ")),
		fmt.Sprintf("name the primary in %s, or wait until one of the standbys is promoted", r.place)
}

// each are the errors of the single attempts, in which the driver names host and address.
func each(err error) []error {
	for err != nil {
		switch wrapped := err.(type) { //nolint:errorlint // the chain is walked by hand
		case interface{ Unwrap() []error }:
			return wrapped.Unwrap()
		case interface{ Unwrap() error }:
			err = wrapped.Unwrap()
		default:
			return []error{err}
		}
	}
	return nil
}

// address is host:port, of each host when there are several.
func (r *reach) address() string {
	hosts, ports := hostsOf(r.config)
	places := make([]string, len(hosts))
	for i, host := range hosts {
		places[i] = net.JoinHostPort(host, ports[i])
	}
	return strings.Join(places, ", ")
}

// hostsOf are all that were named, in order: the first that answers is used.
func hostsOf(config *pgx.ConnConfig) (hosts, ports []string) {
	add := func(host string, port uint16) {
		text := strconv.Itoa(int(port))
		for i := range hosts {
			if hosts[i] == host && ports[i] == text {
				return // the same host again, without TLS
			}
		}
		hosts, ports = append(hosts, host), append(ports, text)
	}
	add(config.Host, config.Port)
	for _, fallback := range config.Fallbacks {
		add(fallback.Host, fallback.Port)
	}
	return hosts, ports
}

// said is the server's own sentence, without its detail, or the last cause.
func said(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Message
	}
	return root(err)
}

// root is the text of the innermost cause: the driver's outer ones repeat user, database and host on several lines.
func root(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	for {
		var next error
		switch wrapped := err.(type) { //nolint:errorlint // the chain is walked by hand
		case interface{ Unwrap() error }:
			next = wrapped.Unwrap()
		case interface{ Unwrap() []error }:
			if inner := wrapped.Unwrap(); len(inner) > 0 {
				next = inner[0]
			}
		}
		if next == nil {
			return strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		err = next
	}
}
