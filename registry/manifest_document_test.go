package registry

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

const (
	typeImage = ocispec.MediaTypeImageManifest
	typeIndex = ocispec.MediaTypeImageIndex
	digestA   = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB   = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	aConfig   = `"config":{"mediaType":"application/vnd.test.config","digest":"` + digestA + `","size":2}`
	anEntry   = `{"mediaType":"` + typeImage + `","digest":"` + digestB + `","size":3}`
)

func TestManifestsThatAreNotOneAreRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ mediaType, body, says string }{
		"Empty":                       {typeImage, ``, "not a JSON document"},
		"NotAnObject":                 {typeImage, `[]`, "not an object"},
		"TrailingData":                {typeImage, `{"schemaVersion":2,` + aConfig + `}{}`, "not a JSON document"},
		"NoSchemaVersion":             {typeImage, `{` + aConfig + `}`, "schemaVersion"},
		"SchemaVersion1":              {typeImage, `{"schemaVersion":1,` + aConfig + `}`, "schemaVersion"},
		"Schema1":                     {mediaTypeDockerSchema1 + "prettyjws", `{"schemaVersion":1}`, "schema 1"},
		"UnknownType":                 {"application/json", `{"schemaVersion":2}`, "application/json"},
		"NegativeSize":                {typeImage, `{"schemaVersion":2,"config":{"digest":"` + digestA + `","size":-1}}`, "negative"},
		"BadDigest":                   {typeImage, `{"schemaVersion":2,"config":{"digest":"sha256:AB","size":1}}`, "config: digest"},
		"NoDigest":                    {typeImage, `{"schemaVersion":2,"config":{"size":1}}`, "digest is missing"},
		"BadSubject":                  {typeImage, `{"schemaVersion":2,` + aConfig + `,"subject":{"digest":"x"}}`, "subject"},
		"NoConfig":                    {typeImage, `{"schemaVersion":2,"layers":[]}`, "config is missing"},
		"ManifestsBesideConfig":       {typeImage, `{"schemaVersion":2,` + aConfig + `,"manifests":[]}`, "beside"},
		"ManifestsBesideLayers":       {typeIndex, `{"schemaVersion":2,"layers":[],"manifests":[]}`, "beside"},
		"IndexWithAConfig":            {typeIndex, `{"schemaVersion":2,` + aConfig + `}`, "fields"},
		"MediaTypeConflict":           {typeImage, `{"schemaVersion":2,"mediaType":"` + typeIndex + `",` + aConfig + `}`, "Content-Type"},
		"DuplicateKey":                {typeImage, `{"schemaVersion":2,` + aConfig + `,` + aConfig + `}`, "twice"},
		"CaseVariantOfAKey":           {typeImage, `{"schemaVersion":2,` + aConfig + `,"Layers":[]}`, `"Layers"`},
		"EscapedDuplicateKey":         {typeImage, `{"schemaVersion":2,` + aConfig + `,"\u0063onfig":{}}`, "twice"},
		"CaseVariantInADescriptor":    {typeImage, `{"schemaVersion":2,"config":{"digest":"` + digestA + `","Digest":"` + digestB + `"}}`, `"Digest"`},
		"LayersNotAnArray":            {typeImage, `{"schemaVersion":2,` + aConfig + `,"layers":{}}`, "not an array"},
		"LayerNotAnObject":            {typeImage, `{"schemaVersion":2,` + aConfig + `,"layers":[1]}`, "entry 0"},
		"NothingTellsTheType":         {"", `{"schemaVersion":2}`, "no Content-Type"},
		"UnknownTypeInBody":           {"", `{"schemaVersion":2,"mediaType":"text/plain",` + aConfig + `}`, "no Content-Type"},
		"AnnotationsOfAnotherType":    {typeImage, `{"schemaVersion":2,` + aConfig + `,"annotations":{"a":1}}`, "annotations"},
		"SizeThatIsNotAnInteger":      {typeImage, `{"schemaVersion":2,"config":{"digest":"` + digestA + `","size":1.5}}`, "size"},
		"SchemaVersionThatIsAString":  {typeImage, `{"schemaVersion":"2",` + aConfig + `}`, "schemaVersion"},
		"MediaTypeThatIsNotOfAString": {typeImage, `{"schemaVersion":2,"mediaType":[],` + aConfig + `}`, "mediaType"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := parseManifest(test.mediaType, []byte(test.body), false)
			require.ErrorIs(t, err, ErrManifestInvalid)
			assert.ErrorContains(t, err, test.says)
		})
	}
}

