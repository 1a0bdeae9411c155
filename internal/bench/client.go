package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"time"
)

const (
	readBuffer     = 64 << 10
	problemLimit   = 512
	sectionTimeout = 5 * time.Minute
)

// client speaks HTTP/1.1 on one kept connection. It exists because server and client share the machine: net/http's
// client spends as much time on a small request as a good server does, and would hide the difference between two servers.
// A request is built in a buffer that is used again, sent in one write, and its answer is parsed in place.
//
// A client is used by one goroutine at a time. After an error it has to be connected anew.
type client struct {
	address string // host:port
	prefix  string // the base path of the peer's URL, without a slash at its end

	conn    net.Conn
	release func() bool
	reader  *bufio.Reader
	out     []byte
	capture *bytes.Buffer // nil: bodies are counted and dropped

	location []byte // request target of the last Location header
	problem  []byte // the start of the last body with a status of 400 or more
	delays   []time.Duration
}

// response is what is kept of an answer.
type response struct {
	status int
	length int64 // Content-Length as told; -1 if absent
	size   int64 // bytes of the body that came
}

func newClient(base *url.URL) *client {
	prefix := base.EscapedPath()
	for len(prefix) > 0 && prefix[len(prefix)-1] == '/' {
		prefix = prefix[:len(prefix)-1]
	}
	address := base.Host
	if base.Port() == "" {
		address = net.JoinHostPort(base.Hostname(), "80")
	}
	return &client{address: address, prefix: prefix, reader: bufio.NewReaderSize(nil, readBuffer)}
}

// connect dials, and asks for /v2/ once, so that no timed request pays for the connection. When ctx ends, whatever the
// client waits for fails.
func (c *client) connect(ctx context.Context) error {
	c.close()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := conn.SetDeadline(time.Now().Add(sectionTimeout)); err != nil {
		_ = conn.Close()
		return fmt.Errorf("set deadline: %w", err)
	}
	c.conn = conn
	c.release = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	c.reader.Reset(conn)
	c.open("GET", "/v2/")
	_, err = c.do(200)
	return err
}

func (c *client) close() {
	if c.conn != nil {
		c.release()
		_ = c.conn.Close()
		c.conn = nil
	}
}

// open begins a request whose target is the concatenation of parts, which start below the peer's base path.
func (c *client) open(method string, parts ...string) {
	c.out = append(append(c.out[:0], method...), ' ')
	c.out = append(c.out, c.prefix...)
	for _, part := range parts {
		c.out = append(c.out, part...)
	}
	c.openEnd()
}

// openLocation begins a request to where the last Location header pointed, with a digest as a query if one is given.
func (c *client) openLocation(method, digest string) {
	c.out = append(append(c.out[:0], method...), ' ')
	c.out = append(c.out, c.location...)
	if digest != "" {
		separator := byte('?')
		if bytes.IndexByte(c.location, '?') >= 0 {
			separator = '&'
		}
		c.out = append(append(c.out, separator), "digest="...)
		c.out = append(c.out, digest...)
	}
	c.openEnd()
}

