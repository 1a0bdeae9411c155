package main

import (
	"bytes"
	"database/sql"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/faulttest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

// audited is a bucket with two blobs, behind a proxy, and their index.
type audited struct {
	proxy  *faulttest.HTTP
	server *server
	env    []string
	stores []string // flags
	blobs  [2]string
	keys   []store.StoredContent
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	bucket, index := backendtest.MinIO(t), filepath.Join(t.TempDir(), "index.sqlite")
	a := &audited{proxy: faulttest.NewHTTP(t, bucket.Endpoint()), env: credentialsOf(bucket)}
	a.stores = []string{"--database=sqlite:" + index, "--objects=" + bucketURL(t, bucket, a.proxy.URL(), "prefix=a/registry")}
	a.server = startProgram(t, a.env, append(a.stores, "--gc=false")...)
	for i := range a.blobs {
		a.blobs[i] = push(t, layer((i+1)<<20), 1, a.server)
	}
	meta, err := sqlite.Open(index, nil)
	require.NoError(t, err)
	defer meta.Close()
	a.keys, err = meta.StoredContents(t.Context(), "", 10)
	require.NoError(t, err)
	require.Len(t, a.keys, 2)
	return a
}

// audit runs the program.
func (a *audited) audit(t *testing.T, flags ...string) (stdout, stderr string, status int) {
	t.Helper()
	return ended(t, a.env, append(append([]string{"audit"}, flags...), a.stores...)...)
}

// reads reports whether a request is for an object.
func reads(r *http.Request, key store.Key) bool {
	return faulttest.OperationOf(r) == faulttest.GetObject && strings.HasSuffix(r.URL.Path, string(key))
}

var slowDown = faulttest.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDownRead"}

func TestAuditOfABucketGoesPastWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	a := newAudited(t)
	a.proxy.Intercept(func(r *http.Request) faulttest.Fault {
		if reads(r, a.keys[0].Key) {
			return slowDown
		}
		return faulttest.Fault{}
	})
	told, left, status := a.audit(t, "--deep")
	require.Equal(t, 1, status)
	assert.Regexp(t, "^unreadable "+string(a.keys[0].Key)+" "+a.keys[0].Digest.String()+` \(.* bytes\): .*SlowDownRead.*\n`, told)
	assert.Contains(t, told, "2 objects of 3MiB and 2 contents compared, 1 findings, 0 repaired\n")
	assert.Contains(t, left, "1 of 1 findings are not repaired")
	_, left, status = a.audit(t, "--deep", "--repair")
	require.Equal(t, 1, status)
	assert.Contains(t, left, "--repair-unreadable")

	path := "/v2/team/app/blobs/" + a.keys[0].Digest.String()
	require.Equal(t, http.StatusOK, a.server.do(t, http.MethodHead, path, nil).StatusCode)
	told, left, status = a.audit(t, "--deep", "--repair", "--repair-unreadable")
	require.Zero(t, status, left)
	assert.Contains(t, told, ", repaired\n")
	require.Equal(t, http.StatusNotFound, a.server.do(t, http.MethodHead, path, nil).StatusCode, "clients are told to push it again")
	a.server.stop(t)
}

func TestAuditThatEndsEarlySaysWhereToGoOn(t *testing.T) {
	t.Parallel()
	a := newAudited(t)
	for i, want := range []string{"; no object has been looked at to its end: begin again, without --after\n", "; go on with --after " + string(a.keys[0].Key) + "\n"} {
		for _, flags := range [][]string{{"--deep"}, {"--deep", "--json"}} {
			var down atomic.Bool
			a.proxy.Intercept(func(r *http.Request) faulttest.Fault {
				if reads(r, a.keys[i].Key) || down.Load() {
					down.Store(true)
					return slowDown
				}
				return faulttest.Fault{}
			})
			told, left, status := a.audit(t, flags...)
			require.Equal(t, 1, status)
			assert.True(t, strings.HasSuffix(left, want), left)
			if i == 1 && len(flags) == 2 {
				assert.Contains(t, told, `"next":"`+string(a.keys[0].Key)+`","done":false}`)
			}
			a.proxy.Intercept(nil)
		}
	}
	told, _, status := a.audit(t, "--deep", "--after", string(a.keys[0].Key))
	require.Zero(t, status)
	assert.Contains(t, told, "1 objects of ")
	a.server.stop(t)
}

func TestAuditWithoutRepairChangesNothing(t *testing.T) {
	t.Parallel()
	t.Run("Bucket", func(t *testing.T) {
		t.Parallel()
		a := newAudited(t)
		a.server.stop(t)
		denied := faulttest.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}
		a.proxy.ResetCounts()
		a.proxy.Intercept(func(r *http.Request) faulttest.Fault {
			if r.Method != http.MethodGet {
				return denied
			}
			return faulttest.Fault{}
		})
		told, _, status := a.audit(t, "--deep")
		require.Zero(t, status, "credentials that may read and list are enough")
		assert.Contains(t, told, "2 contents compared, 0 findings")
		for operation := range a.proxy.Counts() {
			assert.Contains(t, []faulttest.Operation{faulttest.GetObject, faulttest.ListObjectsV2, faulttest.ListMultipartUploads}, operation)
		}
		_, left, status := a.audit(t, "--repair")
		require.Equal(t, 1, status)
		assert.Contains(t, left, "s3:PutObject", "what will be changed is tried first")
		a.proxy.Intercept(faulttest.Every(denied, faulttest.ListObjectsV2))
		_, left, status = a.audit(t)
		require.Equal(t, 1, status)
		assert.Contains(t, left, "s3:ListBucket")
	})
	t.Run("OlderIndex", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		s := start(t, "--data="+dir)
		s.stop(t)
		index := filepath.Join(dir, "index.sqlite")
		db, err := sql.Open("sqlite", index)
		require.NoError(t, err)
		_, err = db.ExecContext(t.Context(), `delete from goose_db_version where version_id = (select max(version_id) from goose_db_version)`)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		for _, command := range [][]string{{"audit"}, {"gc", "--dry-run"}} {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 1, run(t.Context(), append(command, "--data="+dir), &stdout, &stderr), "%v", command)
			assert.Contains(t, stderr.String(), "database is of an earlier version")
			assert.Contains(t, stderr.String(), "a server of this version brings it up to date")
		}
	})
}
