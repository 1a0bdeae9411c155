package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// short are the flags of a run of some milliseconds.
func short(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{
		"--raw", filepath.Join(t.TempDir(), "raw"), "--rounds", "2", "--duration", "5ms", "--clients", "3", "--large", "5MiB",
		"--images", "20", "--layer-size", "1KiB", "--tags", "25", "--page", "10", "--settle=false",
	}, more...)
}

func TestRunMeasuresEveryLineOnEveryPeer(t *testing.T) {
	t.Parallel()
	first, one := newTiny(t, false)
	_, two := newTiny(t, true)
	arguments := short(t, "--base", "two", "one="+one.URL, "two="+two.URL)
	raw := arguments[1]

	var output, log bytes.Buffer
	require.NoError(t, run(t.Context(), arguments, &output, &log), log.String())

	file, err := os.Open(raw)
	require.NoError(t, err)
	defer file.Close()
	head, samples, err := readRaw(file)
	require.NoError(t, err)
	assert.Equal(t, []string{"one", "two"}, head.Peers)
	counts := map[string]int{}
	for _, s := range samples {
		counts[s.Line+" "+s.Peer]++
		assert.Positive(t, s.Value, "value of %s on %s", s.Line, s.Peer)
	}
	for _, d := range definitions() {
		for _, l := range d.lines {
			assert.Equal(t, 2, counts[l.Key+" one"], "rounds of %s on peer one", l.Key)
			assert.Equal(t, 2, counts[l.Key+" two"], "rounds of %s on peer two", l.Key)
			assert.Contains(t, output.String(), "| "+l.Title)
		}
	}
	assert.Contains(t, output.String(), "| two against | one |")

	repositories := map[string]bool{}
	for name := range first.manifests {
		repository, _, _ := strings.Cut(name, " ")
		repositories[repository[strings.LastIndexByte(repository, '/')+1:]] = true
	}
	for _, want := range []string{"images-0", "images-1", "images-2", "tag-page", "tag-push", "manifest-get"} {
		assert.True(t, repositories[want], "expected manifests in the repository %s", want)
	}

	var again bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"--report", raw, "--base", "two"}, &again, &log))
	assert.Equal(t, output.String(), again.String(), "the raw results say what the run printed")
}

func TestRunMeasuresOnlyWhatIsChosen(t *testing.T) {
	t.Parallel()
	r, server := newTiny(t, false)
	var output, log bytes.Buffer
	require.NoError(t, run(t.Context(), short(t, "--only", "large-push", "one="+server.URL), &output, &log), log.String())
	assert.Contains(t, output.String(), "push of a large blob")
	assert.NotContains(t, output.String(), "tags")
	assert.Len(t, r.blobs, 3, "one blob in each of two rounds and in the one that warms up: none is pushed twice")
}

func TestRunEndsAtAnAnswerThatIsWrong(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path != "/v2/" {
			http.Error(w, "the disk is full", http.StatusInsufficientStorage)
			return
		}
	}))
	defer server.Close()
	var output, log bytes.Buffer
	err := run(t.Context(), short(t, "--only", "large-push", "broken="+server.URL), &output, &log)
	require.ErrorContains(t, err, "measure large-push on broken: POST /v2/bench-")
	require.ErrorContains(t, err, "expected status 202, got 507: the disk is full")
	assert.Empty(t, output.String(), "expected no table of a run that failed")
}

func TestRunTellsWhyAPeerDoesNotStart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var output, log bytes.Buffer
	err := run(t.Context(), short(t, "--data", folder, "--start", "bad=sh -c 'echo no room at {port}; exit 3'"), &output, &log)
	require.ErrorContains(t, err, "start bad: it ended: exit status 3")
	require.ErrorContains(t, err, "no room at ")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left, "expected the peer's folder to be removed")
}

func TestPeersOnBackendsAskForThem(t *testing.T) {
	t.Parallel()
	var onlyS3 backends
	require.NoError(t, onlyS3.setS3("http://key:secret@127.0.0.1:9000/bucket"))
	for _, c := range []struct {
		kind     string
		backends backends
		want     string
	}{
		{"distribution-s3", backends{}, "--s3"},
		{"ocikit-s3", backends{}, "--s3"},
		{"ocikit-s3", onlyS3, "--postgres"},
	} {
		_, err := kind(c.kind, nil, &c.backends)
		require.ErrorContains(t, err, "name a server for it with "+c.want)
	}
	_, err := (&backends{}).bare()
	require.ErrorContains(t, err, "name a server for it with --s3")
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arguments string
		want      string
	}{
		{"", "nothing to measure"},
		{"--peer harbour", "expected one of bare-s3, crane, crane-disk, distribution"},
		{"--peer ocikit-s3 --s3 http://127.0.0.1:9000/bucket", "want http://KEY:SECRET@HOST:PORT/BUCKET"},
		{"--peer ocikit-s3 --postgres 127.0.0.1:5432", "want postgres://USER@HOST:PORT/DATABASE"},
		{"--start ocikit", "expected name=command"},
		{"http://localhost:5000", "expected name=URL"},
		{"one=localhost:5000", "expected an http:// address"},
		{"one=https://localhost:5000", "expected an http:// address"},
		{"one=http://localhost:5000,pid=x", "expected a process id"},
		{"--only tags one=http://localhost:5000", `measure "tags" is not known`},
		{"--large 0 one=http://localhost:5000", "is not a size"},
		{"--large 9999999999GiB one=http://localhost:5000", "is not a size"},
		{"--layer-size 15 one=http://localhost:5000", "a layer between 16 bytes"},
		{"--rounds 0 one=http://localhost:5000", "have to be positive"},
	} {
		t.Run(c.arguments, func(t *testing.T) {
			t.Parallel()
			var output bytes.Buffer
			_, err := parse(strings.Fields(c.arguments), &output)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestConfigurationIsFilledIn(t *testing.T) {
	t.Parallel()
	var backends backends
	require.NoError(t, backends.setS3("http://key:secret@127.0.0.1:9000/bucket"))
	require.NoError(t, backends.setPostgres("postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable"))
	for name, l := range kinds() {
		p := &peer{folder: t.TempDir(), ended: make(chan struct{})}
		p.output = filepath.Join(p.folder, "output")
		l.backends, l.first = &backends, nil
		l.arguments = append([]string{"/bin/echo"}, l.arguments[1:]...)
		l.silent = false
		require.NoError(t, p.run(t.Context(), l, 4321), name)
		<-p.ended
		config, err := os.ReadFile(filepath.Join(p.folder, "config"))
		require.NoError(t, err)
		all := string(config) + p.tail()
		assert.Contains(t, all, "127.0.0.1:4321", "%s listens on the port that was chosen", name)
		assert.NotContains(t, all, "{", "%s: expected all placeholders to be replaced", name)
	}
}
