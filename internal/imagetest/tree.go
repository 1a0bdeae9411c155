package imagetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Digest names content.
type Digest = digest.Digest

// Tree is a manifest or an index with all that it refers to.
type Tree struct {
	// Root describes the manifest or index.
	Root ocispec.Descriptor
	// Content is every manifest, configuration and layer, the root included.
	Content map[Digest][]byte
}

// NewIndex joins images into an index, in their order, with their platforms.
func NewIndex(images ...*Image) (*Tree, error) {
	tree := &Tree{Content: map[Digest][]byte{}}
	index := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
	}
	for _, image := range images {
		index.Manifests = append(index.Manifests, image.Root)
		for digest, content := range image.Content {
			tree.Content[digest] = content
		}
	}
	var err error
	tree.Root, err = tree.addJSON(ocispec.MediaTypeImageIndex, index)
	if err != nil {
		return nil, err
	}
	return tree, nil
}

func (t *Tree) add(mediaType string, content []byte) ocispec.Descriptor {
	descriptor := ocispec.Descriptor{
		MediaType: mediaType,
		Digest:    digest.FromBytes(content),
		Size:      int64(len(content)),
	}
	t.Content[descriptor.Digest] = content
	return descriptor
}

func (t *Tree) addJSON(mediaType string, value any) (ocispec.Descriptor, error) {
	content, err := json.Marshal(value)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encode %s: %w", mediaType, err)
	}
	return t.add(mediaType, content), nil
}

// newLayer returns a compressed layer that holds one file, and the digest of the
// layer before compression.
func newLayer(file File) (layer []byte, diffID Digest, err error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: file.Path, Mode: file.Mode, Size: int64(len(file.Content))}
	if err := w.WriteHeader(header); err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	if _, err := w.Write(file.Content); err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	if err := w.Close(); err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	var compressed bytes.Buffer
	z, err := gzip.NewWriterLevel(&compressed, gzip.BestSpeed)
	if err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	if _, err := z.Write(archive.Bytes()); err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	if err := z.Close(); err != nil {
		return nil, "", fmt.Errorf("make layer of %s: %w", file.Path, err)
	}
	return compressed.Bytes(), digest.FromBytes(archive.Bytes()), nil
}
