package bulk

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

// A peer that sends in pieces of any size, and a driver that reads in others.
type pieces struct {
	net.Conn
	stream []byte
	random *rand.Rand
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.stream) == 0 {
		return 0, io.EOF
	}
	n := copy(to, p.stream[:min(len(p.stream), 1+p.random.IntN(200_000))])
	p.stream = p.stream[n:]
	return n, nil
}

func message(kind byte, content []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(content)+4)), content...)
}

// content are the bytes of a stream's COPY data, and the rest of its messages as they are.
func content(t *testing.T, stream []byte) (rows, others []byte, longest int) {
	t.Helper()
	for len(stream) > 0 {
		length := int(binary.BigEndian.Uint32(stream[1:])) + 1
		require.LessOrEqual(t, length, len(stream), "a message is cut off")
		if stream[0] == copyData {
			rows = append(rows, stream[frameHeader:length]...)
			longest = max(longest, length)
		} else {
			others = append(append(others, byte(len(rows)%251)), stream[:length]...) // with its place
		}
		stream = stream[length:]
	}
	return rows, others, longest
}

func TestRowsThatAreReadTogetherAreTheSameRows(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		var stream []byte
		var sent int64
		for range random.IntN(400) {
			size := random.IntN(300)
			switch random.IntN(60) {
			case 0:
				size = random.IntN(1_000_000)
			case 1:
				size = 0
			}
			kind := []byte("dddddddddddTDCZS")[random.IntN(16)]
			if kind == copyData {
				sent++
			}
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			stream = append(stream, message(kind, payload)...)
		}
		conn := newFrames(&pieces{stream: stream, random: random}).(*frames)
		var got bytes.Buffer
		buffer := make([]byte, 1+random.IntN(70_000))
		_, err := io.CopyBuffer(struct{ io.Writer }{&got}, struct{ io.Reader }{conn}, buffer)
		require.NoError(t, err)
		wantRows, wantOthers, _ := content(t, stream)
		rows, others, longest := content(t, got.Bytes())
		require.True(t, bytes.Equal(wantRows, rows), "seed %d", seed)
		require.True(t, bytes.Equal(wantOthers, others), "seed %d", seed)
		require.LessOrEqual(t, longest, framesBuffer, "seed %d: a row is held in memory as a whole", seed)
		require.Equal(t, sent, conn.taken(), "seed %d", seed)
	}
}
