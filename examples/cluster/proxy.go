package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
)

// newProxy returns a proxy that sends each request to the next replica, and writes a line about it. It is as simple as a proxy can
// be: it knows nothing of sessions, and needs no affinity.
func newProxy(replicas []string, out io.Writer) (http.Handler, error) {
	targets := make([]*url.URL, len(replicas))
	for i, replica := range replicas {
		target, err := url.Parse(replica)
		if err != nil {
			return nil, err
		}
		targets[i] = target
	}
	var requests atomic.Int64
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			target := int(requests.Add(1)-1) % len(targets)
			r.SetURL(targets[target])
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(r *http.Response) error {
			for i, target := range targets {
				if target.Host == r.Request.URL.Host {
					_, err := fmt.Fprintf(out, "replica %d  %-5s %d  %s\n", i+1, r.Request.Method, r.StatusCode, short(r.Request.URL.Path))
					return err
				}
			}
			return nil
		},
	}, nil
}

// short shortens what is long and random in a path.
func short(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if len(part) > 20 {
			parts[i] = part[:15] + "…"
		}
	}
	return strings.Join(parts, "/")
}
