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
		storetest.Objects(t, func(t *testing.T) []store.Objects {
			bucket, opts := server.Bucket(t), &s3.Options{PartSize: 5 << 20}
			return []store.Objects{
				newObjects(t, newClient(server, ""), bucket, opts),
				newObjects(t, newClient(server, ""), bucket, opts),
			}
		})
	})
}

func TestObjectsUnderAPrefixOfASharedBucket(t *testing.T) {
	t.Parallel()
	server := backendtest.VersityGW(t)
	bucket := server.Bucket(t)
	storetest.Objects(t, func(t *testing.T) []store.Objects {
		o := newObjects(t, newClient(server, ""), bucket, &s3.Options{PartSize: 5 << 20, Prefix: "shared/" + store.NewID()})
		return []store.Objects{o}
	})
}
