package migration

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Throttle caps what a migration asks of the servers, over all its workers together. It may be changed while it runs.
type Throttle struct {
	Full        FullThrottle        `json:"full,omitzero"`
	Incremental IncrementalThrottle `json:"incremental,omitzero"`
}

// FullThrottle caps the copy; 0 = no cap.
type FullThrottle struct {
	QueriesPerSecond   float64 `json:"queriesPerSecond,omitempty"` // statements that read rows from the source
	RowsPerSecond      float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond float64 `json:"megabytesPerSecond,omitempty"` // of 1,000,000 bytes
}

// IncrementalThrottle caps the application of changes; 0 = no cap.
type IncrementalThrottle struct {
	RowsPerSecond      float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond float64 `json:"megabytesPerSecond,omitempty"` // of 1,000,000 bytes
}

// Text is the caps for people; "" = none.
func (t FullThrottle) Text() string {
	return caps(ceiling{t.MegabytesPerSecond, "MB/s"}, ceiling{t.RowsPerSecond, "rows/s"}, ceiling{t.QueriesPerSecond, "queries/s"})
}

// Text is the caps for people; "" = none.
func (t IncrementalThrottle) Text() string {
	return caps(ceiling{t.MegabytesPerSecond, "MB/s"}, ceiling{t.RowsPerSecond, "rows/s"})
}

// Text is the caps that are still of use in a phase, for people; "" = none.
func (t Throttle) Text(phase Phase) string {
	var parts []string
	if full := t.Full.Text(); full != "" && phase.Before(PhaseCatchup) {
		parts = append(parts, "copy "+full)
	}
	if incremental := t.Incremental.Text(); incremental != "" && !phase.Ended() {
		parts = append(parts, "changes "+incremental)
	}
	return strings.Join(parts, "; ")
}

type ceiling struct {
	rate float64
	unit string
}

func caps(caps ...ceiling) string {
	var parts []string
	for _, c := range caps {
		if c.rate > 0 {
			parts = append(parts, strconv.FormatFloat(c.rate, 'f', -1, 64)+" "+c.unit)
		}
	}
	return strings.Join(parts, ", ")
}

// Rates beyond these are mistakes: slower than a row in a quarter of an hour, faster than any server.
const (
	rateMin = 0.001
	rateMax = 1e12
)

// validate refuses what is no rate, and rates of work that is not done.
func (t Throttle) validate(has func(Type) bool) error {
	for _, rate := range []struct {
		key   string
		of    Type
		value float64
	}{
		{"throttle.full.queriesPerSecond", TypeFull, t.Full.QueriesPerSecond},
		{"throttle.full.rowsPerSecond", TypeFull, t.Full.RowsPerSecond},
		{"throttle.full.megabytesPerSecond", TypeFull, t.Full.MegabytesPerSecond},
		{"throttle.incremental.rowsPerSecond", TypeIncremental, t.Incremental.RowsPerSecond},
		{"throttle.incremental.megabytesPerSecond", TypeIncremental, t.Incremental.MegabytesPerSecond},
	} {
		switch {
		case rate.value == 0:
		case math.IsNaN(rate.value) || rate.value < rateMin || rate.value > rateMax:
			return keyErrorf(rate.key, "%v: want %v to %v, or 0 for no cap", rate.value, rateMin, rateMax)
		case !has(rate.of):
			return keyErrorf(rate.key, "type %s is not among the types", rate.of)
		}
	}
	return nil
}

// ThrottleChange changes some rates of a Throttle; nil leaves one as it is, 0 takes it away.
type ThrottleChange struct {
	Full        *FullThrottleChange        `json:"full,omitempty"`
	Incremental *IncrementalThrottleChange `json:"incremental,omitempty"`
}

// FullThrottleChange changes rates of the copy.
type FullThrottleChange struct {
	QueriesPerSecond   *float64 `json:"queriesPerSecond,omitempty"`
	RowsPerSecond      *float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond *float64 `json:"megabytesPerSecond,omitempty"`
}

// IncrementalThrottleChange changes rates of the application of changes.
type IncrementalThrottleChange struct {
	RowsPerSecond      *float64 `json:"rowsPerSecond,omitempty"`
	MegabytesPerSecond *float64 `json:"megabytesPerSecond,omitempty"`
}

