package metrics_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/metrics"
	"github.com/pgdts/pgdts/workflows/migration"
)

func TestPrometheusReadsWhatTheSDKCounts(t *testing.T) {
	registry := metrics.New()
	h := registry.Handler().WithTags(map[string]string{"task_queue": `a"b`})
	h.Counter("temporal_request").Inc(2)
	h.Counter("temporal_request").Inc(1)
	h.WithTags(map[string]string{"operation": "Poll"}).Counter("temporal_request").Inc(1)
	h.Gauge("temporal-slots").Update(7)
	h.Timer("temporal_latency").Record(1500 * time.Millisecond)
	h.Timer("temporal_latency").Record(500 * time.Millisecond)

	response := httptest.NewRecorder()
	registry.ServeHTTP(response, nil)
	require.Equal(t, `# TYPE temporal_latency_seconds summary
temporal_latency_seconds_sum{task_queue="a\"b"} 2
temporal_latency_seconds_count{task_queue="a\"b"} 2
# TYPE temporal_request_total counter
temporal_request_total{operation="Poll",task_queue="a\"b"} 1
temporal_request_total{task_queue="a\"b"} 3
# TYPE temporal_slots gauge
temporal_slots{task_queue="a\"b"} 7
`, response.Body.String())
}

func TestFiguresOfAMigrationAreShownAndForgotten(t *testing.T) {
	registry := metrics.New()
	registry.Observe(migration.Beat{Migration: "pgdts/shop/a", Rows: 10, RowsTotal: 40, Bytes: 100, BytesTotal: 400})
	registry.Observe(migration.Beat{
		Migration: "pgdts/shop/a", Changes: 7, Latency: migration.Duration(1500 * time.Millisecond),
		WALRetained: 4096, WALLimit: 8192, WALGrowth: 64, WALAlert: 50,
		LSN: &migration.Positions{Applied: 100, Confirmed: 90, Source: 150},
	})
	response := httptest.NewRecorder()
	registry.ServeHTTP(response, nil)
	for _, line := range []string{
		`pgdts_copied_bytes_total{migration="pgdts/shop/a"} 100`,
		`pgdts_copy_rows{migration="pgdts/shop/a"} 40`,
		`pgdts_latency_seconds{migration="pgdts/shop/a"} 1.5`,
		`pgdts_applied_lag_bytes{migration="pgdts/shop/a"} 50`,
		`pgdts_confirmed_lag_bytes{migration="pgdts/shop/a"} 60`,
		`pgdts_slot_retained_bytes{migration="pgdts/shop/a"} 4096`,
		`pgdts_slot_limit_bytes{migration="pgdts/shop/a"} 8192`,
		`pgdts_slot_growth_bytes_per_second{migration="pgdts/shop/a"} 64`,
		`pgdts_slot_seconds_to_limit{migration="pgdts/shop/a"} 64`,
		`pgdts_slot_alert_percent{migration="pgdts/shop/a"} 50`,
	} {
		require.Contains(t, response.Body.String(), line+"\n")
	}
	registry.Forward(2 * time.Minute)
	response = httptest.NewRecorder()
	registry.ServeHTTP(response, nil)
	require.Empty(t, response.Body.String())
}

// Each lane of a copy uses its count for a while; a counter that falls would be read as a restart.
func TestALaneWithAnOldCountDoesNotMakeCountersFall(t *testing.T) {
	registry := metrics.New()
	counted := time.Unix(1000, 0)
	beat := migration.Beat{Migration: "pgdts/shop/a", RowsTotal: 40, BytesTotal: 400}
	for _, count := range []struct {
		at   time.Time
		rows int64
	}{{counted, 0}, {counted.Add(time.Second), 10}, {counted, 0}} {
		beat.Counted, beat.Rows, beat.Bytes = count.at, count.rows, 10*count.rows
		registry.Observe(beat)
	}
	response := httptest.NewRecorder()
	registry.ServeHTTP(response, nil)
	require.Contains(t, response.Body.String(), `pgdts_copied_bytes_total{migration="pgdts/shop/a"} 100`+"\n")
	require.Contains(t, response.Body.String(), `pgdts_copied_rows_total{migration="pgdts/shop/a"} 10`+"\n")
}
