package registry

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"
)

// maxNesting is how deep manifests may lie in one another that are brought from a source.
const maxNesting = 8

// PutManifest implements [Writer]. What the manifest refers to and only a source has is brought here first.
func (f *FallThrough) PutManifest(ctx context.Context, repository string, put ManifestPut) (ManifestReceipt, error) {
	return f.put(ctx, repository, put, maxNesting)
}

func (f *FallThrough) put(ctx context.Context, repository string, put ManifestPut, depth int) (ManifestReceipt, error) {
	receipt, err := f.local.PutManifest(ctx, repository, put)
	missing := missingDigests(err)
	if len(missing) == 0 || depth == 0 {
		return receipt, err
	}
	// What is linked for a manifest that is then refused is of no use to anybody: so nothing is before all has been found.
	b := &bringing{f, repository, kindsIn(put), depth}
	brings := make([]bring, len(missing))
	for i, d := range missing {
		var found error
		if brings[i], found = b.find(ctx, d); found != nil {
			return ManifestReceipt{}, errors.Join(err, found) // the client pushes what is missing
		}
	}
	for _, bring := range brings {
		if failed := bring(ctx); failed != nil {
			return ManifestReceipt{}, errors.Join(err, failed)
		}
	}
	return f.local.PutManifest(ctx, repository, put)
}

// bring makes local what a source has: a blob, or a manifest with all that it refers to.
type bring func(ctx context.Context) error

// bringing is what is done for one manifest.
type bringing struct {
	*FallThrough
	repository string
	kinds      map[digest.Digest][]kind
	depth      int
}

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

// find looks for something among the sources. It waits for none for long: the client has it, and can push it.
func (b *bringing) find(ctx context.Context, d digest.Digest) (bring, error) {
	kinds, ok := b.kinds[d]
	if !ok {
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
		}
	}
	return nil, fmt.Errorf("look for %s behind: %w", d, failed)
}

func (b *bringing) blob(ctx context.Context, source *source, d digest.Digest) (bring, error) {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := source.Registry.StatBlob(asking, b.repository, d)
	return func(ctx context.Context) error { return source.Link(ctx, b.repository, d, b.repository) }, err
}

func (b *bringing) manifest(ctx context.Context, source *source, d digest.Digest) (bring, error) {
	asking, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	manifest, err := source.Registry.Manifest(asking, b.repository, Reference{Digest: d})
	put := ManifestPut{MediaType: manifest.MediaType, Digest: d, Bytes: manifest.Bytes}
	return func(ctx context.Context) error {
		_, err := b.put(ctx, b.repository, put, b.depth-1)
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
