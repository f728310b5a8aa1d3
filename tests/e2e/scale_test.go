package e2e

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

const (
	// connectionRate is what a connection to the source carries: then lanes are what the copy lacks, whatever the machine has.
	connectionRate = 2 << 20
	chunkBytes     = 8 << 20 // the least that a plan makes, four seconds
)

// Four lanes, of which a worker has room for two: a second worker takes the others, in the middle of the copy. When it is
// killed, what it had in flight is copied again, and nothing else.
func TestWorkerAddedAmidTheCopyAndKilled(t *testing.T) {
	t.Parallel()
	serveTemporal(t, filepath.Join(t.TempDir(), "temporal.db"), func(address string) {
		s := newScenario(t, "")
		s.env = []string{"TEMPORAL_ADDRESS=" + address}
		writers := s.writers(12)
		s.wide(20)
		network := s.behindNetwork("parallel: {copy: 4}\ncutover: {steadyFor: 1s}\n")
		first := s.start(nil, "worker", "--copy-lanes", "2")
		id := s.begin()
		s.awaitLanes(2)
		one := network.rate(4 * time.Second)
		before := s.lanes()
		require.Len(t, before, 2, "lanes for which no worker has room do not run")

		second := s.start(nil, "worker", "--copy-lanes", "2")
		added := time.Now()
		s.awaitLanes(4)
		joined := time.Since(added)
		require.Less(t, joined, 15*time.Second)
		two := network.rate(4 * time.Second)
		require.Greater(t, two, 1.5*one)

		theirs := slices.DeleteFunc(s.lanes(), func(lane string) bool { return slices.Contains(before, lane) })
		require.Len(t, theirs, 2)
		s.awaitBegun(theirs)
		require.NoError(t, second.Process.Kill())
		killed := time.Now()
		s.to.WaitUntil(t, "select count(*) = 2 from dts_sync.chunk where attempts > 1")
		taken := time.Since(killed)
		require.Less(t, taken, 20*time.Second, "what was in flight waits for no time-out")
		awaitLong(t, s.to, "select not exists (select from dts_sync.chunk where state = 'todo')")
		network.free.Store(true)
		s.awaitID(first, id, "the end of the copy", func(status migration.Status) bool { return status.Phase.After(migration.PhaseCopy) })
		require.Less(t, time.Since(killed), heartbeatTimeout, "the end of the copy does not wait for the lanes of the dead")

		chunks, attempts := s.count("count(*)"), s.count("sum(attempts)")
		again, all := s.count("sum(rows) filter (where attempts > 1)"), s.count("sum(rows)")
		require.Equal(t, chunks+2, attempts)
		t.Logf("%.1f MB/s with one worker, %.1f MB/s with two, which copied after %s; after SIGKILL 2 of %d chunks (%d of %d rows) copied again, begun after %s",
			one/1e6, two/1e6, joined.Round(time.Millisecond), chunks, again, all, taken.Round(time.Millisecond))
		s.cutOver(first, id)
		s.mustBeEqual(writers.Stop())
		s.mustLeaveNothing()
	})
}

// heartbeatTimeout is when Temporal takes a silent worker for dead.
const heartbeatTimeout = time.Minute

