package pg

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Program is how a program of libpq reaches the server of an open session.
type Program struct {
	// Env is the whole environment of the program.
	Env []string
	// Files are what it inherits behind its standard ones.
	Files []*os.File
}

// Close forgets the secrets that are in files. A second call does nothing.
func (p *Program) Close() {
	for _, file := range p.Files {
		_ = file.Close()
	}
}

// passed are the parameters that a program gets as they are.
var passed = []string{"sslcertmode", "sslsni", "sslnegotiation", "channel_binding", "require_auth"}

// nowhere is a path at which there is nothing, ever: it keeps libpq from files that we do not read.
const nowhere = "/dev/null/none"

// Program prepares a program such as pg_dump to connect as the session did: to the same address, since of several hosts it
// might choose another, with the same secrets and the same trust. Nothing else of libpq's environment reaches it. Secrets
// travel in its environment, and where libpq has no variable in a file that has no name; arguments are visible to other
// users. The caller closes it when the program has ended.
func (s *Server) Program(ctx context.Context, conn *pgx.Conn, options string) (*Program, error) {
	r, err := s.reach(ctx)
	if err != nil {
		return nil, s.unready("prepare a program for", err)
	}
	host, address, port := r.pinned(ctx, conn.PgConn().Conn().RemoteAddr())
	env := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "PG") && !strings.HasPrefix(variable, "PGDTS_")
	})
	p := &Program{Env: append(
		env, "PGHOST="+host, "PGPORT="+port, "PGUSER="+r.config.User, "PGDATABASE="+r.config.Database, "PGSSLMODE="+r.parameters.mode(),
		"PGSSLROOTCERT="+r.rootFile(), "PGSSLCRL="+nowhere, "PGGSSENCMODE=disable", "PGCONNECT_TIMEOUT="+strconv.Itoa(int(connectTimeout.Seconds())),
		"PGOPTIONS="+strings.TrimSpace(r.parameters["options"]+" "+options))}
	p.add("PGHOSTADDR", address)
	p.add("PGPASSWORD", r.config.Password)
	for _, keyword := range passed {
		p.add(variables[keyword], r.parameters[keyword])
	}
	if r.parameters["passfile"] != "" {
		p.add("PGPASSFILE", absolute(r.parameters["passfile"]))
	}
	if r.certificate == nil {
		p.add("PGSSLCERT", nowhere)
		return p, nil
	}
	p.add("PGSSLCERT", absolute(r.certificate.file))
	p.add("PGSSLKEY", absolute(r.certificate.keyFile))
	if r.certificate.keyPassword != "" {
		return p, p.addKeyPassword(r.certificate.keyPassword)
	}
	return p, nil
}

func (p *Program) add(variable, value string) {
	if value != "" {
		p.Env = append(p.Env, variable+"="+value)
	}
}

// absolute makes a path independent of the program's working directory.
func absolute(path string) string {
	if found, err := filepath.Abs(path); err == nil {
		return found
	}
	return path
}

// pinned is the host that a session came to, with its address, which is empty for a socket in the file system.
func (r *reach) pinned(ctx context.Context, remote net.Addr) (host, address, port string) {
	hosts, ports := hostsOf(r.config)
	at, ok := remote.(*net.TCPAddr)
	if !ok {
		if unix, ok := remote.(*net.UnixAddr); ok {
			return filepath.Dir(unix.Name), "", strings.TrimPrefix(filepath.Ext(unix.Name), ".")
		}
		return hosts[0], "", ports[0]
	}
	address, _, _ = net.SplitHostPort(at.String())
	port = strconv.Itoa(at.Port)
	for i := range hosts {
		if ports[i] != port {
			continue
		}
		if found, err := r.config.LookupFunc(ctx, hosts[i]); err == nil && slices.Contains(found, address) {
			return hosts[i], address, port
		}
		if host == "" {
			host = hosts[i]
		}
	}
	return host, address, port
}

// bundles are where systems keep the authorities that they trust, in the order of crypto/x509; libpq before 16 does not
// know the word system.
var bundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem",
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
}

// rootFile is the trust of the session. With prefer and allow the driver trusts everybody, and libpq would not.
func (r *reach) rootFile() string {
	path := r.parameters["sslrootcert"]
	switch mode := r.parameters.mode(); {
	case mode == "prefer", mode == "allow", mode == "disable", path == "":
		return nowhere
	case path != systemAuthorities:
		return absolute(path)
	}
	for _, bundle := range append([]string{os.Getenv("SSL_CERT_FILE")}, bundles...) {
		if info, err := os.Stat(bundle); err == nil && info.Mode().IsRegular() {
			return bundle
		}
	}
	return systemAuthorities
}

// serviceLineMax is what libpq reads of a line of a service file.
const serviceLineMax = 1000

// addKeyPassword hands over what libpq takes from a service file only. The file has lost its name before anything is
// written into it, so that nothing is left however we end; the program reads it as its descriptor 3.
func (p *Program) addKeyPassword(password string) error {
	if strings.ContainsAny(password, "\r\n") || strings.TrimSpace(password) != password || len(password) > serviceLineMax {
		return migration.NewFault(migration.FaultUnauthorized, "prepare", "pg_dump", errors.New("the password of the client key cannot be handed to pg_dump"),
			fmt.Sprintf("encrypt the key under a password of at most %d bytes, without line breaks and without spaces at its ends", serviceLineMax))
	}
	file, err := os.CreateTemp("", "pgdts-")
	if err != nil {
		return fmt.Errorf("make a service file: %w", err)
	}
	p.Files = append(p.Files, file)
	err = os.Remove(file.Name())
	if err == nil {
		_, err = fmt.Fprintf(file, "[pgdts]\nsslpassword=%s\n", password)
	}
	if err == nil {
		_, err = file.Seek(0, 0)
	}
	if err != nil {
		p.Close()
		return fmt.Errorf("write a service file: %w", err)
	}
	p.Env = append(p.Env, "PGSERVICE=pgdts", "PGSERVICEFILE=/dev/fd/3")
	return nil
}
