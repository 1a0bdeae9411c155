package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/staging"
	"github.com/ocikit/ocikit/store/sqlite"
)

// carriesOut runs another command of the program, which must succeed, and returns what it wrote.
func carriesOut(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), args, &stdout, &stderr), "%v: %s", args, &stderr)
	return stdout.String()
}

// soon makes everything due at once.
var soon = []string{"--grace=1ns", "--delay=1ns", "--redirect-expiry=0s"}

func TestCollectingByHandBesideAServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir, "--gc=false")
	content := layer(1 << 20)
	path := push(t, content, 1, s)

	told := carriesOut(t, append([]string{"gc", "--data=" + dir, "--dry-run"}, soon...)...)
	assert.Contains(t, told, "content team/app ")
	assert.Contains(t, told, "\n1 contents of 1MiB would be collected, 0 objects of 0B deleted, 0 uploads ended\n")
	requireBlob(t, s, path, content)
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir), "0 contents of 0B collected, 0 objects of 0B deleted, 0 uploads ended\n", "a grace of 24 h")
	requireBlob(t, s, path, content)

	var stats struct{ Contents, Objects int }
	require.NoError(t, json.Unmarshal([]byte(carriesOut(t, append([]string{"gc", "--data=" + dir, "--json"}, soon...)...)), &stats))
	assert.Equal(t, 1, stats.Contents)
	assert.Equal(t, 1, stats.Objects)
	require.Equal(t, http.StatusNotFound, s.do(t, http.MethodHead, path, nil).StatusCode)
	requireBlob(t, s, push(t, content, 2, s), content)
	s.stop(t)
}

func TestDryRunTellsOfWhatIsOnItsWayOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir, "--gc=false")
	push(t, layer(1<<20), 1, s)
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir, "--grace=1ns"), "1 contents of 1MiB collected, 0 objects of 0B deleted, 0 uploads ended\n")
	require.Equal(t, http.StatusAccepted, s.do(t, http.MethodPost, "/v2/team/app/blobs/uploads/", nil).StatusCode)
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir, "--dry-run"),
		"0 contents of 0B would be collected, 0 objects of 0B deleted, 0 uploads ended\n", "a delay of 1 h, and uploads that last for 24 h")

	args := append([]string{"gc", "--data=" + dir, "--upload-idle=1ns"}, soon...)
	for range 2 {
		told := carriesOut(t, append(args, "--dry-run")...)
		assert.Contains(t, told, "\nobject blobs/")
		assert.Contains(t, told, " (1048576 bytes): no row has named it since ")
		assert.Contains(t, told, "upload team/app ")
		assert.Contains(t, told, ": nobody has written to it since ")
		assert.Contains(t, told, "0 contents of 0B would be collected, 1 objects of 1MiB deleted, 1 uploads ended\n")
	}
	told := carriesOut(t, append(args, "--dry-run", "--json")...)
	assert.Contains(t, told, `"objects":1,"objectBytes":1048576,`)
	assert.Regexp(t, `{"kind":"object","key":"blobs/[-0-9a-f]+","size":1048576,`, told)
	assert.Regexp(t, `{"kind":"upload","repository":"team/app","id":"[-0-9a-f]+",`, told)
	assert.Contains(t, carriesOut(t, args...), "0 contents of 0B collected, 1 objects of 1MiB deleted, 1 uploads ended\n")
	s.stop(t)
}

func TestServerCollectsByItself(t *testing.T) {
	t.Parallel()
	s := start(t, "--data="+t.TempDir(), "--metrics-listen=127.0.0.1:0", "--gc-grace=50ms", "--gc-delay=50ms", "--gc-pause=20ms")
	path := push(t, layer(1<<20), 1, s)
	require.Eventually(t, func() bool {
		return strings.Contains(s.scrape(t), `ocikit_gc_done_total{kind="objects"} 1`)
	}, 30*time.Second, 20*time.Millisecond, "a blob that no manifest refers to is collected")
	require.Equal(t, http.StatusNotFound, s.do(t, http.MethodHead, path, nil).StatusCode)
	assert.Contains(t, s.scrape(t), `ocikit_gc_content_bytes_total 1.048576e+06`)
	assert.Contains(t, s.scrape(t), `ocikit_gc_object_bytes_total 1.048576e+06`)
	assert.Contains(t, s.scrape(t), `ocikit_gc_done_total{kind="multiparts_left"} 0`)
	s.stop(t)
}