func (c *client) openEnd() {
	c.out = append(c.out, " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.address...), "\r\n"...)
}

func (c *client) header(name, value string) {
	c.out = append(append(c.out, name...), ": "...)
	c.out = append(append(c.out, value...), "\r\n"...)
}

// do sends the request with a body of known length, the concatenation of parts, and expects the status.
func (c *client) do(want int, parts ...[]byte) (response, error) {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size > 0 || c.out[0] == 'P' { // POST, PUT and PATCH tell a length of 0, too
		c.out = append(c.out, "Content-Length: "...)
		c.out = strconv.AppendInt(c.out, int64(size), 10)
		c.out = append(c.out, "\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
	for _, part := range parts {
		c.out = append(c.out, part...)
	}
	return c.exchange(want, nil)
}

// doChunked sends the request with a body of unknown length, as docker sends layers: one chunk a part.
func (c *client) doChunked(want int, parts ...[]byte) (response, error) {
	c.out = append(c.out, "Transfer-Encoding: chunked\r\n\r\n"...)
	for _, part := range parts {
		c.out = strconv.AppendInt(c.out, int64(len(part)), 16)
		c.out = append(c.out, "\r\n"...)
		c.out = append(append(c.out, part...), "\r\n"...)
	}
	c.out = append(c.out, "0\r\n\r\n"...)
	return c.exchange(want, nil)
}

// doStream sends the request with a chunked body that write has framed already, its last chunk apart.
func (c *client) doStream(want int, write func(io.Writer) error) (response, error) {
	c.out = append(c.out, "Transfer-Encoding: chunked\r\n\r\n"...)
	return c.exchange(want, func(w io.Writer) error {
		if err := write(w); err != nil {
			return err
		}
		_, err := io.WriteString(w, "0\r\n\r\n")
		return err
	})
}

func (c *client) exchange(want int, body func(io.Writer) error) (response, error) {
	_, sent := c.conn.Write(c.out)
	if sent == nil && body != nil {
		sent = body(c.conn)
	}
	// A peer that refuses a body answers while it is being sent: its answer tells more than the broken pipe.
	got, err := c.receive()
	switch {
	case err != nil && sent != nil:
		return response{}, fmt.Errorf("%s: send: %w", c.requestLine(), sent)
	case err != nil:
		return response{}, fmt.Errorf("%s: receive: %w", c.requestLine(), err)
	case got.status != want:
		return response{}, fmt.Errorf("%s: expected status %d, got %d: %s", c.requestLine(), want, got.status, bytes.TrimSpace(c.problem))
	case sent != nil:
		return response{}, fmt.Errorf("%s: send: %w", c.requestLine(), sent)
	}
	return got, nil
}

// requestLine is the last request's method and target, for messages.
func (c *client) requestLine() []byte {
	line, _, _ := bytes.Cut(c.out, []byte(" HTTP/1.1"))
	return line
}

func (c *client) receive() (response, error) {
	head := bytes.HasPrefix(c.out, []byte("HEAD "))
	got := response{length: -1}
	var chunked, last bool
	for got.status < 200 { // informational answers come before the one that counts
		line, err := c.line()
		if err != nil {
			return got, err
		}
		if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
			return got, fmt.Errorf("not an HTTP/1 status line: %.40q", line)
		}
		status, err := strconv.Atoi(string(line[9:12]))
		if err != nil {
			return got, fmt.Errorf("status %q is not a number", line[9:12])
		}
		got.status = status
		for {
			line, err := c.line()
			if err != nil {
				return got, err
			}
			if len(line) == 0 {
				break
			}
			name, value, _ := bytes.Cut(line, []byte(":"))
			value = bytes.TrimSpace(value)
			switch {
			case equalFold(name, "content-length"):
				if got.length, err = strconv.ParseInt(string(value), 10, 64); err != nil || got.length < 0 {
					return got, fmt.Errorf("content length %q is not a size", value)
				}
			case equalFold(name, "transfer-encoding"):
				chunked = equalFold(value, "chunked")
			case equalFold(name, "connection"):
				last = equalFold(value, "close")
			case equalFold(name, "location"):
				if err := c.follow(value); err != nil {
					return got, err
				}
			}
		}
	}
	c.problem = c.problem[:0]
	if head || got.status == 204 || got.status == 304 {
		return got, nil
	}
	var err error
	got.size, err = c.body(got, chunked)
	if err == nil && last && got.status < 400 {
		err = errors.New("the peer closes a connection that should be kept")
	}
	return got, err
}

// body reads the answer's body to its end, so that the next answer starts where it should.
func (c *client) body(got response, chunked bool) (int64, error) {
	var source io.Reader = c.reader
	switch {
	case chunked:
		source = httputil.NewChunkedReader(c.reader)
	case got.length >= 0 && got.status < 400 && c.capture == nil:
		return c.drop(got.length)
	case got.length >= 0:
		source = io.LimitReader(c.reader, got.length)
	}
	if got.status >= 400 {
		limited, err := io.ReadAll(io.LimitReader(source, problemLimit))
		if err != nil {
			return 0, err
		}
		c.problem = append(c.problem, limited...)
	}
	sink := io.Discard
	if c.capture != nil {
		sink = c.capture
	}
	size, err := io.Copy(sink, source)
	size += int64(len(c.problem))
	for chunked && err == nil { // the trailer, which ends with an empty line
		var line []byte
		if line, err = c.line(); len(line) == 0 {
			break
		}
	}
	return size, err
}

func (c *client) drop(length int64) (int64, error) {
	var size int64
	for size < length {
		n, err := c.reader.Discard(int(min(length-size, 1<<30)))
		size += int64(n)
		if err != nil {
			return size, err
		}
	}
	return size, nil
}

func (c *client) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

// follow remembers the request target that a Location header means: absolute on this host, or relative to the request.
func (c *client) follow(value []byte) error {
	if len(value) > 1 && value[0] == '/' && value[1] != '/' {
		c.location = append(c.location[:0], value...)
		return nil
	}
	_, target, _ := bytes.Cut(c.requestLine(), []byte(" "))
	base, err := url.Parse("http://" + c.address + string(target))
	if err != nil {
		return fmt.Errorf("request target: %w", err)
	}
	to, err := base.Parse(string(value))
	if err != nil {
		return fmt.Errorf("location: %w", err)
	}
	if to.Host != base.Host || to.Scheme != "http" {
		return fmt.Errorf("location %q leads away from %s", value, c.address)
	}
	c.location = append(c.location[:0], to.RequestURI()...)
	return nil
}

// equalFold compares a header's name or keyword with its lower-case form without copying it.
func equalFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, have := range b {
		if 'A' <= have && have <= 'Z' {
			have += 'a' - 'A'
		}
		if have != lower[i] {
			return false
		}
	}
	return true
}
