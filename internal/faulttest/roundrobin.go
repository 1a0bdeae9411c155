package faulttest

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// RoundRobin spreads requests over servers that are alike: each goes to the next
// server, over a connection of its own, and the requests of one upload go to the
// servers in turn whatever else is under way.
type RoundRobin struct {
	url     string
	targets []*url.URL

	mu      sync.Mutex
	next    int // of requests that are of no upload
	uploads map[string]*Upload
}

// Upload is what is known of an upload session that passed a RoundRobin.
type Upload struct {
	ID      string
	Targets []int // where its requests went, as numbers of NewRoundRobin's targets, in order
}

// Touched returns how many different targets had a request of the upload.
func (u Upload) Touched() int {
	sorted := slices.Sorted(slices.Values(u.Targets))
	return len(slices.Compact(sorted))
}

// NewRoundRobin starts a proxy for the targets, the URLs of servers. It ends with
// the test.
func NewRoundRobin(t testing.TB, targets ...string) *RoundRobin {
	t.Helper()
	p := &RoundRobin{uploads: map[string]*Upload{}}
	for _, target := range targets {
		parsed, err := url.Parse(target)
		if err != nil {
			t.Fatalf("parse a target: %v", err)
		}
		p.targets = append(p.targets, parsed)
	}
	proxies := make([]*httputil.ReverseProxy, len(targets))
	for i := range targets {
		proxies[i] = p.proxy(i)
	}
	p.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proxies[p.choose(r)].ServeHTTP(w, r)
	}), func() {})
	return p
}

// URL returns the proxy's own URL, without a slash at its end.
func (p *RoundRobin) URL() string { return p.url }

// Address returns the proxy's host and port.
func (p *RoundRobin) Address() string { return strings.TrimPrefix(p.url, "http://") }

// Uploads returns the upload sessions that were started through the proxy, by
// their ids.
func (p *RoundRobin) Uploads() []Upload {
	p.mu.Lock()
	defer p.mu.Unlock()
	uploads := make([]Upload, 0, len(p.uploads))
	for _, upload := range p.uploads {
		uploads = append(uploads, Upload{ID: upload.ID, Targets: slices.Clone(upload.Targets)})
	}
	slices.SortFunc(uploads, func(a, b Upload) int { return strings.Compare(a.ID, b.ID) })
	return uploads
}

// choose returns the target of a request. The requests of an upload follow the
// one that started it.
func (p *RoundRobin) choose(r *http.Request) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if upload, known := p.uploads[uploadID(r.URL.Path)]; known {
		target := (upload.Targets[len(upload.Targets)-1] + 1) % len(p.targets)
		upload.Targets = append(upload.Targets, target)
		return target
	}
	target := p.next
	p.next = (p.next + 1) % len(p.targets)
	return target
}

// proxy passes requests to one target, and notes the uploads that it starts.
func (p *RoundRobin) proxy(target int) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(p.targets[target])
			r.Out.Host = r.In.Host
		},
		Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true},
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0), // clients are told
		ModifyResponse: func(answer *http.Response) error {
			if answer.Request.Method == http.MethodPost && answer.StatusCode == http.StatusAccepted {
				return p.started(answer.Header.Get("Location"), target)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, fmt.Sprintf("replica %d: %v", target, err), http.StatusBadGateway)
		},
	}
}

func (p *RoundRobin) started(location string, target int) error {
	parsed, err := url.Parse(location)
	if err != nil {
		return fmt.Errorf("parse the location of an upload: %w", err)
	}
	id := uploadID(parsed.Path)
	if id == "" {
		return fmt.Errorf("the location of an upload should have its id: %q", location)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uploads[id] = &Upload{ID: id, Targets: []int{target}}
	return nil
}

// uploadID returns the id of the upload session in a path, or nothing.
func uploadID(path string) string {
	const marker = "/blobs/uploads/"
	at := strings.LastIndex(path, marker)
	if at < 0 {
		return ""
	}
	return path[at+len(marker):]
}
