package backendtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/ocikit/ocikit/internal/tooltest"
)

// Who may do everything on the S3 servers, and where those say that they are.
const (
	accessKey = "ocikit-test"
	secretKey = "ocikit-test-secret"
	region    = "us-east-1"
)

// S3Server is an S3 server whose buckets are found by path.
type S3Server struct {
	Server
	buckets    string // a folder for each bucket
	attributes string // what versitygw knows of objects, where files have no attributes
}

// MinIO returns the MinIO server that the tests of this binary share.
func MinIO(t testing.TB) *S3Server {
	t.Helper()
	program := tooltest.Require(t, "minio")
	return sharedMinIO.get(t, func() (*S3Server, error) { return startMinIO(program) })
}

// NewMinIO starts a MinIO server of the test's own. It ends with the test.
func NewMinIO(t testing.TB) *S3Server {
	t.Helper()
	return ownS3(t, startMinIO, tooltest.Require(t, "minio"))
}

// VersityGW returns the versitygw server, over a folder, that the tests of this
// binary share.
func VersityGW(t testing.TB) *S3Server {
	t.Helper()
	program := tooltest.Require(t, "versitygw")
	return sharedVersityGW.get(t, func() (*S3Server, error) { return startVersityGW(program) })
}

// NewVersityGW starts a versitygw server of the test's own. It ends with the
// test.
func NewVersityGW(t testing.TB) *S3Server {
	t.Helper()
	return ownS3(t, startVersityGW, tooltest.Require(t, "versitygw"))
}

// Endpoint returns the server's URL, without a slash at its end.
func (s *S3Server) Endpoint() string { return "http://" + s.address }

// AccessKey returns the id of the key of who may do everything.
func (s *S3Server) AccessKey() string { return accessKey }

// SecretKey returns the secret of AccessKey.
func (s *S3Server) SecretKey() string { return secretKey }

// Region returns the region that requests must be signed for.
func (s *S3Server) Region() string { return region }

// Bucket makes an empty bucket and returns its name. It is removed, with all
// that is in it, at the test's end.
func (s *S3Server) Bucket(t testing.TB) string {
	t.Helper()
	name := unique("test-")
	ctx, cancel := context.WithTimeout(context.Background(), setupTimeout)
	defer cancel()
	if _, err := s.client().CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &name}); err != nil {
		t.Fatalf("make a bucket: %v", err)
	}
	t.Cleanup(func() {
		if err := tooltest.RemoveFolder(filepath.Join(s.buckets, name)); err != nil {
			t.Errorf("remove the bucket's folder: %v", err)
		}
	})
	return name
}

// Folder returns where the server keeps a bucket, for tests that damage what is on its disk.
func (s *S3Server) Folder(bucket string) string { return filepath.Join(s.buckets, bucket) }

func (s *S3Server) client() *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint:     aws.String(s.Endpoint()),
		Region:           region,
		Credentials:      credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		UsePathStyle:     true,
		RetryMaxAttempts: 1,
	})
}

func (s *S3Server) listBuckets(ctx context.Context) error {
	_, err := s.client().ListBuckets(ctx, &s3.ListBucketsInput{})
	return err
}

func ownS3(t testing.TB, start func(program string) (*S3Server, error), program string) *S3Server {
	t.Helper()
	server, err := start(program)
	if err != nil {
		t.Fatal(err)
	}
	server.own(t)
	return server
}

func startMinIO(program string) (*S3Server, error) {
	return startS3("MinIO", func(s *S3Server) *exec.Cmd {
		cmd := exec.Command(program, "server", "--quiet", "--address", s.address, s.buckets)
		cmd.Env = []string{
			"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey,
			"MINIO_UPDATE=off", "MINIO_BROWSER=off", "MINIO_CI_CD=1",
		}
		return cmd
	})
}

func startVersityGW(program string) (*S3Server, error) {
	return startS3("versitygw", func(s *S3Server) *exec.Cmd {
		args := []string{"-q", "-a", accessKey, "-s", secretKey, "-r", region, "-p", s.address, "posix"}
		if !hasAttributes(s.folder) {
			args = append(args, "--sidecar", s.attributes)
		}
		return exec.Command(program, append(args, s.buckets)...)
	})
}

func startS3(name string, command func(s *S3Server) *exec.Cmd) (*S3Server, error) {
	address, err := tooltest.FindAddress()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ocikit-"+strings.ToLower(name))
	if err != nil {
		return nil, fmt.Errorf("make the folder of %s: %w", name, err)
	}
	s := &S3Server{
		Server:     Server{name: name, address: address, folder: folder},
		buckets:    filepath.Join(folder, "buckets"),
		attributes: filepath.Join(folder, "attributes"),
	}
	s.command = func() *exec.Cmd {
		cmd := command(s)
		cmd.Dir = folder
		cmd.Env = append(cmd.Env, "PATH="+os.Getenv("PATH"), "HOME="+folder, "TMPDIR="+folder)
		return cmd
	}
	s.probe = s.listBuckets
	err = errors.Join(os.Mkdir(s.buckets, 0o700), os.Mkdir(s.attributes, 0o700))
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), s.close())
	}
	return s, nil
}

// unique returns a name that no other test has, legal for databases and buckets.
func unique(prefix string) string { return prefix + strings.ToLower(rand.Text()) }
