package staging_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store"
)

// TestUploadsBehaveAsTheModelSays drives random operations of several clients on several replicas, with calls that stall
// and go on later, calls that fail, answers that are lost and clients that vanish in between, against a model that knows of
// each upload which bytes it may have, and which of them were acknowledged.
//
// OCIKIT_TEST_SEED repeats one sequence, OCIKIT_TEST_SEQUENCES says how many to run.
func TestUploadsBehaveAsTheModelSays(t *testing.T) {
	t.Parallel()
	if seed, err := strconv.ParseUint(os.Getenv("OCIKIT_TEST_SEED"), 10, 64); err == nil {
		runSequence(t, seed, &tally{})
		return
	}
	sequences, err := strconv.Atoi(os.Getenv("OCIKIT_TEST_SEQUENCES"))
	if err != nil {
		sequences = 600
	}
	base, seen := uint64(time.Now().UnixNano()), &tally{} //nolint:gosec // any number does
	for i := range sequences {
		runSequence(t, base+uint64(i), seen) //nolint:gosec // not negative
	}
	t.Log(seen)
	for what, n := range map[string]int{
		"finished": seen.finished, "cancelled": seen.cancelled, "expired": seen.expired, "faults": seen.faults,
		"answers lost": seen.lost, "zombies that reached the store": seen.zombies, "fenced writers": seen.fenced,
		"vanished clients": seen.vanished, "refused offsets": seen.refused, "digests refused": seen.mismatched,
	} {
		assert.Greater(t, n, sequences/40, what)
	}
}

// tally counts what happened, so that the test cannot become one of nothing.
type tally struct {
	mu                                                                                                sync.Mutex
	finished, cancelled, expired, faults, lost, zombies, fenced, vanished, refused, mismatched, steps int
}

func (t *tally) String() string {
	return fmt.Sprintf("%d steps: %d finished, %d cancelled, %d expired, %d faults, %d answers lost, %d zombies, %d fenced, %d vanished, %d refused, %d mismatched",
		t.steps, t.finished, t.cancelled, t.expired, t.faults, t.lost, t.zombies, t.fenced, t.vanished, t.refused, t.mismatched)
}

func (t *tally) add(n *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*n++
}

// machine runs one sequence.
type machine struct {
	*world
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	replicas []*staging.Stage
	budget   *staging.Budget
	seen     *tally
	uploads  []*modelled
	log      []string
	advanced int // how often the clock was

	lock    sync.Mutex
	stalled []*stall
	running []*operation
	over    bool // the test has failed: nothing stalls any more
}

// life is the default of sessions.
var life = store.Life{Idle: 24 * time.Hour, Total: 144 * time.Hour, Tombstone: 24 * time.Hour}

// modelled is what may be said of an upload.
type modelled struct {
	id         string
	data       []byte
	digest     digest.Digest
	acked      int64 // bytes that were acknowledged
	operations int
	claims     int  // under lock
	finishing  bool // somebody tried, so that it may be finished or completing
	finished   bool // acknowledged
	ending     bool // somebody tried to cancel it
	expired    bool // it was once, and may be again: a save under way then touches it
	cancelled  bool // acknowledged
}

func runSequence(t *testing.T, seed uint64, seen *tally) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's
		names := []string{"any parts", "big parts", "equal parts"}
		m := &machine{
			world: newWorld(kinds[names[random.IntN(len(names))]]), t: t, seed: seed, random: random,
			budget: staging.NewBudget(0), seen: seen,
		}
		for range 3 {
			m.replicas = append(m.replicas, m.replica(staging.Options{
				Budget: m.budget, SaveBytes: partSize, SaveEvery: 20 * time.Second,
			}, m.hook(), m.hook()))
		}
		for range 12 + random.IntN(40) {
			m.step()
			m.settle()
		}
		m.end()
	})
}

