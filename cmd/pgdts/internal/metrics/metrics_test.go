package metrics_test

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/cmd/pgdts/internal/metrics"
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
