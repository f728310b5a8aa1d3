package pg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Refusal is why a session did not come about.
type Refusal string

// What stands between us and a session.
const (
	RefusedName        Refusal = "name"        // the host name does not resolve
	RefusedUnreachable Refusal = "unreachable" // nothing listens there, or no route leads there
	RefusedTimeout     Refusal = "timeout"     // nobody answered
	RefusedTLS         Refusal = "tls"         // encryption could not be agreed, or a certificate is not trusted
	RefusedPassword    Refusal = "password"    // 28P01
	RefusedRole        Refusal = "role"        // 28000: no such role, no login right, no line of pg_hba.conf
	RefusedDatabase    Refusal = "database"    // 3D000
	RefusedRight       Refusal = "right"       // 42501: no CONNECT on the database, or no REPLICATION
	RefusedFull        Refusal = "full"        // 53300: connections or WAL senders are used up
	RefusedNotReady    Refusal = "not-ready"   // starting up, shutting down, or not accepting connections
	RefusedOther       Refusal = "other"
)

// RefusalOf classifies an error of Connect or Replication by SQLSTATE and type, never by its text. What the server said
// goes before what the way to it said: with several hosts or with sslmode=prefer the error holds both.
func RefusalOf(err error) Refusal {
	var pgErr *pgconn.PgError
	var dnsErr *net.DNSError
	var opErr *net.OpError
	var connectErr *pgconn.ConnectError
	switch {
	case errors.As(err, &pgErr):
		return refusalOfState(pgErr.Code)
	case errors.As(err, &dnsErr):
		return RefusedName
	case isTLS(err):
		return RefusedTLS
	case pgconn.Timeout(err), errors.Is(err, context.DeadlineExceeded):
		return RefusedTimeout
	case errors.As(err, &opErr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return RefusedUnreachable
	case errors.As(err, &connectErr) && connectErr.Config.TLSConfig != nil:
		// What is left without a type is the driver's word that the server answered "no" to a demand for TLS.
		return RefusedTLS
	}
	return RefusedOther
}

func refusalOfState(code string) Refusal {
	switch code {
	case "28P01":
		return RefusedPassword
	case "28000":
		return RefusedRole
	case "3D000":
		return RefusedDatabase
	case "42501":
		return RefusedRight
	case "53300":
		return RefusedFull
	case "57P01", "57P02", "57P03", "57P04", "55000":
		return RefusedNotReady
	}
	return RefusedOther
}

func isTLS(err error) bool {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	var op *net.OpError
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid) ||
		errors.As(err, &header) || errors.As(err, &op) && op.Op == "remote error"
}

// refused is the fault of a session that did not come about: one sentence, and what the person should do about it.
func (s *Server) refused(op string, err error) error {
	err = s.Fault(op, s.Address(), err)
	fault, ok := migration.AsFault(err)
	if !ok {
		return err
	}
	fault.Message, fault.Hint = s.explain(fault.Unwrap())
	return err
}

// explain says in words what RefusalOf says, and the remedy: SQL or the key of the definition.
func (s *Server) explain(err error) (found, remedy string) {
	at, side := s.place(), string(s.Side)
	user, database := migration.Quote(s.config.User), migration.Quote(s.config.Database)
	switch RefusalOf(err) {
	case RefusedName:
		return fmt.Sprintf("the name of host %s does not resolve", s.config.Host),
			fmt.Sprintf("correct the host in %s, or the name service of the machine where pgdts runs", side)
	case RefusedUnreachable:
		return fmt.Sprintf("%s cannot be reached: %s", at, root(err)),
			fmt.Sprintf("start the server, correct host and port in %s, or let this machine in (listen_addresses, firewall)", side)
	case RefusedTimeout:
		return fmt.Sprintf("%s did not answer within %s", at, connectTimeout),
			fmt.Sprintf("correct host and port in %s, or open the way there: firewall, security group, routing", side)
	case RefusedTLS:
		return explainTLS(err, at, side)
	case RefusedPassword:
		return s.explainPassword()
	case RefusedRole:
		return said(err), fmt.Sprintf("let role %s log in (alter role %s login), and let this machine in by a line of pg_hba.conf, "+
			"such as: host %s %s <address>/32 scram-sha-256; then: select pg_reload_conf()", user, user, database, user)
	case RefusedDatabase:
		return fmt.Sprintf("database %s does not exist at %s", database, at),
			fmt.Sprintf("create database %s;", database)
	case RefusedRight:
		return said(err), fmt.Sprintf("grant connect on database %s to %s; for a replication session: alter role %s replication;",
			database, user, user)
	case RefusedFull:
		return said(err), "end sessions that are not needed, or raise max_connections or max_wal_senders (needs a restart)"
	case RefusedNotReady:
		return said(err), fmt.Sprintf("wait until the server has started; if the database is closed: alter database %s allow_connections true;",
			database)
	case RefusedOther:
	}
	return said(err), ""
}

func (s *Server) explainPassword() (found, remedy string) {
	user := migration.Quote(s.config.User)
	if s.config.Password == "" {
		return fmt.Sprintf("role %s needs a password and none was given", user),
			fmt.Sprintf("name one in %s.passwordFrom, or put it into ~/.pgpass or PGPASSWORD", s.Side)
	}
	return fmt.Sprintf("the password of role %s was refused", user),
		fmt.Sprintf("correct the password that %s.passwordFrom (or ~/.pgpass, PGPASSWORD) gives; the role must exist", s.Side)
}

func explainTLS(err error, at, side string) (found, remedy string) {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var op *net.OpError
	switch {
	case errors.As(err, &host):
		return fmt.Sprintf("the certificate of %s is for %s, not for %s", at, holders(host.Certificate), host.Host),
			fmt.Sprintf("connect by a name that the certificate holds, or set %s.ssl.mode to verify-ca", side)
	case errors.As(err, &authority):
		return fmt.Sprintf("the certificate of %s is signed by an authority that is not trusted here", at),
			fmt.Sprintf("name the authority's certificate in %s.ssl.ca", side)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Sprintf("the certificate of %s has expired or is not valid yet", at),
			"renew the server's certificate, and look at the clock of this machine"
	case errors.As(err, &op) && op.Op == "remote error":
		return fmt.Sprintf("%s ended the TLS handshake: %s", at, root(err)),
			fmt.Sprintf("give a valid client certificate in %s.ssl.cert and %s.ssl.key", side, side)
	}
	return fmt.Sprintf("TLS could not be agreed with %s: %s", at, root(err)),
		fmt.Sprintf("set %s.ssl.mode to prefer or disable, or switch ssl on at the server", side)
}

// holders are the names that a certificate is for.
func holders(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host name at all"
	}
	return strings.Join(names, ", ")
}

// place is host:port, of each host when the definition names several.
func (s *Server) place() string {
	hosts, ports := s.hosts()
	places := make([]string, len(hosts))
	for i, host := range hosts {
		places[i] = net.JoinHostPort(host, ports[i])
	}
	return strings.Join(places, ", ")
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