func (m *machine) fail(format string, args ...any) {
	m.t.Helper()
	m.lock.Lock()
	m.over = true
	for _, s := range m.stalled {
		s.verdict <- errFault
	}
	m.lock.Unlock()
	m.t.Fatalf("OCIKIT_TEST_SEED=%d: %s\nafter:\n  %s", m.seed, fmt.Sprintf(format, args...), strings.Join(m.log, "\n  "))
}

func (m *machine) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// step does one thing.
func (m *machine) step() {
	m.seen.add(&m.seen.steps)
	stalls := m.stalls()
	switch p := m.random.IntN(100); {
	case len(m.uploads) == 0 || p < 5 && len(m.uploads) < 3:
		m.begin()
	case p < 28 && len(stalls) > 0:
		m.release(stalls[m.random.IntN(len(stalls))], m.random.IntN(3) == 0)
	case p < 36:
		m.note("six seconds pass")
		time.Sleep(6 * time.Second)
	case p < 40:
		hours := []time.Duration{1, 1, 1, 5, 25}[m.random.IntN(5)]
		m.advanced++
		m.note("%d hours pass", hours)
		m.clock.Advance(hours * time.Hour)
		for _, u := range m.uploads {
			session, err := m.session(u.id)
			u.expired = u.expired || err == nil && !session.Alive(life, m.clock.Now())
		}
	case p < 46 && len(m.running) > 0:
		m.vanish(m.running[m.random.IntN(len(m.running))])
	default:
		m.operate(m.uploads[m.random.IntN(len(m.uploads))])
	}
}

func (m *machine) begin() {
	sizes := []int{0, 10, inlineLimit + 5, 5000, partSize, partSize + 1, 2 * partSize, 3*partSize + 600}
	u := &modelled{}
	u.data = noise(sizes[m.random.IntN(len(sizes))]+len(m.uploads), m.seed)
	announced := []digest.Algorithm{"", "", digest.SHA256, digest.SHA512}[m.random.IntN(4)]
	u.digest = m.expect([]digest.Algorithm{digest.SHA256, digest.SHA256, digest.SHA512}[m.random.IntN(3)], u.data)
	u.id = m.start(m.t, m.stage(), announced)
	m.uploads = append(m.uploads, u)
	m.note("upload %d begins: %d bytes, announced as %q, digest %s", len(m.uploads)-1, len(u.data), announced, u.digest)
}

