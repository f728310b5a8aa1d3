package pg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// ofTLS is what is wrong with the server's certificate or the handshake, "" when neither is at fault.
func ofTLS(err error) Refusal {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &host):
		return RefusedHostName
	case errors.As(err, &authority):
		return RefusedAuthority
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return RefusedExpired
	case errors.As(err, &verification), errors.As(err, &invalid), errors.As(err, &header), alertOf(err) != 0:
		return RefusedTLS
	}
	return ""
}

// Alerts of RFC 8446, section 6.2, by which a server ends a handshake for our certificate's sake.
const (
	alertBadCertificate      = 42
	alertCertificateExpired  = 45
	alertCertificateUnknown  = 46
	alertUnknownCA           = 48
	alertDecryptError        = 51
	alertCertificateRequired = 116
)

// alertOf is the number of the alert that the server sent, 0 when none came. crypto/tls gives it a type of its own, which
// it does not export; its kind is a byte.
func alertOf(err error) uint64 {
	found := uint64(0)
	walk(err, func(err error) {
		op, ok := err.(*net.OpError) //nolint:errorlint // each error is looked at by itself
		if !ok || op.Op != "remote error" || op.Err == nil {
			return
		}
		if value := reflect.ValueOf(op.Err); value.Kind() == reflect.Uint8 {
			found = value.Uint()
		}
	})
	return found
}

// walk visits every error of a tree, outer ones first.
func walk(err error, visit func(error)) {
	if err == nil {
		return
	}
	visit(err)
	switch wrapped := err.(type) { //nolint:errorlint // the tree is walked by hand
	case interface{ Unwrap() error }:
		walk(wrapped.Unwrap(), visit)
	case interface{ Unwrap() []error }:
		for _, inner := range wrapped.Unwrap() {
			walk(inner, visit)
		}
	}
}

// aboutCertificate is whether the server's alert is about our certificate.
func aboutCertificate(err error) Refusal {
	switch alert := alertOf(err); {
	case alert == alertCertificateRequired:
		return RefusedNoCertificate
	case alert >= alertBadCertificate && alert <= alertCertificateUnknown, alert == alertUnknownCA, alert == alertDecryptError:
		return RefusedCertificate
	}
	return ""
}

// alertTimeout bounds the wait for the alert of a server that has already refused us.
const alertTimeout = 2 * time.Second

// whyReset finds out why a server that saw our certificate dropped the connection. With TLS 1.3 its alert comes behind the
// handshake, and what we have sent by then resets the connection: so this time nothing is sent before the alert is read.
func (r *reach) whyReset(ctx context.Context, reset error) error {
	config := r.config.Copy().Config
	config.AfterNetConnect = func(ctx context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		if conn, ok := conn.(*tls.Conn); ok {
			if err := conn.HandshakeContext(ctx); err != nil {
				return conn, err
			}
		}
		if err := conn.SetReadDeadline(time.Now().Add(alertTimeout)); err != nil {
			return conn, err
		}
		if _, err := conn.Read(make([]byte, 1)); err != nil {
			return conn, err
		}
		return conn, reset
	}
	conn, err := pgconn.ConnectConfig(ctx, &config)
	if err == nil {
		_ = conn.Close(ctx)
	}
	if aboutCertificate(err) != "" {
		return err
	}
	return reset
}

// explainTLS says what is wrong with either certificate, and whose it is to mend.
func (r *reach) explainTLS(refusal Refusal, err error) (found, remedy string) {
	at := r.address()
	switch refusal { //nolint:exhaustive // the others are not about TLS
	case RefusedNoTLS:
		return fmt.Sprintf("%s has TLS switched off, and ssl mode %s demands it", at, r.parameters.mode()),
			fmt.Sprintf("alter system set ssl = on; with a certificate (ssl_cert_file, ssl_key_file) and pg_reload_conf(); or set %s to prefer or disable", r.key("ssl.mode"))
	case RefusedHostName:
		var host x509.HostnameError
		errors.As(err, &host)
		return fmt.Sprintf("the certificate of %s is for %s, not for %s", at, holders(host.Certificate), host.Host),
			fmt.Sprintf("connect by a name that the certificate holds, or set %s to verify-ca", r.key("ssl.mode"))
	case RefusedAuthority:
		return fmt.Sprintf("the certificate of %s is signed by an authority that is not trusted here", at),
			fmt.Sprintf("name the authority's certificate in %s", r.key("ssl.ca"))
	case RefusedExpired:
		return expired(err, at), "renew the server's certificate, and look at the clock of this machine"
	case RefusedNoCertificate:
		return fmt.Sprintf("%s demands a client certificate and none was given: %s", at, said(err)),
			fmt.Sprintf("give one in %s and %s, signed by an authority in the server's ssl_ca_file; or let this machine in by a line of pg_hba.conf without cert and clientcert",
				r.key("ssl.cert"), r.key("ssl.key"))
	case RefusedCertificate:
		return fmt.Sprintf("%s does not accept the client certificate %s: %s", at, r.shown(), alertText(err)),
			fmt.Sprintf("give a valid certificate in %s and %s, signed by an authority in the server's ssl_ca_file", r.key("ssl.cert"), r.key("ssl.key"))
	case RefusedHolder:
		user := migration.Quote(r.config.User)
		return fmt.Sprintf("%s does not take the client certificate %s for role %s: %s", at, r.shown(), user, said(err)),
			fmt.Sprintf("give a certificate in %s whose common name is the role, connect as the role that it names, or map one to the other in pg_ident.conf", r.key("ssl.cert"))
	}
	return fmt.Sprintf("TLS could not be agreed with %s: %s", at, root(err)),
		fmt.Sprintf("compare the server's ssl settings (ssl_min_protocol_version, ssl_ciphers, ssl_cert_file) with %s", r.key("ssl"))
}

// shown is the client certificate with its holder.
func (r *reach) shown() string {
	if r.certificate == nil {
		return "(none)"
	}
	if r.certificate.Leaf == nil {
		return r.certificate.file
	}
	return fmt.Sprintf("%s (CN %s)", r.certificate.file, r.certificate.Leaf.Subject.CommonName)
}

func alertText(err error) string {
	text := ""
	walk(err, func(err error) {
		if op, ok := err.(*net.OpError); ok && op.Op == "remote error" { //nolint:errorlint // each error is looked at by itself
			text = strings.TrimPrefix(op.Err.Error(), "tls: ")
		}
	})
	return text
}

func expired(err error, at string) string {
	var invalid x509.CertificateInvalidError
	errors.As(err, &invalid)
	if invalid.Cert == nil {
		return fmt.Sprintf("the certificate of %s is not valid now", at)
	}
	if time.Now().Before(invalid.Cert.NotBefore) {
		return fmt.Sprintf("the certificate of %s is not valid before %s", at, invalid.Cert.NotBefore.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("the certificate of %s expired at %s", at, invalid.Cert.NotAfter.UTC().Format(time.RFC3339))
}

// holders are the names that a certificate is for. A common name counts no more.
func holders(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 {
		return "no host name at all (a common name does not count, a subjectAltName does)"
	}
	return strings.Join(names, ", ")
}
