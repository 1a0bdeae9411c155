package tooltest_test

import (
	"net"
	"runtime"
	"testing"

	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An address is its server's before it has started, while it is down, and after it has ended.
//
// This test is not parallel: a program that another one starts has, for a moment, a copy of the listener that is closed here.
func TestAddressIsGivenToNobodyElse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("nothing keeps a port free here")
	}
	const many = 400 // of which some would be the same by chance
	given := map[string]bool{}
	for range many {
		given[tooltest.FreeAddress(t)] = true
	}
	require.Len(t, given, many)
	for address := range given {
		_, err := net.Dial("tcp", address)
		require.Error(t, err, "nobody listens yet")
		for range 2 {
			listener, err := net.Listen("tcp", address)
			require.NoError(t, err)
			assert.NotContains(t, given, tooltest.FreeAddress(t))
			require.NoError(t, listener.Close())
		}
	}
}
