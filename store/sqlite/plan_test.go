package sqlite_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// TestEveryStatementFindsItsRowsByAnIndex asks SQLite for the plan of all that the methods run.
func TestEveryStatementFindsItsRowsByAnIndex(t *testing.T) {
	t.Parallel()
	m := openNew(t, nil)
	callEveryMethod(t, m)
	collectEverything(t, m)
	mirrorEverything(t, m)
	plans, err := m.Explain(t.Context())
	require.NoError(t, err)
	require.Greater(t, len(plans), 40, "the statements of all methods")
	for query, plan := range plans {
		for _, step := range plan {
			if strings.Contains(step, "json_each") || strings.Contains(step, "VIRTUAL TABLE") || step == "SCAN CONSTANT ROW" || step == "SCAN j" {
				continue // the values that the caller gave
			}
			// An audit looks at every upload under way, and at the dependents that it has found; two ranges are merged.
			if step == "SCAN (subquery-2)" || step == "SCAN sessions USING INDEX sessions_under_way" || step == "SCAN d" && strings.Contains(query, "from dependents") {
				continue
			}
			// A covering index, too, is scanned from its beginning to its end.
			assert.False(t, strings.HasPrefix(step, "SCAN"), "%s\nruns as\n%s", query, strings.Join(plan, "\n"))
			if strings.Contains(step, "TEMP B-TREE") {
				assert.True(t, strings.Contains(query, "from links l cross join repositories") || strings.Contains(query, "from tails") || strings.Contains(query, "from dependents"),
					"only holders, dependents, and the few tails of a session, are sorted, not\n%s\nwhich runs as\n%s", query, strings.Join(plan, "\n"))
			}
		}
	}
}

// callEveryMethod makes each method run each of its statements.
func callEveryMethod(t *testing.T, m store.Metadata) {
	t.Helper()
	ctx, life := t.Context(), store.Life{}
	content := inline("content")
	require.NoError(t, m.PutContent(ctx, "a", content))
	_, err := m.Content(ctx, "a", content.Digest)
	require.NoError(t, err)
	_, err = m.RenewContent(ctx, "a", content.Digest, 0)
	require.NoError(t, err)
	_, err = m.RenewContent(ctx, "a", content.Digest, -time.Hour)
	require.NoError(t, err)
	_, err = m.Mount(ctx, content.Digest, "a", "b")
	require.NoError(t, err)

	put := manifest("a", "manifest", "latest")
	put.References = []store.Reference{{Digest: content.Digest}}
	require.NoError(t, m.PutManifest(ctx, put))
	_, err = m.Manifest(ctx, "a", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	_, err = m.Manifest(ctx, "a", store.ManifestRef{Digest: put.Manifest.Digest})
	require.NoError(t, err)
	_, err = m.Tags(ctx, "a", "", 10)
	require.NoError(t, err)
	_, err = m.Referrers(ctx, "a", content.Digest, store.ReferrersPage{Limit: 10, ArtifactTypes: []string{"x"}})
	require.NoError(t, err)
	_, err = m.Repositories(ctx, "", 10)
	require.NoError(t, err)
	_, err = m.Holders(ctx, content.Digest, "", 10)
	require.NoError(t, err)
	_, err = m.Candidates(ctx, 0, 10)
	require.NoError(t, err)
	_, err = m.Garbage(ctx, 0, 10)
	require.NoError(t, err)

	for _, finish := range []bool{true, false} {
		ref := store.SessionRef{ID: store.NewID(), Repository: "a", Life: life}
		require.NoError(t, m.CreateSession(ctx, ref.ID, "a", digest.SHA256))
		_, err = m.Session(ctx, ref)
		require.NoError(t, err)
		reserve := store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(ref.ID)}
		session, err := m.ClaimSession(ctx, store.Claim{SessionRef: ref, Reserve: reserve, Parts: true})
		require.NoError(t, err)
		save := store.Save{
			ID: ref.ID, Version: session.Version, Parts: []store.Part{{Number: 1, Size: 1, Tag: "x"}},
			Tail: &store.Tail{Key: reserve.Tail, Size: 1},
		}
		require.NoError(t, m.SaveSession(ctx, save))
		if finish {
			require.NoError(t, m.FinishSession(ctx, store.Finish{ID: ref.ID, Version: session.Version, Content: inline("upload")}))
			continue
		}
		_, err = m.DropSession(ctx, ref)
		require.NoError(t, err)
	}

	require.NoError(t, m.DeleteTag(ctx, "a", "latest"))
	require.NoError(t, m.DeleteManifest(ctx, "a", put.Manifest.Digest, func(string) bool { return false }))
	require.NoError(t, m.DeleteContent(ctx, "a", content.Digest))
	repositories, err := m.Repositories(ctx, "", 10)
	require.NoError(t, err)
	require.True(t, slices.Equal([]string{"a", "b"}, repositories), "the upload and the mount are left, not %v", repositories)
}
