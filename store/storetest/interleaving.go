package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Interleavings proves that clients and collectors do each other no harm, whatever the order of what they do: whenever a
// client and a collector have met, either the client was refused, with a typed error, or what was acknowledged is there
// whole; and once all is deleted, and graces and delays have passed, nothing is left.
//
// It runs each pair of a client and a collector in every order of their calls, and then seeds times at once, through the
// handles that open returns. [Metadata] does the same with a few seeds.
func Interleavings(t *testing.T, seeds int, open func(t *testing.T, now func() time.Time) []store.Metadata) {
	metadataGroup{"Interleaving", interleavingTests(seeds)}.run(t, open)
}

// fewSeeds is for a kit that is run always.
const fewSeeds = 8

func interleavingTests(seeds int) []metadataTest {
	tests := []metadataTest{
		{"ContentPushedBetweenDecisionAndDeletionSurvives", pushedBetween}, // quay/quay#6318
	}
	for _, s := range scenes() {
		tests = append(tests,
			metadataTest{s.name + "InEveryOrder", func(t *testing.T, m *index) { inEveryOrder(t, m, s) }},
			metadataTest{s.name + "AtOnce", func(t *testing.T, m *index) { atOnce(t, m, s, seeds) }},
		)
	}
	return tests
}

// collectorLife is what sessions have while collectors run; what was begun before a scene has outlived it.
var collectorLife = store.Life{Idle: grace, Total: 2 * grace, Tombstone: 2 * grace}

// collector is what one collector does, call by call. Garbage is due at once: no delay hides a mistake.
type collector struct {
	store  store.Metadata
	bucket *bucket
	taken  []store.Key
}

// The calls of a round.
const (
	review = iota
	end
	drain
	take
	forget
)

