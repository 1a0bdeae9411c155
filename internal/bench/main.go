// Command bench measures container registries side by side over HTTP, and tells how far one of them is ahead.
//
// Two runs of a benchmark on one machine differ by more than two good registries do. So there is one run, in rounds:
// each measure is made on one peer right after the other, who is first goes round, and peers are compared round by
// round. What the machine did meanwhile cancels out. A peer counts as ahead only if it won so many rounds that chance
// would not have done it.
//
// Client and server share the processors, so the client has to be cheap: connections are kept, requests are built in
// place and sent in one write, and content is made, and its digests are computed, outside of the timed parts. All
// content is new, so that no registry answers from what it has; all answers are checked, and the first that is not what
// it should be ends the run.
//
// The program starts the peers that it knows (--peer), others by a command (--start), or measures what runs already
// (name=URL). It prints Markdown, and keeps every value in a file of JSON lines, from which --report prints again.
// README.md has the commands and the results.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the flags say.
type options struct {
	settings  settings
	starters  []func(context.Context) (*peer, error) // in the order of the flags, which is that of the report
	folders   []string
	backends  backends
	data      string
	base      string
	raw       string
	report    string
	processor bool
}

func parse(arguments []string, errors io.Writer) (*options, error) {
	o := &options{settings: defaults()}
	s := &o.settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(errors)
	flags.Usage = func() {
		fmt.Fprint(errors, "Usage: bench [flags] [name=URL[,pid=N] ...]\n\nMeasures: "+strings.Join(keys(), " ")+"\n\n")
		flags.PrintDefaults()
	}
	flags.Func("peer", "start a `registry` that the program knows (may be repeated): "+kindNames(), func(name string) error {
		if name == bareKind {
			o.starters = append(o.starters, func(context.Context) (*peer, error) { return o.backends.bare() })
			return nil
		}
		if _, found := kinds()[name]; !found {
			return fmt.Errorf("expected one of %s", kindNames())
		}
		o.starters = append(o.starters, func(ctx context.Context) (*peer, error) {
			l, err := kind(name, o.folders, &o.backends)
			if err != nil {
				return nil, err
			}
			return l.start(ctx, o.data)
		})
		return nil
	})
	flags.Func("start", "start `name=command` (may be repeated); {port} in it is a free port, {dir} an empty folder", func(specification string) error {
		l, err := command(specification)
		o.starters = append(o.starters, func(ctx context.Context) (*peer, error) { return l.start(ctx, o.data) })
		return err
	})
	flags.Func("bin", "look for the peers' programs in these `folders` first, then in PATH", func(list string) error {
		o.folders = append(o.folders, filepath.SplitList(list)...)
		return nil
	})
	flags.Func("only", "comma-separated `measures`; all by default", func(list string) error {
		s.Only = append(s.Only, strings.Split(list, ",")...)
		return nil
	})
	flags.Func("s3", "S3 server of the peers that are called so: http://KEY:SECRET@HOST:PORT/BUCKET (`URL`)", o.backends.setS3)
	flags.Func("postgres", "PostgreSQL of ocikit-s3: postgres://USER@HOST:PORT/DATABASE (`URL`)", o.backends.setPostgres)
	flags.StringVar(&o.data, "data", "", "make the peers' folders in this `folder` (default: the system's for temporary files)")
	flags.StringVar(&o.base, "base", "", "compare this `peer` with the others (default: the first)")
	flags.StringVar(&o.raw, "raw", "bench.out", "write raw results, as JSON lines, to this `file`")
	flags.StringVar(&o.report, "report", "", "measure nothing: print what this `file` of raw results says")
	flags.BoolVar(&o.processor, "processor", false, "print how much processor time the peers used for an operation, too")
	flags.IntVar(&s.Rounds, "rounds", s.Rounds, "`number` of rounds, after one that warms up")
	flags.DurationVar(&s.Duration, "duration", s.Duration, "of each measure that repeats what it does")
	flags.IntVar(&s.Clients, "clients", s.Clients, "`number` of clients that work at once")
	flags.Func("large", "`size` of the large blob (default 128MiB)", func(text string) (err error) {
		s.Large, err = parseSize(text)
		return err
	})
	flags.IntVar(&s.Images, "images", s.Images, "`number` of small images that a round pushes at most")
	flags.IntVar(&s.Layers, "layers", s.Layers, "`number` of layers of a small image")
	flags.Func("layer-size", "`size` of each of them (default 16KiB)", func(text string) error {
		size, err := parseSize(text)
		s.LayerSize = int(size)
		return err
	})
	flags.IntVar(&s.Tags, "tags", s.Tags, "`number` of tags that the page is one of")
	flags.IntVar(&s.Page, "page", s.Page, "`number` of tags on a page")
	flags.BoolVar(&s.Settle, "settle", s.Settle, "flush the machine's dirty pages before each timed part")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	for _, specification := range flags.Args() {
		p, err := attach(specification)
		if err != nil {
			return nil, err
		}
		o.starters = append(o.starters, func(context.Context) (*peer, error) { return p, nil })
	}
	if o.report == "" && len(o.starters) == 0 {
		return nil, fmt.Errorf("nothing to measure: name a --peer, a --start or a name=URL")
	}
	return o, s.check()
}

