package postgres_test

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/postgres"
)

// counted makes the pool's connections count how often the server is asked to answer.
func counted(asked *atomic.Int64) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) {
		dial := config.ConnConfig.DialFunc
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &countingConn{Conn: conn, asked: asked, skip: 4}, err
		}
		// A connection that has idled for a second is looked at before it is used, which is not the call's.
		config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	}
}

// countingConn counts the messages after which a client waits: Sync, and Query, which includes it.
type countingConn struct {
	net.Conn
	asked   *atomic.Int64
	started bool
	head    []byte // of the message that is being written
	skip    int    // bytes of it that do not matter; before the first message, which has no type, its length is still to come
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	for _, b := range p[:n] {
		c.pass(b)
	}
	return n, err
}

func (c *countingConn) pass(b byte) {
	size := 5
	if !c.started {
		size = 4
	}
	if len(c.head) < size {
		c.head = append(c.head, b)
		if len(c.head) < size {
			return
		}
		c.skip = int(binary.BigEndian.Uint32(c.head[size-4:])) - 4
	} else {
		c.skip--
	}
	if c.skip > 0 {
		return
	}
	if kind := c.head[0]; c.started && (kind == 'S' || kind == 'Q') {
		c.asked.Add(1)
	}
	c.started, c.head = true, c.head[:0]
}

// TestCallsTakeTheirRoundTrips holds every method to what its documentation says, once its statements are known to the connection.
func TestCallsTakeTheirRoundTrips(t *testing.T) {
	t.Parallel()
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			pool := newPool(t, 1, in(mode), counted(&asked))
			m := open(t, pool, &postgres.Options{Schema: newSchema(t)})
			var rounds []map[string]int64
			for range 3 {
				rounds = append(rounds, countCalls(t, m, "a", &asked))
			}
			want := map[string]int64{
				"Content": 1, "RenewContent": 1, "RenewContent that touches": 1, "PutContent": 1, "DeleteContent": 2, "Mount": 2,
				"Manifest by tag": 1, "Manifest by digest": 1, "PutManifest": 2, "PutManifest that moves a tag": 2, "DeleteManifest": 2,
				"Tags": 1, "DeleteTag": 1, "Referrers": 1, "Repositories": 1, "Holders": 1, "Candidates": 1, "Garbage": 1,
				"CreateSession": 1, "Session": 1, "ClaimSession": 2, "SaveSession": 2, "FinishSession": 2, "DropSession": 2, "Ping": 1,
				"Due": 1, "ReviewCandidates": 3, "ReviewCandidates, none due": 2, "PreviewCandidates": 1, "SettleCandidate": 1,
				"TakeGarbage": 2, "PreviewGarbage": 1, "ForgetGarbage": 1, "PreviewSessions": 1, "EndSessions": 3, "EndSessions, none due": 2, "DeleteRepository": 1,
				"DrainRepositories": 6, "DrainRepositories, none": 2, "UnknownKeys": 1, "CondemnKeys": 1, "StoredContents": 1,
				"MarkContent": 1, "Dependents": 1, "RecordPulls": 1, "ManifestRecords": 1, "TagRecords": 1, "ExpireManifest": 2,
				"ExpireTag": 2, "MirroredTag": 1, "ConfirmTag": 1, "ClaimFetch": 1, "ReleaseFetch": 1, "MirroredSize": 1, "EvictManifest": 2,
			}
			if mode == pgx.QueryExecModeDescribeExec { // it asks for the types of each batch first
				for call := range want {
					want[call] *= 2
					if strings.Contains(call, ", none") {
						want[call]-- // the end of a transaction that has nothing to do
					}
				}
			}
			assert.Equal(t, want, rounds[2], "round trips of each call in mode %s", mode)
		})
	}
}

