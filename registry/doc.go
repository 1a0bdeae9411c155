// Package registry is the registry's HTTP API, cut in two.
//
// A [Handler] is the protocol. It knows paths, methods, headers, ranges, pages, status codes and error bodies, and nothing of
// storage. A [Registry] is the meaning: it knows repositories, blobs, manifests, tags and uploads, and nothing of HTTP. The
// handler parses a request, asks whether it is allowed, calls one or two of the registry's methods, and writes what they
// return. So whatever implements [Registry] is served in full: [Local], which keeps everything in a store; a [Route] over
// several registries by the names' prefixes; a [ReadOnly] one; an upstream that is pulled through; or a fake of five
// methods, made by embedding [Unsupported].
//
// To serve a registry, mount the handler on two patterns, the second of which is what some clients ask first:
//
//	local := registry.NewLocal(meta, objects, nil)
//	handler := registry.NewHandler(local, nil)
//	mux.Handle("/v2/", handler)
//	mux.Handle("/v2", handler)
//
// http.ServeMux answers paths that are not clean (//, dot segments) with a redirect; the handler itself never cleans, it
// answers them with 404. Under a path of your own, give it as HandlerOptions.BasePath and do not strip it: clients follow
// the URLs that answers contain.
//
// Who may do what is decided by HandlerOptions.Authorize, which sees every (repository, action) pair that a request needs
// before a byte of its body is read or a row is touched, on the very names that are then used. It is also asked for the source of a
// mount, and for each repository that a list would reveal.
//
// Errors are values: a registry returns an [*Error], whose code decides the status, or any other error, which clients see as
// UNKNOWN and the log in full. Every method and handler honours its context. When a server's base context ends, uploads under way
// stop reading, are saved, and can be continued from the offset that their URL tells.
//
// The handler sets no limit to how long a request takes, since a layer may take hours: it ends transfers in which no
// byte moves for HandlerOptions.IdleTimeout. So give the http.Server a ReadHeaderTimeout, and neither a ReadTimeout nor a
// WriteTimeout.
package registry
