package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

// configFileOf writes a file for --config.
func configFileOf(t *testing.T, lines ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ocikit.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600))
	return file
}

func TestMistakesInTheConfigurationFileAreToldWithTheirKeys(t *testing.T) {
	t.Parallel()
	const hub = "upstreams: {hub: {url: https://registry.example.com}}"
	for name, test := range map[string]struct {
		lines []string
		want  string
	}{
		"flag":            {[]string{"listne: x"}, "listne: there is no such flag"},
		"flag's value":    {[]string{"max-blob: many"}, "want a size such as 64MiB"},
		"no YAML":         {[]string{"a: b: c"}, "want YAML"},
		"key":             {[]string{"upstreams: {hub: {url: x, tagage: 1s}}"}, "upstreams.hub.tagage: there is no such key"},
		"duration":        {[]string{"upstreams: {hub: {url: x, tag-age: 1}}"}, "upstreams.hub.tag-age: want a duration such as 90s"},
		"negative":        {[]string{"upstreams: {hub: {url: x, tag-age: -1s}}"}, "upstreams.hub.tag-age: -1s is too short"},
		"zero":            {[]string{"upstreams: {hub: {url: x, idle-timeout: 0s}}"}, "upstreams.hub.idle-timeout: 0s is too short"},
		"kind":            {[]string{"upstreams: {hub: {url: [x]}}"}, "upstreams.hub.url: a value of another kind"},
		"upstreams":       {[]string{"upstreams: [x]"}, "upstreams: want names"},
		"upstream":        {[]string{"upstreams: {hub: x}"}, "upstreams.hub: want keys"},
		"upstream twice":  {[]string{"upstreams:", "  hub: {url: x}", "  hub: {url: y}"}, `upstreams: mapping key "hub" already defined at line 2`},
		"key twice":       {[]string{"upstreams:", "  hub: {url: x, url: y}"}, `upstreams.hub: mapping key "url" already defined at line 2`},
		"route's key":     {[]string{hub, "routes: [{to: [hub], to: [hub]}]"}, `routes[0]: mapping key "to" already defined at line 2`},
		"route":           {[]string{hub, "routes: [hub]"}, "routes[0]: want keys and values"},
		"alias":           {[]string{"upstreams: {a: {url: x, namespace: &n name}, b: {url: y, tag-age: *n}}"}, "upstreams.b.tag-age: want a duration"},
		"endless alias":   {[]string{"upstreams: {a: {allow: &l [x, *l]}}"}, "upstreams.a.allow: "},
		"name":            {[]string{"upstreams: {Hub: {url: x}}"}, "upstreams.Hub: want a name"},
		"local":           {[]string{"upstreams: {local: {url: x}}"}, "upstreams.local: want a name"},
		"url":             {[]string{"upstreams: {hub: {url: 'ftp://x'}}"}, "upstreams.hub.url: "},
		"no url":          {[]string{"upstreams: {hub: {}}"}, "upstreams.hub.url: "},
		"password":        {[]string{"upstreams: {hub: {url: 'https://me:hunter2@x'}}"}, "upstreams.hub.url: a URL with a password"},
		"credentials":     {[]string{"upstreams: {hub: {url: x, credentials: /none.json}}"}, "upstreams.hub.credentials: "},
		"ca":              {[]string{"upstreams: {hub: {url: x, ca: /none.pem}}"}, "upstreams.hub.ca: "},
		"cert":            {[]string{"upstreams: {hub: {url: x, cert: /none.pem}}"}, "upstreams.hub.cert: "},
		"proxy":           {[]string{"upstreams: {hub: {url: x, proxy: nowhere}}"}, "upstreams.hub.proxy: want a URL"},
		"allow":           {[]string{"upstreams: {hub: {url: x, allow: ['a b']}}"}, "upstreams.hub.allow: pattern"},
		"internal":        {[]string{"upstreams: {hub: {url: x, internal: [10.0.0.1]}}"}, "upstreams.hub.internal: want networks"},
		"rewrite collide": {[]string{"upstreams: {hub: {url: x, rewrite: [{from: a, to: b}, {from: a, to: c}]}}"}, "upstreams.hub.rewrite: rewrite from \"a\" is never reached"},
		"max-blob":        {[]string{"upstreams: {hub: {url: x, max-blob: 0}}"}, "upstreams.hub.max-blob: must be"},
		"routes":          {[]string{hub, "routes: {}"}, "routes: want a list"},
		"same prefix":     {[]string{hub, "routes: [{prefix: a, to: [hub]}, {prefix: a, to: [local]}]"}, `routes[1].prefix: "a" is that of routes[0], too`},
		"prefix":          {[]string{hub, "routes: [{prefix: A, to: [hub]}]"}, `routes[0].prefix: "A" cannot begin`},
		"unknown":         {[]string{hub, "routes: [{to: [hob]}, {prefix: hub, to: [hub]}]"}, `routes[0].to: there is no upstream "hob"`},
		"nowhere":         {[]string{hub, "routes: [{prefix: x}, {prefix: hub, to: [hub]}]"}, "routes[0].to: leads nowhere"},
		"twice":           {[]string{hub, "routes: [{to: [hub, hub]}]"}, `routes[0].to: "hub" is there twice`},
		"local later":     {[]string{hub, "routes: [{to: [hub, local]}]"}, `routes[0].to: "local" must come first`},
		"namespace":       {[]string{"upstreams: {a: {url: registry.example.com}, b: {url: 'https://registry.example.com/base'}}"}, `upstreams.b.namespace: "registry.example.com" is that of upstreams.a`},
		"no way for ns": {
			[]string{"upstreams: {hub: {url: https://registry.example.com, namespace: docker.io}}", "routes: [{to: [local, hub]}]"},
			`upstreams.hub.namespace: "docker.io" must lead to this upstream alone, and no route does: add one like {prefix: hub, to: [hub]} to routes`,
		},
		"mix":          {[]string{hub, "routes: [{to: [hub], mix: true}]"}, `routes[0].mix: there is nothing to mix with "hub": name another one`},
		"no upstreams": {[]string{"routes: [{to: [local, hub]}]"}, "routes: there is no upstream to lead to, and all is local: add upstreams"},
		"no route":     {[]string{hub, "routes: [{to: [local]}]"}, "upstreams.hub: no route leads to it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, nil, []string{"--data", t.TempDir(), "--config", configFileOf(t, test.lines...)}, test.want)
		})
	}
	requireRefused(t, nil, []string{"--config", filepath.Join(t.TempDir(), "none.yaml")}, "--config: ", "no such file")
	requireRefused(t, nil, []string{"--data", t.TempDir(), "--upstream=Hub=x"}, "upstreams.Hub: want a name")
	requireRefused(t, nil, []string{"--data", t.TempDir(), "--spool-size=0"}, "--spool-size: must be")
}

