package stream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgdts/pgdts/activities/internal/pg"
	"github.com/pgdts/pgdts/workflows/migration"
)

// sockets are both ends of a connection; ours gathers.
func sockets(t *testing.T) (ours *gatheringConn, theirs *net.TCPConn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	accepted := make(chan net.Conn, 1)
	go func() { // ends with the listener
		conn, err := listener.Accept()
		if err == nil {
			accepted <- conn
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	ours, theirs = newGatheringConn(conn).(*gatheringConn), (<-accepted).(*net.TCPConn)
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	return ours, theirs
}

// flow makes the connection one in which bytes flow, so that the system is told to wake nobody for few.
func flow(t *testing.T, ours io.Reader, theirs io.Writer) {
	t.Helper()
	for range 50 {
		_, err := theirs.Write(make([]byte, 100))
		require.NoError(t, err)
		_, err = io.ReadFull(ours, make([]byte, 100))
		require.NoError(t, err)
	}
}

func TestOneByteAfterManyArrivesAtOnce(t *testing.T) {
	t.Parallel()
	ours, theirs := sockets(t)
	fastest := time.Hour
	for range 20 {
		flow(t, ours, theirs)
		began := time.Now()
		_, err := theirs.Write([]byte{7})
		require.NoError(t, err)
		got := make([]byte, 10)
		require.NoError(t, ours.SetReadDeadline(time.Now().Add(10*time.Second)))
		n, err := ours.Read(got)
		require.NoError(t, err)
		require.Equal(t, []byte{7}, got[:n])
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, 100*time.Millisecond)
}

func TestDeadlineEndsAReadThatWaits(t *testing.T) {
	t.Parallel()
	ours, theirs := sockets(t)
	for range 5 { // and the connection can be read again after it
		flow(t, ours, theirs)
		done := make(chan error, 1)
		go func() {
			_, err := ours.Read(make([]byte, 1))
			done <- err
		}()
		require.NoError(t, ours.SetReadDeadline(time.Unix(1, 0)))
		require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)
		require.NoError(t, ours.SetReadDeadline(time.Time{}))
	}
	flow(t, ours, theirs)
}

// A peer that closes its half has its last bytes read, then the end; and still hears us.
func TestHalfClosedSocketGivesWhatWasSentAndThenTheEnd(t *testing.T) {
	t.Parallel()
	for _, last := range []int{0, 1, 5000, 3 << 20} {
		ours, theirs := sockets(t)
		flow(t, ours, theirs)
		sent := make([]byte, last)
		_, _ = rand.Read(sent)
		go func() { // ends when everything is sent
			_, _ = theirs.Write(sent)
			_ = theirs.CloseWrite()
		}()
		got, err := io.ReadAll(ours)
		require.NoError(t, err)
		require.True(t, bytes.Equal(sent, got))
		_, err = ours.Read(make([]byte, 1))
		require.ErrorIs(t, err, io.EOF, "again and again")
		_, err = ours.Write([]byte("bye"))
		require.NoError(t, err)
		heard := make([]byte, 3)
		_, err = io.ReadFull(theirs, heard)
		require.NoError(t, err)
	}
}

func TestResetIsAConnectionFault(t *testing.T) {
	t.Parallel()
	ours, theirs := sockets(t)
	flow(t, ours, theirs)
	require.NoError(t, theirs.SetLinger(0))
	require.NoError(t, theirs.Close())
	_, err := io.Copy(io.Discard, ours)
	require.Error(t, err)
	fault, ok := migration.AsFault(pg.Fault(migration.Source, "read changes from slot", "s", err))
	require.True(t, ok)
	require.Equal(t, migration.FaultConnection, fault.Kind)
}

func TestClosedHereEndsRead(t *testing.T) {
	t.Parallel()
	ours, theirs := sockets(t)
	flow(t, ours, theirs)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, ours)
		done <- err
	}()
	require.NoError(t, ours.Close())
	require.ErrorIs(t, <-done, net.ErrClosed)
}

// Bytes come in writes of any size, at any pace, plain and through TLS, and are the same behind it.
func TestBytesArriveWholeAndInOrder(t *testing.T) {
	t.Parallel()
	for name, secure := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			socket, peer := sockets(t)
			var ours, theirs net.Conn = socket, peer
			if secure {
				ours = tls.Client(socket, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the certificate is not what is tested
				theirs = tls.Server(peer, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
			}
			random := mathrand.New(mathrand.NewPCG(1, 2))
			sent := make([]byte, 24<<20)
			_, _ = rand.Read(sent)
			go func() { // ends when everything is sent, or with the connection
				for rest := sent; len(rest) > 0; {
					n := min(len(rest), 1+random.IntN(1<<random.IntN(21)))
					if _, err := theirs.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
			}()
			if handshake, ok := ours.(*tls.Conn); ok {
				require.NoError(t, handshake.Handshake())
			}
			got := make([]byte, len(sent))
			require.NoError(t, ours.SetReadDeadline(time.Now().Add(time.Minute)))
			// An interrupted read loses nothing, whatever was half read: Close interrupts, and reads on.
			for at := 0; at < len(got); {
				if at%7 == 0 {
					require.NoError(t, ours.SetReadDeadline(time.Unix(1, 0)))
					n, err := ours.Read(got[at:min(len(got), at+10_000)])
					at += n
					if err != nil {
						require.True(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
					}
					require.NoError(t, ours.SetReadDeadline(time.Now().Add(time.Minute)))
				}
				n, err := ours.Read(got[at:min(len(got), at+10_000)])
				require.NoError(t, err)
				at += n
			}
			require.True(t, bytes.Equal(sent, got))
		})
	}
}

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
