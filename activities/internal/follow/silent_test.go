package follow

import (
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/slot/slottest"
	"github.com/pgdts/pgdts/workflows/migration"
)

// swallowing is a way to a server that, once told, takes everything and brings nothing, as a firewall does that has
// forgotten a connection.
func swallowing(t *testing.T, uri string, silent *atomic.Bool) string {
	t.Helper()
	parsed, err := url.Parse(uri)
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	to := parsed.Host
	pass := func(from, to net.Conn) { // ends with either connection
		defer func() { _, _ = from.Close(), to.Close() }()
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			if silent.Load() {
				continue
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
	go func() { // ends with the listener
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			go pass(near, far)
			go pass(far, near)
		}
	}()
	parsed.Host = listener.Addr().String()
	return parsed.String()
}

func TestAWayThatSwallowsEverythingIsAnOutage(t *testing.T) {
	t.Parallel()
	for _, side := range []migration.Side{migration.Source, migration.Target} {
		t.Run(string(side), func(t *testing.T) {
			t.Parallel()
			b := newWatched(t)
			b.Spec.Types = []migration.Type{migration.TypeFull, migration.TypeIncremental} // no look at the catalog opens new sessions
			var silent atomic.Bool
			direct := map[migration.Side]string{migration.Source: b.From.URI, migration.Target: b.To.URI}
			server, err := pg.NewServer(side, migration.Endpoint{URI: swallowing(t, direct[side], &silent)}, nil)
			require.NoError(t, err)
			if side == migration.Source {
				b.Source = server
			} else {
				b.Target = server
			}
			f := New(Config{Source: b.Source, Target: b.Target, Spec: b.Spec, Run: slottest.Run, Report: b.Report, Logger: zaptest.NewLogger(t)})
			stop := start(t, f)
			_, err = f.Mark(t.Context())
			require.NoError(t, err)
			silent.Store(true)
			began := time.Now()
			b.From.Exec(t, "insert into a select g, repeat('x', 1000) from generate_series(1, 1000) g") // under way to the target
			require.Eventually(t, func() bool { ended, _ := f.board.over(); return ended }, time.Minute, 20*time.Millisecond)
			fault := slottest.MustFault(t, migration.FaultConnection, stop())
			require.Equal(t, side, fault.Side)
			t.Logf("noticed after %s", time.Since(began).Round(time.Second))
		})
	}
}
