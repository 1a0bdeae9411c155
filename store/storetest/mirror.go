package storetest

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// mirrorTests prove what is told of tags that were pulled through, and who fetches.
func mirrorTests() []metadataTest {
	return []metadataTest{
		{"TellsHowOldATagIs", mirroredTag},
		{"ConfirmsATagThatIsStillTheSame", confirmTag},
		{"ConfirmsNoTagThatHasMoved", confirmMovedTag},
		{"LetsOneFetchAtATime", claimFetch},
		{"LetsAnotherFetchWhenTheTimeIsOver", claimExpiredFetch},
		{"ReleasesOnlyTheHoldersFetch", releaseFetch},
		{"HasOneWinnerOfSeveralClaims", racingFetches},
		{"AppearsOnceForSeveral", racingMirrors},
		{"BeginsWithAnUpload", mirrorUpload},
		{"AddsUpEachContentOnce", mirroredSize},
		{"AddsUpWhatManifestsNeedOnly", mirroredSizeOfNeeded},
		{"AddsUpInPages", mirroredSizePages},
		{"FindsLostAnswersDone", mirrorAgain},
		{"HonoursContexts", mirrorCancelled},
	}
}

// Repositories that hold what was pulled through. The second is in the middle of the names of the third.
const hub, quay, quayApp = "~hub/alpine", "~quay", "~quay/app"

func mirroredTag(t *testing.T, m *index) {
	put := imageOf(hub, "image")
	put.Manifest.ArtifactType, put.Manifest.Annotations = "a/b", map[string]string{"k": "v"}
	m.putManifest(t, put, "latest")
	m.clock.Advance(5 * time.Minute)
	for _, handle := range []store.Metadata{m.first, m.last} {
		got, err := handle.MirroredTag(t.Context(), hub, "latest")
		require.NoError(t, err)
		require.Equal(t, 5*time.Minute, got.Age, "the age of a tag is the time since it was put")
		requireBytes(t, put.Manifest.Bytes, got.Bytes, "a mirrored tag has its manifest")
		got.Bytes = put.Manifest.Bytes
		require.Equal(t, put.Manifest, got.Manifest, "a mirrored tag has its manifest")
	}
	m.putManifest(t, put, "latest")
	require.Zero(t, m.age(t, "latest"), "a tag that was put again is fresh")
	for name, ref := range map[string][2]string{"an unknown tag": {hub, "none"}, "an unknown repository": {"~none", "latest"}} {
		_, err := m.last.MirroredTag(t.Context(), ref[0], ref[1])
		require.ErrorIs(t, err, store.ErrManifestUnknown, name)
	}
}

// age looks at a tag of the first mirrored repository.
func (m *index) age(t *testing.T, tag string) time.Duration {
	t.Helper()
	got, err := m.last.MirroredTag(t.Context(), hub, tag)
	require.NoError(t, err)
	return got.Age
}

func confirmTag(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(hub, "image"), "latest", "other")
	for range 3 {
		m.clock.Advance(30 * time.Second)
		require.NoError(t, m.first.ConfirmTag(t.Context(), hub, "latest", d))
		require.Zero(t, m.age(t, "latest"), "a tag that was just confirmed is fresh, however lately it was before")
	}
	require.Equal(t, 90*time.Second, m.age(t, "other"), "confirming a tag leaves others of its manifest")
	m.requireManifest(t, hub, byTag("latest"), imageOf(hub, "image").Manifest, "confirming a tag leaves what it points to")
}

func confirmMovedTag(t *testing.T, m *index) {
	old := m.putManifest(t, imageOf(hub, "old"), "latest")
	m.putManifest(t, imageOf(hub, "new"), "latest")
	m.putManifest(t, imageOf(quay, "old"), "elsewhere")
	m.clock.Advance(time.Hour)
	for name, ref := range map[string]struct {
		repository, tag string
		digest          digest.Digest
	}{
		"that points to another manifest": {hub, "latest", old},
		"to what is not here":             {hub, "latest", digest.FromString("none")},
		"that is not here":                {hub, "elsewhere", old},
		"of an unknown repository":        {"~none", "latest", old},
	} {
		require.ErrorIs(t, m.first.ConfirmTag(t.Context(), ref.repository, ref.tag, ref.digest), store.ErrManifestUnknown, "confirming a tag %s", name)
	}
	require.Equal(t, time.Hour, m.age(t, "latest"), "a tag that could not be confirmed is as old as it was")
}

