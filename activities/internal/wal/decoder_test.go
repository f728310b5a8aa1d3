package wal_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/wal"
	"github.com/pgdts/pgdts/workflows/migration"
)

// message builds what a walsender sends: numbers in network order, strings with a final zero.
func message(kind byte, fields ...any) []byte {
	out := []byte{kind}
	for _, field := range fields {
		switch field := field.(type) {
		case byte:
			out = append(out, field)
		case uint16:
			out = binary.BigEndian.AppendUint16(out, field)
		case uint32:
			out = binary.BigEndian.AppendUint32(out, field)
		case uint64:
			out = binary.BigEndian.AppendUint64(out, field)
		case string:
			out = append(append(out, field...), 0)
		case []byte:
			out = append(out, field...)
		}
	}
	return out
}

func tuple(values ...any) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, value := range values {
		switch value := value.(type) {
		case nil:
			out = append(out, 'n')
		case wal.ValueKind:
			out = append(out, byte(value))
		case string:
			out = append(out, 't')
			out = binary.BigEndian.AppendUint32(out, uint32(len(value)))
			out = append(out, value...)
		}
	}
	return out
}

func begin(xid uint32) []byte { return message('B', uint64(0x100), uint64(0), xid) }
func commit() []byte          { return message('C', byte(0), uint64(0x100), uint64(0x130), uint64(0)) }

func relation(id uint32, schema, name string, columns ...string) []byte {
	out := message('R', id, schema, name, byte('d'), uint16(len(columns)))
	for i, column := range columns {
		key := byte(0)
		if i == 0 {
			key = 1
		}
		out = append(out, message(key, column, uint32(25), uint32(0xffffffff))...)
	}
	return out
}

func decode(t *testing.T, decoder *wal.Decoder, messages ...[]byte) []wal.Transaction {
	t.Helper()
	var done []wal.Transaction
	for _, m := range messages {
		tx, err := decoder.Decode(m)
		require.NoError(t, err)
		if tx != nil {
			done = append(done, *tx)
		}
		clear(m) // the driver overwrites its buffer
	}
	return done
}

func TestValuesOutliveTheBufferTheyCameIn(t *testing.T) {
	txs := decode(t, wal.NewDecoder(1<<20),
		begin(7),
		relation(1, "public", "t", "k", "v", "w"),
		message('I', uint32(1), byte('N'), tuple("a", nil, "")),
		message('U', uint32(1), byte('K'), tuple("a", nil, nil), byte('N'), tuple("b", wal.Unchanged, "x")),
		message('U', uint32(1), byte('N'), tuple("b", "1", "2")),
		message('D', uint32(1), byte('O'), tuple("b", "1", "2")),
		message('T', uint32(1), byte(3), uint32(1)),
		commit())
	require.Len(t, txs, 1)
	tx := txs[0]
	require.Equal(t, uint32(7), tx.XID)
	require.Equal(t, migration.LSN(0x100), tx.Commit)
	require.Equal(t, migration.LSN(0x130), tx.End)
	require.True(t, tx.First && tx.Last)
	require.Len(t, tx.Changes, 5)
	require.Equal(t, []wal.Value{{Kind: wal.Text, Data: []byte("a")}, {}, {Kind: wal.Text, Data: []byte{}}}, tx.Changes[0].New)
	moved := tx.Changes[1]
	require.Equal(t, []wal.Value{{Kind: wal.Text, Data: []byte("a")}, {}, {}}, moved.Old)
	require.Equal(t, []wal.Value{{Kind: wal.Text, Data: []byte("b")}, {Kind: wal.Unchanged}, {Kind: wal.Text, Data: []byte("x")}}, moved.New)
	require.False(t, moved.OldFull)
	require.Nil(t, tx.Changes[2].Old)
	require.True(t, tx.Changes[3].OldFull)
	require.Equal(t, "public.t", tx.Changes[4].Truncated[0].Name.String())
	require.True(t, tx.Changes[0].Relation.Columns[0].Key)
	require.Equal(t, int32(-1), tx.Changes[0].Relation.Columns[1].TypeMod)
}

func TestHugeTransactionComesInParts(t *testing.T) {
	const rows = 1000
	messages := [][]byte{begin(7), relation(1, "public", "t", "k")}
	for range rows {
		messages = append(messages, message('I', uint32(1), byte('N'), tuple(string(bytes.Repeat([]byte("x"), 100)))))
	}
	parts := decode(t, wal.NewDecoder(10_000), append(messages, commit())...)
	require.Greater(t, len(parts), 10)
	seen := 0
	for i, part := range parts {
		seen += len(part.Changes)
		require.LessOrEqual(t, part.Bytes, 11_000)
		require.Equal(t, i == 0, part.First)
		require.Equal(t, i == len(parts)-1, part.Last)
		require.Equal(t, uint32(7), part.XID)
		require.Equal(t, part.Last, part.End != 0, "only the last part knows where to go on from")
	}
	require.Equal(t, rows, seen)
}

