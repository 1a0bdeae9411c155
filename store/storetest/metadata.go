package storetest

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// Metadata proves that an implementation keeps the contract of [store.Metadata].
//
// open returns one or more handles over the same, empty index, each of which may be used by many goroutines; what it
// opens it closes in t.Cleanup. It is called once for each subtest, concurrently. now is the clock that the store must
// use, for all handles; it may be called from any goroutine, and does not block. Times need a precision of a second.
func Metadata(t *testing.T, open func(t *testing.T, now func() time.Time) []store.Metadata) {
	for _, group := range []metadataGroup{
		{"Session", sessionTests()},
		{"Fencing", fencingTests()},
		{"Keys", keyTests()},
		{"Content", contentTests()},
		{"Manifest", manifestTests()},
		{"Tag", tagTests()},
		{"Referrer", referrerTests()},
		{"Repository", repositoryTests()},
		{"Delete", deleteTests()},
		{"Ledger", ledgerTests()},
		{"Race", raceTests()},
		{"LostAnswer", metadataLostAnswerTests()},
		{"Cancelled", metadataCancelTests()},
		{"Review", reviewTests()},
		{"Preview", previewTests()},
		{"Garbage", garbageTests()},
		{"End", endTests()},
		{"Drain", drainTests()},
		{"Audit", auditTests()},
		{"Retention", retentionTests()},
		{"Expiry", expiryTests()},
		{"Mirror", mirrorTests()},
		{"Evict", evictTests()},
		{"Again", collectorAgainTests()},
		{"Interleaving", interleavingTests(fewSeeds)},
	} {
		group.run(t, open)
	}
}

// metadataGroup is behaviours that have a subject in common.
type metadataGroup struct {
	name  string
	tests []metadataTest
}

func (g metadataGroup) run(t *testing.T, open func(t *testing.T, now func() time.Time) []store.Metadata) {
	t.Run(g.name, func(t *testing.T) {
		for _, test := range g.tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, openIndex(t, open))
			})
		}
	})
}

// openIndex opens the store under test.
func openIndex(t *testing.T, open func(t *testing.T, now func() time.Time) []store.Metadata) *index {
	t.Helper()
	clock := NewClock()
	handles := open(t, clock.Now)
	require.NotEmpty(t, handles, "the function that opens the store must return a handle")
	return &index{first: handles[0], last: handles[len(handles)-1], clock: clock}
}

// metadataTest is one behaviour of [store.Metadata].
type metadataTest struct {
	name string
	run  func(t *testing.T, m *index)
}

// index is the store under test, as two replicas see it. Tests change it through first and look at it through last.
type index struct {
	first, last store.Metadata
	clock       *Clock
}

// handle returns one of the two replicas, by turns.
func (m *index) handle(i int) store.Metadata {
	if i%2 == 0 {
		return m.first
	}
	return m.last
}

// all is more than any test leaves behind.
const all = 1 << 20

const repository = "team/app"

// create creates a session of the repository and returns its id.
func (m *index) create(t *testing.T) string {
	t.Helper()
	id := store.NewID()
	require.NoError(t, m.first.CreateSession(t.Context(), id, repository, ""))
	return id
}

// ref names a session that lives without end.
func ref(id string) store.SessionRef { return store.SessionRef{ID: id, Repository: repository} }

// claimOf is a claim of whatever offset, with fresh keys.
func claimOf(id string) store.Claim {
	return store.Claim{
		SessionRef: ref(id), Offset: -1, PartCount: 4,
		Reserve: store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)},
	}
}

// claim claims a session.
func (m *index) claim(t *testing.T, id string) store.Session {
	t.Helper()
	s, err := m.first.ClaimSession(t.Context(), claimOf(id))
	require.NoError(t, err, "a session that is alive can be claimed")
	return s
}

// session looks at a session.
func (m *index) session(t *testing.T, id string) store.Session {
	t.Helper()
	s, err := m.last.Session(t.Context(), ref(id))
	require.NoError(t, err, "a session that is alive is known")
	return s
}

