package upstream_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

// elsewhere is a server that an upstream leads to, and what it was sent.
type elsewhere struct {
	*httptest.Server
	mu      sync.Mutex
	headers []http.Header
}

func newElsewhere(t testing.TB, answer http.HandlerFunc) *elsewhere {
	t.Helper()
	e := &elsewhere{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.mu.Lock()
		e.headers = append(e.headers, r.Header.Clone())
		e.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *elsewhere) received() []http.Header {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.headers
}

func loopback(options *upstream.Options) {
	options.Internal = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

func TestRedirectsReachInternalAddressesOnlyIfThatIsAllowed(t *testing.T) {
	t.Parallel()
	for name, lead := range map[string]func(address string) string{
		"address": func(address string) string { return address },
		"name":    func(address string) string { return strings.Replace(address, "127.0.0.1", "localhost", 1) },
		"mapped":  func(address string) string { return strings.Replace(address, "127.0.0.1", "[::ffff:127.0.0.1]", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			i := o.push(t, "v1", content("layer", 1000))
			internal := newElsewhere(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(i.layer) })
			o.answers(func(w http.ResponseWriter, r *http.Request) bool {
				assert.Equal(t, "ours", r.Header.Get("X-Key"))
				http.Redirect(w, r, lead(internal.URL)+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			})
			key := func(options *upstream.Options) { options.Header = http.Header{"X-Key": {"ours"}} }
			m := newMirror(t, o.URL, key)
			_, err := m.pull(t, i.layerDigest())
			require.ErrorIs(t, err, registry.ErrDenied)
			_, err = m.tag(t, "v1")
			require.ErrorIs(t, err, registry.ErrDenied)
			require.Empty(t, internal.received())

			allowed := newMirror(t, o.URL, key, loopback, func(options *upstream.Options) {
				options.Credential = func(context.Context, string) (upstream.Credential, error) {
					return upstream.Credential{Username: "me", Password: "secret"}, nil
				}
			})
			allowed.mustPull(t, i.layerDigest())
			require.NotEmpty(t, internal.received())
			for _, header := range internal.received() {
				require.Empty(t, header.Get("Authorization"))
				require.Empty(t, header.Get("X-Key"))
			}
		})
	}
}

func TestAddressesInOldFormsAreNone(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", content("layer", 1000))
	_, port, _ := strings.Cut(strings.TrimPrefix(o.URL, "http://"), ":")
	for _, host := range []string{"127.1", "2130706433", "0x7f.1", "127.0.0.1.", "0x7f000001"} {
		o.answers(func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://"+host+":"+port+"/elsewhere", http.StatusTemporaryRedirect)
			return true
		})
		_, err := newMirror(t, o.URL).pull(t, i.layerDigest())
		require.ErrorIs(t, err, registry.ErrDenied, host)
		require.Zero(t, o.asked("elsewhere"), host)
	}
}

func TestTLSIsNotGivenUpByARedirect(t *testing.T) {
	t.Parallel()
	plain := newOrigin(t)
	i := plain.push(t, "v1", content("layer", 1000))
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(secure.Close)
	m := newMirror(t, secure.URL, loopback, func(options *upstream.Options) {
		options.TLS = secure.Client().Transport.(*http.Transport).TLSClientConfig
	})
	_, err := m.pull(t, i.layerDigest())
	require.ErrorIs(t, err, registry.ErrDenied)
	require.Zero(t, plain.asked("/"))
}

// tokenServer gives a token to whoever has the password, and takes note of scopes.
func tokenServer(t testing.TB, scopes *sync.Map) *elsewhere {
	t.Helper()
	return newElsewhere(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		for _, scope := range r.URL.Query()["scope"] {
			scopes.Store(scope, true)
		}
		_, _ = w.Write([]byte(`{"token":"good","expires_in":60}`))
	})
}

