package pg

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/jackc/pgservicefile"

	"github.com/pgdts/pgdts/workflows/migration"
)

// parameters are libpq's, by keyword. What a definition gives goes before the service file, that before the
// environment, and that before libpq's defaults.
type parameters map[string]string

var errURI = errors.New("want postgres://user@host:port/database, with special characters as %XX")

// given are the parameters that an endpoint says itself. The error quotes nothing of the URI, which may hold a password.
func given(e migration.Endpoint) (parameters, error) {
	p := parameters{}
	if e.URI != "" {
		var err error
		if p, err = parseURI(e.URI); err != nil {
			return nil, err
		}
	}
	port := ""
	if e.Port != 0 {
		port = strconv.Itoa(e.Port)
	}
	p.set("host", e.Host)
	p.set("port", port)
	p.set("dbname", e.Database)
	p.set("user", e.User)
	if e.SSL != nil {
		p.set("sslmode", e.SSL.Mode)
		p.set("sslrootcert", e.SSL.CA)
		p.set("sslcert", e.SSL.Cert)
		p.set("sslkey", e.SSL.Key)
	}
	return p, nil
}

func (p parameters) set(keyword, value string) {
	if value != "" {
		p[keyword] = value
	}
}

// parseURI reads a connection URI as libpq does: several hosts, a plus sign for what it is, parameters over the head.
func parseURI(uri string) (parameters, error) {
	rest, ok := strings.CutPrefix(uri, "postgres://")
	if !ok {
		if rest, ok = strings.CutPrefix(uri, "postgresql://"); !ok {
			return nil, errURI
		}
	}
	head, query, _ := strings.Cut(rest, "?")
	if at := strings.LastIndexByte(rest, '@'); at > len(head) && !strings.Contains(head, "/") {
		return nil, errURI // a question mark in a password that is not encoded
	}
	authority, path, _ := strings.Cut(head, "/")
	user, hosts := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, hosts = authority[:at], authority[at+1:]
	}
	user, password, _ := strings.Cut(user, ":")
	host, port := splitHosts(hosts)
	p := parameters{}
	for _, part := range []struct{ keyword, encoded string }{
		{"user", user}, {"password", password}, {"host", host}, {"port", port}, {"dbname", path},
	} {
		if err := p.decode(part.keyword, part.encoded); err != nil {
			return nil, err
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		keyword, value, ok := strings.Cut(pair, "=")
		if !ok {
			if pair == "" {
				continue
			}
			return nil, errURI
		}
		keyword, err := url.PathUnescape(keyword)
		if err != nil {
			return nil, errURI
		}
		if err := p.decode(keyword, value); err != nil {
			return nil, err
		}
	}
	if p["ssl"] == "true" {
		delete(p, "ssl")
		p["sslmode"] = "require"
	}
	return p, nil
}

func (p parameters) decode(keyword, encoded string) error {
	value, err := url.PathUnescape(encoded)
	if err != nil || strings.IndexByte(value, 0) >= 0 {
		return errURI
	}
	p.set(keyword, value)
	return nil
}

// splitHosts turns a:1,[::1]:2,c into a,::1,c and 1,2, as libpq writes lists.
func splitHosts(authority string) (hosts, ports string) {
	var allHosts, allPorts []string
	for pair := range strings.SplitSeq(authority, ",") {
		host, port := pair, ""
		if colon := strings.LastIndexByte(pair, ':'); colon > strings.LastIndexByte(pair, ']') {
			host, port = pair[:colon], pair[colon+1:]
		}
		allHosts, allPorts = append(allHosts, strings.Trim(host, "[]")), append(allPorts, port)
	}
	return strings.Join(allHosts, ","), strings.Join(allPorts, ",")
}

