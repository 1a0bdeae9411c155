package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxNesting is how deep manifests may lie in one another that are brought from a source.
const maxNesting = 8

// PutManifest implements [Writer]. What the manifest refers to and only a source has is brought here first.
func (f *FallThrough) PutManifest(ctx context.Context, repository string, put ManifestPut) (ManifestReceipt, error) {
	b := &bringing{f, repository, map[*source]bool{}}
	return b.put(ctx, put, maxNesting)
}

// bringing is what is done for one manifest of a client, and for those in it.
type bringing struct {
	*FallThrough
	repository string
	failed     map[*source]bool // for which the client is not to wait again
}

func (b *bringing) put(ctx context.Context, put ManifestPut, depth int) (ManifestReceipt, error) {
	receipt, err := b.local.PutManifest(ctx, b.repository, put)
	missing := missingDigests(err)
	if len(missing) == 0 || depth == 0 {
		return receipt, err
	}
	// What is linked for a manifest that is then refused is of no use to anybody: so nothing is before all has been found.
	kinds := kindsIn(put)
	brings := make([]bring, len(missing))
	for i, d := range missing {
		var found error
		if brings[i], found = b.find(ctx, d, kinds[d]); found != nil {
			return ManifestReceipt{}, errors.Join(err, found) // the client pushes what is missing
		}
	}
	for _, bring := range brings {
		if failed := bring(ctx, depth-1); failed != nil {
			return ManifestReceipt{}, errors.Join(err, failed)
		}
	}
	return b.local.PutManifest(ctx, b.repository, put)
}

// bring makes local what a source has: a blob, or a manifest with all that it refers to, which may lie so deep in one another.
type bring func(ctx context.Context, depth int) error

// kind is what a manifest refers to: how a source is asked for it.
type kind func(b *bringing, ctx context.Context, source *source, d digest.Digest) (bring, error)

// kindsIn returns as what each thing is looked for that a manifest refers to. Layers and configurations are blobs, and asking for them as
// manifests would be a request upstream for each. What an index calls by a type that is not known may be either.
func kindsIn(put ManifestPut) map[digest.Digest][]kind {
	kinds := map[digest.Digest][]kind{}
	document, err := parseManifest(put.MediaType, put.Bytes, true)
	if err != nil {
		return kinds
	}
	for _, ref := range document.references {
		switch {
		case ref.Manifest:
			kinds[ref.Digest] = []kind{(*bringing).manifest}
		case shapeOf(document.mediaType) == shapeImage:
			kinds[ref.Digest] = []kind{(*bringing).blob}
		}
	}
	return kinds
}

// find looks for something among the sources, as each of the kinds that it may be. It waits for none for long, and once one has failed
// only for what that keeps: the client has it, and can push it.
func (b *bringing) find(ctx context.Context, d digest.Digest, kinds []kind) (bring, error) {
	if len(kinds) == 0 {
		kinds = []kind{(*bringing).blob, (*bringing).manifest}
	}
	var failed error = ErrBlobUnknown
	for _, source := range b.sources {
		if source.Link == nil {
			continue
		}
		for _, look := range kinds {
			bring, err := look(b, ctx, source, d)
			if err == nil {
				return bring, nil
			}
			failed = err
			if !isUnknown(err, ErrBlobUnknown) && !isUnknown(err, ErrManifestUnknown) && !isRefusal(err) {
				b.failed[source] = true
			}
		}
	}
	return nil, fmt.Errorf("look for %s behind: %w", d, failed)
}

func (b *bringing) patience(s *source) time.Duration {
	if b.failed[s] {
		return restPatience
	}
	return patience
}

func (b *bringing) blob(ctx context.Context, source *source, d digest.Digest) (bring, error) {
	_, err := soon(ctx, source, b.patience(source), func(ctx context.Context, r Registry) (ocispec.Descriptor, error) {
		return r.StatBlob(ctx, b.repository, d)
	})
	return func(ctx context.Context, _ int) error { return source.Link(ctx, b.repository, d, b.repository) }, err
}

func (b *bringing) manifest(ctx context.Context, source *source, d digest.Digest) (bring, error) {
	manifest, err := soon(ctx, source, b.patience(source), func(ctx context.Context, r Registry) (Manifest, error) {
		return r.Manifest(ctx, b.repository, Reference{Digest: d})
	})
	put := ManifestPut{MediaType: manifest.MediaType, Digest: d, Bytes: manifest.Bytes}
	return func(ctx context.Context, depth int) error {
		_, err := b.put(ctx, put, depth)
		return err
	}, err
}

// missingDigests returns what a put said that the manifest refers to and is not here.
func missingDigests(err error) []digest.Digest {
	var many Errors
	if !errors.As(err, &many) {
		return nil
	}
	var missing []digest.Digest
	for _, one := range many {
		detail, ok := one.Detail.(map[string]string)
		if !one.Is(ErrManifestBlobUnknown) || !ok {
			return nil
		}
		missing = append(missing, digest.Digest(detail["digest"]))
	}
	return missing
}
