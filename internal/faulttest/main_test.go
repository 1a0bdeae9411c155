package faulttest_test

import (
	"os"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }

// requireHappens fails the test if the channel is not closed soon.
func requireHappens(t *testing.T, happened <-chan struct{}, what string) {
	t.Helper()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-happened:
	case <-timer.C:
		require.Fail(t, "this should happen: "+what)
	}
}
