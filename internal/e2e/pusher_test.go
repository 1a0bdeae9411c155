package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pusher pushes images, one after the other, until the server dies, and keeps a
// ledger of what it asked for and what was acknowledged. It is for one
// goroutine at a time.
type pusher struct {
	client     *pushClient
	random     *rand.Rand
	repository string
	largest    int64       // bounds layers, but for those of startUpload
	tagNames   int         // few, so that tags move
	spend      func(n int) // is told of every byte that is handed over
	mountable  []mountable // what other pushers had acknowledged when the server was started

	ledger
	open    *transfer // the upload that the server's death interrupted
	resumed int       // how many such uploads went on
}

// ledger is what a pusher asked for, and whether it was acknowledged.
type ledger struct {
	blobs     map[imagetest.Digest]bool
	manifests map[imagetest.Digest]*pushedManifest
	tags      map[string]*pushedTag
}

type pushedManifest struct {
	acknowledged bool
	content      []byte
	blobs        []imagetest.Digest
}

// pushedTag is where a tag points to: to what was acknowledged last, or to any of
// what was asked for since. A request that was refused, or not answered, may have
// been carried out, and the next one not.
type pushedTag struct {
	acknowledged imagetest.Digest
	pending      []imagetest.Digest
}

// mountable is a blob that was acknowledged in a repository.
type mountable struct {
	repository string
	name       imagetest.Digest
}

// transfer is an upload under way.
type transfer struct {
	location     string
	content      []byte
	name         imagetest.Digest
	acknowledged int64 // the offset that the server told last
	closing      bool  // a closing PUT was sent, and not answered
}

func newPusher(client *pushClient, seed, number uint64) *pusher {
	return &pusher{
		client:     client,
		random:     rand.New(rand.NewPCG(seed, number)),
		repository: fmt.Sprintf("pushes/of-%d", number),
		largest:    2 << 20,
		tagNames:   5,
		spend:      func(int) {},
		ledger: ledger{
			blobs:     map[imagetest.Digest]bool{},
			manifests: map[imagetest.Digest]*pushedManifest{},
			tags:      map[string]*pushedTag{},
		},
	}
}

// run pushes until a request fails, and returns why.
func (p *pusher) run(ctx context.Context) error {
	for {
		if err := p.step(ctx); err != nil {
			return err
		}
	}
}

// step goes on with the upload that a failure interrupted, if there is one, and
// pushes an image.
func (p *pusher) step(ctx context.Context) error {
	if p.open != nil {
		if err := p.resume(ctx); err != nil {
			return err
		}
	}
	return p.pushImage(ctx)
}

func (p *pusher) pushImage(ctx context.Context) error {
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
	}
	pushed := &pushedManifest{}
	for range 1 + p.random.IntN(3) {
		content := p.randomContent()
		layer := ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayer,
			Digest:    digest.FromBytes(content),
			Size:      int64(len(content)),
		}
		if err := p.pushBlob(ctx, layer.Digest, content); err != nil {
			return err
		}
		manifest.Layers = append(manifest.Layers, layer)
		pushed.blobs = append(pushed.blobs, layer.Digest)
	}
	config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","created by":%q,"number":%d}`, p.repository, p.random.Uint64())
	manifest.Config = ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageConfig,
		Digest:    digest.FromBytes(config),
		Size:      int64(len(config)),
	}
	if err := p.pushBlob(ctx, manifest.Config.Digest, config); err != nil {
		return err
	}
	pushed.blobs = append(pushed.blobs, manifest.Config.Digest)
	var err error
	if pushed.content, err = json.Marshal(manifest); err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	return p.pushManifest(ctx, pushed)
}

func (p *pusher) pushManifest(ctx context.Context, manifest *pushedManifest) error {
	name := digest.FromBytes(manifest.content)
	p.manifests[name] = manifest
	tagName := fmt.Sprintf("tag-%d", p.random.IntN(p.tagNames))
	tag := p.tags[tagName]
	if tag == nil {
		tag = &pushedTag{}
		p.tags[tagName] = tag
	}
	tag.pending = append(tag.pending, name)
	p.spend(len(manifest.content))
	if err := p.client.putManifest(ctx, p.repository, tagName, ocispec.MediaTypeImageManifest, manifest.content); err != nil {
		return err
	}
	manifest.acknowledged = true
	*tag = pushedTag{acknowledged: name}
	return nil
}

