package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/registry/upstream"
)

// upstreamConfig is an upstream in the file of --config.
type upstreamConfig struct {
	URL            string          `yaml:"url"`
	Namespace      string          `yaml:"namespace"`   // that mirrors' clients call it in ns; default: the URL's host
	Credentials    string          `yaml:"credentials"` // a file as docker login writes it
	CA             string          `yaml:"ca"`          // PEM
	Cert           string          `yaml:"cert"`        // PEM, for mutual TLS
	Key            string          `yaml:"key"`
	Insecure       bool            `yaml:"insecure"` // does not verify certificates
	Proxy          string          `yaml:"proxy"`    // a URL; default: as the environment says
	UserAgent      string          `yaml:"user-agent"`
	Rewrite        []rewriteConfig `yaml:"rewrite"`
	Allow          []string        `yaml:"allow"`
	Internal       []string        `yaml:"internal"` // CIDRs that it may lead to
	TagAge         *duration       `yaml:"tag-age"`
	StaleAge       *duration       `yaml:"stale-age"`
	MissingAge     *duration       `yaml:"missing-age"`
	AnswerTimeout  *duration       `yaml:"answer-timeout"`
	ConfirmTimeout *duration       `yaml:"confirm-timeout"`
	IdleTimeout    *duration       `yaml:"idle-timeout"`
	MaxBlob        *size           `yaml:"max-blob"`
}

type rewriteConfig struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
}

// duration is one with a unit in YAML.
type duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("want a duration such as 90s or 24h: %w", err)
	}
	*d = duration(parsed)
	return nil
}

// read checks one upstream. Its errors begin with a key.
func (c *upstreamConfig) read() (*upstreamSettings, []error) {
	s := &upstreamSettings{namespace: c.Namespace, named: c.Namespace != ""}
	var errs []error
	wrong := func(key, format string, args ...any) { errs = append(errs, fmt.Errorf(key+": "+format, args...)) }
	var err error
	if s.url, err = upstream.ParseURL(c.URL); err != nil {
		wrong("url", "%w", err)
	} else if s.namespace == "" {
		s.namespace = namespaceOf(s.url)
	}
	o := &s.options
	o.UserAgent = c.UserAgent
	if c.Credentials != "" {
		var hosts []string
		if s.url != nil {
			hosts = append(hosts, s.url.Host)
		}
		if o.Credential, err = upstream.LoadCredentials(c.Credentials, hosts...); err != nil {
			wrong("credentials", "%w: want a file as docker login writes it", err)
		}
	}
	if o.TLS, err = c.tls(); err != nil {
		errs = append(errs, err)
	}
	if c.Proxy != "" {
		proxy, err := url.Parse(c.Proxy)
		if err != nil || proxy.Host == "" {
			wrong("proxy", "want a URL like http://proxy.example.com:3128")
		} else {
			o.Proxy = http.ProxyURL(proxy)
		}
	}
	for _, rewrite := range c.Rewrite {
		o.Names.Rewrite = append(o.Names.Rewrite, upstream.Rewrite(rewrite))
	}
	for _, text := range c.Allow {
		pattern, err := registry.ParsePattern(text)
		if err != nil {
			wrong("allow", "%w", err)
		}
		o.Names.Allow = append(o.Names.Allow, pattern)
	}
	if err := o.Names.Check(); err != nil {
		wrong("rewrite", "%w", err)
	}
	for _, text := range c.Internal {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			wrong("internal", "want networks like 10.0.0.0/8: %w", err)
		}
		o.Internal = append(o.Internal, prefix)
	}
	return s, append(errs, c.limits(o)...)
}

// namespaceOf is what clients call a registry. Docker's has another name than its host.
func namespaceOf(u *url.URL) string {
	switch u.Host {
	case "registry-1.docker.io", "index.docker.io", "registry.docker.io":
		return "docker.io"
	}
	return u.Host
}

// limits reads times and sizes. A zero means none, where there can be none.
func (c *upstreamConfig) limits(o *upstream.Options) (errs []error) {
	for _, d := range []struct {
		key    string
		value  *duration
		field  *time.Duration
		mayBe0 bool
	}{
		{"tag-age", c.TagAge, &o.TagAge, true}, {"stale-age", c.StaleAge, &o.StaleAge, true}, {"missing-age", c.MissingAge, &o.MissingAge, true},
		{"answer-timeout", c.AnswerTimeout, &o.AnswerTimeout, false}, {"confirm-timeout", c.ConfirmTimeout, &o.ConfirmTimeout, false},
		{"idle-timeout", c.IdleTimeout, &o.IdleTimeout, false},
	} {
		switch {
		case d.value == nil:
		case *d.value < 0, *d.value == 0 && !d.mayBe0:
			errs = append(errs, fmt.Errorf("%s: %v is too short", d.key, time.Duration(*d.value)))
		case *d.value == 0:
			*d.field = -1
		default:
			*d.field = time.Duration(*d.value)
		}
	}
	if c.MaxBlob != nil {
		if *c.MaxBlob < 1 {
			errs = append(errs, errors.New("max-blob: must be at least 1 byte"))
		}
		o.MaxBlob = int64(*c.MaxBlob)
	}
	return errs
}

func (c *upstreamConfig) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Insecure} //nolint:gosec // somebody wants it so
	if c.CA != "" {
		pem, err := os.ReadFile(c.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", c.CA)
		}
	}
	if c.Cert != "" || c.Key != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, fmt.Errorf("cert: want it with key, both in PEM: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
