package registry

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Defaults and bounds of HandlerOptions.
const (
	defaultMaxManifest = 4 << 20
	defaultPageLimit   = 1000
	defaultMaxRanges   = 16
	defaultMaxTags     = 50
	leastMaxTags       = 10
	defaultIdleTimeout = time.Minute
)

// HandlerOptions are a handler's options. Nil, or the zero value, works.
type HandlerOptions struct {
	// Authorize decides about a request, given everything that it needs, before any of its body is read and before the
	// registry is asked for anything. It is called once for each request whose URL and method the API has.
	//
	// What is wanted: nothing for /v2/; ActionList for the catalog; ActionPull to GET or HEAD what is in a repository;
	// ActionPull and ActionPush to store something; ActionDelete to delete it. An upload that is under way is asked about, or
	// cancelled, with ActionPush. A mount also wants ActionPull on its source, which is Optional: without it, or where
	// allows does not grant it, the client is told to upload.
	//
	// An error refuses the request: ErrDenied, a *ChallengeError, a *RetryError. Else allows answers for whatever is Optional:
	// a mount's source, and each repository that the catalog or an anonymous mount would reveal. A nil allows allows
	// nothing of that. It may be called many times, until the request ends.
	//
	// Nil allows everything.
	Authorize func(r *http.Request, want []Access) (allows func(Access) bool, err error)

	// Namespace returns the repository that is meant by one of another registry: clients that use this one as a mirror name that
	// registry by the parameter ns, as containerd does. It is asked when something is pulled, unless ns is the host that was asked;
	// what is authorised is what it returns. If ok is false, nothing of that registry is here: what has the same name here is
	// something else. Where Namespace is nil, the parameter is ignored.
	Namespace func(namespace, repository string) (name string, ok bool)

	// Observe is called once after each request, on its goroutine. Nil observes nothing.
	Observe func(Observation)

	// Logger gets the errors whose text clients do not see: those answered with a status of 500 and above, and those that cut
	// an answer short. Nil is slog.Default().
	Logger *slog.Logger

	// BasePath is what stands before /v2 in the path of each URL, "/registry" for instance. Requests are expected to have it,
	// and the URLs in answers do. The default is none.
	BasePath string

	MaxManifest int64         // bytes of a manifest that is pushed; 0 means 4 MiB
	PageLimit   int           // entries of a page of tags or repositories, unless a client asks for fewer; 0 means 1000
	MaxRanges   int           // ranges in one request; to more of them the answer is the whole blob; 0 means 16
	MaxTags     int           // tags in one push by digest; at least 10, as the specification wants; 0 means 50
	IdleTimeout time.Duration // without a byte from the client, or a quarter of a MiB to it, after which a transfer ends; 0: a minute, < 0: never
}

// Observation tells how a request went, for logs and metrics.
type Observation struct {
	Request    *http.Request
	Route      string // base, catalog, tags, manifest, referrers, uploads, upload, blob, or none
	Method     string // GET, HEAD, POST, PATCH, PUT, DELETE, or other
	Repository string // "" if the URL names none, or is malformed
	Status     int    // that was sent; 0 if none was, since the registry panicked
	Read       int64  // bytes of the body
	Written    int64  // bytes of the answer's body
	Duration   time.Duration
	Err        error // why the request was refused, or its answer cut short; with what clients do not see. nil is success
}

// Handler serves a [Registry] over HTTP: the OCI distribution specification, and of the Docker Registry HTTP API V2 what clients
// still use. It is safe for concurrent use.
type Handler struct {
	registry Registry
	options  HandlerOptions
	base     string // BasePath, decoded
	baseURL  string // BasePath, as URLs have it
	buffers  sync.Pool
}

