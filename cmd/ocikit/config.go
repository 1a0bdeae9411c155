package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/docker/go-units"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
)

// settings is what the configuration's texts mean.
type settings struct {
	basePath  string
	immutable func(repository, tag string) bool
	tls       *tls.Config // nil: plain HTTP
	database  database
	objects   objects
	access    access
	policies  []gc.Policy
	mirrors   mirrors
}

// volatile reports whether content is kept in memory.
func (s settings) volatile() bool { return s.objects.kind == kindMemory }

// embedded reports whether something is kept on a disk that is ours to flush.
func (s settings) embedded() bool { return s.database.kind == kindSQLite || s.objects.kind == kindFile }

// check reads the whole configuration before anything is opened, and returns everything that is wrong with it, each with its flag and
// what to do.
func (c *serveCommand) check(file *configFile) (settings, error) {
	var s settings
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: "+format, append([]any{flag}, args...)...))
	}
	basePath, err := parseExternalURL(c.ExternalURL)
	if err != nil {
		wrong("external-url", "%w", err)
	}
	s.basePath = basePath
	if s.immutable, err = registry.ParseTagPatterns(c.ImmutableTags...); err != nil {
		wrong("immutable-tags", "%w", err)
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		wrong("tls-cert", "set --tls-cert and --tls-key together")
	case c.TLSCert != "":
		certificate := &certificate{certFile: c.TLSCert, keyFile: c.TLSKey}
		if _, err := certificate.get(nil); err != nil {
			wrong("tls-cert", "%w", err)
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get}
	}
	if c.MaxManifest < 1 {
		wrong("max-manifest", "must be at least 1 byte")
	}
	if c.MaxBlob < 0 {
		wrong("max-blob", "must not be negative")
	}
	if c.UploadMemory < 1<<20 {
		wrong("upload-memory", "must be at least 1MiB")
	}
	if c.ShutdownTimeout < 0 {
		wrong("shutdown-timeout", "must not be negative")
	}
	if c.ShutdownDelay < 0 {
		wrong("shutdown-delay", "must not be negative")
	}
	errs = append(errs, c.checkStores(&s)...)
	errs = append(errs, c.checkCollecting()...)
	var problems []error
	s.mirrors, problems = c.mirrorFlags.check(file)
	errs = append(errs, problems...)
	if s.policies, err = readPolicies(c.GCPolicies); err != nil {
		wrong("gc-policies", "%w", err)
	}
	if len(s.policies) > 0 && !c.GC {
		wrong("gc-policies", "is of no use with --gc=false: give it to whoever collects")
	}
	return s, errors.Join(errs...)
}

// parseExternalURL returns the path of the URL that clients use.
func parseExternalURL(text string) (basePath string, err error) {
	if text == "" {
		return "", nil
	}
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("want something like https://registry.example.com: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q is not like https://registry.example.com, or https://example.com/registry", text)
	}
	return strings.TrimRight(u.Path, "/"), nil
}

// size is a number of bytes, written with a unit: 64MiB, or 64m.
type size int64

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(text []byte) error {
	n, err := units.RAMInBytes(string(text))
	if err != nil {
		return fmt.Errorf("want a size such as 64MiB: %w", err)
	}
	*s = size(n)
	return nil
}
