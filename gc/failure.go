package gc

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
)

// What cannot be collected keeps nothing else waiting. A step that fails as a whole, because the index or the store is away, is
// left alone for a while. One that fails in part goes on: what failed of it is put off, by itself.

// partError is an error of some of a batch, whose rest was done.
type partError struct{ error }

func (e *partError) Unwrap() error { return e.error }

// inPart says that the step has done the rest, and has put off what failed. err may be nil.
func inPart(err error) error {
	if err == nil {
		return nil
	}
	return &partError{err}
}

func isInPart(err error) bool {
	var part *partError
	return errors.As(err, &part)
}

// A step that has failed is tried again after a second, then after twice as long each time, up to a minute.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// What failed in part is tried again after a minute, then after twice as long each time, up to an hour: it is there to stay, as a
// rule, until somebody has looked after it.
const (
	firstPutOff = time.Minute
	lastPutOff  = time.Hour
)

// retryIn is how long to wait after so many failures before this one.
func retryIn(failures int, first, last time.Duration) time.Duration {
	return jitter(min(first<<min(failures, 10), last))
}

// putOffs is what has failed in part, and waits until it is tried again.
type putOffs[K comparable] map[K]putOff

type putOff struct {
	failures int
	until    time.Time
}

// mostPutOff bounds what is remembered of failures. If so much fails, it is the step that does.
const mostPutOff = 10_000

// add puts off what has failed, and reports whether there was room for it.
func (p putOffs[K]) add(key K) bool {
	failed, known := p[key]
	if !known && len(p) >= mostPutOff {
		return false
	}
	p[key] = putOff{failed.failures + 1, time.Now().Add(retryIn(failed.failures, firstPutOff, lastPutOff))}
	return true
}

// clear forgets what has not failed again.
func (p putOffs[K]) clear(key K) { delete(p, key) }

// has reports whether something is to be passed over still.
func (p putOffs[K]) has(key K) bool { return time.Now().Before(p[key].until) }

// gainSoFar is that of a step that has failed as a whole after it did n, and went past what failed in part.
func gainSoFar(n int, failed []error) gain {
	switch {
	case n > 0:
		return filled
	case len(failed) > 0:
		return some
	}
	return nothing
}

// tidy forgets what might have been tried again for long, and was not: it is gone.
func (p putOffs[K]) tidy() {
	for key, failed := range p {
		if time.Since(failed.until) > lastPutOff {
			delete(p, key)
		}
	}
}

// trouble is what was logged of a step's failures.
type trouble struct {
	said     map[string]struct{} // kinds of errors
	failures int
	last     time.Time
}

// mostKinds is how many kinds of errors are logged of one trouble: so many tell enough.
const mostKinds = 100

// backOff leaves a step that has failed alone for a while. It logs each kind of error once, until there was none for so long
// that it is over. Every failure is told to Options.Observe.
func (c *collector) backOff(ctx context.Context, s *step, _ gain, err error) {
	for _, each := range c.steps { // also those that nothing is due of any more
		c.calm(ctx, each)
	}
	if err == nil || isInPart(err) {
		s.failures, s.after = 0, time.Time{}
	} else {
		s.after = time.Now().Add(retryIn(s.failures, firstRetry, lastRetry))
		s.failures++
	}
	if err == nil {
		return
	}
	s.trouble.failures++
	s.trouble.last = time.Now()
	kind := kindOf(err)
	if _, said := s.trouble.said[kind]; said || len(s.trouble.said) >= mostKinds {
		return
	}
	if s.trouble.said == nil {
		s.trouble.said = map[string]struct{}{}
	}
	s.trouble.said[kind] = struct{}{}
	c.options.Logger.WarnContext(ctx, "collecting fails, and is tried again", "step", s.name, "error", err)
}

// calm says that a step's trouble is over, if it is. That others of its batches succeed says nothing about what failed of it: that
// has been tried again several times meanwhile, here or by another collector, which may have left nothing to try.
func (c *collector) calm(ctx context.Context, s *step) {
	over := max(2*lastRetry, 6*s.again+2*c.options.Pause)
	if len(s.trouble.said) == 0 || time.Since(s.trouble.last) < over {
		return
	}
	if idle := c.reached && !s.due(); s.failures > 0 && !idle {
		return
	}
	c.options.Logger.InfoContext(ctx, "collecting goes on", "step", s.name, "failures", s.trouble.failures)
	s.trouble = trouble{}
}

// kindOf is an error's text without what differs from one time to the next: keys, digests, numbers of requests, times.
func kindOf(err error) string {
	words := strings.FieldsFunc(err.Error(), func(r rune) bool { return unicode.IsSpace(r) || strings.ContainsRune(",;:()[]\"", r) })
	for i, word := range words {
		if strings.ContainsFunc(word, unicode.IsDigit) {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}
