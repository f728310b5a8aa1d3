package migration

import (
	"net/url"
	"slices"
)

// Portable refuses what must not travel in a workflow's input: passwords, which Temporal would store in plain text,
// and files, which another machine would not find or should not be made to read. The error is a *DefinitionError.
func (s Spec) Portable() error {
	if err := s.Source.portable(Source); err != nil {
		return err
	}
	return s.Target.portable(Target)
}

// Secretless refuses passwords only: what a worker in the same process may be given.
func (s Spec) Secretless() error {
	if err := s.Source.secretless(Source); err != nil {
		return err
	}
	return s.Target.secretless(Target)
}

// systemAuthorities is the ssl.ca that is no file: the authorities which the worker's machine trusts.
const systemAuthorities = "system"

// FileParameters are the parameters of a connection URI that name files of the machine that connects.
var FileParameters = []string{"sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile", "servicefile"}

func (e Endpoint) portable(side Side) error {
	if err := e.secretless(side); err != nil {
		return err
	}
	if e.PasswordFrom != nil && e.PasswordFrom.File != "" {
		return keyErrorf(string(side)+".passwordFrom.file", "%q: files of a worker cannot be named here; use passwordFrom.env or a connection",
			e.PasswordFrom.File)
	}
	if e.SSL != nil {
		if from := e.SSL.KeyPasswordFrom; from != nil && from.File != "" {
			return keyErrorf(string(side)+".ssl.keyPasswordFrom.file", "%q: files of a worker cannot be named here; use keyPasswordFrom.env or a connection",
				from.File)
		}
		for _, file := range []struct{ key, path, variable string }{
			{"ca", e.SSL.CA, "PGSSLROOTCERT"}, {"cert", e.SSL.Cert, "PGSSLCERT"}, {"key", e.SSL.Key, "PGSSLKEY"},
		} {
			if file.path != "" && file.path != systemAuthorities {
				return keyErrorf(string(side)+".ssl."+file.key, "%q: files of a worker cannot be named here; set %s where the worker runs, or use a connection",
					file.path, file.variable)
			}
		}
	}
	parsed, err := url.Parse(e.URI)
	if err != nil {
		return nil //nolint:nilerr // secretless has refused it
	}
	for _, parameter := range FileParameters {
		if value := parsed.Query().Get(parameter); value != "" && value != systemAuthorities {
			return keyErrorf(string(side)+".uri", "names a file by %s: files of a worker cannot be named here", parameter)
		}
	}
	return nil
}

func (e Endpoint) secretless(side Side) error {
	key := string(side) + ".uri"
	parsed, err := url.Parse(e.URI)
	if err != nil {
		return keyErrorf(key, "is not a connection URI: want postgres://user@host:port/database")
	}
	_, inHead := parsed.User.Password()
	query := parsed.Query()
	if inHead || slices.ContainsFunc([]string{"password", "sslpassword"}, query.Has) {
		return keyErrorf(key, "holds a password, which Temporal would store: use passwordFrom.env or ssl.keyPasswordFrom.env")
	}
	return nil
}
