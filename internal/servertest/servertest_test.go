package servertest_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { servertest.Main(m) }

func TestServerAnswersAtTheSameAddressAfterKillAndStop(t *testing.T) {
	t.Parallel()
	server := servertest.Start(t, "--data", t.TempDir())
	address := server.Address
	server.Kill()
	require.Error(t, ping(t, server), "a killed server must not answer")
	server.Restart(t)
	require.NoError(t, ping(t, server))
	require.Positive(t, server.Memory(t).Peak)
	server.Stop(t, 10*time.Second)
	require.Error(t, ping(t, server), "a stopped server must not answer")
	server.Restart(t)
	require.NoError(t, ping(t, server))
	require.Equal(t, address, server.Address)
}

func ping(t *testing.T, server *servertest.Server) error {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+"/v2/", nil)
	require.NoError(t, err)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}
