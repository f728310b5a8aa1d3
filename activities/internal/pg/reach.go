package pg

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// reach is what it takes to open one session, as definition, service file, environment and secrets are at this moment.
type reach struct {
	origin
	parameters  parameters
	config      *pgx.ConnConfig
	certificate *certificate // nil without
	asked       *atomic.Bool // whether a server wanted to see it
}

// origin is where an endpoint's keys stand: in the definition, or in the worker's file of connections.
type origin struct {
	migration.Endpoint
	typed migration.Typed
	place string
	own   bool // it is the worker's, so that a command is no stranger's
}

// key is how a person finds a key of the endpoint.
func (o origin) key(name string) string { return o.place + "." + name }

// origin looks a named connection up. The error is a *lack that lists the names.
func (s *Server) origin() (origin, error) {
	name := s.endpoint.Connection
	if name == "" {
		o := origin{Endpoint: s.endpoint, place: string(s.Side)}
		if s.secrets != nil {
			o.typed = s.secrets.Typed[s.Side]
		}
		return o, nil
	}
	var known map[string]migration.Connection
	if s.secrets != nil {
		known = s.secrets.Connections
	}
	if connection, ok := known[name]; ok {
		return origin{Endpoint: connection.Endpoint, typed: connection.Typed, place: "connections." + name, own: true}, nil
	}
	names := "it knows none"
	if len(known) > 0 {
		names = "it knows " + strings.Join(slices.Sorted(maps.Keys(known)), ", ")
	}
	return origin{place: string(s.Side)}, lackf(RefusedConnection, nil,
		fmt.Sprintf("add it to the file that --connections or PGDTS_CONNECTIONS names, and start the worker again; or correct %s.connection", s.Side),
		"this worker knows no connection %s: %s", name, names)
}

// reach resolves everything that may have changed since. The error is a *lack.
func (s *Server) reach(ctx context.Context) (*reach, error) {
	o, err := s.origin()
	if err != nil {
		return nil, err
	}
	r := &reach{origin: o, asked: &atomic.Bool{}}
	if r.parameters, err = s.said.folded(o.key); err != nil {
		return nil, err
	}
	if err := r.parameters.refuse(); err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(s.Side), "", err, "")
	}
	if err := r.authorities(); err != nil {
		return nil, err
	}
	config, err := parse(r.parameters)
	if err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(s.Side), "", err, "")
	}
	r.config = config
	if config.Password, err = r.password(ctx); err != nil {
		return nil, err
	}
	if r.certificate, err = r.ownCertificate(ctx); err != nil {
		return nil, err
	}
	r.present()
	return r, nil
}

// authorities makes sure of the file with the authorities' certificates, which the driver reads.
func (r *reach) authorities() error {
	path, mode := r.parameters["sslrootcert"], r.parameters.mode()
	switch {
	case path == systemAuthorities, mode == "disable":
		return nil
	case path != "":
		content, err := r.read("the authority's certificate", "ssl.ca", path)
		if err == nil && !x509.NewCertPool().AppendCertsFromPEM(content) {
			err = lackf(RefusedFile, nil, "correct "+r.key("ssl.ca"), "%s holds no certificate in PEM form", path)
		}
		return err
	case mode == "verify-ca" || mode == "verify-full":
		return lackf(RefusedFile, nil, "name the authority's certificate in "+r.key("ssl.ca")+
			" or PGSSLROOTCERT; system (with verify-full) means those that this machine trusts", "ssl mode %s has no authority to trust", mode)
	}
	return nil
}

// read says by name which file is missing or may not be read.
func (r *reach) read(what, key, path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err == nil {
		return content, nil
	}
	return nil, lackf(RefusedFile, err, fmt.Sprintf("correct %s, or put the file where this process can read it", r.key(key)),
		"%s %s cannot be read: %s", what, path, root(err))
}

// password is the typed one, that of passwordFrom, or what the driver found in the environment, service file and ~/.pgpass.
func (r *reach) password(ctx context.Context) (string, error) {
	switch {
	case r.typed.Password != "":
		return r.typed.Password, nil
	case r.PasswordFrom != nil:
		return r.secret(ctx, "passwordFrom", *r.PasswordFrom)
	}
	return r.config.Password, nil
}

// present shows the client certificate to every server that asks. The driver would keep it back from a server that does
// not list its authority, and the person would read that none was given.
func (r *reach) present() {
	show := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		r.asked.Store(true)
		if r.certificate == nil {
			return &tls.Certificate{}, nil
		}
		return &r.certificate.Certificate, nil
	}
	if r.config.TLSConfig != nil {
		r.config.TLSConfig.GetClientCertificate = show
	}
	for _, fallback := range r.config.Fallbacks {
		if fallback.TLSConfig != nil {
			fallback.TLSConfig.GetClientCertificate = show
		}
	}
}