func TestNobodyServesWhoseCollectorWouldRefuse(t *testing.T) {
	t.Parallel()
	right := serveCommand{
		GC: true, GCGrace: time.Hour, GCDelay: time.Hour, GCPause: time.Minute, WriteTimeout: time.Minute, UploadIdle: time.Hour,
		Redirect: true, RedirectExpiry: time.Minute,
	}
	for name, test := range map[string]struct {
		change   func(*serveCommand)
		policies []gc.Policy
		want     string
	}{
		"Right":         {func(*serveCommand) {}, nil, ""},
		"Grace":         {func(c *serveCommand) { c.GCGrace = -1 }, nil, "Grace: "},
		"Life":          {func(c *serveCommand) { c.UploadIdle = -1 }, nil, "Life.Idle: "},
		"URLs":          {func(c *serveCommand) { c.RedirectExpiry = time.Hour }, nil, "Delay: "},
		"URLs, no GC":   {func(c *serveCommand) { c.RedirectExpiry, c.GC = time.Hour, false }, nil, ""},
		"Pause, no GC":  {func(c *serveCommand) { c.GCPause, c.GC = -1, false }, nil, "Pause: "},
		"Policies":      {func(*serveCommand) {}, []gc.Policy{{}}, "policies[0].repositories: "},
		"Eviction":      {func(c *serveCommand) { c.EvictIdle = -1 }, nil, "Eviction.Idle: "},
		"Eviction, all": {func(c *serveCommand) { c.EvictOver = -1 }, nil, "Eviction.Budget: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := right
			test.change(&command)
			options, err := command.collecting(newMetrics(staging.NewBudget(1)), settings{policies: test.policies}, gc.NewPulls(0))
			if test.want == "" {
				require.NoError(t, err)
				require.NotNil(t, options)
				return
			}
			require.ErrorContains(t, err, "collecting cannot be started: ")
			require.ErrorContains(t, err, test.want)
		})
	}
}

func TestPullsAreRecordedWhoeverCollects(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"ByItself": nil, "BySomebodyElse": {"--gc=false"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := start(t, append([]string{"--data=" + dir, "--shutdown-delay=10s"}, args...)...)
			const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
			require.Equal(t, http.StatusCreated, s.do(t, http.MethodPut, "/v2/team/app/manifests/v1", strings.NewReader(image)).StatusCode)
			s.cancel()
			require.Eventually(t, func() bool { return strings.Contains(s.log(), "shutting down") }, 30*time.Second, time.Millisecond)
			require.Equal(t, http.StatusOK, s.do(t, http.MethodGet, "/v2/team/app/manifests/v1", nil).StatusCode)
			s.stop(t)
			meta, err := sqlite.Open(filepath.Join(dir, "index.sqlite"), nil)
			require.NoError(t, err)
			t.Cleanup(func() { _ = meta.Close() })
			records, err := meta.TagRecords(t.Context(), "team/app", "", 10)
			require.NoError(t, err)
			require.Len(t, records, 1)
			assert.False(t, records[0].Pulled.IsZero(), "a pull counts until the last request has been answered")
		})
	}
}

func TestRepositoryIsDeletedWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir, "--gc=false")
	path := push(t, layer(1<<20), 1, s)
	assert.Contains(t, carriesOut(t, "delete-repository", "team/app", "--data="+dir), "team/app is deleted")
	require.Equal(t, http.StatusNotFound, s.do(t, http.MethodHead, path, nil).StatusCode)
	var stdout, stderr bytes.Buffer
	require.NotZero(t, run(t.Context(), []string{"delete-repository", "team/app", "--data=" + dir}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), `no repository is called "team/app"`)
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir, "--dry-run"), "repository: what is left of deleted ones would be taken apart")
	told := carriesOut(t, append([]string{"gc", "--data=" + dir}, soon...)...)
	assert.Contains(t, told, "1 contents of 1MiB collected, 1 objects of 1MiB deleted, 0 uploads ended, ")
	assert.Regexp(t, `, [1-9][0-9]* rows of deleted repositories deleted\n$`, told)
	s.stop(t)
}

