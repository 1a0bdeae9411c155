package s3_test

import (
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/store"
	"github.com/ocikit/ocikit/store/s3"
	"github.com/ocikit/ocikit/store/storetest"
)

func TestObjects(t *testing.T) {
	t.Parallel()
	onServers(t, func(t *testing.T, server *backendtest.S3Server) {
		for name, opts := range map[string]*s3.Options{
			"Plain":    {PartSize: 5 << 20},
			"Prefixed": {PartSize: 5 << 20, Prefix: "some/prefix"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				storetest.Objects(t, func(t *testing.T) []store.Objects {
					bucket := server.Bucket(t)
					return []store.Objects{
						newObjects(t, newClient(server, ""), bucket, opts),
						newObjects(t, newClient(server, ""), bucket, opts),
					}
				})
			})
		}
	})
}
