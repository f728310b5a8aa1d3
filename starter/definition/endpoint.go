package definition

import (
	"net/url"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

func (r *reader) endpoint(side migration.Side, e *migration.Endpoint) field {
	return func(key string, value *yaml.Node) error {
		var ssl migration.SSL
		var secret migration.SecretRef
		err := r.mapping(key, value, map[string]field{
			"uri":      func(key string, value *yaml.Node) error { return r.uri(side, e, key, value) },
			"host":     r.text(&e.Host),
			"port":     number(r, &e.Port),
			"database": r.text(&e.Database),
			"user":     r.text(&e.User),
			"passwordFrom": r.keys(map[string]field{
				"env":     r.text(&secret.Env),
				"file":    r.text(&secret.File),
				"command": r.unsupported,
			}),
			"ssl": r.keys(map[string]field{
				"mode":            r.sslMode(&ssl.Mode),
				"ca":              r.text(&ssl.CA),
				"cert":            r.text(&ssl.Cert),
				"key":             r.text(&ssl.Key),
				"keyPasswordFrom": r.unsupported,
			}),
			"connection": r.unsupported,
		})
		if err != nil {
			return err
		}
		if ssl != (migration.SSL{}) {
			e.SSL = &ssl
		}
		if _, given := r.lines[key+".passwordFrom"]; given {
			e.PasswordFrom = &secret
		}
		return r.oneWay(side, key, *e)
	}
}

// oneWay refuses an endpoint that says the same thing in two ways, since one of them would be ignored.
func (r *reader) oneWay(side migration.Side, key string, e migration.Endpoint) error {
	if e.URI != "" {
		for _, name := range []string{"host", "port", "database", "user"} {
			if _, given := r.lines[key+"."+name]; given {
				return r.fail(key+"."+name, "key %q beside %q: give one of them", key+"."+name, key+".uri")
			}
		}
	}
	if e.Port < 0 || e.Port > 65535 {
		return r.fail(key+".port", "key %q: want 1 to 65535", key+".port")
	}
	if e.PasswordFrom == nil {
		return nil
	}
	if (e.PasswordFrom.Env == "") == (e.PasswordFrom.File == "") {
		return r.fail(key+".passwordFrom", "key %q: want one of env and file", key+".passwordFrom")
	}
	if _, typed := r.secrets[side]; typed {
		return r.fail(key+".passwordFrom", "key %q beside a password in %q: give one of them", key+".passwordFrom", key+".uri")
	}
	return nil
}

func (r *reader) sslMode(to *string) field {
	return func(key string, value *yaml.Node) error {
		if err := r.text(to)(key, value); err != nil {
			return err
		}
		switch *to {
		case "disable", "allow", "prefer", "require", "verify-ca", "verify-full":
			return nil
		}
		return r.at(value, "key %q: want disable, allow, prefer, require, verify-ca or verify-full", key)
	}
}

// uri reads a connection URI, takes the password out of it, and writes several hosts as parameters, a form that every
// parser of URIs understands. No message quotes the URI.
func (r *reader) uri(side migration.Side, e *migration.Endpoint, key string, value *yaml.Node) error {
	var given string
	if err := r.text(&given)(key, value); err != nil {
		return err
	}
	parsed, err := url.Parse(hostsAsParameters(given))
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") || parsed.Opaque != "" {
		return r.at(value, "key %q: want postgres://user@host:port/database, with special characters as %%XX", key)
	}
	query := parsed.Query()
	if query.Has("sslpassword") {
		return r.at(value, "key %q: parameter sslpassword is not supported by this version", key)
	}
	password, found := parsed.User.Password()
	if query.Has("password") {
		password, found = query.Get("password"), true
		query.Del("password")
		parsed.RawQuery = query.Encode()
	}
	if found {
		parsed.User = url.User(parsed.User.Username())
		r.secrets[side] = password
	}
	e.URI = parsed.String()
	return nil
}

// hostsAsParameters rewrites scheme://user@a:1,b:2/db?x as scheme://user@/db?host=a,b&port=1,2&x.
func hostsAsParameters(uri string) string {
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return uri
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	at := strings.LastIndexByte(authority, '@') + 1
	if !strings.Contains(authority[at:], ",") {
		return uri
	}
	var hosts, ports []string
	for _, pair := range strings.Split(authority[at:], ",") {
		host, port := pair, "5432"
		if colon := strings.LastIndexByte(pair, ':'); colon > strings.LastIndexByte(pair, ']') {
			host, port = pair[:colon], pair[colon+1:]
		}
		hosts, ports = append(hosts, strings.Trim(host, "[]")), append(ports, port)
	}
	path, query, _ := strings.Cut(tail, "?")
	parameters := url.Values{"host": {strings.Join(hosts, ",")}, "port": {strings.Join(ports, ",")}}.Encode()
	if query != "" {
		parameters += "&" + query
	}
	return scheme + "://" + authority[:at] + path + "?" + parameters
}

// resolve makes the paths of an endpoint independent of the working directory.
func resolve(e *migration.Endpoint, directory string) {
	if e.PasswordFrom != nil {
		absolute(&e.PasswordFrom.File, directory)
	}
	if e.SSL != nil {
		absolute(&e.SSL.CA, directory)
		absolute(&e.SSL.Cert, directory)
		absolute(&e.SSL.Key, directory)
	}
	parsed, err := url.Parse(e.URI)
	if e.URI == "" || err != nil {
		return
	}
	query := parsed.Query()
	for _, parameter := range migration.FileParameters {
		if path := query.Get(parameter); path != "" {
			absolute(&path, directory)
			query.Set(parameter, path)
			parsed.RawQuery = query.Encode()
		}
	}
	e.URI = parsed.String()
}

func absolute(path *string, directory string) {
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(directory, *path)
	}
}
