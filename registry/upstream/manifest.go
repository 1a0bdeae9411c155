package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/cas"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store"
)

// manifestTypes are the types of manifests that are known.
var manifestTypes = []string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}

// accepted are the manifests that we ask for: all that are known, and any other.
var accepted = http.Header{"Accept": {strings.Join(append(slices.Clone(manifestTypes), "*/*;q=0.1"), ", ")}}

// Manifest implements [registry.Reader]. One that is kept is one query, and nothing is asked upstream: by digest always, by tag if
// that was confirmed within TagAge. Else the upstream is asked by HEAD for a tag's digest, and for the manifest only where it is
// another one. What many ask for at once is asked for once.
func (r *Registry) Manifest(ctx context.Context, repository string, ref registry.Reference) (registry.Manifest, error) {
	name, ok := r.options.Names.Upstream(repository)
	if !ok || !valid(ref) {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	if ref.Tag != "" {
		return r.byTag(ctx, name, ref.Tag)
	}
	return r.byDigest(ctx, name, ref.Digest)
}

// valid reports whether a manifest can have a reference. What cannot is not asked for: it would be a part of a URL.
func valid(ref registry.Reference) bool {
	if ref.Tag != "" {
		return registry.ValidTag(ref.Tag)
	}
	return validDigest(ref.Digest)
}

func validDigest(d digest.Digest) bool {
	_, err := cas.ParseDigest(string(d))
	return err == nil
}

func (r *Registry) byDigest(ctx context.Context, name string, d digest.Digest) (registry.Manifest, error) {
	kept, err := r.kept.Manifest(ctx, r.keptName(name), registry.Reference{Digest: d})
	if err == nil {
		r.observe(Event{Kind: KindManifest, Outcome: Kept})
		return kept, nil
	}
	return r.fetchOnce(ctx, name, registry.Reference{Digest: d}, "")
}

// byTag serves what is known of a tag while it is fresh, and then what the upstream says.
func (r *Registry) byTag(ctx context.Context, name, tag string) (registry.Manifest, error) {
	known, err := r.meta.MirroredTag(ctx, r.keptName(name), tag)
	if err != nil {
		return r.fetchOnce(ctx, name, registry.Reference{Tag: tag}, tag) // nothing is known, or nobody can be asked here
	}
	if known.Age < r.options.TagAge {
		r.observe(Event{Kind: KindManifest, Outcome: Kept})
		return r.serve(name, tag, known), nil
	}
	manifest, err := r.confirm(ctx, name, tag, known)
	switch {
	case err == nil:
		return manifest, nil
	case errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrDenied) || ctx.Err() != nil:
		return registry.Manifest{}, err // it has answered
	case known.Age < r.options.TagAge+r.options.StaleAge:
		r.observe(Event{Kind: KindManifest, Outcome: Stale, Err: err})
		manifest = r.serve(name, tag, known)
		manifest.Warning = fmt.Sprintf("the upstream registry of %s does not answer; this is what it said %s ago", name, known.Age.Round(time.Second))
		return manifest, nil
	}
	return registry.Manifest{}, err
}

// serve returns a kept manifest, which is pulled by that.
func (r *Registry) serve(name, tag string, known store.MirroredTag) registry.Manifest {
	if r.options.Kept.Pulled != nil {
		r.options.Kept.Pulled(r.keptName(name), known.Digest, tag)
	}
	return registry.Manifest{
		Descriptor: ocispec.Descriptor{MediaType: known.MediaType, Digest: known.Digest, Size: int64(len(known.Bytes))},
		Bytes:      known.Bytes,
	}
}

// confirm asks the upstream whether a tag is still what is known of it.
func (r *Registry) confirm(ctx context.Context, name, tag string, known store.MirroredTag) (registry.Manifest, error) {
	if !r.remote.pause.mayConfirm(name) {
		return registry.Manifest{}, unavailable()
	}
	return fly(ctx, r, "confirm "+name+":"+tag, func(ctx context.Context) (registry.Manifest, error) {
		now, err := r.tagDigest(ctx, name, tag)
		switch {
		case errors.Is(err, errMissing):
			return registry.Manifest{}, r.gone(ctx, name, tag)
		case refusesHEAD(err):
			return r.fetchTag(ctx, name, tag)
		case err != nil:
			return registry.Manifest{}, err
		}
		if now == known.Digest {
			if err := r.meta.ConfirmTag(ctx, r.keptName(name), tag, now); err != nil {
				r.notKept(ctx, name+":"+tag, err) // it is asked again sooner, no more
			}
			r.observe(Event{Kind: KindManifest, Outcome: Kept})
			return r.serve(name, tag, known), nil
		}
		if now != "" {
			if kept, err := r.kept.Manifest(ctx, r.keptName(name), registry.Reference{Digest: now}); err == nil {
				_ = r.keep(ctx, name, kept, tag) // it has been logged, and is asked again
				r.observe(Event{Kind: KindManifest, Outcome: Kept})
				return kept, nil
			}
		}
		return r.fetchTag(ctx, name, tag)
	})
}