// wantsToken has the origin ask for a token of a realm.
func (o *origin) wantsToken(realm string) {
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer good" {
			return false
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="`+realm+`/token",service="origin",scope="repository:`+repository+`:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

func TestTokensComeFromRealmsThatMayBeReached(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", content("layer", 1000))
	var scopes sync.Map
	realm := tokenServer(t, &scopes)
	o.wantsToken(realm.URL)
	login := func(options *upstream.Options) {
		options.Credential = func(_ context.Context, host string) (upstream.Credential, error) {
			assert.Equal(t, strings.TrimPrefix(o.URL, "http://"), host)
			return upstream.Credential{Username: "me", Password: "secret"}, nil
		}
	}
	_, err := newMirror(t, o.URL, login).pull(t, i.layerDigest())
	require.ErrorIs(t, err, registry.ErrDenied)
	_, err = newMirror(t, o.URL, login, loopback).pull(t, i.layerDigest())
	require.ErrorIs(t, err, registry.ErrDenied, "a password is not sent to another host without TLS")
	require.Empty(t, realm.received())

	o.answers(func(w http.ResponseWriter, r *http.Request) bool { // a realm of the upstream's own
		switch {
		case r.URL.Path == "/token":
			realm.Config.Handler.ServeHTTP(w, r)
		case r.Header.Get("Authorization") == "Bearer good":
			return false
		default:
			w.Header().Set("Www-Authenticate", `Bearer realm="`+o.URL+`/token",service="origin"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
		return true
	})
	m := newMirror(t, o.URL, login)
	m.mustPull(t, i.layerDigest())
	_, err = m.tag(t, "v1")
	require.NoError(t, err)
	_, ok := scopes.Load("repository:" + repository + ":pull")
	require.True(t, ok)
	require.Equal(t, 1, o.asked("/token"), "a token is used again")
}

func TestBasicCredentialsComeFromDockersFile(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", content("layer", 1000))
	o.answers(func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, _ := r.BasicAuth(); user == "me" && password == "secret" {
			return false
		}
		w.Header().Set("Www-Authenticate", `Basic realm="origin"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	file := filepath.Join(t.TempDir(), "config.json")
	host := strings.TrimPrefix(o.URL, "http://")
	auth := base64.StdEncoding.EncodeToString([]byte("me:secret"))
	require.NoError(t, os.WriteFile(file, []byte(`{"auths":{"`+host+`":{"auth":"`+auth+`"}}}`), 0o600))
	get, err := upstream.LoadCredentials(file)
	require.NoError(t, err)
	newMirror(t, o.URL, func(options *upstream.Options) { options.Credential = get }).mustPull(t, i.layerDigest())
	_, err = newMirror(t, o.URL).pull(t, i.layerDigest())
	require.ErrorIs(t, err, registry.ErrDenied, "without a login")

	_, err = upstream.LoadCredentials(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte(`{"auths":`), 0o600))
	_, err = upstream.LoadCredentials(file)
	require.Error(t, err)
}

func TestTokensComeFromRealmsOnOtherHosts(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", content("layer", 1000))
	var asked sync.Map
	realm := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked.Store(user+":"+password+" for "+r.URL.Query().Get("scope")+" of "+r.URL.Query().Get("service"), true)
		_, _ = w.Write([]byte(`{"token":"good","expires_in":60}`))
	}))
	t.Cleanup(realm.Close)
	o.wantsToken(realm.URL)
	front := httptest.NewTLSServer(o.Config.Handler)
	t.Cleanup(front.Close)
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())
	roots.AddCert(realm.Certificate())
	m := newMirror(t, front.URL, loopback, func(options *upstream.Options) {
		options.TLS = &tls.Config{RootCAs: roots}
		options.Credential = func(context.Context, string) (upstream.Credential, error) {
			return upstream.Credential{Username: "me", Password: "secret"}, nil
		}
	})
	m.mustPull(t, i.layerDigest())
	_, err := m.tag(t, "v1")
	require.NoError(t, err)
	_, ok := asked.Load("me:secret for repository:" + repository + ":pull of origin")
	require.True(t, ok, "the login goes to a realm over TLS, as with Docker Hub")
}

func TestRequestsGoThroughAProxy(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	i := o.push(t, "v1", content("layer", 1000))
	proxied := newElsewhere(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "registry.example.com", r.URL.Host)
		assert.Equal(t, "mirror/1", r.UserAgent())
		assert.Equal(t, "1.1 us", r.Header.Get("Via"))
		o.Config.Handler.ServeHTTP(w, r)
	})
	proxy, err := url.Parse(proxied.URL)
	require.NoError(t, err)
	m := newMirror(t, "http://registry.example.com", func(options *upstream.Options) {
		options.Proxy = http.ProxyURL(proxy)
		options.UserAgent = "mirror/1"
		options.Header = http.Header{"via": {"1.1 us"}}
	})
	m.mustPull(t, i.layerDigest())
	require.NotEmpty(t, proxied.received())
}
