package faulttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/tooltest"
)

// TCP passes connections to a target, byte by byte, until it is told otherwise.
type TCP struct {
	address string
	target  string
	end     context.CancelFunc
	ended   context.Context // done when the proxy is closed
	group   sync.WaitGroup  // of all goroutines

	mu       sync.Mutex
	listener net.Listener // nil while connections are refused
	links    map[*link]struct{}
	delay    time.Duration
	muted    bool
	passing  chan struct{} // closed unless stalled
	loss     *loss         // armed by LoseAnswer
}

// link is a connection from a client and the one to the target that goes with it.
type link struct {
	client, target net.Conn
	loss           *loss // of this connection's next answer; guarded by TCP.mu
}

// loss is an answer that is to be lost.
type loss struct {
	match func(sent []byte) bool
	lost  chan struct{} // closed when it is
}

// NewTCP starts a proxy for the target, a host and port. It ends with the test.
func NewTCP(t testing.TB, target string) *TCP {
	t.Helper()
	p := &TCP{
		address: tooltest.FreeAddress(t),
		target:  target,
		links:   map[*link]struct{}{},
		passing: make(chan struct{}),
	}
	close(p.passing)
	p.ended, p.end = context.WithCancel(context.Background())
	p.Refuse(t, false)
	t.Cleanup(func() {
		p.end()
		p.Refuse(t, true)
		p.Cut()
		p.group.Wait()
	})
	return p
}

// Address returns the host and port that the proxy listens on.
func (p *TCP) Address() string { return p.address }

// Cut ends all connections at once, as when the network between breaks. New
// ones are accepted.
func (p *TCP) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for each := range p.links {
		each.cut()
	}
}

// Refuse sets whether new connections are refused, as when nothing listens.
// Those that there are stay.
func (p *TCP) Refuse(t testing.TB, refuse bool) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if refuse == (p.listener == nil) {
		return
	}
	if refuse {
		_ = p.listener.Close()
		p.listener = nil
		return
	}
	listener, err := listenAgain(p.address)
	if err != nil {
		t.Fatalf("listen for connections to %s: %v", p.target, err)
	}
	p.listener = listener
	p.group.Go(func() { p.accept(listener) })
}

// listenAgain listens where this process may have listened a moment ago: a program that it has just started has a copy of the closed
// listener until it is its own.
func listenAgain(address string) (listener net.Listener, err error) {
	err = tooltest.Again(10*time.Second, func() (passing bool, err error) {
		listener, err = net.Listen("tcp", address)
		return errors.Is(err, syscall.EADDRINUSE), err
	})
	return listener, err
}

// Delay has every message, in either direction, arrive that much later.
func (p *TCP) Delay(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Stall sets whether nothing is passed, in either direction. Connections are
// accepted meanwhile, and nothing that is sent is lost.
func (p *TCP) Stall(stall bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.passing:
		if stall {
			p.passing = make(chan struct{})
		}
	default:
		if !stall {
			close(p.passing)
		}
	}
}

// Mute sets whether everything that the target sends is lost, while what the
// clients send reaches it. A connection that lost something is of no use
// afterwards: Cut it.
func (p *TCP) Mute(mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted = mute
}

// LoseAnswer loses one answer: the next message from a client for which match is
// true is passed on, and when the target begins to answer, which it does when
// the message has taken effect, the answer is dropped and the connection cut.
// The channel is closed then. Match sees what one read from the connection gave,
// which for a small message that is written at once is the whole of it.
func (p *TCP) LoseAnswer(match func(sent []byte) bool) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loss = &loss{match: match, lost: make(chan struct{})}
	return p.loss.lost
}

// Contains matches messages that contain a text, in any case.
func Contains(text string) func(sent []byte) bool {
	lower := bytes.ToLower([]byte(text))
	return func(sent []byte) bool { return bytes.Contains(bytes.ToLower(sent), lower) }
}

func (p *TCP) accept(listener net.Listener) {
	for {
		client, err := listener.Accept()
		if err != nil {
			return // closed by Refuse
		}
		p.group.Go(func() { p.serve(client) })
	}
}

func (p *TCP) serve(client net.Conn) {
	target, err := (&net.Dialer{}).DialContext(p.ended, "tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	each := &link{client: client, target: target}
	p.mu.Lock()
	p.links[each] = struct{}{}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.links, each)
		p.mu.Unlock()
	}()
	if p.ended.Err() != nil { // closed before it could be cut
		each.cut()
	}
	var group sync.WaitGroup
	group.Go(func() { p.pass(each, each.target, each.client, p.sent) })
	group.Go(func() { p.pass(each, each.client, each.target, p.answered) })
	group.Wait()
}

// errCut ends a connection in the middle of what it passes.
var errCut = errors.New("the connection is cut")

// pass passes what comes from one side to the other. Each piece is first shown to
// see, which returns what is left of it. An end of the stream is passed too; at an
// error both sides are cut.
func (p *TCP) pass(each *link, to, from net.Conn, see func(each *link, piece []byte) ([]byte, error)) {
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			left, seen := see(each, piece[:n])
			if seen == nil && p.wait() == nil {
				_, seen = to.Write(left)
			}
			if seen != nil {
				each.cut()
				return
			}
		}
		if errors.Is(err, io.EOF) {
			if half, ok := to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite() // what the other side still sends is passed
			}
			return
		}
		if err != nil {
			each.cut()
			return
		}
	}
}

// wait waits for the delay, and for the end of a stall.
func (p *TCP) wait() error {
	p.mu.Lock()
	delay, passing := p.delay, p.passing
	p.mu.Unlock()
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.ended.Done():
			return errCut
		}
	}
	select {
	case <-passing:
		return nil
	case <-p.ended.Done():
		return errCut
	}
}

// sent sees what a client sent.
func (p *TCP) sent(each *link, piece []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loss != nil && p.loss.match(piece) {
		each.loss, p.loss = p.loss, nil
	}
	return piece, nil
}

// answered sees what the target sent.
func (p *TCP) answered(each *link, piece []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if each.loss != nil {
		close(each.loss.lost)
		each.loss = nil
		return nil, errCut
	}
	if p.muted {
		return nil, nil
	}
	return piece, nil
}

func (l *link) cut() {
	reset(l.client)
	reset(l.target)
}

// reset closes a connection so that the other side gets an error, not an end.
func reset(connection net.Conn) {
	if tcp, ok := connection.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed one
	}
	_ = connection.Close()
}
