package imports_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/ocikit/ocikit"

// layers lists, for each public package, which other ones of this module it may import.
var layers = map[string][]string{
	"store":             {},
	"store/memory":      {"store"},
	"store/filesystem":  {"store"},
	"store/sqlite":      {"store"},
	"store/postgres":    {"store"},
	"store/s3":          {"store"},
	"store/storetest":   {"store"},
	"cas":               {"store"},
	"staging":           {"store", "cas"},
	"gc":                {"store", "cas", "staging"},
	"registry":          {"store", "cas", "staging"},
	"registry/auth":     {"registry"},
	"registry/upstream": {"store", "cas", "registry"},
	"cmd/ocikit": {
		"store", "store/memory", "store/filesystem", "store/sqlite", "store/postgres", "store/s3",
		"cas", "staging", "gc", "registry", "registry/auth", "registry/upstream",
	},
}

func TestImportsPointDownTheLayers(t *testing.T) {
	t.Parallel()
	for _, line := range golist(t, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/...") {
		path, imports, _ := strings.Cut(line, " ")
		name := strings.TrimPrefix(path, module+"/")
		allowed, public := layers[name]
		if strings.HasPrefix(name, "internal/") {
			continue
		}
		example := strings.HasPrefix(name, "examples/")
		assert.Truef(t, public || example, "package %s is in no layer: add it to the list, here and in ARCHITECTURE.md", name)
		for _, imported := range strings.Fields(imports) {
			inner, ours := strings.CutPrefix(imported, module+"/")
			switch {
			case ours && example:
				assert.NotContainsf(t, inner, "internal/", "example %s must do with what everybody may import", name)
			case ours:
				assert.Containsf(t, allowed, inner, "%s must not import %s", name, inner)
			}
		}
	}
}

// What the packages bring in that nobody should have to think about: the field's own types, and their hash names.
var light = []string{"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec"}

func TestImportsBringInFewModules(t *testing.T) {
	t.Parallel()
	tests := map[string][]string{
		"store":            light,
		"store/memory":     light,
		"store/filesystem": append([]string{"golang.org/x/sys"}, light...),
		"cas":              light,
		"staging":          light,
		"gc":               append([]string{"go.yaml.in/yaml/v3"}, light...),
		"registry":         light,
		"registry/auth": append([]string{
			"github.com/hashicorp/golang-lru/v2", "go.yaml.in/yaml/v3", "golang.org/x/crypto",
		}, light...),
		"registry/upstream": append([]string{
			"github.com/hashicorp/golang-lru/v2", "golang.org/x/sync", "oras.land/oras-go/v2",
		}, light...),
		"store/sqlite": append([]string{
			"github.com/dustin/go-humanize", "github.com/google/uuid", "github.com/mattn/go-isatty", "github.com/mfridman/interpolate",
			"github.com/ncruces/go-strftime", "github.com/pressly/goose/v3", "github.com/remyoudompheng/bigfft",
			"github.com/sethvargo/go-retry", "go.uber.org/multierr", "golang.org/x/sync", "golang.org/x/sys",
			"modernc.org/libc", "modernc.org/mathutil", "modernc.org/memory", "modernc.org/sqlite",
		}, light...),
		"store/postgres": append([]string{
			"github.com/jackc/pgpassfile", "github.com/jackc/pgservicefile", "github.com/jackc/pgx/v5", "github.com/jackc/puddle/v2",
			"github.com/mfridman/interpolate", "github.com/pressly/goose/v3", "github.com/sethvargo/go-retry", "go.uber.org/multierr",
			"golang.org/x/sync", "golang.org/x/text",
		}, light...),
		// The SDK without its configuration and credentials: those are the program's that makes the client.
		"store/s3": append([]string{
			"github.com/aws/aws-sdk-go-v2", "github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream",
			"github.com/aws/aws-sdk-go-v2/internal/configsources", "github.com/aws/aws-sdk-go-v2/internal/endpoints/v2",
			"github.com/aws/aws-sdk-go-v2/internal/v4a", "github.com/aws/aws-sdk-go-v2/service/internal/accept-encoding",
			"github.com/aws/aws-sdk-go-v2/service/internal/checksum", "github.com/aws/aws-sdk-go-v2/service/internal/presigned-url",
			"github.com/aws/aws-sdk-go-v2/service/internal/s3shared", "github.com/aws/aws-sdk-go-v2/service/s3", "github.com/aws/smithy-go",
		}, light...),
	}
	for name, allowed := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			modules := golist(t, "-deps", "-f", `{{with .Module}}{{.Path}}{{end}}`, module+"/"+name)
			slices.Sort(modules)
			for _, m := range slices.Compact(modules) {
				if m != "" && m != module {
					assert.Containsf(t, allowed, m, "importing %s brings in another module", name)
				}
			}
		})
	}
}

// program serves HTTP, with or without a registry in it.
const (
	bare = `package main

import "net/http"

func main() { panic(http.ListenAndServe("127.0.0.1:5000", http.NotFoundHandler())) }
`
	embedding = `package main

import (
	"net/http"

	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/store/memory"
)

func main() {
	local := registry.NewLocal(memory.NewMetadata(nil), memory.NewObjects(nil), nil)
	panic(http.ListenAndServe("127.0.0.1:5000", registry.NewHandler(local, nil)))
}
`
)

func TestEmbeddingTheRegistryAddsAtMostTwoMegabytes(t *testing.T) {
	t.Parallel()
	const most = 2 << 20
	added := binarySize(t, embedding) - binarySize(t, bare)
	t.Logf("registry and store/memory add %.2f MB to a stripped binary with net/http", float64(added)/(1<<20))
	assert.LessOrEqual(t, added, int64(most))
}

// binarySize builds a program inside the module, so that nothing has to be fetched, and returns the stripped binary's size.
func binarySize(t *testing.T, source string) int64 {
	t.Helper()
	dir := t.TempDir()
	main, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(main, []byte(source), 0o600))
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", binary, main)
	output, err := build.CombinedOutput()
	require.NoErrorf(t, err, "go build: %s", output)
	info, err := os.Stat(binary)
	require.NoError(t, err)
	return info.Size()
}

func golist(t *testing.T, args ...string) []string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	output, err := list.Output()
	require.NoError(t, err, "go list")
	return strings.Split(strings.TrimSpace(string(output)), "\n")
}
