package main

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEveryReplicaTakesItsShareOfOnePush(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	err := run(t.Context(), &out, false)
	if errors.Is(err, errMissing) && os.Getenv("OCIKIT_TEST_REQUIRE") != "1" {
		t.Skip(err)
	}
	require.NoError(t, err, out.String())
	t.Log(out.String())

	assert.Contains(t, out.String(), "pulled what was pushed: sha256:")
	for _, request := range []string{"PATCH 202", "GET   200"} {
		for _, replica := range []string{"replica 1", "replica 2"} {
			assert.Contains(t, out.String(), replica+"  "+request, "the proxy sends some to each")
		}
	}
	upload := regexp.MustCompile(`(?m)^replica (\d)  (POST|PATCH|PUT) .*/blobs/uploads/`).FindAllStringSubmatch(out.String(), 5)
	require.Len(t, upload, 5, "the layer's upload: begin, three pieces, close")
	for i := 1; i < len(upload); i++ {
		assert.NotEqual(t, upload[i-1][1], upload[i][1], "each request of the upload goes to the other replica")
	}
}

func TestWhatIsMissingIsToldAtOnce(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := findPrograms()
	require.ErrorIs(t, err, errMissing)
	assert.ErrorContains(t, err, "minio nor versitygw")
	if find("postgres") == "" {
		assert.ErrorContains(t, err, "apt-get install postgresql")
	}
}
