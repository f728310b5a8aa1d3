// Package metrics keeps what the Temporal SDK counts, and shows it in the text format of Prometheus. It is this small
// because the SDK's interface is three methods, and a library for it would weigh more than the rest of the binary.
package metrics

import (
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/pgdts/pgdts/workflows/migration"
)

// Registry holds every series of this process.
type Registry struct {
	mu      sync.Mutex
	series  map[string]*series
	counted map[migration.ID]time.Time // the newest count of a copy
	now     func() time.Time
}

type series struct {
	name, kind, labels string
	value              float64   // counter, gauge; sum of a timer in seconds
	count              int64     // of a timer
	until              time.Time // shown until then; zero = for ever
}

// New makes an empty registry.
func New() *Registry {
	return &Registry{series: map[string]*series{}, counted: map[migration.ID]time.Time{}, now: time.Now}
}

// Handler is what the Temporal client takes.
func (r *Registry) Handler() client.MetricsHandler { return handler{registry: r} }

// ServeHTTP writes every series.
func (r *Registry) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	r.write(w)
}

func (r *Registry) write(out io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := ""
	for _, key := range slices.Sorted(maps.Keys(r.series)) {
		s := r.series[key]
		if !s.until.IsZero() && r.now().After(s.until) {
			delete(r.series, key)
			continue
		}
		if s.name != last {
			fmt.Fprintf(out, "# TYPE %s %s\n", s.name, s.kind)
			last = s.name
		}
		if s.kind == "summary" {
			fmt.Fprintf(out, "%s_sum%s %v\n%s_count%s %d\n", s.name, s.labels, s.value, s.name, s.labels, s.count)
			continue
		}
		fmt.Fprintf(out, "%s%s %v\n", s.name, s.labels, s.value)
	}
}

// update changes one series. A name that comes back as another kind keeps its first.
func (r *Registry) update(name, kind, labels string, change func(*series)) {
	key := name + "\x00" + labels
	r.mu.Lock()
	defer r.mu.Unlock()
	s, found := r.series[key]
	if !found {
		s = &series{name: name, kind: kind, labels: labels}
		r.series[key] = s
	}
	change(s)
}

type handler struct {
	registry *Registry
	tags     map[string]string
}

// WithTags adds labels to what is counted from here on.
func (h handler) WithTags(tags map[string]string) client.MetricsHandler {
	merged := maps.Clone(h.tags)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, tags)
	return handler{h.registry, merged}
}

// Counter counts up.
func (h handler) Counter(name string) client.MetricsCounter {
	return instrument{h.registry, sanitize(name) + "_total", "counter", labels(h.tags)}
}

// Gauge shows the last value.
func (h handler) Gauge(name string) client.MetricsGauge {
	return gauge{instrument{h.registry, sanitize(name), "gauge", labels(h.tags)}}
}

// Timer sums durations.
func (h handler) Timer(name string) client.MetricsTimer {
	return instrument{h.registry, sanitize(name) + "_seconds", "summary", labels(h.tags)}
}

type instrument struct {
	registry           *Registry
	name, kind, labels string
}

// Inc counts up by n.
func (i instrument) Inc(n int64) {
	i.registry.update(i.name, i.kind, i.labels, func(s *series) { s.value += float64(n) })
}

// Record adds one duration.
func (i instrument) Record(d time.Duration) {
	i.registry.update(i.name, i.kind, i.labels, func(s *series) {
		s.value += d.Seconds()
		s.count++
	})
}

type gauge struct{ instrument }

// Update sets the value.
func (g gauge) Update(value float64) {
	g.registry.update(g.name, g.kind, g.labels, func(s *series) {
		if !math.IsNaN(value) {
			s.value = value
		}
	})
}

func sanitize(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
}

var escape = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func labels(tags map[string]string) string {
	if len(tags) == 0 {
		return ""
	}
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(tags)) {
		pairs = append(pairs, fmt.Sprintf(`%s="%s"`, sanitize(name), escape.Replace(tags[name])))
	}
	return "{" + strings.Join(pairs, ",") + "}"
}
