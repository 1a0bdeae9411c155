package imagetest

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// WriteLayout writes the tree as an OCI layout into a folder, which is made if
// it is not there, with the root under the given tag.
func (t *Tree) WriteLayout(folder, tag string) error {
	files, err := t.layoutFiles(tag)
	if err != nil {
		return err
	}
	return writeFiles(folder, files)
}

// WriteArchive writes the tree as a tar archive of an OCI layout. The root is
// under the given tag, and under the image's full name if that is not empty
// (containerd takes the name from there).
func (t *Tree) WriteArchive(path, tag, name string) (err error) {
	files, err := t.layoutFiles(tag)
	if err != nil {
		return err
	}
	if name != "" {
		if files[1], err = t.indexFile(tag, name); err != nil {
			return err
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write archive: %w", closeErr)
		}
	}()
	w := tar.NewWriter(f)
	for _, file := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: file.Path, Mode: file.Mode, Size: int64(len(file.Content))}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
		if _, err := w.Write(file.Content); err != nil {
			return fmt.Errorf("write archive: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// WriteBuildContext writes a Dockerfile, and the files that it copies, one layer
// each, into a folder, which is made if it is not there.
func (i *Image) WriteBuildContext(folder string) error {
	dockerfile := "FROM scratch\n"
	for _, file := range i.Files {
		dockerfile += "COPY " + file.Path + " /" + file.Path + "\n"
	}
	dockerfile += "ENTRYPOINT [\"/bin/hello\"]\n"
	files := append([]File{{Path: "Dockerfile", Mode: 0o644, Content: []byte(dockerfile)}}, i.Files...)
	return writeFiles(folder, files)
}

// layoutFiles lists the files of an OCI layout; the index is the second.
func (t *Tree) layoutFiles(tag string) ([]File, error) {
	version, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", ocispec.ImageLayoutFile, err)
	}
	index, err := t.indexFile(tag, "")
	if err != nil {
		return nil, err
	}
	files := []File{{Path: ocispec.ImageLayoutFile, Mode: 0o644, Content: version}, index}
	for digest, content := range t.Content {
		path := filepath.Join(ocispec.ImageBlobsDir, digest.Algorithm().String(), digest.Encoded())
		files = append(files, File{Path: path, Mode: 0o644, Content: content})
	}
	return files, nil
}

func (t *Tree) indexFile(tag, name string) (File, error) {
	root := t.Root
	root.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	if name != "" {
		root.Annotations["io.containerd.image.name"] = name
	}
	content, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{root},
	})
	if err != nil {
		return File{}, fmt.Errorf("encode %s: %w", ocispec.ImageIndexFile, err)
	}
	return File{Path: ocispec.ImageIndexFile, Mode: 0o644, Content: content}, nil
}

func writeFiles(folder string, files []File) error {
	for _, file := range files {
		path := filepath.Join(folder, file.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
		if err := os.WriteFile(path, file.Content, os.FileMode(file.Mode)); err != nil {
			return fmt.Errorf("write %s: %w", file.Path, err)
		}
	}
	return nil
}
