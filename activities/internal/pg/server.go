package pg

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Secrets are passwords that a person typed into a definition for `run`. They live in the memory of that process only.
type Secrets map[migration.Side]string

// Server is one of the two databases, ready to be connected to.
type Server struct {
	Side     migration.Side
	endpoint migration.Endpoint
	config   *pgx.ConnConfig
}

const connectTimeout = 10 * time.Second

// settings make a value's text form the same on both servers, turn a row filter into an error (row_security), and keep
// time-outs of a role or database from ending our work.
var settings = map[string]string{
	"DateStyle":                           "ISO,YMD",
	"IntervalStyle":                       "postgres",
	"extra_float_digits":                  "3",
	"bytea_output":                        "hex",
	"TimeZone":                            "UTC",
	"client_encoding":                     "UTF8",
	"search_path":                         "pg_catalog",
	"lc_monetary":                         "C",
	"xmloption":                           "content",
	"row_security":                        "off",
	"statement_timeout":                   "0",
	"lock_timeout":                        "0",
	"idle_in_transaction_session_timeout": "0",
	"default_transaction_read_only":       "off",
	"default_transaction_isolation":       "read committed",
	"synchronize_seqscans":                "off",
	"standard_conforming_strings":         "on",
	"tcp_keepalives_idle":                 "10",
	"tcp_keepalives_interval":             "5",
	"tcp_keepalives_count":                "3",
}

// NewServer resolves an endpoint. It opens nothing. An error names the key of the definition that is wrong.
func NewServer(side migration.Side, endpoint migration.Endpoint, secrets Secrets) (*Server, error) {
	if uri := endpoint.URI; uri != "" && !strings.HasPrefix(uri, "postgres://") && !strings.HasPrefix(uri, "postgresql://") {
		return nil, migration.Faultf(migration.FaultInvalid, string(side), "uri", "want postgres://user@host:port/database")
	}
	config, err := pgx.ParseConfig(connString(endpoint))
	if err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(side), "", redact(err), "")
	}
	password, err := resolvePassword(side, endpoint, secrets)
	if err != nil {
		return nil, err
	}
	if password != "" {
		config.Password = password
	}
	config.ConnectTimeout = connectTimeout
	dialer := &net.Dialer{
		Timeout:         connectTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	config.DialFunc = dialer.DialContext
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	config.AfterConnect = settle
	return &Server{Side: side, endpoint: endpoint, config: config}, nil
}

// settle sets what older servers do not know and would refuse as startup parameters. A time-out that an administrator
// set for a role must not end a copy or a paused stream; and compiling a query over the catalog takes longer than
// running it.
func settle(ctx context.Context, conn *pgconn.PgConn) error {
	var statements []string
	for _, since := range []struct {
		major     int
		statement string
	}{
		{11, "set jit = off"},
		{14, "set idle_session_timeout = 0"},
		{17, "set transaction_timeout = 0"},
	} {
		if majorOf(conn.ParameterStatus("server_version")) >= since.major {
			statements = append(statements, since.statement)
		}
	}
	if len(statements) == 0 {
		return nil
	}
	return conn.Exec(ctx, strings.Join(statements, "; ")).Close()
}

// majorOf reads "15.18 (Debian …)", "17beta1".
func majorOf(version string) int {
	digits := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if digits < 0 {
		digits = len(version)
	}
	major, _ := strconv.Atoi(version[:digits])
	return major
}

// redact keeps a parse error from quoting the connection string.
func redact(err error) error {
	text := err.Error()
	if cut := strings.LastIndex(text, "`: "); cut >= 0 {
		text = text[cut+3:]
	}
	return fmt.Errorf("connection settings: %s", text)
}

func connString(e migration.Endpoint) string {
	query := url.Values{}
	if e.SSL != nil {
		set(query, "sslmode", e.SSL.Mode)
		set(query, "sslrootcert", e.SSL.CA)
		set(query, "sslcert", e.SSL.Cert)
		set(query, "sslkey", e.SSL.Key)
	}
	if e.URI != "" {
		parsed, err := url.Parse(e.URI)
		if err != nil {
			return e.URI // the driver says what is wrong with it
		}
		merged := parameters(parsed)
		for key, values := range query {
			merged[key] = values
		}
		parsed.RawQuery = encoded(merged)
		return parsed.String()
	}
	set(query, "host", e.Host)
	if e.Port != 0 {
		set(query, "port", strconv.Itoa(e.Port))
	}
	set(query, "dbname", e.Database)
	set(query, "user", e.User)
	return "postgres://?" + encoded(query)
}