func TestUpstreamThatIsThisRegistryIsRefused(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		address := tooltest.FreeAddress(t)
		_, port, _ := strings.Cut(address, ":")
		_, stderr, status := ended(t, nil, "serve", "--data", t.TempDir(), "--listen", address, "--upstream", "hub=http://"+host+":"+port)
		assert.Equal(t, 1, status)
		assert.Contains(t, stderr, "upstreams.hub.url: http://"+host+":"+port+" is this registry itself")
	}
	for external, address := range map[string]string{
		"https://registry.example.com":  "https://Registry.example.com:443/v2/",
		"https://example.com/registry/": "https://example.com/registry",
	} {
		requireRefused(t, nil, []string{"--data", t.TempDir(), "--external-url=" + external, "--upstream=hub=" + address}, "is this registry itself")
	}
}

func TestConfigurationMayNameWhatStandsInItTwice(t *testing.T) {
	t.Parallel()
	s := start(t, "--data", t.TempDir(), "--external-url=https://example.com/registry", "--config", configFileOf(t,
		"upstreams:",
		"  a: &a {url: &url https://example.com/other, tag-age: 5m, allow: &allow [team/*]}",
		"  b: {<<: *a, namespace: b}",
		"  c: {url: *url, allow: *allow, namespace: c}"))
	s.stop(t)
	for _, want := range []string{"a=https://example.com/other", "b=https://example.com/other", "c=https://example.com/other"} {
		assert.Contains(t, s.log(), want)
	}
}

func TestFlagsAndEnvironmentOverrideTheFile(t *testing.T) {
	t.Parallel()
	file := configFileOf(t, "max-manifest: 1", "immutable-tags: [a, b]", "log-level: warn", "gc: false")
	parse := func(args ...string) serveCommand {
		var c commands
		parser, err := newParser(t.Context(), &c, output{io.Discard, io.Discard}, func(int) {})
		require.NoError(t, err)
		_, err = parser.Parse(append([]string{"serve", "--config", file}, args...))
		require.NoError(t, err)
		return c.Serve
	}
	c := parse()
	assert.EqualValues(t, 1, c.MaxManifest)
	assert.Equal(t, []string{"a", "b"}, c.ImmutableTags)
	assert.False(t, c.GC)
	assert.Equal(t, "text", c.LogFormat, "what the file does not say is as ever")
	assert.EqualValues(t, 2, parse("--max-manifest=2").MaxManifest)
	requireRefused(t, []string{"OCIKIT_MAX_MANIFEST=0", "OCIKIT_CONFIG=" + file}, []string{"--data", t.TempDir()}, "--max-manifest: must be")
}