// run does what the arguments say, and ends all that it started.
func run(ctx context.Context, arguments []string, output, errorOutput io.Writer) error {
	o, err := parse(arguments, errorOutput)
	if err != nil {
		return err
	}
	if o.report == "" {
		if err := o.measure(ctx, slog.New(slog.NewTextHandler(errorOutput, nil))); err != nil {
			return err
		}
		o.report = o.raw
	}
	file, err := os.Open(o.report)
	if err != nil {
		return fmt.Errorf("open raw results: %w", err)
	}
	defer file.Close()
	head, samples, err := readRaw(bufio.NewReader(file))
	if err != nil {
		return err
	}
	if o.base == "" {
		o.base = head.Peers[0]
	}
	if !slices.Contains(head.Peers, o.base) {
		return fmt.Errorf("base %q is not a peer: expected one of %v", o.base, head.Peers)
	}
	found := newReport(head.Peers, samples)
	if err := found.write(output, o.base); err != nil || !o.processor {
		return err
	}
	if _, err := io.WriteString(output, "\n"); err != nil {
		return err
	}
	return found.writeProcessor(output)
}

// measure starts the peers, runs all rounds and leaves the raw results in their file.
func (o *options) measure(ctx context.Context, log *slog.Logger) (err error) {
	debug.SetGCPercent(400) // the client's heap is small, and its collections would be the servers' loss
	source, err := newSource()
	if err != nil {
		return err
	}
	b := &bench{settings: o.settings, source: source, log: log}
	defer func() {
		for _, p := range b.peers {
			err = errors.Join(err, p.stop())
		}
	}()
	if err := o.backends.prepare(ctx); err != nil {
		return err
	}
	for _, start := range o.starters {
		p, err := start(ctx)
		if err != nil {
			return err
		}
		b.peers = append(b.peers, p)
		if slices.ContainsFunc(b.peers[:len(b.peers)-1], func(other *peer) bool { return other.name == p.name }) {
			return fmt.Errorf("two peers are called %q", p.name)
		}
		log.Info("peer", "name", p.name, "address", p.base.Host, "pid", p.pid)
	}
	if o.base != "" && !slices.ContainsFunc(b.peers, func(p *peer) bool { return p.name == o.base }) {
		return fmt.Errorf("base %q is not a peer", o.base)
	}
	file, err := os.Create(o.raw)
	if err != nil {
		return fmt.Errorf("create raw results: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	encoder := json.NewEncoder(file)
	if err := encoder.Encode(newHeading(b.peers, o.settings)); err != nil {
		return fmt.Errorf("write raw results: %w", err)
	}
	b.record = func(s sample) error {
		if err := encoder.Encode(s); err != nil {
			return fmt.Errorf("write raw results: %w", err)
		}
		return nil
	}
	return b.run(ctx)
}

// parseSize reads a number of bytes, with KiB, MiB or GiB behind it or not.
func parseSize(text string) (int64, error) {
	factor := int64(1)
	digits := text
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if before, found := strings.CutSuffix(text, unit); found {
			digits, factor = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 1 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is not a size: expected 4096, 16KiB, 128MiB or 1GiB", text)
	}
	return n * factor, nil
}
