package filesystem_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
)

func newObjects(t testing.TB, opts *filesystem.Options) *filesystem.Objects {
	t.Helper()
	o, err := filesystem.New(t.TempDir(), opts)
	require.NoError(t, err)
	return o
}

// putRandom puts an object of size bytes.
func putRandom(t testing.TB, o *filesystem.Objects, size int) (store.Key, []byte) {
	t.Helper()
	key, data := store.NewBlobKey(), make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(data) //nolint:errcheck // never fails
	require.NoError(t, o.Put(t.Context(), key, bytes.NewReader(data), int64(size)))
	return key, data
}

// spyListener sees what is handed to its connections as a whole, to be sent without being read.
type spyListener struct {
	net.Listener
	mu   sync.Mutex
	sent []io.Reader
}

func (l *spyListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{conn.(*net.TCPConn), l}, nil
}

type spyConn struct {
	*net.TCPConn
	listener *spyListener
}

func (c *spyConn) ReadFrom(r io.Reader) (int64, error) {
	c.listener.mu.Lock()
	c.listener.sent = append(c.listener.sent, r)
	c.listener.mu.Unlock()
	return c.TCPConn.ReadFrom(r)
}

func TestCopyToAResponseHandsTheFileToTheConnection(t *testing.T) {
	t.Parallel()
	const size = 40 << 20
	o := newObjects(t, &filesystem.Options{NoSync: true})
	key, data := putRandom(t, o, size)
	for name, span := range map[string]struct{ offset, length, end int64 }{
		"all":         {0, -1, size},
		"range":       {1000, 2000, 3000},
		"large range": {5, 30 << 20, 5 + 30<<20},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			object, err := o.Open(r.Context(), key, span.offset, span.length)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			defer object.Close()
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Length", strconv.FormatInt(span.end-span.offset, 10)) // else it is sent in chunks, which are read
			io.Copy(w, object)                                                            //nolint:errcheck // the client sees it
		}))
		spy := &spyListener{Listener: server.Listener}
		server.Listener = spy
		server.Start()
		response, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		got, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		server.Close()
		require.True(t, bytes.Equal(data[span.offset:span.end], got), "the client gets the object (%s)", name)
		require.NotEmpty(t, spy.sent, "a connection that can send a file is given one (%s)", name)
		for _, r := range spy.sent {
			require.IsType(t, &io.LimitedReader{}, r, "what package net knows how to send: a section (%s)", name)
			require.IsType(t, &os.File{}, r.(*io.LimitedReader).R, "of a file (%s)", name)
		}
	}
}

// cancelling ends a context once it has taken some bytes.
type cancelling struct {
	cancel context.CancelFunc
	taken  int64
}

func (w *cancelling) Write(p []byte) (int, error) {
	w.cancel()
	w.taken += int64(len(p))
	return len(p), nil
}

func TestReadingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	const size = 48 << 20
	o := newObjects(t, &filesystem.Options{NoSync: true})
	key, _ := putRandom(t, o, size)

	ctx, cancel := context.WithCancel(t.Context())
	r, err := o.Open(ctx, key, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	_, err = io.ReadFull(r, make([]byte, 1000))
	require.NoError(t, err)
	cancel()
	_, err = r.Read(make([]byte, 1000))
	require.ErrorIs(t, err, context.Canceled, "a read after the end of the context fails")
	_, err = o.Open(ctx, key, 0, -1)
	require.ErrorIs(t, err, context.Canceled, "Open after the end of the context fails")

	ctx, cancel = context.WithCancel(t.Context())
	r, err = o.Open(ctx, key, 0, -1)
	require.NoError(t, err)
	defer r.Close()
	w := &cancelling{cancel: cancel}
	_, err = io.Copy(w, r)
	require.ErrorIs(t, err, context.Canceled, "a copy ends, with an error, soon after the context")
	require.Less(t, w.taken, int64(size), "a copy does not go on to the end")
}

// slowReader ends a context while it is read.
type slowReader struct {
	*strings.Reader
	cancel context.CancelFunc
}

func (r slowReader) Read(p []byte) (int, error) {
	r.cancel()
	return r.Reader.Read(p[:min(len(p), 10)])
}

// WriteTo would get around Read.
func (r slowReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}

func TestWritingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o, err := filesystem.New(dir, nil)
	require.NoError(t, err)
	key, data := store.NewBlobKey(), strings.Repeat("x", 1000)
	m, err := o.Begin(t.Context(), key)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	err = o.Put(ctx, key, slowReader{strings.NewReader(data), cancel}, 1000)
	require.ErrorIs(t, err, context.Canceled)
	_, err = o.Open(t.Context(), key, 0, -1)
	require.ErrorIs(t, err, store.ErrObjectUnknown, "a Put that was cancelled leaves no object")
	temp, err := os.ReadDir(dir + "/temp")
	require.NoError(t, err)
	require.Empty(t, temp, "a Put that was cancelled leaves no temporary file")

	ctx, cancel = context.WithCancel(t.Context())
	_, err = o.PutPart(ctx, m, 1, store.Part{Number: 1, Size: 1000}, slowReader{strings.NewReader(data), cancel})
	require.ErrorIs(t, err, context.Canceled)
	part, err := o.PutPart(t.Context(), m, 1, store.Part{Number: 1, Size: 1000}, strings.NewReader(data))
	require.NoError(t, err, "a PutPart that was cancelled can be repeated")
	require.NoError(t, o.Complete(t.Context(), m, []store.Part{part}))
}

func TestOpenAllocatesLittle(t *testing.T) {
	o := newObjects(t, &filesystem.Options{NoSync: true})
	key, _ := putRandom(t, o, 1000)
	p := make([]byte, 1000)
	allocations := testing.AllocsPerRun(100, func() {
		r, err := o.Open(t.Context(), key, 10, 500)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
	require.LessOrEqual(t, allocations, 10.0, "opening and reading an object allocates no buffer")
	t.Logf("%v allocations", allocations)
}
