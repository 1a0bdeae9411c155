package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// listeners are the sockets. They are opened before anything else, so that a busy port has changed nothing.
type listeners struct {
	registry net.Listener
	metrics  net.Listener // nil: none
}

func (c *serveCommand) listen(ctx context.Context) (l listeners, err error) {
	if l.registry, err = listen(ctx, "listen", c.Listen); err != nil {
		return l, err
	}
	if c.MetricsListen != "" {
		if l.metrics, err = listen(ctx, "metrics-listen", c.MetricsListen); err != nil {
			l.close()
		}
	}
	return l, err
}

func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s: %s is in use: choose another address, or stop what listens there", flag, address)
	case errors.As(err, new(*net.AddrError)):
		return nil, fmt.Errorf("--%s: want HOST:PORT: %w", flag, err)
	case err != nil:
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return l, nil
}

func (l listeners) close() {
	_ = l.registry.Close()
	if l.metrics != nil {
		_ = l.metrics.Close()
	}
}

// servers are the registry's server and, if it has one, the metrics'.
type servers struct {
	registry  *http.Server
	metrics   *http.Server
	listeners listeners
	tls       *tls.Config
	cut       context.CancelFunc // ends the requests under way
}

// Of a connection: a client that sends no header, and one that sends no further request. Bodies have idle time-outs of
// their own; no request has a limit as a whole.
const (
	headerTimeout = 30 * time.Second
	keepAlive     = 2 * time.Minute
)

func newServers(log *slog.Logger, l listeners, s settings, handler, operators http.Handler) *servers {
	requests, cut := context.WithCancel(context.Background())
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	all := &servers{listeners: l, tls: s.tls, cut: cut}
	all.registry = &http.Server{
		Handler:           handler,
		TLSConfig:         s.tls,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		ErrorLog:          errorLog,
		BaseContext:       func(net.Listener) context.Context { return requests },
	}
	if l.metrics != nil {
		all.metrics = &http.Server{Handler: operators, ReadHeaderTimeout: headerTimeout, ErrorLog: errorLog}
	}
	return all
}

// start serves, and returns where a failure will be told.
func (s *servers) start() <-chan error {
	failed := make(chan error, 2)
	go func() {
		if s.tls != nil {
			failed <- s.registry.ServeTLS(s.listeners.registry, "", "")
			return
		}
		failed <- s.registry.Serve(s.listeners.registry)
	}()
	if s.metrics != nil {
		go func() { failed <- s.metrics.Serve(s.listeners.metrics) }()
	}
	return failed
}

// settleTime is what uploads have to save what they received, after they were cut.
const settleTime = 15 * time.Second

// shutdown takes no more requests, lets those under way end for a while, and then cuts them: their uploads are saved, and
// can be resumed.
func (s *servers) shutdown(timeout time.Duration) error {
	defer s.cut()
	cutting := time.AfterFunc(timeout, s.cut)
	defer cutting.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), timeout+settleTime)
	defer cancel()
	err := s.registry.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.Join(errors.New("some requests did not end"), s.registry.Close())
	}
	if s.metrics != nil {
		err = errors.Join(err, s.metrics.Close())
	}
	return err
}

// limitMemory keeps the garbage collector ahead of the uploads' buffers: by itself it would let as much garbage gather as they
// take. Where content itself is kept in memory, there is nothing to keep to.
func (c *serveCommand) limitMemory(s settings) {
	if os.Getenv("GOMEMLIMIT") == "" && !s.volatile() {
		debug.SetMemoryLimit(int64(c.UploadMemory) + 32<<20)
	}
}

// certificate is read again when its file changes, so that renewing it needs no restart.
type certificate struct {
	certFile, keyFile string

	mu       sync.Mutex
	modified time.Time
	current  *tls.Certificate
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.certFile)
	if err == nil && c.current != nil && info.ModTime().Equal(c.modified) {
		return c.current, nil
	}
	if err == nil {
		var pair tls.Certificate
		if pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile); err == nil {
			c.current, c.modified = &pair, info.ModTime()
			return c.current, nil
		}
	}
	if c.current != nil {
		return c.current, nil // a renewal that is half written; the next handshake looks again
	}
	return nil, err
}
