package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
)

// Options configures [New]. The zero value works, for an upstream that anybody may pull from.
type Options struct {
	// Names says what may be pulled through, and what it is called upstream. Default: everything, by the name that it has here.
	Names Names

	// Kept configures what is kept, as [registry.NewLocal] would be. Manifests are always kept with what they refer to missing, tags
	// always move, and what was not pulled through cannot be pushed.
	Kept registry.LocalOptions

	// Spool is where content lies that is on its way, for all upstreams of a process. Default: one of its own, of 4 GiB, in the
	// folder for temporary files.
	Spool *Spool

	// TagAge is how long a tag is taken for what it was, before the upstream is asked again. Default 1 min; negative: it is
	// always asked. A list of tags or referrers is no older, unless it has many pages, which are read again after 30 s at the latest.
	TagAge time.Duration

	// StaleAge is how much longer a tag's last known manifest is served while the upstream is down, slow, or wants to be left alone.
	// Default 7 days; negative: never.
	StaleAge time.Duration

	// MissingAge is how long it is remembered, by this process, what the upstream does not have or does not give us. Default 30 s;
	// negative: not at all.
	MissingAge time.Duration

	// AnswerTimeout is how long the upstream may take to begin an answer, retries included. Default 30 s.
	AnswerTimeout time.Duration

	// ConfirmTimeout is the same where a known answer can be served instead. Default 5 s.
	ConfirmTimeout time.Duration

	// IdleTimeout is how long a transfer may go without a byte. Default 1 min.
	IdleTimeout time.Duration

	// MaxBlob is the largest blob that is pulled through, bytes. Default: what Kept.MaxBlob says, else 1 TiB.
	MaxBlob int64

	// Credential returns what to log in with at the upstream's host. Default: nothing. See [LoadCredentials].
	Credential func(ctx context.Context, host string) (Credential, error)

	// TLS is for connections to the upstream, and to where it sends us; a certificate of ours is shown to the upstream alone. Default:
	// the system's roots.
	TLS *tls.Config

	// Proxy returns the proxy for a request, nil for none. Default: as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say. Through a proxy, it
	// is the proxy's to refuse names of internal hosts; addresses are still refused here.
	Proxy func(*http.Request) (*url.URL, error)

	// Internal are the addresses that the upstream's redirects and token realms may lead to, besides public ones and the
	// upstream's own. Default: none.
	Internal []netip.Prefix

	// UserAgent is what the upstream is told who asks. Default "ocikit".
	UserAgent string

	// Header is sent with each request to the upstream's own host, for instance to tell proxies apart.
	Header http.Header

	// Forward returns more of them by what the context knows of the request that is the cause, such as which proxies it has come
	// through. Only those for whom it returns the same wait for one another's questions, since who asks in a circle would wait for
	// himself; a blob is fetched in the name of the first. Default: none.
	Forward func(ctx context.Context) http.Header

	// Observe is told of what happens. It has to be quick and safe for concurrent use. Default: nobody is told.
	Observe func(Event)

	// Logger gets what no client is told: why something was not kept. Default: nothing is logged.
	Logger *slog.Logger
}

const (
	defaultTagAge         = time.Minute
	defaultStaleAge       = 7 * 24 * time.Hour
	defaultMissingAge     = 30 * time.Second
	defaultAnswerTimeout  = 30 * time.Second
	defaultConfirmTimeout = 5 * time.Second
	defaultIdleTimeout    = time.Minute
	defaultMaxBlob        = 1 << 40
	maxManifest           = 4 << 20
	maxMediaType          = 255 // RFC 6838 has 127 for each half
)

// complete returns the options with their defaults.
func (o *Options) complete() (Options, error) {
	var c Options
	if o != nil {
		c = *o
	}
	for _, d := range []struct {
		field    *time.Duration
		standard time.Duration
	}{
		{&c.TagAge, defaultTagAge}, {&c.StaleAge, defaultStaleAge}, {&c.MissingAge, defaultMissingAge},
		{&c.AnswerTimeout, defaultAnswerTimeout}, {&c.ConfirmTimeout, defaultConfirmTimeout}, {&c.IdleTimeout, defaultIdleTimeout},
	} {
		if *d.field == 0 {
			*d.field = d.standard
		}
		*d.field = max(*d.field, 0)
	}
	if c.AnswerTimeout == 0 || c.ConfirmTimeout == 0 || c.IdleTimeout == 0 {
		return c, fmt.Errorf("time-outs must not be negative")
	}
	if c.MaxBlob == 0 {
		c.MaxBlob = c.Kept.MaxBlob
	}
	if c.MaxBlob <= 0 {
		c.MaxBlob = defaultMaxBlob
	}
	c.Kept.AllowMissing, c.Kept.Immutable, c.Kept.NoDelete = true, nil, false
	if c.Proxy == nil {
		c.Proxy = http.ProxyFromEnvironment
	}
	if c.UserAgent == "" {
		c.UserAgent = "ocikit"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Spool == nil {
		var err error
		if c.Spool, err = NewSpool("", 0); err != nil {
			return c, err
		}
	}
	return c, c.Names.Check()
}

// ParseURL checks an upstream's URL, and takes "registry.example.com" for an https one.
func ParseURL(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("want a URL like https://registry.example.com: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not a URL like https://registry.example.com", address)
	}
	if u.User != nil {
		return nil, fmt.Errorf("a URL with a password in it ends up in logs: use a file of credentials")
	}
	u.Path = strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v2")
	return u, nil
}

// keptPrefix is what the names of kept repositories begin with.
func keptPrefix(name string) string { return store.MirrorPrefix + name + "/" }