// pushBlob pushes content in one of the ways that clients do.
func (p *pusher) pushBlob(ctx context.Context, name imagetest.Digest, content []byte) error {
	if !p.blobs[name] {
		p.blobs[name] = false
	}
	switch p.random.IntN(6) {
	case 0:
		if err := p.client.putBlob(ctx, p.repository, name, p.body(content), int64(len(content))); err != nil {
			return err
		}
		p.blobs[name] = true
		return nil
	case 1:
		if len(p.mountable) > 0 {
			if err := p.mountAny(ctx); err != nil {
				return err
			}
		}
	}
	location, err := p.client.start(ctx, p.repository)
	if err != nil {
		return err
	}
	p.open = &transfer{location: location, content: content, name: name}
	return p.transfer(ctx)
}

// mountAny mounts a blob of another pusher's.
func (p *pusher) mountAny(ctx context.Context) error {
	source := p.mountable[p.random.IntN(len(p.mountable))]
	if !p.blobs[source.name] {
		p.blobs[source.name] = false
	}
	if err := p.client.mount(ctx, p.repository, source.repository, source.name); err != nil {
		return err
	}
	p.blobs[source.name] = true
	return nil
}

// resume goes on with the upload that the server's death interrupted, from
// where the server says that it stands.
func (p *pusher) resume(ctx context.Context) error {
	location, offset, err := p.client.status(ctx, p.open.location)
	var status *statusError
	if p.open.closing && errors.As(err, &status) && status.status == http.StatusNotFound {
		// It was finished, and only the answer was lost: asked again, it comes again.
		return p.finish(ctx, p.open.content[:0], int64(len(p.open.content)))
	}
	if err != nil {
		return err
	}
	if offset < p.open.acknowledged || offset > int64(len(p.open.content)) {
		return fmt.Errorf("the upload %s stands at %d after a restart, should be at %d, which was acknowledged, or further, up to %d",
			location, offset, p.open.acknowledged, len(p.open.content))
	}
	p.open.location, p.open.acknowledged = location, offset
	p.resumed++
	return p.transfer(ctx)
}

// transfer sends what is left of the open upload, and closes it.
func (p *pusher) transfer(ctx context.Context) error {
	open := p.open
	for {
		rest := open.content[open.acknowledged:]
		way := p.random.IntN(4)
		if len(rest) == 0 || (way == 0 && int64(len(rest)) < p.largest) {
			return p.finish(ctx, rest, open.acknowledged)
		}
		chunk, size := rest, int64(-1)
		if way > 1 || int64(len(rest)) > p.largest {
			chunk = rest[:min(int64(len(rest)), 1+p.random.Int64N(p.largest/2))]
			size = int64(len(chunk))
		}
		location, offset, err := p.client.patch(ctx, open.location, p.body(chunk), open.acknowledged, size)
		if err != nil {
			return err
		}
		if want := open.acknowledged + int64(len(chunk)); offset != want && len(open.content) > 1 {
			return fmt.Errorf("a PATCH of %d bytes at %d was acknowledged up to %d, should be %d", len(chunk), open.acknowledged, offset, want)
		}
		open.location, open.acknowledged = location, open.acknowledged+int64(len(chunk))
	}
}

func (p *pusher) finish(ctx context.Context, rest []byte, offset int64) error {
	p.open.closing = true
	if err := p.client.finish(ctx, p.open.location, p.open.name, p.body(rest), offset, int64(len(rest))); err != nil {
		return err
	}
	p.blobs[p.open.name] = true
	p.open = nil
	return nil
}

// randomContent returns a layer of any order of magnitude; some are the same for
// all pushers.
func (p *pusher) randomContent() []byte {
	random := p.random
	if random.IntN(5) == 0 {
		random = rand.New(rand.NewPCG(0, random.Uint64N(10)))
	}
	size := int64(math.Exp(random.Float64()*math.Log(float64(p.largest)))) - 1
	return randomBytes(random, max(size, 2)) // 1 byte could not be told from none: see position
}

func randomBytes(random *rand.Rand, size int64) []byte {
	var seed [32]byte
	for i := range seed {
		seed[i] = byte(random.Uint32())
	}
	content := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(content) // always fills, never fails
	return content
}

// body is content that spends as it is read.
func (p *pusher) body(content []byte) io.Reader {
	return &spendingReader{content: bytes.NewReader(content), spend: p.spend}
}

type spendingReader struct {
	content io.Reader
	spend   func(n int)
}

func (r *spendingReader) Read(b []byte) (int, error) {
	n, err := r.content.Read(b)
	r.spend(n)
	return n, err
}
