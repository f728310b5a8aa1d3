package bulk_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgdts/pgdts/activities/internal/bulk"
	"github.com/pgdts/pgdts/tests/pgtest"
	"github.com/pgdts/pgdts/workflows/migration"
)

var record = flag.String("record", "", "write the beats of the skewed copy to this file, for starter/testdata")

// brake lets so many bytes pass per second, over all lanes together.
type brake struct {
	gate
	perSecond float64
	turn      sync.Mutex
}

func (b *brake) Portion(_, bytes int64) int64 { return min(bytes, 64<<10) }

func (b *brake) Pass(ctx context.Context, _, bytes int64) error {
	b.turn.Lock()
	defer b.turn.Unlock()
	select {
	case <-time.After(time.Duration(float64(bytes) / b.perSecond * float64(time.Second))):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// One table holds most of the bytes in few wide rows, many tables hold next to nothing, and one has most of the rows.
func TestProgressOfSkewedTablesIsHonest(t *testing.T) {
	t.Parallel()
	ddl := "create table wide (id int primary key, pad text); alter table wide alter pad set storage external; create table narrow (id int primary key)"
	for i := range 30 {
		ddl += fmt.Sprintf("; create table small%d (id int primary key)", i)
	}
	b := newBench(t, ddl)
	b.source.Exec(t, `insert into wide select g, repeat('x', case when g < 3000 then 300 else 100000 end) from generate_series(1, 3200) g;
		insert into narrow select generate_series(1, 60000); insert into small3 select generate_series(1, 10); analyze`)
	b.config.ChunkBytes = 2 << 20
	b.plan()
	b.config.Gate = &brake{gate: gate{opened: make(chan struct{})}, perSecond: 1.4e6}

	var mu sync.Mutex
	var beats []migration.Beat
	var lanes errgroup.Group
	began := time.Now()
	for i := range 3 {
		lane := b.lane(fmt.Sprintf("copy-%d", i+1))
		lanes.Go(func() error {
			_, err := bulk.Run(b.Context(), b.config, lane, b.finisher, func(beat migration.Beat) {
				mu.Lock()
				defer mu.Unlock()
				beat.Step = "Copy"
				beats = append(beats, beat)
			})
			return err
		})
	}
	require.NoError(t, lanes.Wait())
	took := time.Since(began)
	pgtest.MustEqual(t, b.source, b.target)
	if *record != "" {
		content, err := json.MarshalIndent(map[string]any{"began": began, "tookSeconds": took.Seconds(), "beats": beats}, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(*record, content, 0o600))
	}

	inFlight, done, judged := map[string]int64{}, int64(0), 0
	var counted time.Time
	for _, beat := range beats {
		if beat.Counted.Before(counted) {
			continue // another lane has counted since
		}
		counted = beat.Counted
		require.NotEmpty(t, beat.Lane)
		require.Zero(t, beat.SnapshotsLost)
		require.LessOrEqual(t, beat.Bytes, beat.BytesTotal)
		require.GreaterOrEqual(t, beat.Bytes-beat.InFlight, done, "what is done stays done")
		done = beat.Bytes - beat.InFlight
		inFlight[beat.Lane] = beat.InFlight
		all := done
		for _, bytes := range inFlight {
			all += bytes
		}
		elapsed := beat.At.Sub(began).Seconds()
		part := float64(all) / float64(beat.BytesTotal)
		if part < 0.2 || part > 0.9 {
			continue
		}
		left, really := elapsed/part-elapsed, took.Seconds()-elapsed
		t.Logf("after %4.1f s: %4.1f %%, to go %4.1f s, really %4.1f s", elapsed, 100*part, left, really)
		require.InDelta(t, 1.25, max(left/really, really/left), 0.75, "a factor of two")
		judged++
	}
	require.Greater(t, judged, 5)
}

// portions notes how long each portion may have waited at the rate.
type portions struct {
	*gate
	rows    float64 // per second
	longest float64
	first   float64
}

func (p *portions) Portion(rows, bytes int64) int64 {
	if rows == 0 {
		return bytes
	}
	return min(bytes, max(1, int64(max(1, p.rows/10)*float64(bytes)/float64(rows))))
}

func (p *portions) Pass(_ context.Context, rows, _ int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	took := float64(rows) / p.rows
	if p.first == 0 {
		p.first = took
	}
	p.longest = max(p.longest, took)
	return nil
}

func TestNarrowRowsComeEvenlyAtALowRate(t *testing.T) {
	t.Parallel()
	b := newBench(t, "create table narrow (id int primary key)")
	b.source.Exec(t, "insert into narrow select generate_series(1, 20000)")
	b.plan()
	noted := &portions{gate: newGate(), rows: 50}
	b.config.Gate = noted
	b.copy(1)
	pgtest.MustEqual(t, b.source, b.target)
	require.Positive(t, noted.first)
	require.LessOrEqual(t, noted.longest, 0.25, "seconds at the rate; twenty thousand rows in one portion would wait for minutes")
}
