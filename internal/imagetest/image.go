package imagetest

import (
	_ "crypto/sha256" // that go-digest finds it
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// defaultLargeSize is beyond 20 MB, compressed too: the content is random.
const defaultLargeSize = 24 << 20

// Options say what an image holds. The zero value is right.
type Options struct {
	// Architecture is the GOARCH that the program is built for; the default is
	// this machine's.
	Architecture string
	// Greeting is what the image prints first. The default is "hello".
	Greeting string
	// LargeSize is the size of the large file, in bytes. The default is 24 MiB.
	LargeSize int64
}

// Image is an image and what went into it.
type Image struct {
	Tree
	// Output is what the image prints when it runs, without the new line.
	Output string
	// Files are the contents of the image, in the order of its layers.
	Files []File
}

// File is a file of an image.
type File struct {
	Path    string // from the root of the image, without the slash
	Mode    int64
	Content []byte
}

// NewImage builds an image for Linux. It runs the go command, for the program
// that the image holds.
func NewImage(options Options) (*Image, error) {
	if options.Architecture == "" {
		options.Architecture = runtime.GOARCH
	}
	if options.Greeting == "" {
		options.Greeting = "hello"
	}
	if options.LargeSize == 0 {
		options.LargeSize = defaultLargeSize
	}
	program, err := buildProgram(options.Architecture)
	if err != nil {
		return nil, err
	}
	large := randomBytes(options.LargeSize)
	image := &Image{
		Tree:   Tree{Content: map[Digest][]byte{}},
		Output: fmt.Sprintf("%s %x", options.Greeting, crc32.ChecksumIEEE(large)),
		Files: []File{
			{Path: "bin/hello", Mode: 0o755, Content: program},
			{Path: "etc/greeting", Mode: 0o644, Content: []byte(options.Greeting)},
			{Path: "var/large", Mode: 0o644, Content: large},
		},
	}
	if err := image.assemble(options.Architecture); err != nil {
		return nil, err
	}
	return image, nil
}

// assemble makes a layer of each file, the configuration and the manifest.
func (i *Image) assemble(architecture string) error {
	config := ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: architecture},
		Config:   ocispec.ImageConfig{Entrypoint: []string{"/bin/hello"}, WorkingDir: "/"},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
	}
	for _, file := range i.Files {
		layer, diffID, err := newLayer(file)
		if err != nil {
			return err
		}
		manifest.Layers = append(manifest.Layers, i.add(ocispec.MediaTypeImageLayerGzip, layer))
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID)
		config.History = append(config.History, ocispec.History{CreatedBy: "add " + file.Path})
	}
	var err error
	if manifest.Config, err = i.addJSON(ocispec.MediaTypeImageConfig, config); err != nil {
		return err
	}
	if i.Root, err = i.addJSON(ocispec.MediaTypeImageManifest, manifest); err != nil {
		return err
	}
	i.Root.Platform = &config.Platform
	return nil
}

// buildProgram compiles the program hello, without anything of this machine in it.
func buildProgram(architecture string) ([]byte, error) {
	folder, err := os.MkdirTemp("", "imagetest")
	if err != nil {
		return nil, fmt.Errorf("build hello: %w", err)
	}
	defer func() { _ = os.RemoveAll(folder) }()
	path := filepath.Join(folder, "hello")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path,
		"github.com/ocikit/ocikit/internal/imagetest/hello")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+architecture)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build hello for %s: %w\n%s", architecture, err, out)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("build hello: %w", err)
	}
	return program, nil
}

// randomBytes returns bytes that no compression makes smaller, the same for the
// same size.
func randomBytes(size int64) []byte {
	content := make([]byte, size)
	source := rand.NewChaCha8([32]byte{'o', 'c', 'i', 'k', 'i', 't'})
	_, _ = io.ReadFull(source, content) // ChaCha8.Read always fills and never fails
	return content
}