func TestPoliciesAreTriedBeforeTheyAreTrusted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	policies := filepath.Join(dir, "policies.yaml")
	require.NoError(t, os.WriteFile(policies, []byte("policies: [{repositories: [team/*], tags: [{match: ['pr-*'], keepLast: 1}]}]"), 0o600))
	s := start(t, "--data="+dir, "--gc-policies="+policies, "--gc-pause=20ms")
	const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	for _, tag := range []string{"pr-1", "pr-2", "v1"} {
		response := s.do(t, http.MethodPut, "/v2/other/app/manifests/"+tag, strings.NewReader(image))
		require.Equal(t, http.StatusCreated, response.StatusCode)
	}
	s.stop(t)
	assert.NotContains(t, carriesOut(t, "gc", "--data="+dir, "--policies="+policies, "--dry-run"), "by policies", "no repository of theirs")
	require.NoError(t, os.WriteFile(policies, []byte("policies: [{repositories: ['**'], tags: [{match: ['pr-*'], keepLast: 1}]}]"), 0o600))
	assert.NotContains(t, carriesOut(t, "gc", "--data="+dir, "--policies="+policies, "--dry-run", "--immutable-tags=other/*:pr-*"),
		"by policies", "immutable tags stay")
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir, "--policies="+policies, "--dry-run"), ", 0 manifests and 1 tags deleted by policies\n")
	assert.Contains(t, carriesOut(t, "gc", "--data="+dir, "--policies="+policies), ", 0 manifests and 1 tags deleted by policies\n")
	require.NoError(t, os.WriteFile(policies, []byte("policies: [{repositories: ['ohter/**'], untaggedOlderThan: 30d}]"), 0o600))
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"gc", "--data=" + dir, "--policies=" + policies}, &stdout, &stderr))
	assert.Contains(t, stderr.String(), "ohter/**", "a pattern that matches nothing is said")

	s = start(t, "--data="+dir)
	for tag, want := range map[string]int{"pr-1": http.StatusNotFound, "pr-2": http.StatusOK, "v1": http.StatusOK} {
		assert.Equal(t, want, s.do(t, http.MethodHead, "/v2/other/app/manifests/"+tag, nil).StatusCode, tag)
	}
	s.stop(t)
}

func TestAuditHealsWhatIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir)
	content := layer(1 << 20)
	path := push(t, content, 1, s)
	assert.Contains(t, carriesOut(t, "audit", "--data="+dir, "--deep"), "1 objects of 1MiB and 1 contents compared, 0 findings")

	loseObject(t, dir)
	found, left := auditFails(t, "--data="+dir)
	assert.Contains(t, found, "missing blobs/")
	assert.Equal(t, "ocikit: 1 of 1 findings are not repaired: --repair does what can be done\n", left)
	found, left = auditFails(t, "--data="+dir, "--json")
	assert.Contains(t, found, `"missing":1`)
	assert.Contains(t, left, "1 of 1 findings")
	require.Equal(t, http.StatusOK, s.do(t, http.MethodHead, path, nil).StatusCode, "looking changes nothing")
	assert.Contains(t, carriesOut(t, "audit", "--data="+dir, "--repair", "--force"), "1 findings, 1 repaired", "one that has lost all may as well be another registry")
	require.Equal(t, http.StatusNotFound, s.do(t, http.MethodHead, path, nil).StatusCode, "clients are told to push it again")
	requireBlob(t, s, push(t, content, 1, s), content)
	assert.Contains(t, carriesOut(t, "audit", "--data="+dir), "0 findings")
	s.stop(t)
}

// loseObject deletes the object of a MiB behind the server's back.
func loseObject(t *testing.T, dir string) {
	t.Helper()
	lost := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(dir, "objects"), func(name string, entry fs.DirEntry, err error) error {
		if info, _ := entry.Info(); err == nil && info.Mode().IsRegular() && info.Size() == 1<<20 {
			lost++
			return os.Remove(name)
		}
		return err
	}))
	require.Equal(t, 1, lost)
}