func TestManifestTellsWhatItRefersTo(t *testing.T) {
	t.Parallel()
	foreign := `{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"` + digestB + `","size":3,"urls":["https://example.com/l"]}`
	tests := map[string]struct {
		mediaType, body string
		want            document
	}{
		"Image": {
			"", `{"schemaVersion":2,` + aConfig + `,"layers":[` + anEntry + `,` + anEntry + `],"unknown":{"layers":3},"annotations":{"k":"v"}}`,
			document{
				mediaType: typeImage, artifactType: "application/vnd.test.config", annotations: map[string]string{"k": "v"},
				references: []store.Reference{{Digest: digestA}, {Digest: digestB}},
			},
		},
		"ForeignLayer": {
			mediaTypeDockerManifest, `{"schemaVersion":2,` + aConfig + `,"layers":[` + foreign + `]}`,
			document{
				mediaType: mediaTypeDockerManifest, artifactType: "application/vnd.test.config",
				references: []store.Reference{{Digest: digestA}, {Digest: digestB, Optional: true}},
			},
		},
		"Index": {
			typeIndex, `{ "schemaVersion" : 2 , "artifactType" : "a/b", "manifests" : [ ` + anEntry + ` ] , "subject":{"digest":"` + digestA + `"} }`,
			document{
				mediaType: typeIndex, artifactType: "a/b", subject: digestA,
				references: []store.Reference{{Digest: digestB, Manifest: true}},
			},
		},
		"IndexOfBlobs": {
			typeIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"` + digestB + `","size":1}]}`,
			document{mediaType: typeIndex, references: []store.Reference{{Digest: digestB}}},
		},
		"EmptyIndex": {"", `{"schemaVersion":2,"manifests":[]}`, document{mediaType: typeIndex}},
		"NullFields": {
			typeIndex, `{"schemaVersion":2,"manifests":[],"config":null,"layers":null,"subject":null,"annotations":null}`,
			document{mediaType: typeIndex},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseManifest(test.mediaType, []byte(test.body), false)
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func TestManifestOfAnUnknownTypeIsTakenWhereThatIsAllowed(t *testing.T) {
	t.Parallel()
	got, err := parseManifest("application/vnd.example+json", []byte(`anything`), true)
	require.NoError(t, err)
	assert.Equal(t, document{mediaType: "application/vnd.example+json"}, got)
}

// FuzzManifest compares with encoding/json: what is accepted, it reads as the same manifest.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,` + aConfig + `,"layers":[` + anEntry + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[ ` + anEntry + ` , ` + anEntry + `],"subject":` + anEntry + `}`))
	f.Add([]byte(` { "\u0073chemaVersion":2e0, "x":[{"y":"]\"}"},1,null] , "manifests" : [ ] } `))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseManifest("", data, false)
		if err != nil {
			require.ErrorIs(t, err, ErrManifestInvalid)
			return
		}
		if shapeOf(got.mediaType) == shapeIndex {
			var index ocispec.Index
			require.NoError(t, json.Unmarshal(data, &index))
			for _, child := range index.Manifests {
				requireReference(t, got, child.Digest)
			}
			return
		}
		var manifest ocispec.Manifest
		require.NoError(t, json.Unmarshal(data, &manifest))
		requireReference(t, got, manifest.Config.Digest)
		for _, layer := range manifest.Layers {
			requireReference(t, got, layer.Digest)
		}
	})
}

func requireReference(t *testing.T, d document, want digest.Digest) {
	t.Helper()
	for _, ref := range d.references {
		if ref.Digest == want {
			return
		}
	}
	require.Failf(t, "reference lost", "%s is not among %v", want, d.references)
}

func BenchmarkParseManifest(b *testing.B) {
	data := []byte(`{"schemaVersion":2,"mediaType":"` + typeImage + `",` + aConfig + `,"layers":[` + strings.Repeat(anEntry+",", 7) + anEntry + `]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseManifest(typeImage, data, false); err != nil {
			b.Fatal(err)
		}
	}
}
