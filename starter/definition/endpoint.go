package definition

import (
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pgdts/pgdts/workflows/migration"
)

// endpoint reads one database: of a definition, or of the worker's connections, where secrets may come from commands.
// Passwords in a URI go to typed.
func (r *reader) endpoint(e *migration.Endpoint, typed *migration.Typed, own bool) field {
	return func(key string, value *yaml.Node) error {
		var ssl migration.SSL
		fields := map[string]field{
			"uri":          func(key string, value *yaml.Node) error { return r.uri(e, typed, key, value) },
			"host":         r.text(&e.Host),
			"port":         number(r, &e.Port),
			"database":     r.text(&e.Database),
			"user":         r.text(&e.User),
			"passwordFrom": r.secret(&e.PasswordFrom, own),
			"ssl": r.keys(map[string]field{
				"mode":            r.sslMode(&ssl.Mode),
				"ca":              r.text(&ssl.CA),
				"cert":            r.text(&ssl.Cert),
				"key":             r.text(&ssl.Key),
				"keyPasswordFrom": r.secret(&ssl.KeyPasswordFrom, own),
			}),
		}
		if !own {
			fields["connection"] = r.text(&e.Connection)
		}
		if err := r.mapping(key, value, fields); err != nil {
			return err
		}
		if ssl != (migration.SSL{}) {
			e.SSL = &ssl
		}
		return r.oneWay(key, *e, *typed)
	}
}

// secret reads where a secret is found. A command is for the worker's own connections: whoever may send a definition must
// not thereby run programs.
func (r *reader) secret(to **migration.SecretRef, own bool) field {
	return func(key string, value *yaml.Node) error {
		var from migration.SecretRef
		fields := map[string]field{"env": r.text(&from.Env), "file": r.text(&from.File), "command": r.texts(&from.Command)}
		if err := r.mapping(key, value, fields); err != nil {
			return err
		}
		if len(from.Command) > 0 && !own {
			return r.fail(key+".command", "key %q is allowed among a worker's connections only (--connections FILE): use env, file or connection", key+".command")
		}
		given, ways := 0, "env and file"
		for _, way := range []bool{from.Env != "", from.File != "", len(from.Command) > 0} {
			if way {
				given++
			}
		}
		if own {
			ways = "env, file and command"
		}
		if given != 1 {
			return r.fail(key, "key %q: want one of %s", key, ways)
		}
		*to = &from
		return nil
	}
}

// oneWay refuses an endpoint that says the same thing in two ways, since one of them would be ignored.
func (r *reader) oneWay(key string, e migration.Endpoint, typed migration.Typed) error {
	if e.Connection != "" {
		for _, name := range []string{"uri", "host", "port", "database", "user", "passwordFrom", "ssl"} {
			if _, given := r.lines[key+"."+name]; given {
				return r.fail(key+"."+name, "key %q beside %q: the worker knows all of the connection", key+"."+name, key+".connection")
			}
		}
	}
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
	if e.PasswordFrom != nil && typed.Password != "" {
		return r.fail(key+".passwordFrom", "key %q beside a password in %q: give one of them", key+".passwordFrom", key+".uri")
	}
	if e.SSL != nil && e.SSL.KeyPasswordFrom != nil && typed.KeyPassword != "" {
		return r.fail(key+".ssl.keyPasswordFrom", "key %q beside sslpassword in %q: give one of them", key+".ssl.keyPasswordFrom", key+".uri")
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

// uri reads a connection URI, takes the passwords out of it, and writes several hosts as parameters, a form that every
// parser of URIs understands. No message quotes the URI.
func (r *reader) uri(e *migration.Endpoint, typed *migration.Typed, key string, value *yaml.Node) error {
	var given string
	if err := r.text(&given)(key, value); err != nil {
		return err
	}
	parsed, err := url.Parse(hostsAsParameters(given))
	if err != nil || (parsed.Scheme != "postgres" && parsed.Scheme != "postgresql") || parsed.Opaque != "" || parsed.Fragment != "" {
		return r.at(value, "key %q: want postgres://user@host:port/database, with special characters as %%XX", key)
	}
	query := parsed.Query()
	password, found := parsed.User.Password()
	if found {
		parsed.User = url.User(parsed.User.Username())
		typed.Password = password
	}
	for _, secret := range []struct {
		parameter string
		to        *string
	}{{"password", &typed.Password}, {"sslpassword", &typed.KeyPassword}} {
		if query.Has(secret.parameter) {
			// A plus sign is no space here, as in libpq.
			plus, _ := url.ParseQuery(strings.ReplaceAll(parsed.RawQuery, "+", "%2B"))
			*secret.to = plus.Get(secret.parameter)
		}
	}
	if query.Has("password") || query.Has("sslpassword") {
		parsed.RawQuery = without(parsed.RawQuery, "password", "sslpassword")
	}
	e.URI = parsed.String()
	return nil
}

// without takes parameters out and leaves the others as they are written.
func without(query string, names ...string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err != nil || !slices.Contains(names, decoded) {
			kept = append(kept, pair)
		}
	}
	return strings.Join(kept, "&")
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
	secrets := []*migration.SecretRef{e.PasswordFrom}
	if e.SSL != nil {
		absolute(&e.SSL.CA, directory)
		absolute(&e.SSL.Cert, directory)
		absolute(&e.SSL.Key, directory)
		secrets = append(secrets, e.SSL.KeyPasswordFrom)
	}
	for _, secret := range secrets {
		if secret == nil {
			continue
		}
		absolute(&secret.File, directory)
		if len(secret.Command) > 0 && strings.ContainsRune(secret.Command[0], filepath.Separator) {
			absolute(&secret.Command[0], directory)
		}
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
	if *path != "" && *path != "system" && !filepath.IsAbs(*path) { // system is no file, but the machine's authorities
		*path = filepath.Join(directory, *path)
	}
}