// Of is what t comes to by the change.
func (c ThrottleChange) Of(t Throttle) Throttle {
	set := func(rate, change *float64) {
		if change != nil {
			*rate = *change
		}
	}
	if f := c.Full; f != nil {
		set(&t.Full.QueriesPerSecond, f.QueriesPerSecond)
		set(&t.Full.RowsPerSecond, f.RowsPerSecond)
		set(&t.Full.MegabytesPerSecond, f.MegabytesPerSecond)
	}
	if i := c.Incremental; i != nil {
		set(&t.Incremental.RowsPerSecond, i.RowsPerSecond)
		set(&t.Incremental.MegabytesPerSecond, i.MegabytesPerSecond)
	}
	return t
}

// Change is the change that leads from one Throttle to t: of the kinds that differ, all rates.
func (t Throttle) Change(from Throttle) ThrottleChange {
	var c ThrottleChange
	if t.Full != from.Full {
		c.Full = &FullThrottleChange{&t.Full.QueriesPerSecond, &t.Full.RowsPerSecond, &t.Full.MegabytesPerSecond}
	}
	if t.Incremental != from.Incremental {
		c.Incremental = &IncrementalThrottleChange{&t.Incremental.RowsPerSecond, &t.Incremental.MegabytesPerSecond}
	}
	return c
}

// ThrottleAllowed refuses, with a sentence, a change that makes no sense in a phase.
func (s Spec) ThrottleAllowed(c ThrottleChange, phase Phase) error {
	switch {
	case phase.Ended():
		return fmt.Errorf("the migration is %s", phase)
	case c.Full == nil && c.Incremental == nil:
		return fmt.Errorf(`name a rate, as in {"full": {"megabytesPerSecond": 20}}`)
	case c.Full != nil && !s.Has(TypeFull):
		return fmt.Errorf("throttle.full: a migration without type full copies nothing")
	case c.Incremental != nil && !s.Has(TypeIncremental):
		return fmt.Errorf("throttle.incremental: a migration without type incremental applies no changes")
	case c.Full != nil && !phase.Before(PhaseCatchup):
		return fmt.Errorf("throttle.full: the copy is done; throttle.incremental caps the changes")
	}
	return c.Of(s.Throttle).validate(s.Has)
}

// Throttleable reports whether any rate can be changed in a phase.
func (s Spec) Throttleable(phase Phase) bool {
	return !phase.Ended() && (s.Has(TypeIncremental) || s.Has(TypeFull) && phase.Before(PhaseCatchup))
}

// Class is a preset of parallelism, memory and incremental rate; none = as fast as it goes.
type Class string

// From the smallest to the largest.
const (
	ClassSmall   Class = "small"
	ClassMedium  Class = "medium"
	ClassLarge   Class = "large"
	ClassXLarge  Class = "xlarge"
	Class2XLarge Class = "2xlarge"
)

// ClassPreset is what a class means, where the definition itself says nothing.
type ClassPreset struct {
	Parallel      Parallel
	RowsPerSecond float64 // of throttle.incremental
	IndexMemory   int64   // bytes that one build of an index may use on the target
}

// Preset is what a class means. Rates are the reference's ceilings.
func (c Class) Preset() (ClassPreset, bool) {
	const megabyte = 1 << 20
	switch c {
	case ClassSmall:
		return ClassPreset{Parallel{Copy: 2, Index: 1}, 2_000, 64 * megabyte}, true
	case ClassMedium:
		return ClassPreset{Parallel{Copy: 4, Index: 2}, 5_000, 128 * megabyte}, true
	case ClassLarge:
		return ClassPreset{Parallel{Copy: 8, Index: 2}, 6_000, 256 * megabyte}, true
	case ClassXLarge:
		return ClassPreset{Parallel{Copy: 12, Index: 4}, 7_000, 512 * megabyte}, true
	case Class2XLarge:
		return ClassPreset{Parallel{Copy: 16, Index: 8}, 11_000, 1024 * megabyte}, true
	}
	return ClassPreset{}, false
}

// applyClass fills what the class presets and the definition leaves out.
func (s *Spec) applyClass() {
	preset, known := s.Class.Preset()
	if !known {
		return
	}
	fill(&s.Parallel.Copy, preset.Parallel.Copy)
	fill(&s.Parallel.Index, preset.Parallel.Index)
	if s.Has(TypeIncremental) {
		fill(&s.Throttle.Incremental.RowsPerSecond, preset.RowsPerSecond)
	}
}