// NewHandler returns a handler that serves r. It starts nothing, and keeps no state of its own.
func NewHandler(r Registry, opts *HandlerOptions) *Handler {
	h := &Handler{registry: r}
	if opts != nil {
		h.options = *opts
	}
	o := &h.options
	o.MaxManifest = orDefault(o.MaxManifest, defaultMaxManifest)
	o.PageLimit = orDefault(o.PageLimit, defaultPageLimit)
	o.MaxRanges = orDefault(o.MaxRanges, defaultMaxRanges)
	o.MaxTags = max(orDefault(o.MaxTags, defaultMaxTags), leastMaxTags)
	if o.IdleTimeout == 0 {
		o.IdleTimeout = defaultIdleTimeout
	}
	if trimmed := strings.Trim(o.BasePath, "/"); trimmed != "" {
		h.base = "/" + trimmed
		h.baseURL = (&url.URL{Path: h.base}).EscapedPath()
	}
	return h
}

func orDefault[N int | int64](n, standard N) N {
	if n <= 0 {
		return standard
	}
	return n
}

// request is a request under way: what its URL names, and what the handlers may need beyond that.
type request struct {
	target
	*http.Request
	query  url.Values // nil if the URL has none
	body   body
	allows func(Access) bool
}

// endpoint is what a method does to a resource.
type endpoint struct {
	method string
	needs  []Action // in the repository that the URL names, if it does
	serve  func(*Handler, *response, *request) error
}

var (
	pull        = []Action{ActionPull}
	push        = []Action{ActionPull, ActionPush}
	ownUpload   = []Action{ActionPush}
	remove      = []Action{ActionDelete}
	listCatalog = []Action{ActionList}
)

// resources is the whole API. The most frequent methods come first.
var resources = [routeCount]struct {
	name      string
	endpoints []endpoint
}{
	routeNone: {"none", nil},
	routeBase: {"base", []endpoint{
		{http.MethodGet, nil, (*Handler).welcome},
		{http.MethodHead, nil, (*Handler).welcome},
	}},
	routeCatalog: {"catalog", []endpoint{
		{http.MethodGet, listCatalog, (*Handler).listRepositories},
	}},
	routeTags: {"tags", []endpoint{
		{http.MethodGet, pull, (*Handler).listTags},
	}},
	routeManifest: {"manifest", []endpoint{
		{http.MethodGet, pull, (*Handler).getManifest},
		{http.MethodHead, pull, (*Handler).getManifest},
		{http.MethodPut, push, (*Handler).putManifest},
		{http.MethodDelete, remove, (*Handler).deleteManifest},
	}},
	routeReferrers: {"referrers", []endpoint{
		{http.MethodGet, pull, (*Handler).listReferrers},
	}},
	routeUploads: {"uploads", []endpoint{
		{http.MethodPost, push, (*Handler).startUpload},
	}},
	routeUpload: {"upload", []endpoint{
		{http.MethodPatch, push, (*Handler).appendUpload},
		{http.MethodPut, push, (*Handler).finishUpload},
		{http.MethodGet, ownUpload, (*Handler).uploadStatus},
		{http.MethodDelete, ownUpload, (*Handler).cancelUpload},
	}},
	routeBlob: {"blob", []endpoint{
		{http.MethodGet, pull, (*Handler).getBlob},
		{http.MethodHead, pull, (*Handler).headBlob},
		{http.MethodDelete, remove, (*Handler).deleteBlob},
	}},
}

// ServeHTTP serves one request.
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	exchange := &struct { // together, so that they cost one allocation
		response
		request
	}{}
	w, req := &exchange.response, &exchange.request
	w.begin(rw, r, h.options.IdleTimeout)
	w.buffers = &h.buffers
	req.Request = r
	req.body.begin(rw, r, h.options.IdleTimeout)
	var err error
	if h.options.Observe != nil {
		start := time.Now()
		defer func() { h.observe(w, req, err, time.Since(start)) }()
	}
	if err = h.serve(w, req); err != nil {
		h.refuse(w, req, err)
	}
	req.body.end()
}