// parameters and encoded take a plus sign for what it is, as libpq does; in forms of the web it is a space.
func parameters(uri *url.URL) url.Values {
	values, _ := url.ParseQuery(strings.ReplaceAll(uri.RawQuery, "+", "%2B"))
	return values
}

func encoded(query url.Values) string { return strings.ReplaceAll(query.Encode(), "+", "%20") }

func set(query url.Values, key, value string) {
	if value != "" {
		query.Set(key, value)
	}
}

func resolvePassword(side migration.Side, e migration.Endpoint, secrets Secrets) (string, error) {
	switch {
	case secrets[side] != "":
		return secrets[side], nil
	case e.PasswordFrom == nil:
		return "", nil
	case e.PasswordFrom.Env != "":
		password, ok := os.LookupEnv(e.PasswordFrom.Env)
		if !ok {
			return "", migration.Faultf(migration.FaultInvalid, string(side), "",
				"environment variable %s of passwordFrom.env is not set where the worker runs", e.PasswordFrom.Env)
		}
		return password, nil
	default:
		content, err := os.ReadFile(e.PasswordFrom.File)
		if err != nil {
			return "", migration.NewFault(migration.FaultInvalid, string(side), "passwordFrom.file", err, "")
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	}
}

// Connect opens a session with the canonical settings. The caller closes it.
func (s *Server) Connect(ctx context.Context, application string) (*pgx.Conn, error) {
	config := s.config.Copy()
	config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, s.refused("connect to", err)
	}
	return conn, nil
}

// Replication opens a logical replication session. wrap, if not nil, stands between the socket and the protocol.
func (s *Server) Replication(ctx context.Context, application string, wrap func(net.Conn) net.Conn) (*pgconn.PgConn, error) {
	config := s.config.Copy().Config
	config.RuntimeParams["application_name"] = application
	config.RuntimeParams["replication"] = "database"
	if wrap != nil {
		dial := config.DialFunc
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return wrap(conn), nil
		}
	}
	conn, err := pgconn.ConnectConfig(ctx, &config)
	if err != nil {
		return nil, s.refused("connect for replication to", err)
	}
	return conn, nil
}

// Database is the name of the database.
func (s *Server) Database() string { return s.config.Database }

// Address is user@host:port/database, without secrets.
func (s *Server) Address() string {
	return fmt.Sprintf("%s@%s/%s", s.config.User, net.JoinHostPort(s.config.Host, strconv.Itoa(int(s.config.Port))), s.config.Database)
}

// hosts are all that the definition names, in order: the first that answers is used.
func (s *Server) hosts() (hosts, ports []string) {
	add := func(host string, port uint16) {
		text := strconv.Itoa(int(port))
		for i := range hosts {
			if hosts[i] == host && ports[i] == text {
				return // the same host again, without TLS
			}
		}
		hosts, ports = append(hosts, host), append(ports, text)
	}
	add(s.config.Host, s.config.Port)
	for _, fallback := range s.config.Fallbacks {
		add(fallback.Host, fallback.Port)
	}
	return hosts, ports
}

// passed are the parameters of a connection string that libpq programs take from the environment. Those with true are
// files.
var passed = []struct {
	parameter, variable string
	file                bool
}{
	{"sslmode", "PGSSLMODE", false},
	{"sslrootcert", "PGSSLROOTCERT", true},
	{"sslcert", "PGSSLCERT", true},
	{"sslkey", "PGSSLKEY", true},
	{"target_session_attrs", "PGTARGETSESSIONATTRS", false},
	{"service", "PGSERVICE", false},
	{"servicefile", "PGSERVICEFILE", true},
}

// Environment is what libpq programs (pg_dump) need to reach this database, on top of os.Environ(). The password
// travels in the environment because process arguments are visible to other users.
func (s *Server) Environment() []string {
	hosts, ports := s.hosts()
	env := []string{
		"PGHOST=" + strings.Join(hosts, ","),
		"PGPORT=" + strings.Join(ports, ","),
		"PGUSER=" + s.config.User,
		"PGDATABASE=" + s.config.Database,
		"PGPASSWORD=" + s.config.Password,
		"PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}
	parsed, err := url.Parse(connString(s.endpoint))
	if err != nil {
		return env
	}
	for _, p := range passed {
		value := parameters(parsed).Get(p.parameter)
		if value == "" {
			continue
		}
		if absolute, err := filepath.Abs(value); err == nil && p.file && value != "system" {
			value = absolute // the program may run in another directory
		}
		env = append(env, p.variable+"="+value)
	}
	return env
}

// Close ends a session within a few seconds even when the peer is gone. It is for defer.
func Close(conn *pgx.Conn) {
	if conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = conn.Close(ctx)
}