// fetching is the content that is claimed.
var fetching = digest.FromString("layer")

// claimFetch claims content for a minute.
func (m *index) claimFetch(t *testing.T, holder string, want bool, message string) {
	t.Helper()
	claimed, err := m.first.ClaimFetch(t.Context(), fetching, holder, time.Minute)
	require.NoError(t, err)
	require.Equal(t, want, claimed, message)
}

func claimFetch(t *testing.T, m *index) {
	m.claimFetch(t, "a", true, "what nobody fetches can be claimed")
	m.claimFetch(t, "b", false, "what somebody fetches cannot be claimed")
	m.clock.Advance(50 * time.Second)
	m.claimFetch(t, "a", true, "who has claimed it can claim it again")
	m.clock.Advance(50 * time.Second)
	m.claimFetch(t, "b", false, "claiming again renews the claim")
	claimed, err := m.last.ClaimFetch(t.Context(), digest.FromString("other"), "b", time.Minute)
	require.NoError(t, err)
	require.True(t, claimed, "each content is claimed by itself")
}

func claimExpiredFetch(t *testing.T, m *index) {
	for i := range 100 { // more than one claim forgets
		_, err := m.first.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint(i)), "a", time.Minute)
		require.NoError(t, err)
	}
	m.claimFetch(t, "a", true, "what nobody fetches can be claimed")
	m.clock.Advance(time.Minute - time.Second)
	m.claimFetch(t, "b", false, "a claim holds for its life")
	m.clock.Advance(time.Second)
	m.claimFetch(t, "b", true, "a claim whose time is over holds no more")
	m.claimFetch(t, "a", false, "who had claimed it is one of the others then")
}

func releaseFetch(t *testing.T, m *index) {
	require.NoError(t, m.first.ReleaseFetch(t.Context(), fetching, "a"), "releasing what nobody has claimed does nothing")
	m.claimFetch(t, "a", true, "what nobody fetches can be claimed")
	require.NoError(t, m.last.ReleaseFetch(t.Context(), fetching, "b"), "releasing what another one has claimed does nothing")
	m.claimFetch(t, "b", false, "only the holder releases a claim")
	require.NoError(t, m.last.ReleaseFetch(t.Context(), fetching, "a"))
	m.claimFetch(t, "b", true, "what was released can be claimed")
}

func racingFetches(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		var won atomic.Int64
		var claims []func() error
		for i := range 4 {
			claims = append(claims, func() error {
				claimed, err := m.handle(i).ClaimFetch(t.Context(), fetching, fmt.Sprint("holder ", i), time.Minute)
				if claimed {
					won.Add(1)
				}
				return err
			})
			_, err := m.first.ClaimFetch(t.Context(), digest.FromString(fmt.Sprint(round, i)), "a", time.Second) // to be forgotten
			require.NoError(t, err)
		}
		for _, err := range r.run(claims...) {
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, won.Load(), "of several who claim at once exactly one may fetch")
		m.clock.Advance(time.Minute)
	}
}

func racingMirrors(t *testing.T, m *index) {
	var r race
	for round := range rounds {
		name := fmt.Sprint("~new/", round)
		put := imageOf(name, fmt.Sprint("image ", round))
		for _, err := range r.run(
			func() error { return m.handle(round).PutContent(t.Context(), name, text("a")) },
			func() error { return m.handle(round+1).PutContent(t.Context(), name, text("b")) },
			func() error { return m.handle(round).PutManifest(t.Context(), put) },
		) {
			require.NoError(t, err, "several can be the first to put something into a mirrored repository")
		}
		m.requireContent(t, name, text("a"), "what was put first is there")
		m.requireContent(t, name, text("b"), "what was put first is there")
		m.requireManifest(t, name, byDigest(put.Manifest.Digest), put.Manifest, "what was put first is there")
	}
}

