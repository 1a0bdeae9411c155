package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/ocikit/ocikit/cas"
)

// A manifest is read by other programs than this one, each with its own JSON decoder, and they must not see another manifest
// than the registry did: Go's folds the case of keys and takes the last of two, others do not. So the fields that matter are read here key
// by key, and a key that stands twice, or in another case, is refused.

// manifestFields is a manifest's or an index's fields, as they stand. A field that is missing or null is nil.
type manifestFields struct {
	schemaVersion int64
	mediaType     string
	artifactType  string
	config        *descriptorFields
	layers        []descriptorFields
	manifests     []descriptorFields
	subject       *descriptorFields
	annotations   map[string]string
}

type descriptorFields struct {
	mediaType string
	digest    digest.Digest
	size      int64
	urls      bool // has some
}

var manifestKeys = []string{
	"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
}

// parse reads a valid JSON document.
func (m *manifestFields) parse(data []byte) error {
	return parseObject(data, manifestKeys, func(key string, value []byte) (err error) {
		switch key {
		case "schemaVersion":
			m.schemaVersion, err = parseInteger(value)
		case "mediaType":
			m.mediaType, err = parseString(value)
		case "artifactType":
			m.artifactType, err = parseString(value)
		case "annotations":
			err = json.Unmarshal(value, &m.annotations)
		case "config":
			m.config, err = parseDescriptor(value)
		case "subject":
			m.subject, err = parseDescriptor(value)
		case "layers":
			m.layers, err = parseDescriptors(value)
		case "manifests":
			m.manifests, err = parseDescriptors(value)
		}
		return err
	})
}

// parseDescriptors reads an array of descriptors; it is never nil, unless it is null.
func parseDescriptors(value []byte) ([]descriptorFields, error) {
	if value[0] != '[' {
		return nil, errors.New("not an array")
	}
	all := []descriptorFields{}
	for element := range elements(value) {
		d, err := parseDescriptor(element)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(all), err)
		}
		all = append(all, *d)
	}
	return all, nil
}

var descriptorKeys = []string{"mediaType", "digest", "size", "urls"}

func parseDescriptor(value []byte) (*descriptorFields, error) {
	var d descriptorFields
	err := parseObject(value, descriptorKeys, func(key string, value []byte) (err error) {
		switch key {
		case "mediaType":
			d.mediaType, err = parseString(value)
		case "size":
			d.size, err = parseInteger(value)
		case "digest":
			var s string
			if s, err = parseString(value); err == nil {
				d.digest, err = cas.ParseDigest(s)
			}
		case "urls":
			var urls []string
			err = json.Unmarshal(value, &urls)
			d.urls = len(urls) > 0
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case d.digest == "":
		return nil, errors.New("digest is missing")
	case d.size < 0:
		return nil, errors.New("size is negative")
	}
	return &d, nil
}

// parseObject hands the values of the known keys of a JSON object to set. A null is as good as no value.
func parseObject(value []byte, known []string, set func(key string, value []byte) error) error {
	value = trimSpace(value)
	if value[0] != '{' {
		return errors.New("not an object")
	}
	var seen [8]bool // as long as the longest list of known keys
	for key, value := range members(value) {
		i := slices.IndexFunc(known, func(k string) bool { return k == string(key) || bytes.EqualFold([]byte(k), key) })
		switch {
		case i < 0:
			continue
		case known[i] != string(key):
			return fmt.Errorf("key %q is not %q", key, known[i])
		case seen[i]:
			return fmt.Errorf("key %q stands twice", key)
		}
		seen[i] = true
		if string(value) == "null" {
			continue
		}
		if err := set(known[i], value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return nil
}
