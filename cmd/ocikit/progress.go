package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/ocikit/ocikit/gc"
)

// progress writes how far something has come to a terminal, in a line that it writes again and again.
type progress struct {
	terminal io.Writer // nil: nobody looks
	began    time.Time

	mu    sync.Mutex
	told  time.Time
	shown bool // the line is there, and not ended
}

func newProgress(out output) *progress {
	p := &progress{began: time.Now(), told: time.Now()}
	if file, ok := out.stderr.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.terminal = file
		}
	}
	return p
}

// tell tells of an audit.
func (p *progress) tell(r gc.AuditReport) {
	p.show(func() string {
		seconds := time.Since(p.began).Seconds()
		line := fmt.Sprintf("%d objects, %s, %.0f objects/s", r.Objects, units.BytesSize(float64(r.Bytes)), float64(r.Objects)/seconds)
		if r.Read > 0 {
			line += fmt.Sprintf(", %s read, %s/s", units.BytesSize(float64(r.Read)), units.BytesSize(float64(r.Read)/seconds))
		}
		return line
	})
}

// show writes the line, at most once in a second.
func (p *progress) show(line func() string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal == nil || time.Since(p.told) < time.Second {
		return
	}
	p.told, p.shown = time.Now(), true
	const width = 78 // covers what a longer line has left
	_, _ = fmt.Fprintf(p.terminal, "\r%-*s", width, line())
}

// end ends the line, so that what comes next has one of its own.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		_, _ = fmt.Fprintln(p.terminal)
	}
	p.shown = false
}
