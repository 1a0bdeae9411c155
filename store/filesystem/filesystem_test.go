package filesystem_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/filesystem"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]*filesystem.Options{
		"Synced":   nil,
		"Unsynced": {NoSync: true, PartSize: 16 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Objects(t, func(t *testing.T) []store.Objects {
				dir := t.TempDir()
				first, err := filesystem.New(dir, opts)
				require.NoError(t, err)
				last, err := filesystem.New(dir, opts)
				require.NoError(t, err)
				return []store.Objects{first, last}
			})
		})
	}
}
