package registry

import (
	"context"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Manifest implements [Reader].
func (l *Local) Manifest(ctx context.Context, repository string, ref Reference) (Manifest, error) {
	found, err := l.meta.Manifest(ctx, repository, store.ManifestRef(ref))
	if err != nil {
		return Manifest{}, translate(err)
	}
	if l.options.Pulled != nil {
		l.options.Pulled(repository, found.Digest, ref.Tag)
	}
	return Manifest{
		Descriptor: ocispec.Descriptor{MediaType: found.MediaType, Digest: found.Digest, Size: int64(len(found.Bytes))},
		Bytes:      found.Bytes,
	}, nil
}

// HasManifest reports whether a repository has any manifest, tagged or not. One that has none yet is an upload that is under way, or that
// stopped half-way. It is one query.
func (l *Local) HasManifest(ctx context.Context, repository string) (bool, error) {
	records, err := l.meta.ManifestRecords(ctx, repository, "", 1)
	return len(records) > 0, translate(err)
}

// PutManifest implements [Writer].
func (l *Local) PutManifest(ctx context.Context, repository string, put ManifestPut) (ManifestReceipt, error) {
	algorithm := digest.SHA256
	if put.Digest != "" {
		algorithm = put.Digest.Algorithm()
	}
	d := algorithm.FromBytes(put.Bytes)
	if put.Digest != "" && put.Digest != d {
		return ManifestReceipt{}, ErrDigestInvalid.With("manifest has digest %s, not %s", d, put.Digest)
	}
	document, err := parseManifest(put.MediaType, put.Bytes, l.options.AllowUnknownManifests)
	if err != nil {
		return ManifestReceipt{}, err
	}
	err = l.meta.PutManifest(ctx, store.ManifestPut{
		Repository: repository,
		Manifest: store.Manifest{
			Digest:       d,
			MediaType:    document.mediaType,
			ArtifactType: document.artifactType,
			Subject:      document.subject,
			Annotations:  document.annotations,
			Bytes:        put.Bytes,
		},
		References:   document.references,
		AllowMissing: l.options.AllowMissing,
		Tags:         put.Tags,
		Condition:    store.TagCondition{Absent: put.IfAbsent, AnyOf: put.IfTagged},
		Locked:       l.locked(repository),
	})
	if err != nil {
		return ManifestReceipt{}, translate(err)
	}
	return ManifestReceipt{
		Descriptor: ocispec.Descriptor{MediaType: document.mediaType, Digest: d, Size: int64(len(put.Bytes))},
		Subject:    document.subject,
	}, nil
}

// DeleteManifest implements [Deleter].
func (l *Local) DeleteManifest(ctx context.Context, repository string, d digest.Digest) error {
	if l.options.NoDelete {
		return errNoDelete
	}
	return translate(l.meta.DeleteManifest(ctx, repository, d, l.locked(repository)))
}