// fetchTag fetches what a tag points to that is known.
func (r *Registry) fetchTag(ctx context.Context, name, tag string) (registry.Manifest, error) {
	manifest, err := r.fetch(ctx, name, registry.Reference{Tag: tag}, tag)
	if errors.Is(err, registry.ErrManifestUnknown) {
		r.forgetTag(ctx, name, tag)
	}
	return manifest, err
}

// tagDigest asks what a tag points to; "" is an answer that does not say.
func (r *Registry) tagDigest(ctx context.Context, name, tag string) (digest.Digest, error) {
	got, err := r.remote.ask(ctx, question{
		method: http.MethodHead, repository: name, path: "manifests/" + tag, header: accepted, timeout: r.options.ConfirmTimeout,
	})
	if err != nil {
		return "", err
	}
	got.close()
	d, err := cas.ParseDigest(got.Header.Get("Docker-Content-Digest"))
	if err != nil {
		return "", nil //nolint:nilerr // the manifest itself will tell
	}
	return d, nil
}

// refusesHEAD reports whether an upstream may answer GET where it does not take HEAD.
func refusesHEAD(err error) bool {
	var said *statusError
	return errors.As(err, &said) && slices.Contains([]int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented}, said.status)
}

// gone notes that the upstream does not have a tag any more.
func (r *Registry) gone(ctx context.Context, name, tag string) error {
	r.remember(ctx, name+":"+tag, registry.ErrManifestUnknown)
	r.observe(Event{Kind: KindManifest, Outcome: Missing})
	r.forgetTag(ctx, name, tag)
	return registry.ErrManifestUnknown
}

// forgetTag forgets a tag. What it pointed to can be pulled by its digest until it is evicted.
func (r *Registry) forgetTag(ctx context.Context, name, tag string) {
	if r.cause(ctx) != "" { // it may be there for others
		return
	}
	if err := r.kept.DeleteTag(ctx, r.keptName(name), tag); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
		r.notKept(ctx, "that "+name+":"+tag+" is gone", err)
	}
}

// fetchOnce fetches a manifest for all who want it now.
func (r *Registry) fetchOnce(ctx context.Context, name string, ref registry.Reference, tag string) (registry.Manifest, error) {
	key := name + ":" + ref.String()
	if err := r.absent(key); err != nil {
		r.observe(Event{Kind: KindManifest, Outcome: Missing})
		return registry.Manifest{}, err
	}
	return fly(ctx, r, "fetch "+key, func(ctx context.Context) (registry.Manifest, error) {
		if kept, ok := r.keptMeanwhile(ctx, name, ref); ok {
			return kept, nil
		}
		return r.fetch(ctx, name, ref, tag)
	})
}

// keptMeanwhile returns what somebody has fetched between when it was looked for and now.
func (r *Registry) keptMeanwhile(ctx context.Context, name string, ref registry.Reference) (registry.Manifest, bool) {
	if ref.Tag != "" {
		known, err := r.meta.MirroredTag(ctx, r.keptName(name), ref.Tag)
		if err != nil || known.Age >= r.options.TagAge {
			return registry.Manifest{}, false
		}
		r.observe(Event{Kind: KindManifest, Outcome: Kept})
		return r.serve(name, ref.Tag, known), true
	}
	kept, err := r.kept.Manifest(ctx, r.keptName(name), ref)
	if err == nil {
		r.observe(Event{Kind: KindManifest, Outcome: Kept})
	}
	return kept, err == nil
}