// countCalls makes each call, on the repository and on another one, and returns how often it asked the server.
func countCalls(t *testing.T, m *postgres.Metadata, repository string, asked *atomic.Int64) map[string]int64 {
	t.Helper()
	ctx, counts := t.Context(), map[string]int64{}
	do := func(name string, call func() error) {
		t.Helper()
		before := asked.Load()
		require.NoError(t, call(), name)
		counts[name] = asked.Load() - before
	}
	content := inline("content " + store.NewID())
	do("PutContent", func() error { return m.PutContent(ctx, repository, content) })
	do("Content", func() error { _, err := m.Content(ctx, repository, content.Digest); return err })
	do("RenewContent", func() error { _, err := m.RenewContent(ctx, repository, content.Digest, time.Hour); return err })
	do("RenewContent that touches", func() error { _, err := m.RenewContent(ctx, repository, content.Digest, -time.Hour); return err })
	do("Mount", func() error { _, err := m.Mount(ctx, content.Digest, repository, "b"); return err })
	put := manifest(repository, "manifest "+store.NewID(), "latest")
	put.References = []store.Reference{{Digest: content.Digest}}
	do("PutManifest", func() error { return m.PutManifest(ctx, put) })
	other := manifest(repository, "another "+store.NewID(), "latest")
	do("PutManifest that moves a tag", func() error { return m.PutManifest(ctx, other) })
	do("Manifest by tag", func() error { _, err := m.Manifest(ctx, repository, store.ManifestRef{Tag: "latest"}); return err })
	do("Manifest by digest", func() error {
		_, err := m.Manifest(ctx, repository, store.ManifestRef{Digest: put.Manifest.Digest})
		return err
	})
	do("Tags", func() error { _, err := m.Tags(ctx, repository, "", 10); return err })
	do("Referrers", func() error {
		_, err := m.Referrers(ctx, repository, content.Digest, store.ReferrersPage{Limit: 10})
		return err
	})
	do("Repositories", func() error { _, err := m.Repositories(ctx, "", 10); return err })
	do("Holders", func() error { _, err := m.Holders(ctx, content.Digest, "", 10); return err })
	do("Candidates", func() error { _, err := m.Candidates(ctx, 0, 10); return err })
	do("Garbage", func() error { _, err := m.Garbage(ctx, 0, 10); return err })
	do("DeleteTag", func() error { return m.DeleteTag(ctx, repository, "latest") })
	do("DeleteManifest", func() error { return m.DeleteManifest(ctx, repository, put.Manifest.Digest, nil) })
	do("DeleteContent", func() error { return m.DeleteContent(ctx, repository, content.Digest) })
	do("Ping", func() error { return m.Ping(ctx) })
	for _, finish := range []bool{true, false} {
		id := store.NewID()
		ref := store.SessionRef{ID: id, Repository: repository}
		do("CreateSession", func() error { return m.CreateSession(ctx, id, repository, digest.SHA256) })
		do("Session", func() error { _, err := m.Session(ctx, ref); return err })
		reserve := store.Reservation{Blob: store.NewBlobKey(), Tail: store.NewUploadKey(id)}
		do("ClaimSession", func() error {
			_, err := m.ClaimSession(ctx, store.Claim{SessionRef: ref, Reserve: reserve, Parts: true})
			return err
		})
		do("SaveSession", func() error {
			return m.SaveSession(ctx, store.Save{
				ID: id, Version: 1, Parts: []store.Part{{Number: 1, Size: 1, Tag: "x"}}, Tail: &store.Tail{Key: reserve.Tail, Size: 1},
			})
		})
		if finish {
			do("FinishSession", func() error {
				return m.FinishSession(ctx, store.Finish{ID: id, Version: 1, Content: inline("upload " + id)})
			})
			continue
		}
		do("DropSession", func() error { _, err := m.DropSession(ctx, ref); return err })
	}
	countCollectorsCalls(t, m, do)
	countMirrorsCalls(t, m, do)
	return counts
}

