package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 10 * time.Second
	outputTail   = 2 << 10
	clockTick    = 100 // a second, which Linux has fixed for what /proc tells
)

// peer is a registry that is measured. Only one that was started here is ended here.
type peer struct {
	name string
	base *url.URL
	pid  int // 0: not known, so its memory and processor time are not told
	bare *bare

	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	folder  string
	output  string
}

// launch tells how a peer is started. In the arguments, the environment and the configuration {port} is a free port, {dir}
// an empty folder, and {config} the file of the configuration; {s3}, {bucket}, {prefix}, {key}, {secret} and {postgres} say where
// it finds the backends.
type launch struct {
	name          string
	needs         []string // of the backends
	backends      *backends
	first         []string // arguments of a run that comes before, and ends
	arguments     []string
	environment   []string // beside the program's own
	configuration string
	silent        bool // drop what it writes: it logs every request and cannot be told not to
}

// attach names a peer that runs already: name=URL[,pid=N].
func attach(specification string) (*peer, error) {
	name, rest, found := strings.Cut(specification, "=")
	if !found || name == "" {
		return nil, fmt.Errorf("peer %q: expected name=URL[,pid=N]", specification)
	}
	address, number, _ := strings.Cut(rest, ",pid=")
	base, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("peer %q: %w", name, err)
	}
	if base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("peer %q: expected an http:// address, got %q", name, address)
	}
	p := &peer{name: name, base: base}
	if number != "" {
		if p.pid, err = strconv.Atoi(number); err != nil || p.pid < 1 {
			return nil, fmt.Errorf("peer %q: expected a process id, got %q", name, number)
		}
	}
	return p, nil
}

// start runs a peer with a folder below root and waits until it answers. The caller stops it.
func (l launch) start(ctx context.Context, root string) (*peer, error) {
	port, err := freePort()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", l.name, err)
	}
	folder, err := os.MkdirTemp(root, "ocikit-bench-")
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", l.name, err)
	}
	p := &peer{
		name:   l.name,
		base:   &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/"},
		folder: folder,
		output: filepath.Join(folder, "output"),
		ended:  make(chan struct{}),
	}
	if err := p.run(ctx, l, port); err != nil {
		_ = os.RemoveAll(folder)
		return nil, fmt.Errorf("start %s: %w", l.name, err)
	}
	if err := p.await(ctx); err != nil {
		err = fmt.Errorf("start %s: %w\n%s", l.name, err, p.tail())
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

func (p *peer) run(ctx context.Context, l launch, port int) error {
	data := filepath.Join(p.folder, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	config := filepath.Join(p.folder, "config")
	placeholders := []string{"{port}", strconv.Itoa(port), "{dir}", data, "{config}", config}
	if l.backends != nil {
		placeholders = append(placeholders, l.backends.placeholders(p.folder)...)
	}
	fill := strings.NewReplacer(placeholders...).Replace
	if err := os.WriteFile(config, []byte(fill(l.configuration)), 0o600); err != nil {
		return err
	}
	environment := append(os.Environ(), filled(fill, l.environment)...)
	if l.first != nil {
		first := exec.CommandContext(ctx, l.arguments[0], filled(fill, l.first)...)
		first.Env, first.Dir = environment, p.folder
		if output, err := first.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(l.first[:2], " "), err, output)
		}
	}
	arguments := filled(fill, l.arguments)
	p.process = exec.Command(arguments[0], arguments[1:]...)
	p.process.Env = environment
	p.process.Dir = p.folder
	if !l.silent {
		output, err := os.Create(p.output)
		if err != nil {
			return err
		}
		defer output.Close()
		p.process.Stdout, p.process.Stderr = output, output
	}
	if err := p.process.Start(); err != nil {
		return err
	}
	p.pid = p.process.Process.Pid
	go func() {
		_ = p.process.Wait()
		close(p.ended)
	}()
	return nil
}

// filled are texts with their placeholders replaced.
func filled(fill func(string) string, texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = fill(text)
	}
	return all
}

// await returns when the peer answers /v2/ with 200.
func (p *peer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	transport := &http.Transport{DisableKeepAlives: true}
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base.JoinPath("v2/").String(), nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = fmt.Errorf("/v2/ answers %s", response.Status)
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended: %s", p.process.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("wait for an answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process that start has begun, and removes its folder. It does nothing to a peer that was attached.
func (p *peer) stop() error {
	if p.process == nil {
		return nil
	}
	_ = p.process.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.process.Process.Kill()
		<-p.ended
	}
	if err := os.RemoveAll(p.folder); err != nil {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	return nil
}

// tail is the end of what the process wrote.
func (p *peer) tail() string {
	written, err := os.ReadFile(p.output)
	if err != nil {
		return ""
	}
	return string(written[max(0, len(written)-outputTail):])
}

// peakMemory is the highest resident size that the process has had, in MiB. known is false where it cannot be read.
func (p *peer) peakMemory() (size float64, known bool) {
	if p.pid == 0 {
		return 0, false
	}
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "status"))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(status)) {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			var kibibytes float64
			if _, err := fmt.Sscan(rest, &kibibytes); err != nil {
				return 0, false
			}
			return kibibytes / 1024, true
		}
	}
	return 0, false
}

// processorTime is what the process has used until now, in steps of a clock tick; 0 where it cannot be read.
func (p *peer) processorTime() time.Duration {
	if p.pid == 0 {
		return 0
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field is the program's name in brackets, which may hold spaces; utime and stime are the 14th and 15th.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * time.Second / clockTick
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
