package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"time"
)

// settings say what is measured, and how much of it. Sizes are in bytes.
type settings struct {
	Only      []string      `json:"only,omitempty"` // keys of definitions; none: all
	Rounds    int           `json:"rounds"`
	Duration  time.Duration `json:"duration"` // of each measure that repeats what it does, in nanoseconds
	Clients   int           `json:"clients"`
	Large     int64         `json:"large"`
	Images    int           `json:"images"` // at most so many are pushed in a round
	Layers    int           `json:"layers"`
	LayerSize int           `json:"layer_size"`
	Tags      int           `json:"tags"`
	Page      int           `json:"page"`
	Settle    bool          `json:"settle"` // flush the machine's dirty pages before each timed part
}

// defaults are the settings of the results in the README.
func defaults() settings {
	return settings{
		Rounds: 7, Duration: 700 * time.Millisecond, Clients: 16, Large: 128 << 20,
		Images: 2000, Layers: 2, LayerSize: 16 << 10, Tags: 2000, Page: 100, Settle: true,
	}
}

// check refuses settings that nothing can be measured with.
func (s *settings) check() error {
	switch {
	case s.Rounds < 1 || s.Duration <= 0 || s.Clients < 1 || s.Images < 1:
		return fmt.Errorf("rounds, duration, clients and images have to be positive")
	case s.Large < 1 || s.Layers < 1 || s.LayerSize < nonceSize || s.LayerSize > blockSize:
		return fmt.Errorf("a large blob needs 1 byte, an image 1 layer, a layer between %d bytes and %d MiB", nonceSize, blockSize>>20)
	case s.Tags < 1 || s.Page < 1:
		return fmt.Errorf("tags and page have to be positive")
	}
	for _, key := range s.Only {
		if !slices.ContainsFunc(definitions(), func(d definition) bool { return d.key == key }) {
			return fmt.Errorf("measure %q is not known: expected one of %v", key, keys())
		}
	}
	return nil
}

// keys are the names of all measures.
func keys() []string {
	var all []string
	for _, d := range definitions() {
		all = append(all, d.key)
	}
	return all
}

// bench runs measures on peers, round by round.
type bench struct {
	settings settings
	source   *source
	peers    []*peer
	record   func(sample) error
	log      *slog.Logger
}

// bout is a measure on all peers, each with its own state.
type bout struct {
	definition definition
	measures   []measure // as bench.peers
}

// run prepares all measures, runs each once unrecorded, and then round by round: each measure on one peer after the
// other, so that whatever the machine does meanwhile hits all peers alike. Who is first goes round.
func (b *bench) run(ctx context.Context) error {
	sessions := make([]*session, len(b.peers))
	for i, p := range b.peers {
		sessions[i] = newSession(&b.settings, b.log, b.source, p)
	}
	defer func() {
		for _, s := range sessions {
			s.close()
		}
	}()
	bouts, err := b.prepare(ctx, sessions)
	if err != nil {
		return err
	}
	for round := range b.settings.Rounds + 1 { // round 0 warms up
		b.log.Info("round", "number", round, "of", b.settings.Rounds)
		for _, at := range bouts {
			for turn := range b.peers {
				i := (turn + round) % len(b.peers)
				if !at.definition.on(b.peers[i]) {
					continue
				}
				if err := b.measure(ctx, round, at, i, sessions[i]); err != nil {
					return fmt.Errorf("measure %s on %s: %w", at.definition.key, b.peers[i].name, err)
				}
			}
		}
		if err := b.recordMemory(round); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) prepare(ctx context.Context, sessions []*session) ([]bout, error) {
	var bouts []bout
	for _, d := range definitions() {
		if len(b.settings.Only) > 0 && !slices.Contains(b.settings.Only, d.key) {
			continue
		}
		at := bout{definition: d}
		for i, s := range sessions {
			b.log.Info("prepare", "measure", d.key, "peer", b.peers[i].name)
			m := d.make()
			at.measures = append(at.measures, m)
			if !d.on(b.peers[i]) {
				continue
			}
			if err := s.connect(ctx); err != nil {
				return nil, fmt.Errorf("prepare %s on %s: %w", d.key, b.peers[i].name, err)
			}
			if err := m.prepare(ctx, s); err != nil {
				return nil, fmt.Errorf("prepare %s on %s: %w", d.key, b.peers[i].name, err)
			}
			s.close()
		}
		bouts = append(bouts, at)
	}
	return bouts, nil
}

func (b *bench) measure(ctx context.Context, round int, at bout, i int, s *session) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	defer s.close()
	if b.settings.Settle {
		syscall.Sync() // what one peer wrote is not written while the next one is measured
	}
	before := s.peer.processorTime()
	got, err := at.measures[i].run(ctx, s)
	if err != nil {
		return err
	}
	used := s.peer.processorTime() - before
	if round == 0 {
		return nil
	}
	for n, line := range at.definition.lines {
		if err := b.record(sample{
			Round: round, Peer: s.peer.name, Line: line.Key, Unit: line.Unit, Value: got.values[n],
			Operations: got.operations, Seconds: got.elapsed.Seconds(), Processor: used.Seconds(),
		}); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) recordMemory(round int) error {
	if round == 0 {
		return nil
	}
	for _, p := range b.peers {
		size, known := p.peakMemory()
		if !known {
			continue
		}
		if err := b.record(sample{Round: round, Peer: p.name, Line: memory().Key, Unit: memory().Unit, Value: size}); err != nil {
			return err
		}
	}
	return nil
}