func (c *collector) calls(ctx context.Context) []func() error {
	return []func() error{
		func() error {
			_, err := c.store.ReviewCandidates(ctx, store.Review{Grace: grace, Limit: all})
			return wrap("review", err)
		},
		func() error {
			_, err := c.store.EndSessions(ctx, collectorLife, all)
			return wrap("end sessions", err)
		},
		func() error {
			_, err := c.store.DrainRepositories(ctx, all)
			return wrap("drain", err)
		},
		func() error {
			taken, err := c.store.TakeGarbage(ctx, store.Take{Again: time.Minute, Limit: all})
			c.taken = takenKeys(taken)
			if err == nil {
				err = c.bucket.take(c.taken)
			}
			return wrap("take", err)
		},
		func() error {
			c.bucket.delete(c.taken)
			return wrap("forget", c.store.ForgetGarbage(ctx, c.taken))
		},
	}
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// inEveryOrder runs a scene's client and a collector in each order of their calls.
func inEveryOrder(t *testing.T, m *index, s scene) {
	b, round := newBucket(), 0
	var played plays
	for _, s := range s.each() {
		acknowledged := 0
		orders(len(s.client(&stage{})), len(s.meets(&stage{}, &collector{})), func(order []bool) {
			x := newStage(t, m, b, s, round, fmt.Sprint("layer ", round))
			m.clock.Advance(grace)
			round++
			c := &collector{store: m.last, bucket: b}
			client, steps := s.client(x), s.meets(x, c)
			message := s.name + " in the order " + nameOf(order)
			for _, clients := range order {
				var call func() error
				if clients {
					call, client = client[0], client[1:]
				} else {
					call, steps = steps[0], steps[1:]
				}
				require.NoError(t, call(), message)
			}
			x.requireKept(t, message)
			played.add(x, message)
			if len(x.promises) > 0 {
				acknowledged++
			}
		})
		require.Positive(t, acknowledged, "a client is not refused whatever the order: %s", s.name)
	}
	played.requireLasting(t, m, b)
	requireNothingLeft(t, m, b)
}

// orders calls each with every way to merge a sequence of the client's calls, true, with one of the collector's.
func orders(client, collector int, each func(order []bool)) {
	order := make([]bool, 0, client+collector)
	var extend func(client, collector int)
	extend = func(client, collector int) {
		if client == 0 && collector == 0 {
			each(order)
			return
		}
		if client > 0 {
			order = append(order, true)
			extend(client-1, collector)
			order = order[:len(order)-1]
		}
		if collector > 0 {
			order = append(order, false)
			extend(client, collector-1)
			order = order[:len(order)-1]
		}
	}
	extend(client, collector)
}

// nameOf tells who made each call of an order.
func nameOf(order []bool) string {
	name := make([]byte, len(order))
	for i, client := range order {
		name[i] = 'g' // the collector
		if client {
			name[i] = 'c'
		}
	}
	return string(name)
}

// atOnce runs two of a scene's clients, in repositories of their own that share contents, and two collectors, at once. Of a scene of
// many clients each gets its turn.
func atOnce(t *testing.T, m *index, s scene, seeds int) {
	b := newBucket()
	var r race
	var played plays
	each := s.each()
	for round := range max(seeds, (len(each)+1)/2) {
		layer := fmt.Sprint("layer ", round)
		scenes := []scene{each[2*round%len(each)], each[(2*round+1)%len(each)]}
		pair := []*stage{newStage(t, m, b, scenes[0], 2*round, layer), newStage(t, m, b, scenes[1], 2*round+1, layer)}
		m.clock.Advance(grace)
		var calls []func() error
		for i, x := range pair {
			s := scenes[i]
			x.client = m.handle(round + i)
			if s.crowd {
				calls = append(calls, s.client(x)...)
			} else {
				calls = append(calls, inTurn(s.client(x)))
			}
			calls = append(calls, inTurn(s.meets(x, &collector{store: m.handle(round + i + 1), bucket: b})))
		}
		for _, err := range r.run(calls...) {
			require.NoError(t, err, "clients and collectors at once have errors of the contract only")
		}
		for i, x := range pair {
			message := fmt.Sprintf("%s at once, round %d", scenes[i].name, round)
			x.requireKept(t, message)
			played.add(x, message)
		}
	}
	played.requireLasting(t, m, b)
	requireNothingLeft(t, m, b)
}

// inTurn makes one call of several.
func inTurn(calls []func() error) func() error {
	return func() error {
		for _, call := range calls {
			if err := call(); err != nil {
				return err
			}
		}
		return nil
	}
}

// pushedBetween is quay/quay#6318: a registry whose objects' keys are digests deletes what was pushed again after the
// collector had decided.
func pushedBetween(t *testing.T, m *index) {
	b := newBucket()
	survived := 0
	for round := range 10 {
		x := newStage(t, m, b, scene{prepare: prepareNothing}, round, fmt.Sprint("layer ", round))
		m.clock.Advance(grace)
		steps := (&collector{store: m.last, bucket: b}).calls(t.Context())
		push := inTurn(x.upload(x.repository, x.layer))
		for i, step := range steps {
			if i == 1+round%(len(steps)-1) { // after the review, and at the latest between taking the key and deleting its object
				require.NoError(t, push())
			}
			require.NoError(t, step())
		}
		content, err := m.last.Content(t.Context(), x.repository, x.digest())
		if err == nil && b.has(content.Key) && !slices.Contains(m.garbage(t), content.Key) {
			survived++
		}
	}
	require.Equal(t, 10, survived, "content that is pushed again between the collector's decision and its deletion of the object survives ten of ten times")
	requireNothingLeft(t, m, b)
}

// plays are the scenes that were played in an index, and how.
type plays []struct {
	stage   *stage
	message string
}

func (p *plays) add(x *stage, message string) {
	*p = append(*p, struct {
		stage   *stage
		message string
	}{x, message})
}

// requireLasting has collectors come again once all is due, and requires that what has no end is still there. What a meeting has left
// unprotected goes only then, such as a layer without an edge to it.
func (p plays) requireLasting(t *testing.T, m *index, b *bucket) {
	t.Helper()
	for range 2 { // what is drained in the first is reviewed in the second
		m.drain(t)
		m.clock.Advance(2 * grace)
		require.NoError(t, inTurn((&collector{store: m.last, bucket: b}).calls(t.Context()))())
	}
	for _, played := range p {
		played.stage.requireLasting(t, played.message)
	}
}

// requireNothingLeft deletes all manifests that are left, lets graces, delays and lives pass, and requires that the tables and the bucket are
// empty.
func requireNothingLeft(t *testing.T, m *index, b *bucket) {
	t.Helper()
	for _, name := range m.repositories(t) { // whose deletion as a whole would make up for what reviews have missed
		records, err := m.last.ManifestRecords(t.Context(), name, "", all)
		require.NoError(t, err)
		for _, listed := range []bool{false, true} { // by an index, which goes before it
			for _, record := range records {
				if record.Parent == listed {
					require.NoError(t, m.first.DeleteManifest(t.Context(), name, record.Digest, nil))
				}
			}
		}
	}
	for range 3 { // what is drained in the first is reviewed in the second
		m.drain(t)
		m.clock.Advance(2 * grace)
		require.NoError(t, inTurn((&collector{store: m.last, bucket: b}).calls(t.Context()))())
	}
	const message = "once all is deleted, and graces, delays and lives have passed, nothing is left"
	require.Empty(t, m.repositories(t), message)
	require.Empty(t, m.candidates(t), message)
	require.Empty(t, m.garbage(t), message)
	stored, err := m.last.StoredContents(t.Context(), "", all)
	require.NoError(t, err)
	require.Empty(t, stored, message)
	work, err := m.last.Due(t.Context(), store.Deadlines{Life: store.Life{Idle: time.Nanosecond, Total: time.Nanosecond, Tombstone: time.Nanosecond}})
	require.NoError(t, err)
	require.Equal(t, store.Work{}, work, message)
	require.Empty(t, b.keys(), "once all is deleted, no object is left in the bucket")
}
