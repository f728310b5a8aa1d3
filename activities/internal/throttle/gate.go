package throttle

import "context"

// Gate makes its callers wait, so that all of them together keep below the rates. It is safe for use by many at once.
type Gate interface {
	// Query waits until one more statement may read rows from the source.
	Query(ctx context.Context) error
	// Pass waits until so many rows and bytes more may go by. It fails only when ctx ends.
	Pass(ctx context.Context, rows, bytes int64) error
	// BytesPerSecond is the cap at present, of which sizes of chunks are made; 0 = none.
	BytesPerSecond() float64
	// Portion is how many of so many bytes with so many rows should go by at once, so that none waits for long and then
	// comes as a burst: what passes in a tenth of a second, one row at least; all of them without a cap.
	Portion(rows, bytes int64) int64
}

// Open is a gate that lets everything through.
var Open Gate = open{}

type open struct{}

func (open) Query(context.Context) error              { return nil }
func (open) Pass(context.Context, int64, int64) error { return nil }
func (open) BytesPerSecond() float64                  { return 0 }
func (open) Portion(_, bytes int64) int64             { return bytes }
