package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// keyTests prove the rule that the collector stands on: whatever transaction stops naming a key puts it into the garbage. So at
// any time, the keys that sessions and contents name and the keys in the garbage are disjoint, and are together exactly
// the keys that were ever recorded.
func keyTests() []metadataTest {
	return []metadataTest{
		{"AreNamedOrGarbage", keysAfterEachEvent},
		{"AreNamedOrGarbageWhenAnswersAreLost", keysWhenAnswersAreLost},
		{"AreNamedOrGarbageUnderConcurrency", keysUnderConcurrency},
	}
}

// keeper is a repository that links to all content, so that a test can see which keys contents name.
const keeper = "keeper"

// traffic is random events of some clients on some sessions, and what they must have left behind.
type traffic struct {
	mu       sync.Mutex
	ids      []string
	recorded map[store.Key]bool
	bodies   []string // few, so that several uploads have the same digest
}

func newTraffic() *traffic {
	return &traffic{recorded: map[store.Key]bool{}, bodies: []string{"", "a", "b", "c"}}
}

func (x *traffic) record(keys ...store.Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, key := range keys {
		if key != "" {
			x.recorded[key] = true
		}
	}
}

// client is one sequence of events, reproducible by its seed.
type client struct {
	*traffic
	random *rand.Rand
	store  store.Metadata
	// again sends an event until it has an answer: nothing, or a typed error.
	again  func(event func() error) error
	claims []store.Session // that it thinks it holds, some of which are stale
}

func (x *traffic) client(m store.Metadata, seed uint64) *client {
	return &client{
		traffic: x, random: rand.New(rand.NewPCG(seed, 0)), store: m,
		again: func(event func() error) error { return event() },
	}
}

func (c *client) reservation(id string) (r store.Reservation) {
	if c.random.IntN(4) > 0 {
		r.Blob = store.NewBlobKey()
	}
	if c.random.IntN(4) > 0 {
		r.Tail = store.NewUploadKey(id)
	}
	return r
}

// step sends one event. Typed errors are part of the game.
func (c *client) step(ctx context.Context) error {
	event, err := c.event(ctx)
	for _, typed := range []error{store.ErrFenced, store.ErrSessionUnknown, store.ErrContentUnknown, store.ErrManifestUnknown} {
		if errors.Is(err, typed) {
			return nil
		}
	}
	var offset *store.OffsetError
	var referenced *store.ReferencedError
	var missing *store.MissingError
	if errors.As(err, &offset) || errors.As(err, &referenced) || errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", event, err)
	}
	return nil
}

func (c *client) event(ctx context.Context) (name string, err error) {
	switch kind := c.random.IntN(20); {
	case kind < 3:
		return "create", c.create(ctx)
	case kind < 8:
		return "claim", c.claim(ctx)
	case kind < 14:
		return "save", c.save(ctx)
	case kind < 16:
		return "finish", c.finish(ctx)
	case kind < 17:
		return "drop", c.drop(ctx)
	case kind < 18:
		return "put content", c.put(ctx)
	case kind < 19:
		return "delete content", c.delete(ctx)
	}
	return "put manifest", c.manifest(ctx)
}

func (c *client) create(ctx context.Context) error {
	id := store.NewID()
	if err := c.again(func() error { return c.store.CreateSession(ctx, id, repository, "") }); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = append(c.ids, id)
	return nil
}

// pick returns one of the sessions that were created most lately.
func (c *client) pick() (id string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	recent := c.ids[max(0, len(c.ids)-4):]
	if len(recent) == 0 {
		return "", false
	}
	return recent[c.random.IntN(len(recent))], true
}

func (c *client) claim(ctx context.Context) error {
	id, ok := c.pick()
	if !ok {
		return nil
	}
	claim := store.Claim{SessionRef: ref(id), Offset: -1, PartCount: 2, Reserve: c.reservation(id), Finish: c.random.IntN(2) == 0}
	if c.random.IntN(4) == 0 {
		claim.Offset = 0
	}
	var s store.Session
	err := c.again(func() (err error) { s, err = c.store.ClaimSession(ctx, claim); return err })
	if err != nil || s.State == store.SessionFinished {
		return err
	}
	c.record(claim.Reserve.Blob, claim.Reserve.Tail)
	c.claims = append(c.claims, s)
	return nil
}

