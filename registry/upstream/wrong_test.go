package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

// impatient has everything given up soon.
func impatient(options *upstream.Options) {
	options.AnswerTimeout, options.ConfirmTimeout, options.IdleTimeout = 3*time.Second, 3*time.Second, 3*time.Second
	options.MissingAge = -1
}

// wrongs are what an upstream can do to an answer, given the bytes that it should have sent.
var wrongs = map[string]func(w http.ResponseWriter, r *http.Request, data []byte){
	"cut in the middle": func(w http.ResponseWriter, _ *http.Request, data []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		panic(http.ErrAbortHandler)
	},
	"wrong bytes": func(w http.ResponseWriter, _ *http.Request, data []byte) {
		_, _ = w.Write(append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1))
	},
	"too short": func(w http.ResponseWriter, _ *http.Request, data []byte) { _, _ = w.Write(data[:len(data)-1]) },
	"too long": func(w http.ResponseWriter, _ *http.Request, data []byte) {
		_, _ = w.Write(append(bytes.Clone(data), 'x'))
	},
	"empty": func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusOK) },
	"stalled": func(w http.ResponseWriter, r *http.Request, data []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:len(data)/2])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	},
	"endless": func(w http.ResponseWriter, r *http.Request, _ []byte) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	},
	"silent":       func(_ http.ResponseWriter, r *http.Request, _ []byte) { <-r.Context().Done() },
	"401":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusUnauthorized) },
	"403":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusForbidden) },
	"404":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusNotFound) },
	"500":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusInternalServerError) },
	"418":          func(w http.ResponseWriter, _ *http.Request, _ []byte) { w.WriteHeader(http.StatusTeapot) },
	"garbage JSON": func(w http.ResponseWriter, _ *http.Request, _ []byte) { _, _ = io.WriteString(w, `{"errors":[{`) },
	"a portal": func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>log in first</html>")
	},
	"another's part": func(w http.ResponseWriter, _ *http.Request, data []byte) {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 5-%d/%d", len(data)-1, len(data)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(data[5:])
	},
	"a loop": func(w http.ResponseWriter, r *http.Request, _ []byte) {
		http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
	},
	"hung up": func(http.ResponseWriter, *http.Request, []byte) { panic(http.ErrAbortHandler) },
}

func TestNothingWrongIsServedOrKeptAndTheNextTryWorks(t *testing.T) {
	t.Parallel()
	for name, answer := range wrongs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL, impatient)
			i := o.push(t, "v1", content("layer", 1<<20))
			url := m.serve(t) + "/v2/" + repository
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				data := i.layer
				if strings.Contains(r.URL.Path, "manifests") {
					data = i.Bytes
				}
				answer(w, r, data)
				return true
			})
			for path, d := range map[string]digest.Digest{
				"/blobs/" + i.layerDigest().String(): i.layerDigest(), "/manifests/" + i.digest.String(): i.digest, "/manifests/v1": i.digest,
			} {
				status, body, _, err := get(t, url+path)
				switch {
				case status == http.StatusOK && err == nil:
					assert.Equal(t, d, digest.FromBytes(body), "%s: what is served is right", path)
				case status != http.StatusOK:
					assert.NoError(t, err)
					assert.Contains(t, string(body), `"errors"`, "%s: %d", path, status)
					assert.GreaterOrEqual(t, status, 400)
					assert.NotContains(t, string(body), o.URL, "no internals")
				}
			}
			o.answers(nil)
			eventually(t, "the next try works", func() bool {
				status, body, _, err := get(t, url+"/blobs/"+i.layerDigest().String())
				return err == nil && status == http.StatusOK && digest.FromBytes(body) == i.layerDigest()
			})
			got, err := m.tag(t, "v1")
			require.NoError(t, err)
			require.Equal(t, i.digest, got.Digest)
		})
	}
}

func TestClientOfAWrongBlobSeesABrokenTransfer(t *testing.T) {
	t.Parallel()
	for name, spooled := range map[string]bool{"spooled": true, "passed on": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			m := newMirror(t, o.URL, impatient, func(options *upstream.Options) {
				if !spooled {
					var err error
					options.Spool, err = upstream.NewSpool(t.TempDir(), 1)
					require.NoError(t, err)
				}
			})
			i := o.push(t, "v1", content("layer", 1<<20))
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Content-Length", strconv.Itoa(len(i.layer)))
				wrongs["wrong bytes"](w, r, i.layer)
				return true
			})
			status, body, _, err := get(t, m.serve(t)+"/v2/"+repository+"/blobs/"+i.layerDigest().String())
			if status == http.StatusOK { // else it was known to be wrong before anything was sent
				require.Error(t, err, "it breaks off before its end")
				require.Less(t, len(body), len(i.layer))
			} else {
				require.Equal(t, http.StatusServiceUnavailable, status)
			}
			require.False(t, m.isKept(t, i.layerDigest()))
		})
	}
}

