package faulttest_test

import (
	"os"
	"testing"

	"github.com/ocikit/ocikit/internal/backendtest"
)

func TestMain(m *testing.M) { os.Exit(backendtest.Run(m)) }
