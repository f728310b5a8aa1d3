package bulk

import (
	"context"
	"math"
	"runtime"
	"time"

	"go.uber.org/zap"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/activities/internal/throttle"
	"github.com/pgdts/pgdts/workflows/migration"
)

// Config is what a copy needs. Zero fields take their defaults.
type Config struct {
	Spec           migration.Spec
	Source, Target *pg.Server
	Log            *zap.Logger   // nil: silent
	Gate           throttle.Gate // nil: open

	// ChunkBytes is how much of a table, TOAST included, one transaction copies. Default 64 MB, less where there are too few
	// for all lanes, or where the gate lets so much pass in a minute; ceiling 256 MB: a chunk is what a killed worker
	// loses, and while it runs the table's lock lets no ALTER TABLE pass.
	ChunkBytes int64
	// ChunksMax bounds the chunks of a table by making them larger, up to the ceiling. Default 4096.
	ChunksMax int
	// StallMax is how long a COPY may move no byte before the attempt is given up. Default 1 hour: a scan over dead rows
	// alone sends nothing, and a server that is gone is noticed by the connection much earlier.
	StallMax time.Duration
	// LockTimeout is how long a chunk waits for its table's lock. Default 5 seconds.
	LockTimeout time.Duration
	// GiveWayAfter is how long a statement that needs a table for itself may wait while a chunk of it is read: then the chunk
	// is given up and tried again as much later. Everybody else who wants the table waits behind that statement. Default 5
	// seconds; a chunk that was tried five times gives way no more.
	GiveWayAfter time.Duration
	// ChunkTimeMax is when a chunk that can be split is given up for it. Default 2 minutes.
	ChunkTimeMax time.Duration
	// GuardMax is how long an attempt waits for the source to show what the slot's snapshot saw, and to flush its log.
	// Default 30 seconds.
	GuardMax time.Duration
	// SnapshotWait is how long a lane waits for a session that holds the copy's snapshot, where no changes follow the copy.
	// Default 10 minutes: another holder first removes what was copied under the snapshot before.
	SnapshotWait time.Duration
	// Patience is how long a lane without work waits before Run returns with Left. Default 0: until all is finished.
	Patience time.Duration
}

const (
	chunkBytesMax       = 256 << 20
	chunkBytesDefault   = 64 << 20
	chunkBytesLeast     = 8 << 20
	chunkBytesThrottled = 64 << 10
	// chunksPerLane is how many chunks a lane should have at least, so that the last one is a small part of its work.
	chunksPerLane = 16
	// chunkTime is what a chunk should take at most: so long may an ALTER TABLE have to wait for it, and all who come after.
	chunkTime = time.Minute
)

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Gate == nil {
		c.Gate = throttle.Open
	}
	fill(&c.ChunksMax, 4096)
	fill(&c.StallMax, time.Hour)
	fill(&c.LockTimeout, 5*time.Second)
	fill(&c.GiveWayAfter, 5*time.Second)
	fill(&c.ChunkTimeMax, 2*chunkTime)
	fill(&c.GuardMax, 30*time.Second)
	fill(&c.SnapshotWait, 10*time.Minute)
	c.ChunkBytes = min(c.ChunkBytes, chunkBytesMax)
	return c
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// lanes is how many Run at once are worth while for that many chunks.
func (c Config) lanes(chunks int) int {
	lanes := c.Spec.Parallel.Copy
	if lanes == 0 {
		lanes = max(2, runtime.NumCPU())
	}
	return max(1, min(lanes, chunks))
}

// builders is how many lanes build indexes at once. Where the definition leaves it open, all do when no chunk is left.
func (c Config) builders(copying bool) int {
	switch {
	case c.Spec.Parallel.Index > 0:
		return c.Spec.Parallel.Index
	case copying:
		return max(1, runtime.NumCPU()/2)
	}
	return math.MaxInt32
}

// Finisher builds what belongs to a table whose rows are copied. Each may be called again for the same table by another
// lane after one has died, and leave alone what is there. Their sessions carry the lane's name, so that a later attempt
// can end them.
type Finisher interface {
	// Key builds the identity key.
	Key(ctx context.Context, relid uint32) error
	// Indexes builds the indexes that are not unique.
	Indexes(ctx context.Context, relid uint32) error
	// Together does both for several small tables at once. False means that something cannot be built so, and that they are to
	// be finished one by one.
	Together(ctx context.Context, relids []uint32) (bool, error)
}