// A client may ask an upstream for a layer first, by its digest.
func mirrorUpload(t *testing.T, m *index) {
	layer := object("layer")
	m.push(t, hub, layer)
	put := imageOf(hub, "image", layer.Digest)
	m.putManifest(t, put, "latest")
	m.requireManifest(t, hub, byTag("latest"), put.Manifest, "what came by an upload is followed by its manifest")
	_, bytes := m.mirrored(t, all)
	require.EqualValues(t, len("layerimage"), bytes, "what came by an upload is mirrored, too")
}

// mirrored adds up all pages of a size.
func (m *index) mirrored(t *testing.T, limit int) (contents int, bytes int64) {
	t.Helper()
	var after store.ManifestAt
	for range all {
		page, err := m.last.MirroredSize(t.Context(), after, limit)
		require.NoError(t, err)
		contents, bytes = contents+page.Contents, bytes+page.Bytes
		if page.Done {
			return contents, bytes
		}
		require.NotEqual(t, after, page.Last, "a page that is not the last one goes on")
		require.LessOrEqual(t, page.Contents, limit, "a page looks at up to limit links")
		after = page.Last
	}
	t.Fatal("pages come to an end")
	return 0, 0
}

// requireMirrored requires that exactly these contents count, in pages of any size.
func (m *index) requireMirrored(t *testing.T, message string, contents ...string) {
	t.Helper()
	var size int64
	for _, content := range contents {
		size += int64(len(content))
	}
	for _, limit := range []int{1, 2, 3, all} {
		number, bytes := m.mirrored(t, limit)
		require.Equal(t, len(contents), number, "contents, in pages of %d: %s", limit, message)
		require.Equal(t, size, bytes, "bytes, in pages of %d: %s", limit, message)
	}
}

func mirroredSize(t *testing.T, m *index) {
	m.requireMirrored(t, "nothing is mirrored")
	m.putManifest(t, imageOf(repository, "image", m.putText(t, repository, "layer"), m.putText(t, repository, "pushed only")))
	m.putManifest(t, imageOf("zoo", "image", m.putText(t, "zoo", "layer")))
	m.requireMirrored(t, "what was pushed does not count")
	for _, name := range []string{quayApp, hub, quay} {
		m.putManifest(t, imageOf(name, "image", m.putText(t, name, "layer")), "latest")
		m.putManifest(t, imageOf(name, "image of "+name, m.putText(t, name, "layer")))
	}
	m.requireMirrored(t, "what several repositories and manifests need counts once", "layer", "image", "image of "+hub, "image of "+quay, "image of "+quayApp)
	large := object("a layer in an object")
	m.push(t, hub, large)
	put := imageOf(hub, "sparse", large.Digest, digest.FromString("not here"), digest.FromString("pushed only"))
	put.AllowMissing = true
	m.putManifest(t, put)
	m.requireMirrored(t, "what is referred to and not here does not count",
		"layer", "image", "image of "+hub, "image of "+quay, "image of "+quayApp, "sparse", "a layer in an object")
}

func mirroredSizeOfNeeded(t *testing.T, m *index) {
	m.putText(t, hub, "unneeded")
	m.putText(t, hub, "layer")
	m.requireMirrored(t, "what no manifest refers to does not count")
	image := m.putManifest(t, imageOf(quay, "image", m.putText(t, quay, "layer")))
	m.requireMirrored(t, "what another repository does not need counts where it is needed", "image", "layer")
	m.putManifest(t, indexOf(quay, "index", image))
	m.requireMirrored(t, "a manifest that another one lists counts once", "image", "layer", "index")
	absent := imageOf(quayApp, "before its layer", digest.FromString("late"))
	absent.AllowMissing = true
	m.putManifest(t, absent)
	m.putText(t, quayApp, "late")
	m.requireMirrored(t, "what came after its manifest counts", "image", "layer", "index", "before its layer", "late")
	require.NoError(t, m.first.DeleteRepository(t.Context(), quay))
	m.requireMirrored(t, "what was deleted does not count", "before its layer", "late")
}

