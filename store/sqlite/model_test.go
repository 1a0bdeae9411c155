package sqlite_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/modeltest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/sqlite"
)

func TestAnswersAsTheReferenceDoes(t *testing.T) {
	t.Parallel()
	modeltest.Metadata(t, 12, 1500, func(t *testing.T, now func() time.Time) []store.Metadata {
		path := filepath.Join(t.TempDir(), "index.db")
		options := &sqlite.Options{NoSync: true, Now: now}
		return []store.Metadata{open(t, path, options), open(t, path, options)}
	})
}