func TestWaitingClientsAllHearOfAFailure(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, impatient)
	i := o.push(t, "v1", content("layer", 1<<20))
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		wrongs["stalled"](w, r, i.layer)
		return true
	})
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() {
			_, err := m.pull(t, i.layerDigest())
			errs <- err
		}()
	}
	for range cap(errs) {
		require.Error(t, <-errs)
	}
}

func TestWhoWaitsForABlobThatIsNotSpooledSharesItsFailure(t *testing.T) {
	t.Parallel()
	const clients = 20
	for _, name := range []string{"wrong bytes", "too short"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			_, none := spoolOf(t, 1)
			m := newMirror(t, o.URL, none, func(options *upstream.Options) { options.MissingAge = -1 })
			i := o.push(t, "v1", content("layer", 1<<20))
			var failed sync.WaitGroup
			opened := make(chan struct{})
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusTeapot)
					return true
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(i.layer)))
				_ = http.NewResponseController(w).Flush()
				<-opened
				wrongs[name](w, r, i.layer)
				return true
			})
			blob, err := m.Blob(t.Context(), repository, i.layerDigest())
			require.NoError(t, err)
			for range clients {
				late, err := m.Blob(t.Context(), repository, i.layerDigest())
				require.NoError(t, err)
				failed.Go(func() {
					_, err := readAll(t, late)
					assert.ErrorIs(t, err, registry.ErrUnavailable)
				})
			}
			close(opened)
			_, err = readAll(t, blob)
			require.Error(t, err)
			failed.Wait()
			require.Less(t, o.asked("GET", i.layerDigest().Encoded()), clients/2, "one transfer, and some that are to go on with it")
		})
	}
}

func TestBlobsThatAreTooLargeAreRefused(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	m := newMirror(t, o.URL, func(options *upstream.Options) { options.MaxBlob = 1000 })
	i := o.push(t, "v1", content("layer", 1001))
	_, err := m.pull(t, i.layerDigest())
	require.ErrorIs(t, err, registry.ErrTooLarge)
	_, err = m.pull(t, digest.FromBytes(i.config))
	require.NoError(t, err)
}

// FuzzUpstream lets an upstream answer as the input says: each pair of bytes is one answer's kind, and where it goes wrong.
func FuzzUpstream(f *testing.F) {
	kinds := []string{"right"}
	for name := range wrongs {
		if name != "silent" && name != "stalled" && name != "endless" { // these only take time
			kinds = append(kinds, name)
		}
	}
	for i := range kinds {
		f.Add([]byte{byte(i), 3, 0, 0})
		f.Add([]byte{byte(i), 9, byte(i + 1), 200, 0, 0})
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 64 {
			return
		}
		o := newOrigin(t)
		m := newMirror(t, o.URL, impatient, always)
		i := o.push(t, "v1", content("layer", 100_000))
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			o.mu.Lock()
			if len(script) < 2 {
				o.mu.Unlock()
				return false
			}
			kind, at := kinds[int(script[0])%len(kinds)], int(script[1])
			script = script[2:]
			o.mu.Unlock()
			data := i.layer
			if strings.Contains(r.URL.Path, "manifests") {
				data = i.Bytes
			}
			switch {
			case kind == "right" && at%2 == 0:
				return false
			case kind == "right": // cut, or changed, anywhere
				w.Header().Set("Content-Length", strconv.Itoa(len(data)))
				where := len(data) * at / 256
				_, _ = w.Write(data[:where])
				_, _ = w.Write(bytes.Repeat([]byte{byte(at)}, min(at%16, len(data)-where)))
				panic(http.ErrAbortHandler)
			}
			wrongs[kind](w, r, data)
			return true
		})
		for range 3 {
			if data, err := m.pull(t, i.layerDigest()); err == nil && digest.FromBytes(data) != i.layerDigest() {
				t.Error("a wrong blob was served")
			}
			if got, err := m.tag(t, "v1"); err == nil && digest.FromBytes(got.Bytes) != got.Digest {
				t.Error("a manifest was served that is not what it is called")
			}
			if got, err := m.Manifest(t.Context(), repository, registry.Reference{Digest: i.digest}); err == nil && !bytes.Equal(got.Bytes, i.Bytes) {
				t.Error("a wrong manifest was served")
			}
		}
		o.answers(nil)
		if data, err := m.pull(t, i.layerDigest()); err != nil || digest.FromBytes(data) != i.layerDigest() {
			t.Errorf("the next try does not work: %v", err)
		}
	})
}