// auditFails runs an audit that finds what it does not repair, and returns what it wrote.
func auditFails(t *testing.T, args ...string) (stdout, stderr string) {
	t.Helper()
	var told, left bytes.Buffer
	require.Equal(t, 1, run(t.Context(), append([]string{"audit"}, args...), &told, &left), "what is not repaired fails an audit")
	return told.String(), left.String()
}

func TestIndexOfAnotherRegistryIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		pushed bool // to ours, too
		want   string
	}{"Empty": {false, "1 repaired"}, "Used": {true, "2 repaired"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := t.TempDir(), t.TempDir()
			for _, dir := range []string{ours, theirs} {
				s := start(t, "--data="+dir)
				if dir == theirs || test.pushed {
					push(t, layer(1<<20), 1, s)
				}
				s.stop(t)
			}
			args := []string{"--database=sqlite:" + filepath.Join(ours, "index.sqlite"), "--objects=file:" + filepath.Join(theirs, "objects"), "--safe-age=0s"}
			_, said := auditFails(t, append(args, "--repair")...)
			assert.Contains(t, said, "--database")
			assert.Contains(t, said, "--force")
			assert.Contains(t, carriesOut(t, append([]string{"audit", "--repair", "--force"}, args...)...), test.want)
		})
	}
}

func TestBrokenManifestIsLeftByARepair(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir)
	push(t, layer(1<<20), 1, s)
	image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
		"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`, digest.FromBytes(layer(1<<20)), 1<<20)
	require.Equal(t, http.StatusCreated, s.do(t, http.MethodPut, "/v2/team/app/manifests/v1", strings.NewReader(image)).StatusCode)
	s.stop(t)
	loseObject(t, dir)
	found, left := auditFails(t, "--data="+dir, "--repair", "--force")
	assert.Contains(t, found, "2 findings, 1 repaired")
	assert.Contains(t, left, "has to be pushed again")
}

func TestSummaryTellsAllThatCounts(t *testing.T) {
	t.Parallel()
	all := gc.Stats{
		Contents: 1, Bytes: 1 << 20, Objects: 2, ObjectBytes: 2 << 20, Sessions: 3, Manifests: 4, Tags: 5, Evicted: 6, EvictedBytes: 7 << 20, Drained: 8, Failed: 9,
	}
	assert.Equal(t, "1 contents of 1MiB collected, 2 objects of 2MiB deleted, 3 uploads ended, 4 manifests and 5 tags deleted by policies, "+
		"6 manifests of upstreams with 7MiB evicted, 8 rows of deleted repositories deleted; 9 objects could not be deleted", summary(all, false))
	assert.Equal(t, "0 contents of 0B would be collected, 0 objects of 0B deleted, 0 uploads ended, 0 manifests and 500 tags deleted by policies, "+
		"6 manifests of upstreams with 7MiB evicted", summary(gc.Stats{Tags: 500, Evicted: 6, EvictedBytes: 7 << 20}, true))
}

func TestDryRunAsksTheIndexAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, "--data="+dir, "--gc=false")
	push(t, layer(1<<20), 1, s)
	s.stop(t)
	var asked atomic.Int64
	bucket := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(bucket.Close)
	index := "--database=sqlite:" + filepath.Join(dir, "index.sqlite")
	for name, args := range map[string][]string{
		"RefusesAll": {index, "--objects=s3://bucket?region=here&endpoint=" + bucket.URL},
		"NotNamed":   {index},
		"NoFolder":   {index, "--objects=file:/none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := carriesOut(t, append(append([]string{"gc", "--dry-run"}, soon...), args...)...)
			assert.Contains(t, told, "1 contents of 1MiB would be collected")
			assert.Zero(t, asked.Load())
		})
	}
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "objects")))
	assert.Contains(t, carriesOut(t, append([]string{"gc", "--dry-run", "--data=" + dir}, soon...)...), "1 contents of 1MiB would be collected")
}