// operate begins a request of a client, on any replica.
func (m *machine) operate(u *modelled) {
	o := &operation{upload: u, random: rand.New(rand.NewPCG(m.random.Uint64(), 1)), done: make(chan struct{})} //nolint:gosec // a test's
	o.alone = !slices.ContainsFunc(m.running, func(other *operation) bool { return other.upload == u })
	if m.random.IntN(3) > 0 {
		o.fault, o.stall = []float64{0, 0.05, 0.15}[m.random.IntN(3)], []float64{0, 0.2, 0.5}[m.random.IntN(3)]
	}
	replica := m.random.IntN(len(m.replicas))
	s := m.replicas[replica]
	ctx, cancel := context.WithCancel(context.WithValue(m.t.Context(), operationKey{}, o))
	o.cancel = cancel
	o.acked = u.acked
	u.operations++
	o.begun, o.advanced = u.operations, m.advanced

	// Where does the client believe that the upload stands? It asks, or it remembers.
	o.at = u.acked
	status, err := m.stage().Status(m.t.Context(), repository, u.id)
	if err == nil && m.random.IntN(3) > 0 {
		o.at = status.Offset
	}
	if m.random.IntN(12) == 0 {
		o.at = m.random.Int64N(int64(len(u.data)) + 2)
	}
	if session, unknown := m.session(u.id); unknown == nil && session.State == store.SessionOpen {
		o.right = err == nil && o.at == status.Offset
	}
	from := min(o.at, int64(len(u.data)))
	rest := u.data[from:]
	o.kind = []string{"append", "append", "append", "finish", "finish", "status", "cancel"}[m.random.IntN(7)]
	if o.kind == "cancel" && m.random.IntN(2) == 0 {
		o.kind = "append"
	}
	if o.kind == "append" {
		lengths := []int{1, 700, inlineLimit + 1, 3000, minPart, partSize, 2*partSize + 3000}
		rest = rest[:min(len(rest), lengths[m.random.IntN(len(lengths))])]
	}
	o.size, o.told, o.cut = int64(len(rest)), m.random.IntN(2) == 0, m.random.IntN(8) == 0
	piece := chunk(rest, o.at, o.told)
	if o.kind == "append" || o.kind == "finish" {
		piece.Body = &fitful{machine: m, operation: o, ctx: ctx, data: rest}
		if o.at == status.Offset && o.alone && o.stall == 0 && m.random.IntN(4) == 0 {
			piece.At = -1
		}
	}
	d := u.digest
	if o.kind == "finish" {
		if o.wrong = m.random.IntN(6) == 0; o.wrong {
			d = digest.FromString("wrong")
		} else {
			u.finishing = true
		}
	}
	u.ending = u.ending || o.kind == "cancel"
	o.what = fmt.Sprintf("%s upload %d at %d (told as %d) with %d bytes on replica %d, cut=%t, wrong=%t, fault=%g, stall=%g",
		o.kind, slices.Index(m.uploads, u), o.at, piece.At, o.size, replica, o.cut, o.wrong, o.fault, o.stall)
	m.note("%s", o.what)
	m.running = append(m.running, o)
	go func() {
		defer close(o.done)
		defer cancel()
		var upload staging.Upload
		switch o.kind {
		case "append":
			upload, o.err = s.Append(ctx, repository, u.id, piece)
			o.offset = upload.Offset
		case "finish":
			o.offset, o.err = s.Finish(ctx, repository, u.id, piece, d)
		case "status":
			upload, o.err = s.Status(ctx, repository, u.id)
			o.offset = upload.Offset
		case "cancel":
			o.err = s.Cancel(ctx, repository, u.id)
		}
	}()
}

// settle waits until nothing moves, holds the answers that came against the model, and looks at the world.
func (m *machine) settle() {
	synctest.Wait()
	m.running = slices.DeleteFunc(m.running, func(o *operation) bool {
		select {
		case <-o.done:
			m.answer(o)
			return true
		default:
			return false
		}
	})
	if err := m.check(); err != nil {
		m.fail("%v", err)
	}
	if m.budget.Held() > m.budget.Size() {
		m.fail("%d of %d bytes are held", m.budget.Held(), m.budget.Size())
	}
	for i, u := range m.uploads {
		m.look(i, u)
	}
}

// end lets everything go on, and brings every upload to its end.
func (m *machine) end() {
	for len(m.running) > 0 {
		stalls := m.stalls()
		if len(stalls) == 0 {
			m.note("a minute passes")
			time.Sleep(time.Minute)
		} else {
			m.release(stalls[m.random.IntN(len(stalls))], m.random.IntN(4) == 0)
		}
		m.settle()
	}
	if m.budget.Held() != 0 {
		m.fail("%d bytes are held by nobody", m.budget.Held())
	}
	s, ctx := m.stage(), m.t.Context()
	for i, u := range m.uploads {
		m.note("the end of upload %d", i)
		status, err := s.Status(ctx, repository, u.id)
		if err != nil {
			require.ErrorIs(m.t, err, store.ErrSessionUnknown)
			continue
		}
		u.finishing = true
		at := status.Offset
		if _, err := s.Finish(ctx, repository, u.id, chunk(u.data[at:], at, true), u.digest); err != nil {
			m.fail("upload %d cannot be finished from %d: %v", i, at, err)
		}
		u.finished = true
		m.requireContent(m.t, u.digest, u.data)
	}
	m.settle()
}