func (h *Handler) serve(w *response, req *request) error {
	path, ok := decodedPath(req.URL)
	if ok {
		path, ok = strings.CutPrefix(path, h.base)
	}
	if !ok {
		return errNotFound
	}
	var err error
	if req.target, err = parseTarget(req.Method, path); err != nil {
		return err
	}
	if req.URL.RawQuery != "" {
		req.query = req.URL.Query()
	}
	endpoints := resources[req.route].endpoints
	for i := range endpoints {
		if endpoints[i].method != req.Method {
			continue
		}
		if err := h.applyNamespace(w, req); err != nil {
			return err
		}
		if err := h.authorize(req, endpoints[i].needs); err != nil {
			return err
		}
		return endpoints[i].serve(h, w, req)
	}
	return &methodError{endpoints}
}

// applyNamespace gives a pull from a mirror the name that its repository has here (distribution-spec, "Proxying").
func (h *Handler) applyNamespace(w *response, req *request) error {
	namespace := req.query.Get("ns")
	if namespace == "" || namespace == req.Host || h.options.Namespace == nil || req.repository == "" ||
		req.Method != http.MethodGet && req.Method != http.MethodHead {
		return nil
	}
	name, ok := h.options.Namespace(namespace, req.repository)
	if !ok || !ValidRepository(name) {
		unknown := ErrNameUnknown
		switch req.route {
		case routeManifest:
			unknown = ErrManifestUnknown
		case routeBlob:
			unknown = ErrBlobUnknown
		}
		return unknown.With("this registry is no mirror of %q", namespace)
	}
	req.repository = name
	w.set("Oci-Namespace", namespace)
	return nil
}

// authorize asks whether req may go on.
func (h *Handler) authorize(req *request, needs []Action) error {
	if h.options.Authorize == nil {
		return nil
	}
	want := make([]Access, 0, len(needs)+1)
	for _, action := range needs {
		want = append(want, Access{Repository: req.repository, Action: action})
	}
	if req.route == routeUploads {
		if _, source, ok := req.mount(); ok && source != "" {
			want = append(want, mayPull(source))
		}
	}
	allows, err := h.options.Authorize(req.Request, want)
	if allows == nil {
		allows = allowsNothing
	}
	req.allows = allows
	return err
}

// allowsNothing stands in for an answer that was not given: a hook that forgot what is Optional must not open it.
func allowsNothing(Access) bool { return false }

// mayPull is what it takes to learn of something in a repository without having asked for that one.
func mayPull(repository string) Access {
	return Access{Repository: repository, Action: ActionPull, Optional: true}
}

// mayPull reports whether the client may pull from a repository that its URL does not name.
func (r *request) mayPull(repository string) bool {
	return r.allows == nil || r.allows(mayPull(repository))
}

// url returns the URL of t, without scheme and host: behind proxies, only the client knows those.
func (h *Handler) url(t target) string { return h.baseURL + t.path() }

// welcome answers that this is a registry, and that the client may use it: where clients log in, this is what they ask.
func (h *Handler) welcome(w *response, _ *request) error {
	return w.json(http.StatusOK, []byte("{}"))
}

func (h *Handler) observe(w *response, req *request, err error, duration time.Duration) {
	h.options.Observe(Observation{
		Request:    req.Request,
		Route:      resources[req.route].name,
		Method:     knownMethod(req.Method),
		Repository: req.repository,
		Status:     w.status,
		Read:       req.body.read,
		Written:    w.written,
		Duration:   duration,
		Err:        err,
	})
}

func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodPut, http.MethodDelete:
		return method
	}
	return "other"
}

// methodError says that a resource does not have a method, and which it has.
type methodError struct {
	endpoints []endpoint
}

func (e *methodError) Error() string { return "method not allowed" }

func (e *methodError) Unwrap() error { return ErrUnsupported }

func (e *methodError) allow() string {
	methods := make([]string, len(e.endpoints))
	for i := range e.endpoints {
		methods[i] = e.endpoints[i].method
	}
	return strings.Join(methods, ", ")
}

// rangeError says that content of a size has none of the ranges that were asked for.
type rangeError struct {
	size int64
}

func (e *rangeError) Error() string { return "range not satisfiable" }

func (e *rangeError) Unwrap() error { return errRangeInvalid }