// fetch gets a manifest from the upstream and keeps it, under a tag if that is not "".
func (r *Registry) fetch(ctx context.Context, name string, ref registry.Reference, tag string) (registry.Manifest, error) {
	began := time.Now()
	manifest, err := r.download(ctx, name, ref)
	if errors.Is(err, errMissing) {
		r.remember(ctx, name+":"+ref.String(), registry.ErrManifestUnknown)
		r.observe(Event{Kind: KindManifest, Outcome: Missing})
		return registry.Manifest{}, fmt.Errorf("%w: %w", registry.ErrManifestUnknown, err)
	}
	if errors.Is(err, registry.ErrDenied) {
		r.remember(ctx, name+":"+ref.String(), denied)
	}
	if err != nil {
		r.observe(Event{Kind: KindManifest, Outcome: Failed, Took: time.Since(began), Err: err})
		return registry.Manifest{}, err
	}
	outcome, err := Fetched, r.keep(ctx, name, manifest, tag)
	if err != nil {
		outcome = Unkept
	}
	r.observe(Event{Kind: KindManifest, Outcome: outcome, Bytes: manifest.Size, Took: time.Since(began), Err: err})
	return manifest, nil
}

// keep stores a manifest that the upstream gave us. What cannot be stored is served all the same.
func (r *Registry) keep(ctx context.Context, name string, manifest registry.Manifest, tag string) error {
	put := registry.ManifestPut{MediaType: manifest.MediaType, Digest: manifest.Digest, Bytes: manifest.Bytes}
	if tag != "" {
		put.Tags = []string{tag}
	}
	_, err := r.kept.PutManifest(ctx, r.keptName(name), put)
	if err != nil {
		r.notKept(ctx, name+"@"+manifest.Digest.String(), err)
		return err
	}
	if r.options.Kept.Pulled != nil {
		r.options.Kept.Pulled(r.keptName(name), manifest.Digest, tag)
	}
	return nil
}

// download gets a manifest from the upstream. Its bytes have the digest that was asked for, and else the one that the upstream
// announced.
func (r *Registry) download(ctx context.Context, name string, ref registry.Reference) (registry.Manifest, error) {
	got, err := r.askManifest(ctx, name, ref)
	if err != nil {
		return registry.Manifest{}, err
	}
	defer got.close()
	return r.receiveManifest(ctx, name, ref, got)
}

func (r *Registry) askManifest(ctx context.Context, name string, ref registry.Reference) (*answer, error) {
	return r.remote.ask(ctx, question{method: http.MethodGet, repository: name, path: "manifests/" + ref.String(), header: accepted})
}

func (r *Registry) receiveManifest(ctx context.Context, name string, ref registry.Reference, got *answer) (registry.Manifest, error) {
	if got.ContentLength > maxManifest {
		return registry.Manifest{}, wrong("a manifest of %d bytes", got.ContentLength)
	}
	data, err := io.ReadAll(io.LimitReader(got.body, maxManifest+1))
	if err != nil {
		return registry.Manifest{}, r.remote.failed(ctx, name, fmt.Errorf("receive manifest: %w", err))
	}
	if len(data) > maxManifest {
		return registry.Manifest{}, wrong("a manifest of more than %d bytes", maxManifest)
	}
	d := ref.Digest
	if d == "" {
		if d, err = cas.ParseDigest(got.Header.Get("Docker-Content-Digest")); err != nil {
			d = digest.FromBytes(data)
		}
	}
	if d.Algorithm().FromBytes(data) != d {
		return registry.Manifest{}, wrong("a manifest that does not have the digest %s", d)
	}
	mediaType, _, err := mime.ParseMediaType(got.Header.Get("Content-Type"))
	if err != nil || len(mediaType) > maxMediaType || !strings.Contains(mediaType, "manifest") && !strings.Contains(mediaType, "index") {
		mediaType = "" // the manifest itself says
	}
	manifest := registry.Manifest{Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}, Bytes: data}
	return manifest, checkManifest(&manifest)
}

// checkManifest refuses what is no manifest at all, such as the page of a portal that wants a login, and finds its type.
func checkManifest(manifest *registry.Manifest) error {
	mediaType, err := registry.ManifestType(manifest.MediaType, manifest.Bytes)
	if err != nil {
		return wrong("what is no manifest: %v", err)
	}
	manifest.MediaType = mediaType
	return nil
}

// wrong is an answer of the upstream that nobody can use. It is the upstream's fault, and may be over soon.
func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: the upstream sent %s", &registry.RetryError{
		Err: registry.ErrUnavailable.With("the upstream registry gave a wrong answer"), After: 5 * time.Second,
	}, fmt.Sprintf(format, args...))
}