func TestFindingOfAnAuditIsALine(t *testing.T) {
	t.Parallel()
	for want, finding := range map[string]gc.AuditFinding{
		"orphan blobs/x (9 bytes)":                     {Kind: gc.AuditOrphan, Key: "blobs/x", Size: 9},
		"size blobs/x sha256:1 (0 bytes, should be 9)": {Kind: gc.AuditWrongSize, Key: "blobs/x", Digest: "sha256:1", Want: 9},
		"missing blobs/x sha256:1 (9 bytes), repaired": {Kind: gc.AuditMissing, Key: "blobs/x", Digest: "sha256:1", Want: 9, Repaired: true},
		"unreadable blobs/x sha256:1 (9 bytes): why":   {Kind: gc.AuditUnreadable, Key: "blobs/x", Digest: "sha256:1", Want: 9, Reason: "why"},
		"unverified blobs/x sha384:1 (9 bytes)":        {Kind: gc.AuditUnverified, Key: "blobs/x", Digest: "sha384:1", Want: 9},
		"multipart blobs/x upload id":                  {Kind: gc.AuditMultipart, Key: "blobs/x", Multipart: "id"},
		"broken blobs/x sha256:1 team/app sha256:2":    {Kind: gc.AuditBroken, Key: "blobs/x", Digest: "sha256:1", Repository: "team/app", Manifest: "sha256:2"},
	} {
		assert.Equal(t, want, describe(finding))
	}
}

func TestCollectingWrongIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"NoIndex":      {[]string{"gc"}, "--data: there is no index at "},
		"AuditNothing": {[]string{"audit", "--repair"}, "--data: there is no index at "},
		"AuditNoFile":  {[]string{"audit", "--database=sqlite:/none", "--objects=s3://b"}, "--database: there is no index at /none: name what the servers have"},
		"NoObjects":    {[]string{"gc", "--objects=file:/none"}, "--objects: there is no folder of objects at /none"},
		"DeleteNoFile": {[]string{"delete-repository", "x"}, "--data: there is no index at "},
		"NoGrace":      {[]string{"gc", "--grace=0s"}, "--grace"},
		"NegativeTime": {[]string{"gc", "--delay=-1s"}, "--delay"},
		"LongURLs":     {[]string{"gc", "--delay=1h", "--redirect-expiry=1h"}, "--delay: must be longer than --redirect-expiry, 1h0m0s: "},
		"DefaultURLs":  {[]string{"gc", "--delay=15m"}, "say so with --redirect-expiry=0s"},
		"NegativeURLs": {[]string{"gc", "--redirect-expiry=-1s"}, "--redirect-expiry"},
		"Immutable":    {[]string{"gc", "--immutable-tags=v?"}, "--immutable-tags"},
		"Memory":       {[]string{"gc", "--database=memory:"}, "--objects"},
		"DryNoIndex":   {[]string{"gc", "--dry-run"}, "--data: there is no index at "},
		"DryNoFile":    {[]string{"gc", "--dry-run", "--database=sqlite:/none"}, "--database: there is no index at /none"},
		"DryMemory":    {[]string{"gc", "--dry-run", "--database=memory:"}, "--database: what is in another process's memory"},
		"DryObjects":   {[]string{"gc", "--dry-run", "--objects=s3:/bucket"}, "--objects: want file:DIR"},
		"DryGrace":     {[]string{"gc", "--dry-run", "--grace=0s"}, "--grace"},
		"AuditMemory":  {[]string{"audit", "--database=memory:"}, "--objects"},
		"AuditAlone":   {[]string{"audit", "--repair-unreadable"}, "--repair-unreadable: it goes with --repair"},
		"AuditAge":     {[]string{"audit", "--safe-age=-1s"}, "--safe-age"},
		"Database":     {[]string{"delete-repository", "x", "--database=mysql://h"}, "--database"},
		"DeleteMemory": {[]string{"delete-repository", "x", "--database=memory:"}, "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			dir := t.TempDir()
			require.NotZero(t, run(t.Context(), append(test.args, "--data="+dir), &stdout, &stderr))
			assert.Contains(t, stderr.String(), test.want)
			made, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, made, "what is refused makes nothing")
		})
	}
}