// variables are those by which libpq programs take a parameter; every other variable of libpq is kept from them.
var variables = map[string]string{
	"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD", "passfile": "PGPASSFILE",
	"service": "PGSERVICE", "servicefile": "PGSERVICEFILE", "options": "PGOPTIONS", "target_session_attrs": "PGTARGETSESSIONATTRS",
	"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
	"sslpassword": "PGSSLPASSWORD", // the driver's; libpq has none
	"sslcertmode": "PGSSLCERTMODE", "sslsni": "PGSSLSNI", "sslnegotiation": "PGSSLNEGOTIATION", "channel_binding": "PGCHANNELBINDING",
	"require_auth": "PGREQUIREAUTH", "sslcrl": "PGSSLCRL", "sslcrldir": "PGSSLCRLDIR", "hostaddr": "PGHOSTADDR", "requirepeer": "PGREQUIREPEER",
	"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
}

// refusedParameters would change whom we trust or whom we reach, and the driver does not know them.
var refusedParameters = []string{
	"sslcrl", "sslcrldir", "hostaddr", "requirepeer", "ssl_min_protocol_version", "ssl_max_protocol_version",
}

// idleParameters of libpq say nothing that matters here; the driver would send them to the server as settings.
var idleParameters = []string{
	"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout",
	"sslcompression", "fallback_application_name", "gssencmode", "gsslib", "gssdelegation", "load_balance_hosts", "replication",
	"client_encoding",
}

// folded adds what the service file and the environment say. The error is a *lack: a service that is not there.
func (p parameters) folded(key func(string) string) (parameters, error) {
	all := parameters{}
	for keyword, variable := range variables {
		all.set(keyword, os.Getenv(variable))
	}
	for _, keyword := range []string{"service", "servicefile"} {
		all.set(keyword, p[keyword])
	}
	if name := all["service"]; name != "" {
		if all["servicefile"] == "" {
			all["servicefile"] = filepath.Join(os.Getenv("HOME"), ".pg_service.conf")
		}
		service, err := readService(all["servicefile"], name)
		if err != nil {
			return p, lackf(RefusedFile, err, key("uri")+" or PGSERVICE: name a service that the file has; PGSERVICEFILE names the file",
				"service %s cannot be read from %s", name, all["servicefile"])
		}
		for keyword, value := range service {
			all[keyword] = value
		}
	}
	for keyword, value := range p {
		all[keyword] = value
	}
	all.addDefaults()
	for _, keyword := range idleParameters {
		delete(all, keyword)
	}
	return all, nil
}

func readService(path, name string) (map[string]string, error) {
	file, err := pgservicefile.ReadServicefile(path)
	if err != nil {
		return nil, err
	}
	service, err := file.GetService(name)
	if err != nil {
		return nil, err
	}
	return service.Settings, nil
}

// addDefaults are the files that libpq looks for by itself. Certificate and key count as a pair.
func (p parameters) addDefaults() {
	home, err := os.UserHomeDir()
	if err != nil {
		return
	}
	there := func(name string) string {
		path := filepath.Join(home, ".postgresql", name)
		if _, err := os.Stat(path); err != nil {
			return ""
		}
		return path
	}
	if p["sslrootcert"] == "" {
		p.set("sslrootcert", there("root.crt"))
	}
	if certificate, key := there("postgresql.crt"), there("postgresql.key"); p["sslcert"] == "" && p["sslkey"] == "" && certificate != "" && key != "" {
		p["sslcert"], p["sslkey"] = certificate, key
	}
}

// mode is libpq's sslmode with its default.
func (p parameters) mode() string {
	switch {
	case p["sslmode"] != "":
		return p["sslmode"]
	case p["sslrootcert"] == systemAuthorities:
		return "verify-full"
	}
	return "prefer"
}

// systemAuthorities is the value of sslrootcert that means those which the machine trusts.
const systemAuthorities = "system"

// connString is for the driver, which is to read nothing about client certificates: it does not know all forms of
// keys. The empty values keep its own defaults away.
func (p parameters) connString() string {
	query := url.Values{}
	for keyword, value := range p {
		query.Set(keyword, value)
	}
	for _, keyword := range []string{"sslcert", "sslkey", "sslpassword"} {
		query.Set(keyword, "")
	}
	return "postgres://?" + strings.ReplaceAll(query.Encode(), "+", "%20")
}