// held returns a claim, mostly the newest one.
func (c *client) held() *store.Session {
	if len(c.claims) == 0 {
		return nil
	}
	back := 0
	if c.random.IntN(3) == 0 {
		back = c.random.IntN(min(len(c.claims), 5))
	}
	return &c.claims[len(c.claims)-1-back]
}

func (c *client) save(ctx context.Context) error {
	s := c.held()
	if s == nil {
		return nil
	}
	save := store.Save{ID: s.ID, Version: s.Version, Progress: s.Progress}
	save.Offset++
	if s.Reserved.Blob != "" && save.Multipart.Key == "" && c.random.IntN(2) == 0 {
		save.Multipart = store.Multipart{Key: s.Reserved.Blob, ID: "m"}
	}
	if s.Reserved.Tail != "" && c.random.IntN(2) == 0 {
		save.Tail = &store.Tail{Key: s.Reserved.Tail, Size: 1}
	} else if s.Reserved.Blob != "" && save.Multipart.Key != s.Reserved.Blob && c.random.IntN(3) == 0 {
		save.Tail = &store.Tail{Key: s.Reserved.Blob, Size: 1}
	}
	save.Joined = c.random.IntN(3) == 0
	switch c.random.IntN(3) {
	case 0:
		save.Reserved = c.reservation(s.ID)
	case 1:
		save.Reserved = s.Reserved
		if save.Tail != nil { // a key that has become a tail is not written again
			save.Reserved = store.Reservation{}
		}
	}
	save.Complete = c.random.IntN(6) == 0
	if err := c.again(func() error { return c.store.SaveSession(ctx, save) }); err != nil {
		return err
	}
	c.record(save.Reserved.Blob, save.Reserved.Tail)
	s.Progress, s.Reserved = save.Progress, save.Reserved
	if save.Joined {
		s.Tails = nil
	}
	if save.Tail != nil {
		s.Tails = append(slices.Clip(s.Tails), *save.Tail)
	}
	return nil
}

func (c *client) finish(ctx context.Context) error {
	s := c.held()
	if s == nil {
		return nil
	}
	body := c.bodies[c.random.IntN(len(c.bodies))]
	content := text(body)
	if keys := s.Keys(); len(keys) > 0 && body != "" && c.random.IntN(4) > 0 {
		content.Key, content.Inline = keys[c.random.IntN(len(keys))], nil
	}
	finish := store.Finish{ID: s.ID, Version: s.Version, Content: content}
	if err := c.again(func() error { return c.store.FinishSession(ctx, finish) }); err != nil {
		return err
	}
	return c.keep(ctx, content.Digest)
}

// keep links the content to the keeper, so that the test sees it.
func (c *client) keep(ctx context.Context, d digest.Digest) error {
	return c.again(func() error { _, err := c.store.Mount(ctx, d, repository, keeper); return err })
}

func (c *client) drop(ctx context.Context) error {
	id, ok := c.pick()
	if !ok {
		return nil
	}
	return c.again(func() error { _, err := c.store.DropSession(ctx, ref(id)); return err })
}

func (c *client) put(ctx context.Context) error {
	content := text(c.bodies[c.random.IntN(len(c.bodies))])
	if err := c.again(func() error { return c.store.PutContent(ctx, repository, content) }); err != nil {
		return err
	}
	return c.keep(ctx, content.Digest)
}

func (c *client) delete(ctx context.Context) error {
	// Only what the keeper has: content without a link is not to be seen.
	d := digest.FromString(c.bodies[c.random.IntN(len(c.bodies))])
	if _, err := c.store.Content(ctx, keeper, d); err != nil {
		return err
	}
	return c.again(func() error { return c.store.DeleteContent(ctx, repository, d) })
}

// manifest puts a manifest whose bytes may have been pushed as a blob before, in an object of their own.
func (c *client) manifest(ctx context.Context) error {
	put := imageOf(keeper, c.bodies[1+c.random.IntN(len(c.bodies)-1)])
	return c.again(func() error { return c.store.PutManifest(ctx, put) })
}