// countMirrorsCalls makes each call of what pulls through, in a repository of its own.
func countMirrorsCalls(t *testing.T, m *postgres.Metadata, do func(name string, call func() error)) {
	t.Helper()
	ctx, repository := t.Context(), "~mirrored/"+store.NewID()
	layer := inline("layer " + store.NewID())
	require.NoError(t, m.PutContent(ctx, repository, layer))
	put := manifest(repository, "manifest "+store.NewID(), "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, m.PutManifest(ctx, put))
	d := put.Manifest.Digest
	do("MirroredTag", func() error { _, err := m.MirroredTag(ctx, repository, "latest"); return err })
	do("ConfirmTag", func() error { return m.ConfirmTag(ctx, repository, "latest", d) })
	do("ClaimFetch", func() error { _, err := m.ClaimFetch(ctx, layer.Digest, "a", time.Minute); return err })
	do("ReleaseFetch", func() error { return m.ReleaseFetch(ctx, layer.Digest, "a") })
	do("MirroredSize", func() error {
		_, err := m.MirroredSize(ctx, store.ManifestAt{Repository: "~hub/0001000", Digest: digest.FromString("x")}, 5)
		return err
	})
	do("EvictManifest", func() error {
		_, err := m.EvictManifest(ctx, store.ManifestEviction{Repository: repository, Digest: d})
		return err
	})
}

// countCollectorsCalls makes each call of the collector, in a repository of its own. Of what others have left it takes one.
func countCollectorsCalls(t *testing.T, m *postgres.Metadata, do func(name string, call func() error)) {
	t.Helper()
	ctx, repository := t.Context(), "collected/"+store.NewID()
	id := store.NewID()
	layer := store.Content{Digest: digest.FromString(id), Size: 5, Key: store.NewBlobKey()}
	require.NoError(t, m.CreateSession(ctx, id, repository, ""))
	require.NoError(t, m.FinishSession(ctx, store.Finish{ID: id, Content: layer}))
	put := manifest(repository, "manifest "+id, "latest")
	put.References = []store.Reference{{Digest: layer.Digest}}
	require.NoError(t, m.PutManifest(ctx, put))
	d := put.Manifest.Digest
	do("RecordPulls", func() error {
		return m.RecordPulls(ctx, []store.Pull{{Repository: repository, Digest: d, Tag: "latest"}})
	})
	do("ManifestRecords", func() error { _, err := m.ManifestRecords(ctx, repository, "", 10); return err })
	do("TagRecords", func() error { _, err := m.TagRecords(ctx, repository, "", 10); return err })
	do("StoredContents", func() error { _, err := m.StoredContents(ctx, "", 10); return err })
	do("Dependents", func() error { _, err := m.Dependents(ctx, layer.Digest, store.ManifestAt{}, 10); return err })
	unknown := []store.Key{store.NewBlobKey(), layer.Key}
	do("UnknownKeys", func() error { _, err := m.UnknownKeys(ctx, unknown); return err })
	do("CondemnKeys", func() error { _, err := m.CondemnKeys(ctx, unknown); return err })
	do("MarkContent", func() error { _, err := m.MarkContent(ctx, layer.Digest, layer.Key, true); return err })
	do("ExpireTag", func() error {
		return m.ExpireTag(ctx, store.TagExpiry{Repository: repository, Tag: "latest", Digest: d})
	})
	do("ExpireManifest", func() error { return m.ExpireManifest(ctx, store.ManifestExpiry{Repository: repository, Digest: d}) })
	do("Due", func() error { _, err := m.Due(ctx, store.Deadlines{}); return err })
	do("PreviewCandidates", func() error { _, err := m.PreviewCandidates(ctx, 0, store.Candidate{}, 3); return err })
	do("ReviewCandidates", func() error { _, err := m.ReviewCandidates(ctx, store.Review{Limit: 3}); return err })
	do("ReviewCandidates, none due", func() error {
		_, err := m.ReviewCandidates(ctx, store.Review{Grace: 10000 * time.Hour, Limit: 5})
		return err
	})
	do("SettleCandidate", func() error { return m.SettleCandidate(ctx, store.Candidate{Repository: repository, Digest: d}) })
	do("PreviewGarbage", func() error { _, err := m.PreviewGarbage(ctx, store.Take{Limit: 5}, store.Garbage{}); return err })
	do("TakeGarbage", func() error { _, err := m.TakeGarbage(ctx, store.Take{Again: time.Hour, Limit: 5}); return err })
	do("ForgetGarbage", func() error { return m.ForgetGarbage(ctx, unknown) })
	require.NoError(t, m.CreateSession(ctx, store.NewID(), repository, ""))
	do("PreviewSessions", func() error {
		_, err := m.PreviewSessions(ctx, store.Life{Idle: -time.Hour, Tombstone: -time.Hour}, store.Outlived{}, 5)
		return err
	})
	do("EndSessions", func() error { _, err := m.EndSessions(ctx, store.Life{Idle: -time.Hour}, 5); return err })
	do("EndSessions, none due", func() error { _, err := m.EndSessions(ctx, store.Life{Idle: 10000 * time.Hour}, 5); return err })
	put.AllowMissing = true
	require.NoError(t, m.PutManifest(ctx, put))
	do("DeleteRepository", func() error { return m.DeleteRepository(ctx, repository) })
	do("DrainRepositories", func() error { _, err := m.DrainRepositories(ctx, 100); return err })
	do("DrainRepositories, none", func() error { _, err := m.DrainRepositories(ctx, 100); return err })
}