func mirroredSizePages(t *testing.T, m *index) {
	var want []string
	for _, name := range []string{"~a", "~a/b", "~a-b", "~z", "other"} {
		for i := range 5 {
			layer := m.putText(t, name, fmt.Sprint("layer ", i))
			m.putManifest(t, imageOf(name, fmt.Sprint("image ", i, " of ", name), layer))
			if store.IsMirror(name) {
				want = append(want, fmt.Sprint("image ", i, " of ", name))
			}
		}
	}
	for i := range 5 {
		want = append(want, fmt.Sprint("layer ", i))
	}
	m.requireMirrored(t, "pages meet each content once", want...)
	page, err := m.last.MirroredSize(t.Context(), store.ManifestAt{Repository: "~zz"}, 10)
	require.NoError(t, err)
	require.True(t, page.Done, "after the last repository there is nothing")
	require.Zero(t, page.Contents)
	page, err = m.last.MirroredSize(t.Context(), store.ManifestAt{Repository: "other", Digest: digest.FromString("x")}, all)
	require.NoError(t, err)
	require.Equal(t, 25, page.Contents, "after a repository that is not mirrored come all that are")
	require.Equal(t, "~z", page.Last.Repository)
}

func mirrorAgain(t *testing.T, m *index) {
	ctx, flaky := t.Context(), m.flaky()
	d := m.putManifest(t, imageOf(hub, "image", m.putText(t, hub, "layer")), "latest")
	m.clock.Advance(time.Hour)
	again(t, "MirroredTag", func() error { _, err := flaky.MirroredTag(ctx, hub, "latest"); return err })
	again(t, "ConfirmTag", func() error { return flaky.ConfirmTag(ctx, hub, "latest", d) })
	require.Zero(t, m.age(t, "latest"))
	again(t, "ClaimFetch", func() error {
		claimed, err := flaky.ClaimFetch(ctx, fetching, "a", time.Minute)
		require.True(t, err != nil || claimed, "a claim whose answer was lost is the holder's")
		return err
	})
	again(t, "ReleaseFetch", func() error { return flaky.ReleaseFetch(ctx, fetching, "a") })
	m.claimFetch(t, "b", true, "a claim was released although the answer was lost")
	again(t, "MirroredSize", func() error { _, err := flaky.MirroredSize(ctx, store.ManifestAt{}, all); return err })
	evict := func() error {
		_, err := flaky.EvictManifest(ctx, store.ManifestEviction{Repository: hub, Digest: d})
		return err
	}
	require.ErrorIs(t, evict(), errLost)
	require.ErrorIs(t, evict(), store.ErrManifestUnknown, "an eviction that is sent again finds that nothing is left to evict")
	m.requireMirrored(t, "after an eviction whose answer was lost")
}

func mirrorCancelled(t *testing.T, m *index) {
	d := m.putManifest(t, imageOf(hub, "image"), "latest")
	m.clock.Advance(time.Hour)
	m.claimFetch(t, "a", true, "what nobody fetches can be claimed")
	ctx := ended(t)
	_, errTag := m.first.MirroredTag(ctx, hub, "latest")
	_, errClaim := m.first.ClaimFetch(ctx, digest.FromString("other"), "a", time.Minute)
	_, errSize := m.first.MirroredSize(ctx, store.ManifestAt{}, all)
	_, errEvict := m.first.EvictManifest(ctx, store.ManifestEviction{Repository: hub, Digest: d})
	for method, err := range map[string]error{
		"MirroredTag":   errTag,
		"ConfirmTag":    m.first.ConfirmTag(ctx, hub, "latest", d),
		"ClaimFetch":    errClaim,
		"ReleaseFetch":  m.first.ReleaseFetch(ctx, fetching, "a"),
		"MirroredSize":  errSize,
		"EvictManifest": errEvict,
	} {
		require.Error(t, err, "%s honours its context: one that has ended fails it", method)
	}
	const message = "an event whose context had ended before it began changes nothing"
	require.Equal(t, time.Hour, m.age(t, "latest"), message)
	m.claimFetch(t, "b", false, message)
	claimed, err := m.first.ClaimFetch(t.Context(), digest.FromString("other"), "b", time.Minute)
	require.NoError(t, err)
	require.True(t, claimed, message)
}