// requireSession compares all that a session tells.
func requireSession(t *testing.T, want, got store.Session, message string) {
	t.Helper()
	require.True(t, want.Started.Equal(got.Started), "%s: Started is %v, want %v", message, got.Started, want.Started)
	require.True(t, want.Touched.Equal(got.Touched), "%s: Touched is %v, want %v", message, got.Touched, want.Touched)
	for _, b := range []struct {
		field     string
		want, got []byte
	}{{"Hash", want.Hash, got.Hash}, {"PartsHash", want.PartsHash, got.PartsHash}, {"Inline", want.Inline, got.Inline}} {
		require.True(t, bytes.Equal(b.want, b.got), "%s: %s is %q, want %q", message, b.field, b.got, b.want)
	}
	for _, s := range []*store.Session{&want, &got} {
		s.Started, s.Touched = time.Time{}, time.Time{}
		s.Hash, s.PartsHash, s.Inline = nil, nil, nil
		s.Tails, s.Parts = append([]store.Tail{}, s.Tails...), append([]store.Part{}, s.Parts...)
	}
	require.Equal(t, want, got, message)
}

// text is inline content.
func text(s string) store.Content {
	return store.Content{Digest: digest.FromString(s), Size: int64(len(s)), Inline: []byte(s)}
}

// object is content in an object under a fresh key.
func object(s string) store.Content {
	return store.Content{Digest: digest.FromString(s), Size: int64(len(s)), Key: store.NewBlobKey()}
}

// push uploads content through a session, under the key that the content names.
func (m *index) push(t *testing.T, name string, content store.Content) {
	t.Helper()
	id := store.NewID()
	require.NoError(t, m.first.CreateSession(t.Context(), id, name, ""))
	claim := claimOf(id)
	claim.Repository = name
	claim.Reserve.Blob = content.Key
	s, err := m.first.ClaimSession(t.Context(), claim)
	require.NoError(t, err)
	require.NoError(t, m.first.FinishSession(t.Context(), store.Finish{ID: id, Version: s.Version, Content: content}))
}

// putText puts inline content, and returns its digest.
func (m *index) putText(t *testing.T, name, s string) digest.Digest {
	t.Helper()
	require.NoError(t, m.first.PutContent(t.Context(), name, text(s)))
	return digest.FromString(s)
}

// requireContent requires that the repository links to the content.
func (m *index) requireContent(t *testing.T, name string, want store.Content, message string) {
	t.Helper()
	for _, handle := range []store.Metadata{m.first, m.last} {
		got, err := handle.Content(t.Context(), name, want.Digest)
		require.NoError(t, err, message)
		requireSameContent(t, want, got, message)
	}
}

func requireSameContent(t *testing.T, want, got store.Content, message string) {
	t.Helper()
	require.True(t, bytes.Equal(want.Inline, got.Inline), "%s: the bytes are %q, want %q", message, got.Inline, want.Inline)
	require.Equal(t, want.IsInline(), got.IsInline(), message)
	want.Inline, got.Inline = nil, nil
	require.Equal(t, want, got, message)
}

// requireNoContent requires that the repository does not link to the content.
func (m *index) requireNoContent(t *testing.T, name string, d digest.Digest, message string) {
	t.Helper()
	for _, handle := range []store.Metadata{m.first, m.last} {
		_, err := handle.Content(t.Context(), name, d)
		require.ErrorIs(t, err, store.ErrContentUnknown, message)
		_, err = handle.RenewContent(t.Context(), name, d, time.Hour)
		require.ErrorIs(t, err, store.ErrContentUnknown, message)
	}
}

// imageOf is a put of a manifest whose references are blobs.
func imageOf(name, body string, blobs ...digest.Digest) store.ManifestPut {
	put := store.ManifestPut{Repository: name, Manifest: store.Manifest{
		Digest: digest.FromString(body), MediaType: ocispec.MediaTypeImageManifest, Bytes: []byte(body),
	}}
	for _, d := range blobs {
		put.References = append(put.References, store.Reference{Digest: d})
	}
	return put
}

