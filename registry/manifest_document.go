package registry

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ocikit/ocikit/store"
)

// The manifest types whose references are known: OCI's are in image-spec, these are Docker's.
const (
	mediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	mediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	mediaTypeDockerSchema1  = "application/vnd.docker.distribution.manifest.v1+"
)

// shape tells the two kinds of manifests apart.
type shape int

const (
	shapeUnknown shape = iota
	shapeImage         // config and layers
	shapeIndex         // manifests
)

func shapeOf(mediaType string) shape {
	switch mediaType {
	case ocispec.MediaTypeImageManifest, mediaTypeDockerManifest:
		return shapeImage
	case ocispec.MediaTypeImageIndex, mediaTypeDockerList:
		return shapeIndex
	}
	return shapeUnknown
}

// document is what the registry has to know of a manifest. The bytes themselves are kept as they came.
type document struct {
	mediaType    string
	artifactType string // as the referrers API tells it
	subject      digest.Digest
	annotations  map[string]string
	references   []store.Reference // each digest once
}

// parseManifest reads and checks a manifest. mediaType is what the client called it, or "". Every error is an
// ErrManifestInvalid that tells what is wrong.
func parseManifest(mediaType string, data []byte, allowUnknown bool) (document, error) {
	known := mediaType == "" || shapeOf(mediaType) != shapeUnknown
	switch {
	case strings.HasPrefix(mediaType, mediaTypeDockerSchema1):
		return document{}, ErrManifestInvalid.With("schema 1 manifests are not supported")
	case !known && !allowUnknown:
		return document{}, ErrManifestInvalid.With("media type %q is not one of a manifest or an index", mediaType)
	case !known:
		return document{mediaType: mediaType}, nil
	}
	if !json.Valid(data) {
		return document{}, ErrManifestInvalid.With("not a JSON document")
	}
	var m manifestFields
	if err := m.parse(data); err != nil {
		return document{}, ErrManifestInvalid.With("%s", err)
	}
	return m.document(mediaType)
}

// ManifestType returns the media type of a manifest: what it was called, without parameters, or where that is "", what it says of
// itself. It fails with ErrManifestInvalid for what no registry takes as a manifest of a type that is known.
func ManifestType(mediaType string, data []byte) (string, error) {
	d, err := parseManifest(mediaType, data, true)
	return d.mediaType, err
}

// document checks what a manifest says of itself against what the client called it, and against itself.
func (m *manifestFields) document(mediaType string) (document, error) {
	if m.schemaVersion != 2 {
		return document{}, ErrManifestInvalid.With("schemaVersion is not 2")
	}
	is := m.shape()
	if mediaType == "" {
		mediaType = m.mediaType
	}
	if mediaType == "" {
		mediaType = map[shape]string{shapeImage: ocispec.MediaTypeImageManifest, shapeIndex: ocispec.MediaTypeImageIndex}[is]
	}
	want := shapeOf(mediaType)
	switch {
	case m.mediaType != "" && m.mediaType != mediaType:
		return document{}, ErrManifestInvalid.With("mediaType is %q, but the Content-Type is %q", m.mediaType, mediaType)
	case m.manifests != nil && (m.config != nil || m.layers != nil):
		return document{}, ErrManifestInvalid.With("manifests stands beside config or layers: neither a manifest nor an index")
	case want == shapeUnknown:
		return document{}, ErrManifestInvalid.With("no Content-Type, and neither mediaType nor fields of a manifest or an index")
	case want == shapeImage && m.manifests != nil, want == shapeIndex && is == shapeImage:
		return document{}, ErrManifestInvalid.With("the fields are not those of a %s", mediaType)
	case want == shapeImage && m.config == nil:
		return document{}, ErrManifestInvalid.With("config is missing")
	}
	d := document{mediaType: mediaType, artifactType: m.artifactType, annotations: m.annotations, references: m.references()}
	if d.artifactType == "" && m.config != nil {
		d.artifactType = m.config.mediaType
	}
	if m.subject != nil {
		d.subject = m.subject.digest
	}
	return d, nil
}

func (m *manifestFields) shape() shape {
	switch {
	case m.manifests != nil:
		return shapeIndex
	case m.config != nil || m.layers != nil:
		return shapeImage
	}
	return shapeUnknown
}

// references returns what the manifest needs. The subject is not among it: it may be missing.
func (m *manifestFields) references() []store.Reference {
	var all []store.Reference
	at := map[digest.Digest]int{}
	add := func(ref store.Reference) {
		i, ok := at[ref.Digest]
		if !ok {
			at[ref.Digest] = len(all)
			all = append(all, ref)
			return
		}
		all[i].Manifest = all[i].Manifest || ref.Manifest
		all[i].Optional = all[i].Optional && ref.Optional
	}
	if m.config != nil {
		add(store.Reference{Digest: m.config.digest})
	}
	for _, layer := range m.layers {
		add(store.Reference{Digest: layer.digest, Optional: layer.elsewhere()})
	}
	for _, child := range m.manifests {
		// An entry of another type may be a blob: BuildKit's cache lists layers in an index.
		add(store.Reference{Digest: child.digest, Manifest: shapeOf(child.mediaType) != shapeUnknown})
	}
	return all
}

// elsewhere reports whether a layer is one that clients fetch from its URLs, and do not push.
func (d *descriptorFields) elsewhere() bool {
	return d.urls && (strings.Contains(d.mediaType, ".nondistributable.") || strings.Contains(d.mediaType, ".foreign."))
}
