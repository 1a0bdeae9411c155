package gc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// poisoned is an index that cannot tell the referrers of some subjects.
type poisoned struct {
	gc.Index
	err error

	mu    sync.Mutex
	of    map[digest.Digest]bool
	tried int
}

func (p *poisoned) Referrers(ctx context.Context, name string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of[subject] {
		p.tried++
		return nil, p.err
	}
	return p.Index.Referrers(ctx, name, subject, page)
}

func (p *poisoned) heal() (tried int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.of)
	return p.tried
}

// poison makes subjects with a referrer, deletes them, and returns an index that cannot cascade from them.
func (w *world) poison(t *testing.T, number int, err error) *poisoned {
	t.Helper()
	p := &poisoned{Index: w.index(), err: err, of: map[digest.Digest]bool{}}
	for i := range number {
		d := w.put(t, manifest{text: fmt.Sprint("subject ", i)})
		w.put(t, manifest{text: fmt.Sprint("referrer ", i), subject: d})
		require.NoError(t, w.meta.DeleteManifest(t.Context(), repository, d, nil))
		p.of[d] = true
	}
	return p
}

// running collects until stop is called.
func running(t *testing.T, index gc.Index, objects store.Objects, opts *gc.Options) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gc.Run(ctx, index, objects, opts) }()
	return func() {
		t.Helper()
		cancel()
		require.NoError(t, <-ended)
	}
}

// logTo returns a logger, and what counts the lines that say something.
func logTo() (log *slog.Logger, lines func(said string) int) {
	var text bytes.Buffer
	var mu sync.Mutex
	log = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return text.Write(p)
	}), nil))
	return log, func(said string) int {
		mu.Lock()
		defer mu.Unlock()
		return strings.Count(text.String(), said)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestSubjectThatCannotCascadeKeepsNothingElseWaiting(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		poisoned, batch int
		err             error
	}{
		"one, in batches of one":         {1, 1, errors.New("annotations that cannot be decoded")},
		"one that takes too long":        {1, 1, fmt.Errorf("canceling statement: %w", store.ErrUnavailable)},
		"more than a batch":              {7, 3, errors.New("annotations that cannot be decoded")},
		"more than a batch, all at once": {20, 1000, errors.New("annotations that cannot be decoded")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				index := w.poison(t, test.poisoned, test.err)
				log, lines := logTo()
				failed := 0
				stop := running(t, index, w.objects, &gc.Options{
					Batch: test.batch, Logger: log, Policies: cascading.Policies,
					Observe: func(e gc.Event) {
						if e.Step == gc.StepCandidates && e.Err != nil {
							failed++
						}
					},
				})
				time.Sleep(30 * time.Hour) // the poisoned ones are alone for a while
				var behind []digest.Digest
				for i := range 100 {
					behind = append(behind, w.push(t, "other/repository", text(i)).Digest)
				}
				time.Sleep(26 * time.Hour)
				synctest.Wait()
				for _, d := range behind {
					require.False(t, w.has(t, "other/repository", d), "what is behind one that fails is collected when it is due")
				}
				require.True(t, w.hasManifest(t, repository, "referrer 0"))
				require.Equal(t, 1, lines("collecting fails"), "the failure is logged once")
				require.Zero(t, lines("collecting goes on"), "it is not over because others succeed")
				tried := index.heal()
				require.Greater(t, tried, 20*test.poisoned, "each is tried again and again")
				require.Less(t, tried, 60*test.poisoned, "each is tried in ever longer turns")
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				for i := range test.poisoned {
					require.False(t, w.hasManifest(t, repository, fmt.Sprint("referrer ", i)), "one that failed is collected once it does not fail")
				}
				time.Sleep(24 * time.Hour)
				stop()
				require.Equal(t, 1, lines("collecting fails"))
				require.Equal(t, 1, lines("collecting goes on"), "that it is over is logged")
				require.Positive(t, failed, "failures are counted")
			})
		})
	}
}

func TestOnceCollectsWhatIsBehindOneThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		index := w.poison(t, 5, errors.New("annotations that cannot be decoded"))
		time.Sleep(time.Hour)
		for i := range 20 {
			w.push(t, "other/repository", text(i))
		}
		time.Sleep(24 * time.Hour)
		stats, err := gc.Once(t.Context(), index, w.objects, &gc.Options{Batch: 2, Policies: cascading.Policies})
		require.ErrorContains(t, err, "annotations that cannot be decoded")
		require.Equal(t, 20, stats.Contents)
		require.Equal(t, 5, index.heal(), "each is tried once")
	})
}

func TestFailureThatComesAndGoesIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		log, lines := logTo()
		locked := w.push(t, repository, "locked")
		objects := &partial{w.objects, map[store.Key]bool{locked.Key: true}}
		var seen gc.Stats
		errs := 0
		stop := running(t, w.index(), objects, &gc.Options{Grace: time.Hour, Logger: log, Observe: func(e gc.Event) {
			seen.Add(e.Stats)
			if e.Err != nil {
				errs++
			}
		}})
		for i := range 1000 { // normal garbage all the time
			w.push(t, repository, text(i))
			time.Sleep(7 * time.Minute)
		}
		stop()
		require.Equal(t, 1, lines("collecting fails"), "it is logged once, not each time that it is tried again")
		require.Zero(t, lines("collecting goes on"), "it is not over because other objects are deleted")
		require.Greater(t, errs, 500, "each time is counted")
		require.Greater(t, seen.Objects, 950, "what does not fail is deleted")
	})
}

func TestFailureThatIsOverIsLoggedWhenItIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		log, lines := logTo()
		stop := running(t, w.index(), w.hookedObjects(), &gc.Options{Grace: time.Hour, Logger: log})
		for i := range 3 {
			w.push(t, repository, text(i))
			w.failOn(func(method string) error {
				if method == "Delete" {
					return store.ErrUnavailable
				}
				return nil
			})
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			require.Equal(t, i+1, lines("collecting fails"), "what was over is logged when it is back")
			w.failOn(nil)
			time.Sleep(30 * time.Minute)
			synctest.Wait()
			require.Empty(t, w.stored(t), "it goes on")
			require.Equal(t, i, lines("collecting goes on"), "one success is not the end yet")
			time.Sleep(time.Hour)
			synctest.Wait()
			require.Equal(t, i+1, lines("collecting goes on"), "that it is over is logged, though nothing is due any more")
		}
		stop()
	})
}

func TestFailureIsOverWhenAnotherCollectorHasDoneTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		log, lines := logTo()
		w.failOn(func(method string) error {
			if method == "Delete" {
				return store.ErrUnavailable
			}
			return nil
		})
		stop := running(t, w.index(), w.hookedObjects(), &gc.Options{Grace: time.Hour, Logger: log})
		for i := range 2 {
			w.push(t, repository, text(i))
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			require.Equal(t, i+1, lines("collecting fails"))
			for len(w.stored(t)) > 0 { // which of them takes it when it is due again is a matter of chance
				_, err := gc.Once(t.Context(), w.meta, w.objects, nil)
				require.NoError(t, err)
				time.Sleep(time.Minute)
			}
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			require.Equal(t, i+1, lines("collecting goes on"))
		}
		stop()
	})
}

func TestSoMuchThatFailsIsTheStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const many = 10_100
		w := newWorld()
		index := w.poison(t, many, errRow)
		time.Sleep(25 * time.Hour)
		_, err := gc.Once(t.Context(), index, w.objects, &gc.Options{Policies: cascading.Policies})
		require.ErrorIs(t, err, errRow)
		require.Less(t, index.heal(), 2*many, "it is not tried for ever")
	})
}