// pushImage pushes an image of one blob.
func pushImage(t *testing.T, url, repository, tag, layer string) {
	t.Helper()
	send := func(method, path, mediaType, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, url+"/v2/"+repository+path, strings.NewReader(body))
		require.NoError(t, err)
		request.Header.Set("Content-Type", mediaType)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		require.Equal(t, http.StatusCreated, response.StatusCode, path)
	}
	d := digest.FromString(layer).String()
	send(http.MethodPost, "/blobs/uploads/?digest="+d, "application/octet-stream", layer)
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	send(http.MethodPut, "/manifests/"+tag, manifest, fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"text/plain","digest":%q,"size":%d},"layers":[]}`, manifest, d, len(layer)))
}

// status returns the status of an answer to GET.
func status(t *testing.T, url string) int {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	return response.StatusCode
}

// What somebody pushed here must not be another registry's image to the clients of a mirror.
func TestNamespacesLeadToTheirUpstreamAlone(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil), nil))
	t.Cleanup(origin.Close)
	host := strings.TrimPrefix(origin.URL, "http://")
	for _, repository := range []string{"library/theirs", "library/both", "team/theirs"} {
		pushImage(t, origin.URL, repository, "v1", "theirs")
	}
	for name, test := range map[string]struct {
		routes string
		pushed []string
		want   map[string]int
	}{
		"fall-through alone": {
			"[{to: [local, hub]}]", []string{"library/ours", "library/both"},
			map[string]int{"library/theirs": 404, "library/ours": 404, "library/both": 404},
		},
		"a way of its own": {
			"[{prefix: hub, to: [hub]}, {to: [local, hub]}]", []string{"library/ours"},
			map[string]int{"library/theirs": 200, "library/ours": 404, "library/both": 200},
		},
		"a way that is left": {
			"[{prefix: hub, to: [hub]}, {prefix: hub/team, to: [local, hub]}, {to: [local]}]", []string{"hub/team/ours", "hub/team/theirs"},
			map[string]int{"library/theirs": 200, "team/ours": 404, "team/theirs": 404},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, "--data", t.TempDir(), "--config", configFileOf(t, "upstreams: {hub: {url: '"+origin.URL+"'}}", "routes: "+test.routes))
			for _, repository := range test.pushed {
				pushImage(t, s.url, repository, "v1", "ours")
			}
			for repository, want := range test.want {
				assert.Equal(t, want, status(t, s.url+"/v2/"+repository+"/manifests/v1?ns="+host), repository)
			}
			s.stop(t)
		})
	}
}

// What is prefetched is what would be pulled through: no image comes from an upstream whose turn it is not.
func TestPrefetchGoesOnAndFollowsTheRules(t *testing.T) {
	t.Parallel()
	newOrigin := func(repositories ...string) string {
		origin := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil), nil))
		t.Cleanup(origin.Close)
		for _, repository := range repositories {
			pushImage(t, origin.URL, repository, "v1", "layer of "+repository)
		}
		return origin.URL
	}
	first, second := newOrigin("team/one", "team/ours"), newOrigin("team/one", "team/two")
	file := configFileOf(t, "data: "+t.TempDir(),
		"upstreams: {first: {url: '"+first+"'}, second: {url: '"+second+"'}, down: {url: 'http://"+tooltest.FreeAddress(t)+"'}}",
		"routes:",
		"  - {to: [local, first, second]}",
		"  - {prefix: second, to: [second]}",
		"  - {prefix: home, to: [local]}",
		"  - {prefix: down, to: [local, down, second]}")
	pushImage(t, second, "two", "v1", "what another upstream may own")
	s := start(t, "--config", file)
	pushImage(t, s.url, "team/ours", "v2", "ours")
	s.stop(t)
	stdout, stderr, code := ended(t, nil, "prefetch", "--config", file, "down/two:v1", "team/none:v1", "team/ours:v1", "home/x:v1",
		"team/one:v1", "team/two:v1", "second/team/two:v1")
	assert.Equal(t, 1, code)
	assert.Equal(t, "team/one:v1 is here\nteam/two:v1 is here\nsecond/team/two:v1 is here\n", stdout)
	for _, want := range []string{
		"down/two:v1: ", "does not answer", "team/none:v1: ", "team/ours:v1: ", "hides what is behind it", "home/x:v1: no route leads from there",
	} {
		assert.Contains(t, stderr, want)
	}
}

// An image of which an upstream lacks a part is that upstream's all the same.
func TestPrefetchTakesNoOtherOwnersImageForOneThatIsIncomplete(t *testing.T) {
	t.Parallel()
	sparse := &registry.LocalOptions{AllowMissing: true}
	first := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), sparse), nil))
	t.Cleanup(first.Close)
	second := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil), nil))
	t.Cleanup(second.Close)
	const index = "application/vnd.oci.image.index.v1+json"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, first.URL+"/v2/team/app/manifests/v1", strings.NewReader(fmt.Sprintf(
		`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":1,`+
			`"platform":{"os":"linux","architecture":"amd64"}}]}`, index, digest.FromString("nowhere"))))
	require.NoError(t, err)
	request.Header.Set("Content-Type", index)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusCreated, response.StatusCode)
	pushImage(t, second.URL, "team/app", "v1", "another owner's")
	file := configFileOf(t, "data: "+t.TempDir(),
		"upstreams: {first: {url: '"+first.URL+"'}, second: {url: '"+second.URL+"'}}", "routes: [{to: [local, first, second]}]")
	start(t, "--config", file).stop(t)
	for _, args := range [][]string{nil, {"--platform", "linux/amd64"}} {
		stdout, stderr, code := ended(t, nil, append([]string{"prefetch", "--config", file, "team/app:v1"}, args...)...)
		assert.Equal(t, 1, code)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, "team/app:v1: not all of it is there: ")
	}
}

