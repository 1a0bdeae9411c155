package e2e_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
)

// link is an upstream's link: an answer leaves no faster.
type link struct {
	http.ResponseWriter
	bytesPerSecond int
	began          time.Time
	sent           int
}

func (l *link) Unwrap() http.ResponseWriter { return l.ResponseWriter }

func (l *link) Write(p []byte) (int, error) {
	if l.sent == 0 {
		l.began = time.Now()
	}
	l.sent += len(p)
	due := time.Duration(float64(l.sent) / float64(l.bytesPerSecond) * float64(time.Second))
	time.Sleep(due - time.Since(l.began))
	return l.ResponseWriter.Write(p)
}

// BenchmarkPullThrough pulls a blob from an upstream directly, through ocikit and through distribution when they do not have it, and
// from ocikit when it has: what it pulled through before, and what was pushed to it. One upstream has a link of a gigabit, as between
// sites, and one is on this machine and as fast as that goes.
func BenchmarkPullThrough(b *testing.B) {
	for name, rate := range map[string]int{"gigabit": 125_000_000, "loopback": 0} {
		b.Run(name, func(b *testing.B) { benchmarkPullThrough(b, rate) })
	}
}

func benchmarkPullThrough(b *testing.B, rate int) {
	const size = 128 << 20
	origin := servertest.Start(b, "--database=memory:", "--log-level=warn")
	upstream := origin.URL()
	if rate > 0 {
		target, err := url.Parse(upstream)
		require.NoError(b, err)
		proxy := httputil.NewSingleHostReverseProxy(target)
		slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			proxy.ServeHTTP(&link{ResponseWriter: w, bytesPerSecond: rate}, r)
		}))
		b.Cleanup(slow.Close)
		upstream = slow.URL
	}
	ours := servertest.Start(b, "--data", b.TempDir(), "--upstream", "hub="+upstream, "--log-level=warn")
	theirs := startDistributionProxy(b, upstream)
	data := randomBytes(rand.New(rand.NewPCG(6, 6)), size)
	client, elsewhere := newPushClient(ours.URL()), newPushClient(origin.URL())
	type timing struct{ whole, first []time.Duration }
	timings := map[string]*timing{}
	pull := func(what, url string, d digest.Digest, size int64) {
		whole, first := pullBlob(b, url+"/blobs/"+d.String(), d, size)
		t := timings[what]
		if t == nil {
			t = &timing{}
			timings[what] = t
		}
		t.whole, t.first = append(t.whole, whole), append(t.first, first)
	}
	for round := 0; b.Loop(); round++ {
		copy(data, fmt.Sprintf("round %d of %d", round, rate))
		d := digest.FromBytes(data)
		require.NoError(b, elsewhere.putBlob(b.Context(), "library/app", d, bytes.NewReader(data), size))
		cold := []func(){
			func() { pull("direct", upstream+"/v2/library/app", d, size) },
			func() { pull("cold", ours.URL()+"/v2/hub/library/app", d, size) },
			func() { pull("distribution-cold", theirs+"/v2/library/app", d, size) },
		}
		for i := range cold { // who is first goes round
			cold[(i+round)%len(cold)]()
		}
		// Meanwhile what was pulled through is kept.
		require.NoError(b, client.putBlob(b.Context(), "team/app", digest.FromBytes(data[1:]), bytes.NewReader(data[1:]), size-1))
		here := []func(){
			func() { pull("warm", ours.URL()+"/v2/hub/library/app", d, size) },
			func() { pull("local", ours.URL()+"/v2/team/app", digest.FromBytes(data[1:]), size-1) },
		}
		for i := range here {
			here[(i+round)%len(here)]()
		}
	}
	for what, t := range timings {
		slices.Sort(t.whole)
		slices.Sort(t.first)
		b.ReportMetric(size/1e6/t.whole[len(t.whole)/2].Seconds(), what+"-MB/s")
		b.ReportMetric(float64(t.first[len(t.first)/2].Microseconds())/1000, what+"-first-byte-ms")
	}
}

// pullBlob pulls a blob and returns when all of it, and its first byte, had come.
func pullBlob(b *testing.B, url string, d digest.Digest, size int64) (whole, first time.Duration) {
	b.Helper()
	began := time.Now()
	resp, err := http.Get(url)
	require.NoError(b, err)
	defer resp.Body.Close()
	require.Equal(b, http.StatusOK, resp.StatusCode, url)
	var one [1]byte
	_, err = io.ReadFull(resp.Body, one[:])
	require.NoError(b, err)
	first = time.Since(began)
	n, err := io.Copy(io.Discard, resp.Body)
	require.NoError(b, err)
	whole = time.Since(began)
	require.Equal(b, size, n+1, "%s", d)
	return whole, first
}

// startDistributionProxy runs distribution as a proxy of an upstream, and returns its URL.
func startDistributionProxy(b *testing.B, upstream string) string {
	b.Helper()
	program := tooltest.Require(b, "registry")
	address := tooltest.FreeAddress(b)
	file := filepath.Join(b.TempDir(), "config.yml")
	require.NoError(b, os.WriteFile(file, []byte(fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %q}
proxy: {remoteurl: %q}
`, b.TempDir(), address, upstream)), 0o600))
	cmd := exec.Command(program, "serve", file)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	process := tooltest.StartProcess(b, cmd)
	process.AwaitReady(b, func() error {
		resp, err := http.Get("http://" + address + "/v2/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return "http://" + address
}