// indexOf is a put of an index whose references are manifests.
func indexOf(name, body string, manifests ...digest.Digest) store.ManifestPut {
	put := imageOf(name, body, manifests...)
	put.Manifest.MediaType = ocispec.MediaTypeImageIndex
	for i := range put.References {
		put.References[i].Manifest = true
	}
	return put
}

// putManifest puts a manifest with tags, and returns its digest.
func (m *index) putManifest(t *testing.T, put store.ManifestPut, tags ...string) digest.Digest {
	t.Helper()
	put.Tags = tags
	require.NoError(t, m.first.PutManifest(t.Context(), put))
	return put.Manifest.Digest
}

func byTag(tag string) store.ManifestRef         { return store.ManifestRef{Tag: tag} }
func byDigest(d digest.Digest) store.ManifestRef { return store.ManifestRef{Digest: d} }
func (m *index) tags(t *testing.T, name string) []string {
	t.Helper()
	tags, err := m.last.Tags(t.Context(), name, "", all)
	require.NoError(t, err)
	return append([]string{}, tags...)
}

// requireManifest requires that both replicas find the manifest by the reference.
func (m *index) requireManifest(t *testing.T, name string, ref store.ManifestRef, want store.Manifest, message string) {
	t.Helper()
	for _, handle := range []store.Metadata{m.first, m.last} {
		got, err := handle.Manifest(t.Context(), name, ref)
		require.NoError(t, err, "%s (%s)", message, ref)
		requireBytes(t, want.Bytes, got.Bytes, message)
		expected := want
		if len(want.Annotations) == 0 {
			require.Empty(t, got.Annotations, message)
			expected.Annotations, got.Annotations = nil, nil
		}
		expected.Bytes, got.Bytes = nil, nil
		require.Equal(t, expected, got, message)
	}
}

// requireNoManifest requires that no replica finds a manifest by the reference.
func (m *index) requireNoManifest(t *testing.T, name string, ref store.ManifestRef, message string) {
	t.Helper()
	for _, handle := range []store.Metadata{m.first, m.last} {
		_, err := handle.Manifest(t.Context(), name, ref)
		require.ErrorIs(t, err, store.ErrManifestUnknown, "%s (%s)", message, ref)
	}
}

// place is where a candidate is.
type place struct {
	repository string
	digest     digest.Digest
}

// candidates returns when each candidate was last touched.
func (m *index) candidates(t *testing.T) map[place]time.Time {
	t.Helper()
	listed, err := m.last.Candidates(t.Context(), 0, all)
	require.NoError(t, err)
	touched := map[place]time.Time{}
	for _, c := range listed {
		require.NotContains(t, touched, place{c.Repository, c.Digest}, "a candidate is listed once")
		touched[place{c.Repository, c.Digest}] = c.Touched
	}
	return touched
}

// requireCandidate requires that the content is a candidate, touched now.
func (m *index) requireCandidate(t *testing.T, name string, d digest.Digest, message string) {
	t.Helper()
	touched, ok := m.candidates(t)[place{name, d}]
	require.True(t, ok, "must be a candidate: %s", message)
	require.True(t, m.clock.Now().Equal(touched), "must have been touched now, %v, not at %v: %s", m.clock.Now(), touched, message)
}

// requireNoCandidate requires that the content is not a candidate.
func (m *index) requireNoCandidate(t *testing.T, name string, d digest.Digest, message string) {
	t.Helper()
	require.NotContains(t, m.candidates(t), place{name, d}, message)
}

// garbage returns every condemned key.
func (m *index) garbage(t *testing.T) []store.Key {
	t.Helper()
	listed, err := m.last.Garbage(t.Context(), 0, all)
	require.NoError(t, err)
	keys, seen := []store.Key{}, map[store.Key]bool{}
	for _, g := range listed {
		require.False(t, seen[g.Key], "a key is condemned exactly once: %s", g.Key)
		keys, seen[g.Key] = append(keys, g.Key), true
	}
	return keys
}

// requireGarbage requires that exactly these keys are condemned.
func (m *index) requireGarbage(t *testing.T, message string, want ...store.Key) {
	t.Helper()
	require.ElementsMatch(t, want, m.garbage(t), message)
}
