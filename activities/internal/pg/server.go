package pg

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Server is one of the two databases, ready to be connected to.
type Server struct {
	Side     migration.Side
	endpoint migration.Endpoint
	secrets  *migration.Secrets
	said     parameters      // what the definition says, without files and secrets
	static   *pgx.ConnConfig // what that comes to; nil where it takes a file that is not there
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

// NewServer reads an endpoint. It opens nothing and reads no secret: every connect does, so that a secret that has changed
// is taken anew. The error is that of a definition which can never work; it names the key.
func NewServer(side migration.Side, endpoint migration.Endpoint, secrets *migration.Secrets) (*Server, error) {
	s := &Server{Side: side, endpoint: endpoint, secrets: secrets}
	from, err := s.origin()
	if err != nil {
		return s, nil //nolint:nilerr // another worker may know it, so it is said at every connect
	}
	if s.said, err = given(from.Endpoint); err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(side), "uri", err, "")
	}
	all, err := s.said.folded(from.key)
	if err != nil {
		return s, nil //nolint:nilerr // the service file may come
	}
	if err := all.refuse(); err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(side), "", err, "")
	}
	delete(all, "sslpassword")
	all["sslrootcert"] = ""
	if s.static, err = parse(all); err != nil {
		return nil, migration.NewFault(migration.FaultInvalid, string(side), "", err, "")
	}
	return s, nil
}

// refuse names what would silently mean something else.
func (p parameters) refuse() error {
	for _, keyword := range refusedParameters {
		if p[keyword] != "" {
			return fmt.Errorf("connection settings: %s (%s) is not supported", keyword, variables[keyword])
		}
	}
	if p["sslrootcert"] == systemAuthorities && p.mode() != "verify-full" {
		return fmt.Errorf("connection settings: the system's authorities vouch for names, so they take ssl mode verify-full, not %s", p.mode())
	}
	return nil
}

// parse lets the driver read the parameters. The error quotes no value.
func parse(p parameters) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(p.connString())
	if err != nil {
		return nil, redact(err)
	}
	config.ConnectTimeout = connectTimeout
	dialer := &net.Dialer{
		Timeout:         connectTimeout,
		Control:         bounded,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	config.DialFunc = dialer.DialContext
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	config.AfterConnect = settle
	return config, nil
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

// Connect opens a session with the canonical settings. The caller closes it.
func (s *Server) Connect(ctx context.Context, application string) (*pgx.Conn, error) {
	return s.ConnectThrough(ctx, application, nil)
}

// ConnectThrough is Connect with something between the socket, or its TLS, and the protocol. wrap may be nil.
func (s *Server) ConnectThrough(ctx context.Context, application string, wrap func(net.Conn) net.Conn) (*pgx.Conn, error) {
	r, err := s.reach(ctx)
	if err != nil {
		return nil, s.unready("connect to", err)
	}
	if wrap != nil {
		r.config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) { return wrap(conn), nil }
	}
	r.config.RuntimeParams["application_name"] = application
	conn, err := pgx.ConnectConfig(ctx, r.config)
	if err != nil {
		return nil, s.refused(ctx, "connect to", r, err)
	}
	return conn, nil
}

// Replication opens a logical replication session. wrap, if not nil, stands between the socket and the protocol.
func (s *Server) Replication(ctx context.Context, application string, wrap func(net.Conn) net.Conn) (*pgconn.PgConn, error) {
	r, err := s.reach(ctx)
	if err != nil {
		return nil, s.unready("connect for replication to", err)
	}
	config := r.config.Config
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
		return nil, s.refused(ctx, "connect for replication to", r, err)
	}
	return conn, nil
}

// Database is the name of the database.
func (s *Server) Database() string {
	if s.static != nil {
		return s.static.Database
	}
	return s.endpoint.DatabaseName()
}

// Address is user@host:port/database, without secrets.
func (s *Server) Address() string {
	if s.static == nil {
		return s.endpoint.Address()
	}
	return fmt.Sprintf("%s@%s/%s", s.static.User, net.JoinHostPort(s.static.Host, strconv.Itoa(int(s.static.Port))), s.static.Database)
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
