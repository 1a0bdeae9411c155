package e2e_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/internal/backendtest"
	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// damage is a blob that was pushed, and what became of its object behind the registry's back.
type damage struct {
	kind    gc.AuditKind
	content []byte
	name    imagetest.Digest
	key     string
}

// An audit of a bucket finds each kind of damage, says which manifest it breaks, and repairs what can be repaired: what is lost reads
// as absent until it is pushed again, and what nobody knows goes.
func TestAuditFindsAndRepairsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, server *backendtest.S3Server) {
		shared := newBackends(t, server)
		replica := shared.start(t, route{})
		client := newPushClient(replica.URL())
		a := &auditedBucket{soakStores{shared}}
		var damages []*damage
		for i, kind := range []gc.AuditKind{gc.AuditMissing, gc.AuditWrongSize, gc.AuditWrongData, gc.AuditMultipart, ""} {
			d := &damage{kind: kind, content: randomBytes(rand.New(rand.NewPCG(77, uint64(i))), 100<<10)}
			d.name = digest.FromBytes(d.content)
			require.NoError(t, client.putBlob(t.Context(), "team/app", d.name, bytes.NewReader(d.content), int64(len(d.content))))
			d.key = a.keyOf(t, d.name)
			damages = append(damages, d)
		}
		image := a.pushImage(t, client, damages)
		index := a.pushIndex(t, client, image)
		a.inflict(t, damages)
		a.put(t, string(store.NewBlobKey()), []byte("an orphan"))
		a.put(t, string(store.NewUploadKey(store.NewID())), []byte("of an upload that is no more"))

		want := map[gc.AuditKind]int{
			gc.AuditMissing: 1, gc.AuditWrongSize: 1, gc.AuditWrongData: 1, gc.AuditMultipart: 1, gc.AuditOrphan: 1, gc.AuditStaged: 1, gc.AuditBroken: 6,
		}
		report, findings := a.audit(t)
		assert.Equal(t, want, report.Findings)
		assert.Zero(t, report.Repaired)
		broken := map[imagetest.Digest]int{}
		for _, finding := range findings {
			if finding.Kind == gc.AuditBroken {
				broken[finding.Manifest]++
			}
		}
		assert.Equal(t, map[imagetest.Digest]int{image.Digest: 3, index: 3}, broken, "what each of three lost blobs breaks")
		report, _ = a.audit(t, "--repair")
		assert.Equal(t, want, report.Findings, "looking has changed nothing")
		assert.Equal(t, 6, report.Repaired, "all but that a manifest is broken")

		for _, d := range damages {
			lost := d.kind != "" && d.kind != gc.AuditMultipart
			got, err := client.get(t.Context(), "team/app/blobs/"+d.name.String())
			if lost {
				require.Equal(t, http.StatusNotFound, statusOf(err), "%s: what is lost is told to be absent", d.kind)
				require.NoError(t, client.putBlob(t.Context(), "team/app", d.name, bytes.NewReader(d.content), int64(len(d.content))))
				got, err = client.get(t.Context(), "team/app/blobs/"+d.name.String())
			}
			require.NoError(t, err, d.kind)
			require.True(t, bytes.Equal(d.content, got), "%s: the next push heals it", d.kind)
		}
		servertest.RunEnv(t, shared.credentials(), "gc", "--delay=1ns", "--redirect-expiry=0s", "--write-timeout=1ns",
			"--database", shared.database, "--objects", shared.objectsURL(route{}))
		report, _ = a.audit(t)
		assert.Empty(t, report.Findings)
		assert.EqualValues(t, len(damages), report.Objects)
	})
}

// An object that is damaged on the server's own disk cannot be read, which no answer tells from a server that is ill: an audit tells of it,
// goes on, and marks it only if it is told to.
func TestAuditGoesPastWhatIsDamagedOnTheDisk(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(t *testing.T, part string){
		"Flipped": func(t *testing.T, part string) {
			content, err := os.ReadFile(part)
			require.NoError(t, err)
			for i := range 4 {
				content[len(content)/2+i] ^= 1
			}
			require.NoError(t, os.WriteFile(part, content, 0o600))
		},
		"Gone": func(t *testing.T, part string) { require.NoError(t, os.Remove(part)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shared := newBackends(t, backendtest.MinIO(t))
			replica := shared.start(t, route{})
			client := newPushClient(replica.URL())
			a := &auditedBucket{soakStores{shared}}
			var blobs []*damage
			for i := range 5 {
				d := &damage{content: randomBytes(rand.New(rand.NewPCG(78, uint64(i))), 1<<20)}
				d.name = digest.FromBytes(d.content)
				require.NoError(t, client.putBlob(t.Context(), "team/app", d.name, bytes.NewReader(d.content), int64(len(d.content))))
				d.key = a.keyOf(t, d.name)
				blobs = append(blobs, d)
			}
			image := a.pushImage(t, client, blobs)
			slices.SortFunc(blobs, func(a, b *damage) int { return strings.Compare(a.key, b.key) })
			bad := blobs[1]
			parts, err := filepath.Glob(filepath.Join(shared.store.Folder(shared.bucket), filepath.FromSlash(bad.key), "*", "part.1"))
			require.NoError(t, err)
			require.Len(t, parts, 1)
			harm(t, parts[0])

			want := map[gc.AuditKind]int{gc.AuditUnreadable: 1, gc.AuditBroken: 1}
			for _, flags := range [][]string{nil, {"--repair"}} {
				report, findings := a.audit(t, flags...)
				require.Equal(t, want, report.Findings)
				assert.EqualValues(t, len(blobs), report.Contents, "an audit goes on behind it")
				assert.Equal(t, bad.key, string(findings[0].Key))
				assert.NotEmpty(t, findings[0].Reason)
				assert.Equal(t, image.Digest, findings[1].Manifest)
				assert.Zero(t, report.Repaired)
			}
			report, _ := a.audit(t, "--repair", "--repair-unreadable")
			require.Equal(t, 1, report.Repaired)
			require.NoError(t, client.putBlob(t.Context(), "team/app", bad.name, bytes.NewReader(bad.content), int64(len(bad.content))))
			got, err := client.get(t.Context(), "team/app/blobs/"+bad.name.String())
			require.NoError(t, err)
			require.True(t, bytes.Equal(bad.content, got), "the next push heals it")
			report, _ = a.audit(t)
			require.Empty(t, report.Findings)
		})
	}
}

