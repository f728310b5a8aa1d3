package stream

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// What each message costs the sender is its way through the network: many must go in one piece.
func TestMessagesOfAServerOnThisMachineComeTogether(t *testing.T) {
	t.Parallel()
	const messages, size = 10_000, 80
	ours, theirs := sockets(t)
	flow(t, ours, theirs)
	for range messages { // the system keeps what does not fit through the window
		_, err := theirs.Write(make([]byte, size))
		require.NoError(t, err)
	}
	_, err := io.ReadFull(ours, make([]byte, messages*size))
	require.NoError(t, err)
	raw, err := theirs.SyscallConn()
	require.NoError(t, err)
	var info *unix.TCPInfo
	require.NoError(t, raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }))
	require.NoError(t, err)
	require.Less(t, int(info.Data_segs_out), messages/4)
}