// A worker that is frozen for longer than a heartbeat time-out, while it copies one migration and applies the changes of
// another: the other worker takes both over although it has no room for more lanes, and the woken one does no harm, and serves.
func TestFrozenWorkerIsReplacedAndHarmlessWhenWoken(t *testing.T) {
	t.Parallel()
	serveTemporal(t, filepath.Join(t.TempDir(), "temporal.db"), func(address string) {
		followed := newScenario(t, "cutover: {steadyFor: 1s}\n")
		copied := newScenarioOn(t, followed.source, followed.target, "")
		followed.env, copied.env = []string{"TEMPORAL_ADDRESS=" + address}, []string{"TEMPORAL_ADDRESS=" + address}
		followers, copiers := followed.writers(13), copied.writers(14)
		copied.wide(12)
		network := copied.behindNetwork("parallel: {copy: 4}\ncutover: {steadyFor: 1s}\n")

		frozen := followed.start(nil, "worker", "--copy-lanes", "2")
		followedID := followed.begin()
		followed.awaitID(frozen, followedID, "caught up", func(status migration.Status) bool { return status.CaughtUp })
		copiedID := copied.begin()
		copied.awaitLanes(2)
		theirs := copied.lanes()
		other := followed.start(nil, "worker", "--copy-lanes", "2")
		copied.awaitLanes(4)
		copied.awaitBegun(theirs)
		require.NoError(t, frozen.Process.Signal(syscall.SIGSTOP))
		stopped := time.Now()
		require.Equal(t, "2", copied.writing(theirs), "the frozen worker has two chunks in its hands")

		applied := followed.to.Query(t, "select end_lsn::text from dts_sync.progress")[0][0]
		copyTaken := awaitLong(t, copied.to, "select not exists (select from dts_sync.chunk where state = 'todo')")
		network.free.Store(true)
		streamTaken := awaitLong(t, followed.to, fmt.Sprintf("select end_lsn > '%s' from dts_sync.progress", applied))
		copied.awaitID(other, copiedID, "caught up", func(status migration.Status) bool { return status.CaughtUp })
		t.Logf("the frozen worker's chunks were copied %s after it was frozen, its changes were applied from %s on",
			copyTaken.Sub(stopped).Round(time.Second), streamTaken.Sub(stopped).Round(time.Second))
		require.Equal(t, copied.count("count(*)")+2, copied.count("sum(attempts)"))

		require.NoError(t, frozen.Process.Signal(syscall.SIGCONT))
		require.NoError(t, other.Process.Signal(syscall.SIGTERM))
		require.Zero(t, other.wait(time.Minute))
		followed.cutOver(frozen, followedID)
		copied.cutOver(frozen, copiedID)
		followed.mustBeEqual(followers.Stop())
		copied.mustBeEqual(copiers.Stop())
		for _, s := range []*scenario{followed, copied} {
			s.mustLeaveNothing()
			require.Equal(t, "0", s.to.Query(t, "select coalesce(sum(conflicts), 0) from dts_sync.tbl")[0][0])
		}
		require.True(t, frozen.alive())
	})
}

// awaitLong waits for longer than others, until something is true, and returns when that was. Temporal may give one more attempt to
// a frozen worker, which was waiting for work and does not refuse it: that is twice the heartbeat time-out.
func awaitLong(t *testing.T, db *pgtest.DB, sql string) time.Time {
	t.Helper()
	require.Eventually(t, func() bool { return db.Query(t, sql)[0][0] == "t" }, 3*heartbeatTimeout, 100*time.Millisecond)
	return time.Now()
}

// wide makes a table that is cut into about so many chunks.
func (s *scenario) wide(chunks int) {
	const rowBytes = 64 << 10
	s.from.Exec(s.t, fmt.Sprintf(`create table wide (id int primary key, filler text);
		alter table wide alter filler set storage external;
		insert into wide select i, repeat(md5(i::text), %d) from generate_series(1, %d) i;
		analyze wide`, rowBytes/32, chunks*chunkBytes/rowBytes))
}

func (s *scenario) cutOver(p *process, id string) {
	s.t.Helper()
	s.awaitID(p, id, "caught up", func(status migration.Status) bool {
		return status.Phase == migration.PhaseIncremental && status.CaughtUp
	})
	code, _, errs := s.run("cutover", id)
	require.Equal(s.t, 0, code, errs)
	s.awaitID(p, id, "finished", func(status migration.Status) bool { return status.Phase == migration.PhaseFinished })
}

const ofLanes = `from pg_stat_activity where datname = current_database() and application_name like 'pgdts/%/copy-%'`

// awaitLanes waits until so many lanes have sessions on the source.
func (s *scenario) awaitLanes(number int) {
	s.t.Helper()
	s.from.WaitUntil(s.t, fmt.Sprintf("select count(distinct split_part(application_name, '/', 3)) = %d %s", number, ofLanes))
}

