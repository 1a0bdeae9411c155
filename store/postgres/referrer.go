package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Referrers implements [store.Catalog]. It is one statement, and one round trip.
func (m *Metadata) Referrers(ctx context.Context, repository string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error) {
	if subject == "" {
		return nil, nil // what has no subject refers to nothing
	}
	types := make([]string, len(page.ArtifactTypes))
	for i, artifactType := range page.ArtifactTypes {
		types[i] = encodeText(artifactType)
	}
	// One repository by its name, and a range of the index by subject, by digest. The literal condition on the subject lets
	// PostgreSQL use that index, which holds nothing else.
	return query(ctx, m, "referrers", `
		select media_type, digest, size, artifact_type, annotations from {schema}.manifests
		where repository = (select id from {schema}.repositories where name = $1)
			and subject = $2 and subject <> '' and digest > $3
			and (cardinality($4::text[]) = 0 or artifact_type = any($4::text[]))
		order by digest limit $5`,
		[]any{repository, subject.String(), position(page.After.String()), types, max(page.Limit, 0)},
		func(scan func(...any) error) (d ocispec.Descriptor, err error) {
			var annotations []byte
			if err := scan(&d.MediaType, &d.Digest, &d.Size, &d.ArtifactType, &annotations); err != nil {
				return ocispec.Descriptor{}, err
			}
			d.MediaType, d.ArtifactType, d.Annotations, err = decodeDescription(d.MediaType, d.ArtifactType, annotations)
			return d, err
		})
}

// decodeDescription returns what the columns of a manifest's row stand for.
func decodeDescription(mediaType, artifactType string, annotations []byte) (media, artifact string, decoded map[string]string, err error) {
	if media, err = decodeText(mediaType); err != nil {
		return "", "", nil, fmt.Errorf("decode media type: %w", err)
	}
	if artifact, err = decodeText(artifactType); err != nil {
		return "", "", nil, fmt.Errorf("decode artifact type: %w", err)
	}
	decoded, err = decodeAnnotations(annotations)
	return media, artifact, decoded, err
}

// encodeAnnotations returns the column for annotations: JSON, or nil for none.
func encodeAnnotations(annotations map[string]string) (*string, error) {
	if annotations == nil {
		return nil, nil
	}
	text, err := json.Marshal(annotations)
	if err != nil {
		return nil, fmt.Errorf("encode annotations: %w", err)
	}
	column := string(text)
	return &column, nil
}

// decodeAnnotations is its inverse.
func decodeAnnotations(column []byte) (map[string]string, error) {
	if column == nil {
		return nil, nil
	}
	var annotations map[string]string
	if err := json.Unmarshal(column, &annotations); err != nil {
		return nil, fmt.Errorf("decode annotations: %w", err)
	}
	return annotations, nil
}
