package main

import (
	"bufio"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// answering connects a client to a peer that answers a request each with the texts, as they are.
func answering(t *testing.T, texts ...string) *client {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for _, text := range append([]string{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, texts...) {
			for {
				line, err := reader.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
			}
			if _, err := conn.Write([]byte(text)); err != nil {
				return
			}
		}
	}()
	c := newClient(&url.URL{Scheme: "http", Host: listener.Addr().String(), Path: "/base/"})
	require.NoError(t, c.connect(t.Context()))
	require.NoError(t, c.conn.SetDeadline(time.Now().Add(10*time.Second)))
	t.Cleanup(c.close)
	return c
}

func TestClientReadsAnswersInEachFraming(t *testing.T) {
	t.Parallel()
	c := answering(t,
		"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\nTrailer: x\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend",
	)
	for _, want := range []struct {
		method string
		status int
		size   int64
		length int64
	}{
		{"GET", 200, 5, 5}, {"GET", 200, 6, -1}, {"GET", 200, 2, 2}, {"DELETE", 204, 0, -1}, {"HEAD", 200, 0, 7}, {"GET", 200, 3, 3},
	} {
		c.open(want.method, "/v2/")
		got, err := c.do(want.status)
		require.NoError(t, err)
		assert.Equal(t, response{status: want.status, length: want.length, size: want.size}, got, want.method)
	}
}

func TestClientFollowsEachFormOfLocation(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"/v2/a/blobs/uploads/1":                  "/v2/a/blobs/uploads/1?digest=D",
		"/v2/a/blobs/uploads/1?_state=x%2F":      "/v2/a/blobs/uploads/1?_state=x%2F&digest=D",
		"http://HOST/v2/a/blobs/uploads/1?s=%3D": "/v2/a/blobs/uploads/1?s=%3D&digest=D",
		"//HOST/v2/a/blobs/uploads/1":            "/v2/a/blobs/uploads/1?digest=D",
		"1":                                      "/base/v2/a/blobs/uploads/1?digest=D",
	} {
		c := newClient(&url.URL{Scheme: "http", Host: "localhost:5000", Path: "/base"})
		c.open("POST", "/v2/a", "/blobs/uploads/")
		require.NoError(t, c.follow([]byte(strings.ReplaceAll(given, "HOST", "localhost:5000"))), given)
		c.openLocation("PUT", "D")
		assert.Equal(t, "PUT "+want, string(c.requestLine()), given)
	}
}

func TestClientDoesNotFollowALocationElsewhere(t *testing.T) {
	t.Parallel()
	c := newClient(&url.URL{Scheme: "http", Host: "localhost:5000"})
	c.open("POST", "/v2/a/blobs/uploads/")
	require.ErrorContains(t, c.follow([]byte("http://registry.example.com/v2/a")), "leads away from localhost:5000")
	require.ErrorContains(t, c.follow([]byte("https://localhost:5000/v2/a")), "leads away from localhost:5000")
}

func TestClientRefusesAnswersThatCannotBeMeasured(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone":               "GET /base/v2/x: expected status 200, got 404: gone",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlast": "closes a connection that should be kept",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf":                      "receive",
		"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n":                         `content length "-1" is not a size`,
		"SSH-2.0-OpenSSH\r\n":                             "not an HTTP/1 status line",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes": "expected a body of 4 bytes, got 3",
	} {
		c := answering(t, text)
		require.ErrorContains(t, c.get(4, "/v2/x"), want)
	}
}
