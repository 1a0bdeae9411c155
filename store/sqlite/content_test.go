package sqlite_test

import (
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

func TestEmptyContentIsInline(t *testing.T) {
	t.Parallel()
	m := openNew(t, nil)
	empty := store.Content{Digest: digest.FromString("")}
	require.NoError(t, m.PutContent(t.Context(), "team/app", empty))
	got, err := m.Content(t.Context(), "team/app", empty.Digest)
	require.NoError(t, err)
	assert.True(t, got.IsInline())
	assert.Empty(t, got.Inline)
}

func TestManifestKeepsItsBytesWhenItIsPushedAsABlob(t *testing.T) {
	t.Parallel()
	m := openNew(t, nil)
	put := manifest("team/app", "one", "latest")
	require.NoError(t, m.PutManifest(t.Context(), put))

	id, key := store.NewID(), store.NewBlobKey()
	require.NoError(t, m.CreateSession(t.Context(), id, "team/other", ""))
	session, err := m.ClaimSession(t.Context(), store.Claim{
		SessionRef: store.SessionRef{ID: id, Repository: "team/other"}, Reserve: store.Reservation{Blob: key},
	})
	require.NoError(t, err)
	require.NoError(t, m.FinishSession(t.Context(), store.Finish{
		ID: id, Version: session.Version, Content: store.Content{Digest: put.Manifest.Digest, Size: 3, Key: key},
	}))

	content, err := m.Content(t.Context(), "team/app", put.Manifest.Digest)
	require.NoError(t, err)
	assert.Equal(t, key, content.Key, "the newest verified key wins")
	assert.Nil(t, content.Inline)
	got, err := m.Manifest(t.Context(), "team/app", store.ManifestRef{Tag: "latest"})
	require.NoError(t, err)
	assert.Equal(t, "one", string(got.Bytes))
}