func TestEmptyTransactionMovesThePosition(t *testing.T) {
	decoder := wal.NewDecoder(1 << 20)
	require.False(t, decoder.Open())
	require.Empty(t, decode(t, decoder, begin(7)))
	require.True(t, decoder.Open())
	require.Len(t, decode(t, decoder, commit()), 1)
	require.False(t, decoder.Open())
}

func TestMarkerRowOfOldServersIsAMessage(t *testing.T) {
	txs := decode(t, wal.NewDecoder(1<<20), begin(7), relation(9, "dts_sync", "marker", "id", "v", "at"),
		message('U', uint32(9), byte('N'), tuple("1", "abc/marker/1", "now")), commit())
	require.Equal(t, wal.Change{Op: wal.Message, Prefix: "pgdts", Content: []byte("abc/marker/1")}, txs[0].Changes[0])
}

func TestMessagesOfOthersAreDropped(t *testing.T) {
	txs := decode(t, wal.NewDecoder(1<<20),
		message('M', byte(0), uint64(1), "pgdts", uint32(2), []byte("no")),
		begin(7),
		message('M', byte(1), uint64(1), "app", uint32(2), []byte("no")),
		message('M', byte(1), uint64(1), "pgdts", uint32(3), []byte("yes")),
		commit())
	require.Len(t, txs[0].Changes, 1)
	require.Equal(t, "yes", string(txs[0].Changes[0].Content))
}

func TestMalformedMessagesAreErrors(t *testing.T) {
	described := [][]byte{relation(1, "public", "t", "k"), begin(7)}
	for name, bad := range map[string][]byte{
		"empty":               {},
		"unknown kind":        message('Z'),
		"streamed":            message('S', uint32(1), byte(1)),
		"undescribed table":   message('I', uint32(2), byte('N'), tuple("a")),
		"too many values":     message('I', uint32(1), byte('N'), tuple("a", "b")),
		"no new row":          message('I', uint32(1), byte('K'), tuple("a")),
		"delete without key":  message('D', uint32(1), byte('N'), tuple("a")),
		"bytes left over":     message('I', uint32(1), byte('N'), tuple("a"), byte(0)),
		"value too long":      message('I', uint32(1), byte('N'), uint16(1), byte('t'), uint32(1<<31), byte(0)),
		"binary value":        message('I', uint32(1), byte('N'), uint16(1), byte('b'), uint32(1), byte(0)),
		"truncate too long":   message('T', uint32(1<<31), byte(0), uint32(1)),
		"begin inside":        begin(8),
		"commit of another":   message('C', byte(0), uint64(0x200), uint64(0x230), uint64(0)),
		"relation too short":  message('R', uint32(1), "a", "b", byte('d'), uint16(9)),
		"relation with rest":  message('R', uint32(1), "a", "b", byte('d'), uint16(0), byte(1)),
		"message runs beyond": message('M', byte(1), uint64(1), "pgdts", uint32(9), []byte("x")),
	} {
		t.Run(name, func(t *testing.T) {
			decoder := wal.NewDecoder(1 << 20)
			for _, m := range described {
				_, err := decoder.Decode(slices.Clone(m))
				require.NoError(t, err)
			}
			_, err := decoder.Decode(bad)
			require.Error(t, err)
		})
	}
	_, err := wal.NewDecoder(1 << 20).Decode(commit())
	require.Error(t, err, "commit without begin")
}

// FuzzDecoderNeverPanics feeds a stream cut at the fuzzer's zero-length marks: each message is preceded by its length.
func FuzzDecoderNeverPanics(f *testing.F) {
	var stream []byte
	for _, m := range [][]byte{
		begin(7), relation(1, "public", "t", "k", "v"), relation(2, "dts_sync", "marker", "id", "v", "at"),
		message('I', uint32(1), byte('N'), tuple("a", nil)),
		message('U', uint32(1), byte('K'), tuple("a", nil), byte('N'), tuple("b", wal.Unchanged)),
		message('D', uint32(1), byte('K'), tuple("b", nil)),
		message('I', uint32(2), byte('N'), tuple("1", "x", "y")),
		message('T', uint32(1), byte(0), uint32(1)),
		message('M', byte(1), uint64(1), "pgdts", uint32(1), []byte("x")),
		message('Y', uint32(1), "a", "b"), message('O', uint64(1), "a"), commit(),
	} {
		stream = append(append(stream, byte(len(m))), m...)
	}
	for cut := range stream {
		f.Add(stream[:cut])
		flipped := slices.Clone(stream)
		flipped[cut] ^= 0xff
		f.Add(flipped)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		decoder := wal.NewDecoder(300)
		for len(data) > 0 {
			n := min(int(data[0]), len(data)-1)
			tx, err := decoder.Decode(data[1 : 1+n])
			if err != nil {
				return
			}
			if tx != nil && tx.Last != (tx.End != 0) {
				t.Fatal("a part that is not the last has an end, or the last has none")
			}
			data = data[1+n:]
		}
	})
}