// auditedBucket is a bucket past the registry.
type auditedBucket struct{ soakStores }

// keyOf asks the index for a blob's object.
func (a *auditedBucket) keyOf(t *testing.T, name imagetest.Digest) (key string) {
	t.Helper()
	conn := a.connect(t)
	defer func() { _ = conn.Close(t.Context()) }()
	require.NoError(t, conn.QueryRow(t.Context(), "select key from ocikit.contents where digest = $1", name.String()).Scan(&key))
	return key
}

func (a *auditedBucket) put(t *testing.T, key string, content []byte) {
	t.Helper()
	_, err := a.client().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &a.bucket, Key: &key, Body: bytes.NewReader(content)})
	require.NoError(t, err)
}

// pushImage pushes a manifest that refers to all of them.
func (a *auditedBucket) pushImage(t *testing.T, client *pushClient, damages []*damage) ocispec.Descriptor {
	t.Helper()
	config := []byte("{}")
	require.NoError(t, client.putBlob(t.Context(), "team/app", digest.FromBytes(config), bytes.NewReader(config), 2))
	var layers []ocispec.Descriptor
	for _, d := range damages {
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: d.name, Size: int64(len(d.content))})
	}
	const mediaType = "application/vnd.oci.image.manifest.v1+json"
	content, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": mediaType, "layers": layers,
		"config": ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: 2},
	})
	require.NoError(t, err)
	require.NoError(t, client.putManifest(t.Context(), "team/app", "latest", mediaType, content))
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// pushIndex pushes an index of one image.
func (a *auditedBucket) pushIndex(t *testing.T, client *pushClient, image ocispec.Descriptor) imagetest.Digest {
	t.Helper()
	const mediaType = "application/vnd.oci.image.index.v1+json"
	content, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": []ocispec.Descriptor{image}})
	require.NoError(t, err)
	require.NoError(t, client.putManifest(t.Context(), "team/app", "all", mediaType, content))
	return digest.FromBytes(content)
}

// inflict does the damage.
func (a *auditedBucket) inflict(t *testing.T, damages []*damage) {
	t.Helper()
	for _, d := range damages {
		switch d.kind {
		case gc.AuditMissing:
			_, err := a.client().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &a.bucket, Key: &d.key})
			require.NoError(t, err)
		case gc.AuditWrongSize:
			a.put(t, d.key, d.content[1:])
		case gc.AuditWrongData:
			flipped := bytes.Clone(d.content)
			flipped[len(flipped)/2] ^= 1
			a.put(t, d.key, flipped)
		case gc.AuditMultipart:
			begun, err := a.client().CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &a.bucket, Key: &d.key})
			require.NoError(t, err)
			_, err = a.client().UploadPart(t.Context(), &s3.UploadPartInput{
				Bucket: &a.bucket, Key: &d.key, UploadId: begun.UploadId, PartNumber: aws.Int32(1), Body: bytes.NewReader(d.content),
			})
			require.NoError(t, err)
		}
	}
}

// audit runs the command, and returns what it told.
func (a *auditedBucket) audit(t *testing.T, args ...string) (report gc.AuditReport, findings []gc.AuditFinding) {
	t.Helper()
	told, status := servertest.RunStatus(t, a.credentials(), append([]string{
		"audit", "--json", "--deep", "--safe-age=0s", "--database", a.database, "--objects", a.objectsURL(route{}),
	}, args...)...)
	lines := strings.Split(strings.TrimSpace(told), "\n")
	if status != 0 { // it has left something, and says so at last
		require.Contains(t, lines[len(lines)-1], "findings are not repaired")
		lines = lines[:len(lines)-1]
	}
	for _, line := range lines[:len(lines)-1] {
		var finding gc.AuditFinding
		require.NoError(t, json.Unmarshal([]byte(line), &finding), line)
		findings = append(findings, finding)
	}
	require.NoError(t, json.Unmarshal([]byte(lines[len(lines)-1]), &report))
	require.True(t, report.Done)
	require.Equal(t, len(findings) > report.Repaired, status != 0, "an audit fails that leaves something")
	t.Logf("%v: %v", args, slices.Sorted(maps.Keys(report.Findings)))
	return report, findings
}
