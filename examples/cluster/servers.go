package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"
)

// cluster is what runs, in the order in which it was started.
type cluster struct{ stops []func() error }

func (c *cluster) atStop(stop func() error) { c.stops = append(c.stops, stop) }

// stop ends everything, the last first.
func (c *cluster) stop() error {
	var errs []error
	for _, stop := range slices.Backward(c.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(errs...)
}

// programs are the paths of what this machine has.
type programs struct {
	initdb, postgres string
	minio, versitygw string // one of them
}

// errMissing says that a program has to be installed first.
var errMissing = errors.New("this needs programs that are not here")

func findPrograms() (programs, error) {
	found := programs{
		initdb: find("initdb"), postgres: find("postgres"),
		minio: find("minio"), versitygw: find("versitygw"),
	}
	err := errMissing
	if found.initdb == "" || found.postgres == "" {
		err = fmt.Errorf("%w\n  PostgreSQL: initdb and postgres are neither in PATH nor in /usr/lib/postgresql (apt-get install postgresql)", err)
	}
	if found.minio == "" && found.versitygw == "" {
		err = fmt.Errorf("%w\n  an S3 server: neither minio nor versitygw is in PATH (go install github.com/versity/versitygw/cmd/versitygw@v1.8.0)", err)
	}
	if err != errMissing { //nolint:errorlint // is there more to say?
		return found, err
	}
	return found, nil
}

// find returns a program's path, or "". Debian keeps PostgreSQL's out of PATH.
func find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	if paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(paths) > 0 {
		return paths[len(paths)-1]
	}
	return ""
}

// startPostgres starts a new PostgreSQL below dir, and returns its URL.
func (c *cluster) startPostgres(ctx context.Context, found programs, dir string) (string, error) {
	home := filepath.Join(dir, "postgres")
	if err := os.Mkdir(home, 0o700); err != nil {
		return "", err
	}
	as, err := notRoot(dir, home)
	if err != nil {
		return "", err
	}
	data := filepath.Join(home, "data")
	initdb := command(ctx, as, found.initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8")
	if text, err := initdb.CombinedOutput(); err != nil {
		return "", fmt.Errorf("initdb: %w: %s", err, text)
	}
	host, port, err := freeAddress() // which others may take until somebody listens
	if err != nil {
		return "", err
	}
	url := "postgres://postgres@" + net.JoinHostPort(host, port) + "/postgres?sslmode=disable"
	server := command(ctx, as, found.postgres, "-D", data, "-h", host, "-p", port, "-k", "")
	return url, c.start(ctx, server, func(ctx context.Context) error {
		connection, err := pgx.Connect(ctx, url)
		if err != nil {
			return err
		}
		return connection.Close(ctx)
	})
}

// notRoot returns what has to stand before PostgreSQL's commands, which refuse to run as root, and gives the folder to whom they
// run as.
func notRoot(dir, home string) ([]string, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("root cannot run it: %w", err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	err = errors.Join(os.Chmod(dir, 0o711), os.Chown(home, uid, gid)) //nolint:gosec // to be passed through, not read
	return []string{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"}, err
}

// startS3 starts an S3 server below dir, and returns its URL.
func (c *cluster) startS3(ctx context.Context, found programs, dir string) (string, error) {
	host, port, err := freeAddress()
	if err != nil {
		return "", err
	}
	address, data := net.JoinHostPort(host, port), filepath.Join(dir, "s3")
	if err := os.MkdirAll(filepath.Join(data, "buckets"), 0o700); err != nil {
		return "", err
	}
	server := command(ctx, nil, found.minio, "server", "--quiet", "--address", address, filepath.Join(data, "buckets"))
	server.Env = append(server.Env, "MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+secretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if found.minio == "" {
		attributes := filepath.Join(data, "attributes")
		if err := os.Mkdir(attributes, 0o700); err != nil {
			return "", err
		}
		server = command(ctx, nil, found.versitygw, "-q", "-a", accessKey, "-s", secretKey, "-p", address,
			"posix", "--sidecar", attributes, filepath.Join(data, "buckets"))
	}
	url := "http://" + address
	return url, c.start(ctx, server, func(ctx context.Context) error {
		_, err := newClient(url).ListBuckets(ctx, &awss3.ListBucketsInput{})
		return err
	})
}

// command prepares a program that is asked to end when ctx does, and then given time to.
func command(ctx context.Context, before []string, name string, args ...string) *exec.Cmd {
	words := slices.Concat(before, []string{name}, args)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// start starts a program, and waits until it answers.
func (c *cluster) start(ctx context.Context, cmd *exec.Cmd, ask func(context.Context) error) error {
	var said strings.Builder // to be read when it has ended
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // an interrupted program ends with an error
	}()
	c.atStop(func() error {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended already
		<-ended
		return nil
	})
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s ended: %s", cmd.Path, said.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", cmd.Path, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// serve serves a handler on a free port of this machine, and returns its URL.
func (c *cluster) serve(handler http.Handler) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = server.Serve(listener) }() // until it is closed
	c.atStop(server.Close)
	return "http://" + listener.Addr().String(), nil
}

// freeAddress returns an address on which nothing listens now.
func freeAddress() (host, port string, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer listener.Close()
	return net.SplitHostPort(listener.Addr().String())
}