// requireNamedOrGarbage checks the rule.
func (x *traffic) requireNamedOrGarbage(t *testing.T, m *index, message string) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	named := map[store.Key]string{}
	for _, id := range x.ids {
		s, err := m.last.Session(t.Context(), ref(id))
		if errors.Is(err, store.ErrSessionUnknown) {
			continue
		}
		require.NoError(t, err)
		for _, key := range s.Keys() {
			named[key] = "session " + id
		}
	}
	for _, body := range x.bodies {
		content, err := m.last.Content(t.Context(), keeper, digest.FromString(body))
		if errors.Is(err, store.ErrContentUnknown) {
			continue
		}
		require.NoError(t, err)
		if content.Key != "" {
			require.Empty(t, named[content.Key], "a key that has become content's is not a session's any more: %s", message)
			named[content.Key] = "content " + body
		}
	}
	garbage := map[store.Key]bool{}
	for _, key := range m.garbage(t) {
		garbage[key] = true
		require.Empty(t, named[key], "a key that is named is never in the garbage: %s: %s", key, message)
		require.True(t, x.recorded[key], "only keys that were recorded are condemned: %s: %s", key, message)
	}
	for key, by := range named {
		require.True(t, x.recorded[key], "%s names a key that nobody recorded: %s: %s", by, key, message)
	}
	for key := range x.recorded {
		require.True(t, named[key] != "" || garbage[key], "a key that is named no more is in the garbage; %s is in neither: %s", key, message)
	}
}

func keysAfterEachEvent(t *testing.T, m *index) {
	for seed := range uint64(8) {
		x := newTraffic()
		c := x.client(m.first, seed)
		before := m.garbage(t)
		contents := x.contents(t, m)
		x.record(before...)
		x.record(contents...)
		for step := range 60 {
			m.clock.Advance(time.Second)
			require.NoError(t, c.step(t.Context()), "seed %d, step %d", seed, step)
			x.requireNamedOrGarbage(t, m, fmt.Sprintf("seed %d, step %d", seed, step))
		}
		x.settle(t, m)
	}
}

// contents returns the keys that content of the keeper is under.
func (x *traffic) contents(t *testing.T, m *index) (keys []store.Key) {
	t.Helper()
	for _, body := range x.bodies {
		content, err := m.last.Content(t.Context(), keeper, digest.FromString(body))
		if errors.Is(err, store.ErrContentUnknown) {
			continue
		}
		require.NoError(t, err)
		keys = append(keys, content.Key)
	}
	return keys
}

// settle drops what is left of the sessions: after that, every key is content's or garbage.
func (x *traffic) settle(t *testing.T, m *index) {
	t.Helper()
	for _, id := range x.ids {
		if _, err := m.first.DropSession(t.Context(), ref(id)); err != nil {
			require.ErrorIs(t, err, store.ErrSessionUnknown)
		}
	}
	x.requireNamedOrGarbage(t, m, "after every session was dropped")
}

func keysWhenAnswersAreLost(t *testing.T, m *index) {
	x := newTraffic()
	random := rand.New(rand.NewPCG(1, 2))
	lost := 0
	flaky := HookMetadata(m.first, Hook{After: func(_ context.Context, _ string, err error) error {
		if err == nil && random.IntN(3) == 0 {
			lost++
			return errLost
		}
		return err
	}})
	c := x.client(flaky, 3)
	c.again = func(event func() error) error {
		for {
			if err := event(); !errors.Is(err, errLost) {
				return err
			}
		}
	}
	for step := range 200 {
		m.clock.Advance(time.Second)
		err := c.step(t.Context())
		if !errors.Is(err, errLost) { // a look at content, which nobody repeats
			require.NoError(t, err, "step %d", step)
		}
	}
	require.Positive(t, lost)
	x.requireNamedOrGarbage(t, m, "events whose answers were lost, and that were sent again")
	x.settle(t, m)
}

func keysUnderConcurrency(t *testing.T, m *index) {
	x := newTraffic()
	each(t, 6, 6, func(i int) error {
		c := x.client(m.handle(i), uint64(100+i))
		for range 40 {
			if err := c.step(t.Context()); err != nil {
				return err
			}
		}
		return nil
	})
	x.requireNamedOrGarbage(t, m, "concurrent events of several replicas")
	x.settle(t, m)
}
