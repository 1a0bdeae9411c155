package sqlite

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// Referrers implements [store.Catalog]. It is one statement.
func (m *Metadata) Referrers(ctx context.Context, repository string, subject digest.Digest, page store.ReferrersPage) ([]ocispec.Descriptor, error) {
	if subject == "" {
		return nil, nil // what has no subject refers to nothing
	}
	return read(ctx, m, "referrers", func(c *connection) ([]ocispec.Descriptor, error) {
		// One repository by its name, and a range of the index by subject, by digest. The literal condition on the subject lets
		// SQLite use that index, which holds nothing else.
		return rows(c, `
			select m.media_type, m.digest, m.size, m.artifact_type, m.annotations
			from repositories r
			cross join manifests m on m.repository = r.id and m.subject = ?2 and m.subject <> '' and m.digest > ?3
			where r.name = ?1 and (?4 = '[]' or m.artifact_type in (select value from json_each(?4)))
			order by m.digest limit ?5`,
			[]any{repository, subject, page.After, types(page.ArtifactTypes), max(page.Limit, 0)},
			func(scan func(...any) error) (d ocispec.Descriptor, err error) {
				var annotations []byte
				if err := scan(&d.MediaType, &d.Digest, &d.Size, &d.ArtifactType, &annotations); err != nil {
					return ocispec.Descriptor{}, err
				}
				d.Annotations, err = decodeAnnotations(annotations)
				return d, err
			})
	})
}

// types is the filter's argument: nil and empty are the same.
func types(artifactTypes []string) string {
	if len(artifactTypes) == 0 {
		return "[]"
	}
	return list(artifactTypes)
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