// awaitBegun waits for a moment at which each of the lanes is in the middle of a chunk, which takes four seconds. The source is
// asked first: a lane reads its next chunk only when the last is committed, so that what it writes then is of the same chunk.
func (s *scenario) awaitBegun(lanes []string) {
	s.t.Helper()
	reading := fmt.Sprintf(`select count(*) %s and state = 'active' and query ilike 'copy%%wide%%'
		and clock_timestamp() - query_start < '2 s' and split_part(application_name, '/', 3) in ('%s')`, ofLanes, strings.Join(lanes, "', '"))
	all := strconv.Itoa(len(lanes))
	require.Eventually(s.t, func() bool {
		return s.from.Query(s.t, reading)[0][0] == all && s.writing(lanes) == all
	}, timeLimit, 10*time.Millisecond)
}

// writing is how many of the lanes have a transaction open that writes to the wide table.
func (s *scenario) writing(lanes []string) string {
	s.t.Helper()
	return s.to.Query(s.t, `select count(distinct pid) from pg_locks
		where relation = 'public.wide'::regclass and mode = 'RowExclusiveLock' and pid in (select pid from pg_stat_activity where application_name ~ '/(`+strings.Join(lanes, "|")+`)/')`)[0][0]
}

// lanes are those of the copy that have sessions on the source.
func (s *scenario) lanes() (lanes []string) {
	s.t.Helper()
	for _, row := range s.from.Query(s.t, "select distinct split_part(application_name, '/', 3) "+ofLanes) {
		lanes = append(lanes, row[0])
	}
	return lanes
}

// count is an aggregate over the ledger's chunks of the wide table.
func (s *scenario) count(aggregate string) int {
	s.t.Helper()
	text := s.to.Query(s.t, "select "+aggregate+" from dts_sync.chunk join dts_sync.tbl using (migration, relid) where name = 'wide'")[0][0]
	number, err := strconv.Atoi(cmp.Or(text, "0"))
	require.NoError(s.t, err)
	return number
}

// behindNetwork defines the migration anew, with a source that is reached through a slow network.
func (s *scenario) behindNetwork(extra string) *network {
	s.t.Helper()
	source, err := url.Parse(s.from.URI)
	require.NoError(s.t, err)
	n := &network{to: source.Host}
	source.Host = n.serve(s.t)
	definition := fmt.Sprintf("name: shop\nsource: {uri: %q}\ntarget: {uri: %q}\n%s", source.String(), s.to.URI, extra)
	require.NoError(s.t, os.WriteFile(s.file, []byte(definition), 0o600))
	return n
}

// network passes connections on, each of which carries connectionRate bytes a second from the server.
type network struct {
	to   string
	free atomic.Bool // all that the machine carries

	mu     sync.Mutex
	passed int64
}

// serve listens until the test ends, and returns where.
func (n *network) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var connections sync.WaitGroup
	connections.Go(func() { // ends with the listener
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Go(func() { n.pass(client) }) // ends with either end of the connection
		}
	})
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

func (n *network) pass(client net.Conn) {
	server, err := net.Dial("tcp", n.to)
	if err != nil {
		_ = client.Close()
		return
	}
	_ = server.(*net.TCPConn).SetReadBuffer(64 << 10) // or the server is done with a chunk long before it has passed
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	})
	both.Go(func() {
		n.slowly(client, server)
		_ = client.Close()
	})
	both.Wait()
}

// slowly copies what the server says. Time that nobody used is not made up for.
func (n *network) slowly(client, server net.Conn) {
	buffer := make([]byte, 64<<10)
	next := time.Now()
	for {
		read, err := server.Read(buffer)
		if err != nil {
			return
		}
		if now := time.Now(); next.Before(now) {
			next = now
		}
		if !n.free.Load() {
			next = next.Add(time.Duration(read) * time.Second / connectionRate)
			time.Sleep(time.Until(next))
		}
		if _, err := client.Write(buffer[:read]); err != nil {
			return
		}
		n.mu.Lock()
		n.passed += int64(read)
		n.mu.Unlock()
	}
}

// rate is how many bytes a second pass in the time that begins now.
func (n *network) rate(over time.Duration) float64 {
	count := func() int64 {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.passed
	}
	began, first := time.Now(), count()
	<-time.After(over)
	return float64(count()-first) / time.Since(began).Seconds()
}