func TestServePullsThroughFallsThroughAndPrefetches(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(registry.NewHandler(registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil), nil))
	t.Cleanup(origin.Close)
	pushImage(t, origin.URL, "library/app", "v1", "theirs")
	data := t.TempDir()
	file := configFileOf(t,
		"data: "+data,
		"upstreams:",
		"  hub: {url: '"+origin.URL+"', namespace: docker.io, rewrite: [{from: '*', to: 'library/*'}], allow: ['library/*']}",
		"routes:",
		"  - {prefix: hub, to: [hub]}",
		"  - {to: [local, hub]}")
	s := start(t, "--config", file)
	pushImage(t, s.url, "team/app", "v1", "ours")
	for path, want := range map[string]int{
		"hub/app/manifests/v1": 200, "hub/library/app/manifests/v1": 200, "library/app/manifests/v1": 200, "app/manifests/v1": 200,
		"team/app/manifests/v1": 200, "library/app/manifests/v1?ns=docker.io": 200, "hub/team/app/manifests/v1": 404, "library/none/manifests/v1": 404,
	} {
		assert.Equal(t, want, status(t, s.url+"/v2/"+path), path)
	}
	assert.Equal(t, http.StatusMethodNotAllowed, s.do(t, http.MethodPost, "/v2/hub/app/blobs/uploads/", nil).StatusCode)
	pushImage(t, s.url, "library/app", "v2", "ours, and it hides theirs from now on")
	assert.Equal(t, 404, status(t, s.url+"/v2/library/app/manifests/v1"))
	assert.Equal(t, 200, status(t, s.url+"/v2/hub/app/manifests/v1"))
	s.stop(t)

	pushImage(t, origin.URL, "library/more", "v1", "more")
	stdout, stderr, code := ended(t, nil, "prefetch", "--config", file, "hub/more:v1")
	require.Equal(t, 0, code, stderr)
	assert.Equal(t, "hub/more:v1 is here\n", stdout)
	_, stderr, code = ended(t, nil, "prefetch", "--config", file, "hub/none:v1")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "hub/none:v1: ")
	_, stderr, code = ended(t, nil, "prefetch", "--config", file, "localhost:5000/hub/none:v1", "HUB")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "without the registry's host")
	stdout, stderr, code = ended(t, nil, "gc", "--data", data, "--evict-idle=1ns", "--dry-run")
	require.Equal(t, 0, code, stderr)
	assert.Regexp(t, `0 uploads ended, 1 manifests of upstreams with [.0-9]+[KM]?i?B evicted\n$`, stdout, "what was just pulled stays")
	assert.Contains(t, stdout, "hub/library/more ")
	_, stderr, code = ended(t, nil, "gc", "--data", data, "--evict-idle=-1s")
	assert.Equal(t, 1, code)
	assert.Contains(t, stderr, "--evict-idle: must not be negative")
	origin.Close()
	s = start(t, "--config", file)
	assert.Equal(t, 200, status(t, s.url+"/v2/hub/more/manifests/v1"))
	s.stop(t)
}
