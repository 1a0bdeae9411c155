package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/internal/backendtest"
)

// asProgram makes the test binary be the program: for tests that need a process, since AWS's credentials come from a process's
// environment, and signals go to processes.
const asProgram = "OCIKIT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "1" {
		main()
	}
	os.Exit(backendtest.Run(m))
}

// program is the program in a process of its own, in an environment of nothing but env, and without a network's credentials.
func program(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	cmd.Dir = t.TempDir()
	cmd.Env = append([]string{asProgram + "=1", "HOME=" + cmd.Dir, "AWS_EC2_METADATA_DISABLED=true"}, env...)
	return cmd
}

// ended runs the program to its end, which must be soon, and returns what it wrote and its status.
func ended(t *testing.T, env []string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	const soon = 20 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // it serves, where it should have refused
	defer cancel()
	cmd := program(ctx, t, env, args...)
	var outs, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &outs, &errs
	start := time.Now()
	err := cmd.Run()
	if !errors.As(err, new(*exec.ExitError)) {
		require.NoError(t, err, "it ends: %s", &errs)
	}
	require.Less(t, time.Since(start), soon, "it says soon what is wrong: %s", &errs)
	return outs.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// startProgram is start with a process of its own.
func startProgram(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	return startBy(t, args, func(args []string, stderr io.Writer) (func() int, func()) {
		cmd := program(t.Context(), t, env, args...)
		cmd.Stderr = stderr
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		wait := func() int {
			_ = cmd.Wait() // the status tells
			return cmd.ProcessState.ExitCode()
		}
		return wait, func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	})
}

// credentialsOf are the environment of somebody who may do everything.
func credentialsOf(s *backendtest.S3Server) []string {
	return []string{"AWS_ACCESS_KEY_ID=" + s.AccessKey(), "AWS_SECRET_ACCESS_KEY=" + s.SecretKey()}
}

// migrated returns the URL of a database that has the tables.
func migrated(t *testing.T, server *backendtest.PostgresServer) string {
	t.Helper()
	url := server.Database(t)
	var stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"migrate", "up", "--database=" + url}, io.Discard, &stderr), stderr.String())
	return url
}

// bucketURL returns the URL of a new bucket at an endpoint of the server's, its own or a proxy's.
func bucketURL(t *testing.T, server *backendtest.S3Server, endpoint string, more ...string) string {
	t.Helper()
	return "s3://" + server.Bucket(t) + "?" + strings.Join(append([]string{"endpoint=" + endpoint, "region=" + server.Region()}, more...), "&")
}
