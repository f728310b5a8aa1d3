package bulk

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/ledger"
	"github.com/pgdts/pgdts/workflows/migration"
)

// errTooLong ends an attempt at a chunk that the source should not have open for so long.
var errTooLong = errors.New("the chunk takes too long")

const (
	// splitParts is into how many a chunk is cut that has run for too long, splitMax the most that one is ever cut into.
	splitParts = 4
	splitMax   = 64
)

// tooLarge is into how many parts a chunk should be cut before it is begun: the rate may have been lowered since the plan.
// One that is twice as large as it should be is let be.
func (w *worker) tooLarge(c ledger.Chunk) int {
	rate := w.config.Gate.BytesPerSecond()
	if rate <= 0 || !w.divisible(c) {
		return 1
	}
	part := w.config.minuteOf(rate)
	if c.Bytes < 2*part {
		return 1
	}
	return int(min(splitMax, (c.Bytes+part-1)/part))
}

// divisible reports whether a chunk may become several. A table of one snapshot that is one chunk must stay one.
func (w *worker) divisible(c ledger.Chunk) bool {
	t := w.tables[c.RelID]
	return !w.whole[chunkID{c.RelID, c.No}] && (t.Mode == migration.ModeKeyRange || t.Mode == migration.ModeOneSnapshot && (c.Low != nil || c.High != nil))
}

type chunkID struct {
	relid uint32
	no    int
}

// split cuts a chunk that is not done into parts. One that cannot be cut is remembered as whole.
func (w *worker) split(ctx context.Context, c ledger.Chunk, parts int) error {
	if err := w.connect(ctx); err != nil {
		return err
	}
	t := w.tables[c.RelID]
	bounds, err := w.between(ctx, t, c, parts)
	if err != nil {
		return w.config.Source.Fault("split", fmt.Sprintf("%s (chunk %d)", t.Name, c.No), err)
	}
	if len(bounds) == 0 {
		w.whole[chunkID{c.RelID, c.No}] = true
		return nil
	}
	w.config.Log.Info("chunk split", zap.String(migration.KeyTable, t.Name.String()), zap.Int(migration.KeyChunk, c.No), zap.Int("parts", len(bounds)+1))
	return w.config.Target.Fault("split", t.Name.String(), w.write(ctx, func(tx pgx.Tx) error {
		return ledger.SplitChunk(ctx, tx, w.lane.ID, c, bounds)
	}))
}

// between finds bounds inside a chunk.
func (w *worker) between(ctx context.Context, t ledger.Table, c ledger.Chunk, parts int) ([][]string, error) {
	cut := cutter{Config: w.config, source: w.source}
	if s := spanOf(t, c); s.byPlace {
		return cut.pagesBetween(ctx, t, s, parts)
	}
	step := int64(walkStep)
	if t.Rows > 0 && t.Bytes > 0 {
		step = max(1, int64(float64(t.Rows)*float64(c.Bytes)/float64(t.Bytes))/int64(parts))
	}
	return cut.walk(ctx, t.Table.Table, spanOf(t, c), step, parts-1)
}

// pagesBetween cuts between pages only.
func (c cutter) pagesBetween(ctx context.Context, t ledger.Table, s span, parts int) ([][]string, error) {
	first, last := int64(0), int64(0)
	var err error
	if s.low != nil {
		first, err = pageOf(s.low[0])
	}
	if err == nil && s.high != nil {
		last, err = pageOf(s.high[0])
	}
	if err == nil && s.high == nil {
		last, err = c.heapPages(ctx, t.Table.Table)
	}
	if err != nil {
		return nil, err
	}
	parts = int(min(int64(parts), last-first))
	var bounds [][]string
	for i := 1; i < parts; i++ {
		bounds = append(bounds, []string{fmt.Sprintf("(%d,0)", first+(last-first)*int64(i)/int64(parts))})
	}
	return bounds, nil
}

func pageOf(place string) (page int64, err error) {
	var offset int64
	_, err = fmt.Sscanf(place, "(%d,%d)", &page, &offset)
	return page, err
}
