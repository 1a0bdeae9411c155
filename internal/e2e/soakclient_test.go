package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ocikit/ocikit/internal/imagetest"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// soakWorld is what all clients of a soak share: the replicas, the layers that their images are made of, and what each
// was acknowledged.
type soakWorld struct {
	replicas []*pushClient
	layers   []soakLayer
	figures  soakFigures
	drop     func(repository string) // deletes it whole, by the command line

	mu     sync.Mutex
	images []*soakImage          // that were acknowledged, and are not being deleted
	tags   map[string]*soakImage // what REPOSITORY:TAG was acknowledged to point to
	wrongs []error               // that must never be
}

// soakFigures count what happened.
type soakFigures struct {
	steps, pushes, pulls, deletes, retags, mounts, kept, resumed, abandoned, taken, fenced, refused, again, tags, dropped atomic.Int64
}

type soakLayer struct {
	content []byte
	name    imagetest.Digest
}

// soakImage is a manifest of a client's repository.
type soakImage struct {
	repository string
	content    []byte
	name       imagetest.Digest
	blobs      []soakLayer
}

// soakRepositories is how many repositories a client has.
const soakRepositories = 3

func newSoakWorld(seed uint64, urls []string) *soakWorld {
	w := &soakWorld{tags: map[string]*soakImage{}}
	for _, url := range urls {
		w.replicas = append(w.replicas, newPushClient(url))
	}
	random := rand.New(rand.NewPCG(seed, 1))
	for _, size := range []int64{
		10, 1 << 10, 4 << 10, 50 << 10, 100 << 10, 200 << 10, 300 << 10, 1 << 20, 1 << 20, 2 << 20, 3 << 20, 6 << 20, 11 << 20, 17 << 20,
	} {
		content := randomBytes(random, size+random.Int64N(9))
		w.layers = append(w.layers, soakLayer{content, digest.FromBytes(content)})
	}
	return w
}

// wrong notes what must never be.
func (w *soakWorld) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrongs = append(w.wrongs, fmt.Errorf(format, args...))
}

// acknowledge makes an image one that everybody can pull from now on.
func (w *soakWorld) acknowledge(image *soakImage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images = append(w.images, image)
}

// giveUp takes back the acknowledgement: the image is about to be deleted.
func (w *soakWorld) giveUp(image *soakImage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images = slices.DeleteFunc(w.images, func(i *soakImage) bool { return i == image })
}

func (w *soakWorld) has(image *soakImage) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.images, image)
}

// any returns the image that was picked of those that there are now, or nil. Which one that is depends on timing: the same pick is
// another image when others were faster.
func (w *soakWorld) any(pick uint64) *soakImage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.images) == 0 {
		return nil
	}
	return w.images[pick%uint64(len(w.images))]
}

// holder returns an image that has a blob, or nil: the one that has been there for the longest, which depends on timing.
func (w *soakWorld) holder(blob soakLayer) *soakImage {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, image := range w.images {
		for _, each := range image.blobs {
			if each.name == blob.name {
				return image
			}
		}
	}
	return nil
}

// soakClient does one thing after the other, and knows exactly what must be there afterwards: every request is sent
// again until its outcome is known. Its repositories are its own, its layers are everybody's.
type soakClient struct {
	*soakWorld
	number    int
	decisions *rand.Rand      // what it chooses to do: see soakChoice
	takeOvers *soakDeck[bool] // which steps take an upload over
	chances   *rand.Rand      // replicas and waits, of which there are as many as the machine and the faults make necessary
	images    []*soakImage    // acknowledged
	made      int
}

func newSoakClient(w *soakWorld, seed uint64, number int) *soakClient {
	generator := func(kind int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(kind+number))) }
	c := &soakClient{soakWorld: w, number: number, decisions: generator(1000), chances: generator(2000)}
	c.takeOvers = &soakDeck[bool]{random: c.decisions, cards: make([]bool, 15)}
	c.takeOvers.cards[0] = true
	return c
}

// run works until ctx ends; what is under way then is finished.
func (c *soakClient) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := c.step(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("client %d: %w", c.number, err)
		}
	}
	return nil
}

func (c *soakClient) step(ctx context.Context) error {
	choice := c.choose()
	c.figures.steps.Add(1)
	switch n := choice.action; {
	case choice.takeOver:
		return c.takeOver(ctx, choice)
	case n < 40 && len(c.images) > 12: // so that all else goes on having its share
		return c.delete(ctx, choice)
	case n < 40:
		return c.push(ctx, choice)
	case n < 55:
		return c.pushAgain(ctx, choice)
	case n < 63:
		return c.retag(ctx, choice)
	case n < 83:
		return c.delete(ctx, choice)
	case n < 87:
		return c.pull(ctx, c.any(choice.pick))
	case n < 91:
		return c.pullTag(ctx, choice.repository, choice.tag)
	case n < 94:
		return c.abandon(ctx, choice)
	case n < 95:
		c.dropRepository(choice.repository)
		return nil
	default:
		return c.deleteAll(ctx)
	}
}

// replica is one of them, for one request.
func (c *soakClient) replica() *pushClient { return c.replicas[c.chances.IntN(len(c.replicas))] }

// until sends a request to one replica after the other until there is an answer that is not about the registry's own state.
func (c *soakClient) until(ctx context.Context, request func(*pushClient) error) error {
	began := time.Now()
	for {
		err := request(c.replica())
		if err == nil || !isPassing(err) {
			return err
		}
		c.figures.again.Add(1)
		if time.Since(began) > 2*time.Minute {
			return fmt.Errorf("no answer in %v: %w", time.Since(began), err)
		}
		wait(ctx, time.Duration(10+c.chances.IntN(100))*time.Millisecond)
	}
}

// isPassing reports whether a failure is one to send the request again after.
func isPassing(err error) bool {
	var lost *lostError
	var refused *statusError
	return errors.As(err, &lost) || errors.As(err, &refused) && refused.status >= 500
}

func statusOf(err error) int {
	var refused *statusError
	if errors.As(err, &refused) {
		return refused.status
	}
	return 0
}

// push makes an image of new and shared layers, and pushes it.
func (c *soakClient) push(ctx context.Context, choice soakChoice) error {
	c.made++
	image := &soakImage{repository: choice.repository}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","created by":%d,"number":%d}`, c.number, c.made)
	image.blobs = []soakLayer{{config, digest.FromBytes(config)}}
	manifest.Config = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: image.blobs[0].name, Size: int64(len(config))}
	for _, layer := range choice.layers {
		image.blobs = append(image.blobs, layer)
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageLayer, Digest: layer.name, Size: int64(len(layer.content)),
		})
	}
	var err error
	if image.content, err = json.Marshal(manifest); err != nil {
		return err
	}
	image.name = digest.FromBytes(image.content)
	return c.pushImage(ctx, image, choice)
}

// pushAgain pushes an image that is there already, or was deleted before.
func (c *soakClient) pushAgain(ctx context.Context, choice soakChoice) error {
	if len(c.images) == 0 {
		return c.push(ctx, choice)
	}
	image := c.own(choice)
	if choice.gone {
		if err := c.deleteImage(ctx, image); err != nil {
			return err
		}
		wait(ctx, choice.pause)
		again := *image
		return c.pushImage(ctx, &again, choice)
	}
	for i, blob := range image.blobs {
		if err := c.upload(ctx, image.repository, blob, choice.waysOf(0, i)); err != nil {
			return err
		}
	}
	return c.putManifest(ctx, image, choice.tag)
}

// putManifest puts a manifest under a tag, or "" by its digest.
func (c *soakClient) putManifest(ctx context.Context, image *soakImage, tag string) error {
	reference := tag
	if tag == "" {
		reference = image.name.String()
	}
	err := c.until(ctx, func(r *pushClient) error {
		return r.putManifest(ctx, image.repository, reference, ocispec.MediaTypeImageManifest, image.content)
	})
	if err == nil && tag != "" {
		c.tagged(image, tag)
	}
	return err
}

// pushImage pushes what is not there, and then the manifest. What was there may have been collected meanwhile: then the
// manifest is refused, and the client begins again.
func (c *soakClient) pushImage(ctx context.Context, image *soakImage, choice soakChoice) error {
	const tries = 30
	tag := ""
	if choice.tagged {
		tag = choice.tag
	}
	for try := range tries {
		for i, blob := range image.blobs {
			if err := c.pushBlob(ctx, image.repository, blob, choice.waysOf(try, i)); err != nil {
				return err
			}
		}
		err := c.putManifest(ctx, image, tag)
		switch {
		case err == nil:
			c.figures.pushes.Add(1)
			c.images = append(c.images, image)
			c.acknowledge(image)
			return nil
		case statusOf(err) != http.StatusNotFound && statusOf(err) != http.StatusBadRequest:
			return err
		}
		c.figures.refused.Add(1)
	}
	return fmt.Errorf("a manifest was refused %d times because of layers that had just been pushed", tries)
}

// pushBlob pushes a blob in the ways that were chosen.
func (c *soakClient) pushBlob(ctx context.Context, repository string, blob soakLayer, ways *soakWays) error {
	path := "/v2/" + repository + "/blobs/" + blob.name.String()
	if ways.head {
		err := c.until(ctx, func(r *pushClient) error { return c.simple(ctx, r, http.MethodHead, path, http.StatusOK) })
		if err == nil {
			c.figures.kept.Add(1)
			return nil
		}
		if statusOf(err) != http.StatusNotFound {
			return err
		}
	}
	if source := c.holder(blob); source != nil && ways.mount {
		err := c.until(ctx, func(r *pushClient) error { return r.mount(ctx, repository, source.repository, blob.name) })
		if err == nil {
			c.figures.mounts.Add(1)
			return nil
		}
		if statusOf(err) != http.StatusAccepted {
			return err
		}
	}
	return c.upload(ctx, repository, blob, ways)
}

func (c *soakClient) simple(ctx context.Context, r *pushClient, method, path string, want int) error {
	req, err := r.request(ctx, method, path, nil, 0)
	if err != nil {
		return err
	}
	_, _, err = r.do(req, want)
	return err
}

// upload pushes bytes, whatever is there: in one request, or in several that any replica may get. An upload whose session has
// ended begins again.
func (c *soakClient) upload(ctx context.Context, repository string, blob soakLayer, ways *soakWays) error {
	size := int64(len(blob.content))
	for {
		chunks, whole := ways.chunks(size)
		if whole {
			return c.until(ctx, func(r *pushClient) error {
				return r.putBlob(ctx, repository, blob.name, bytes.NewReader(blob.content), size)
			})
		}
		err := c.uploadInChunks(ctx, repository, blob, chunks)
		if statusOf(err) != http.StatusNotFound {
			return err
		}
	}
}

func (c *soakClient) start(ctx context.Context, repository string) (location string, err error) {
	err = c.until(ctx, func(r *pushClient) error {
		location, err = r.start(ctx, repository)
		return err
	})
	return location, err
}

// uploadInChunks sends each chunk to some replica, and goes on from what another one says when the answer was lost: the chunks that
// follow then are as large, and stand elsewhere.
func (c *soakClient) uploadInChunks(ctx context.Context, repository string, blob soakLayer, chunks []int64) error {
	location, err := c.start(ctx, repository)
	if err != nil {
		return err
	}
	location, path := mustPath(location), mustPath(location)
	size, offset := int64(len(blob.content)), int64(0)
	for _, chunk := range chunks {
		if chunk = min(chunk, size-offset); chunk == 0 {
			break
		}
		next, _, err := c.replica().patch(ctx, path, bytes.NewReader(blob.content[offset:offset+chunk]), offset, chunk)
		switch {
		case err == nil:
			path, offset = mustPath(next), offset+chunk
		case isPassing(err) || statusOf(err) == http.StatusRequestedRangeNotSatisfiable:
			c.figures.resumed.Add(1)
			var stands int64
			err := c.until(ctx, func(r *pushClient) (err error) {
				next, stands, err = r.status(ctx, location)
				return err
			})
			if err != nil {
				return err
			}
			if stands > size || stands < offset && offset > 1 {
				c.wrong("an upload of %d bytes stands at %d after %d were acknowledged", size, stands, offset)
				return nil
			}
			path, offset = mustPath(next), stands
		default:
			return err
		}
	}
	err = c.until(ctx, func(r *pushClient) error {
		return r.finish(ctx, path, blob.name, bytes.NewReader(blob.content[offset:]), offset, size-offset)
	})
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		// The answer to one PUT was lost, and its bytes are there, or are just being saved by the replica that was asked first.
		return c.until(ctx, func(r *pushClient) error {
			err := c.finishFrom(ctx, r, location, blob)
			if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
				return &lostError{err}
			}
			return err
		})
	}
	return err
}

func (c *soakClient) finishFrom(ctx context.Context, r *pushClient, location string, blob soakLayer) error {
	next, offset, err := r.status(ctx, location)
	if err != nil {
		return err
	}
	return r.finish(ctx, mustPath(next), blob.name, bytes.NewReader(blob.content[offset:]), offset, int64(len(blob.content))-offset)
}

// mustPath is a location without the replica that said it.
func mustPath(location string) string {
	if i := bytes.Index([]byte(location), []byte("/v2/")); i >= 0 {
		return location[i:]
	}
	return location
}

// retag puts a manifest under another tag, which may have been another image's, or deletes one.
func (c *soakClient) retag(ctx context.Context, choice soakChoice) error {
	c.figures.retags.Add(1)
	if choice.untag {
		return c.deleteTag(ctx, choice.repository, choice.tag)
	}
	if len(c.images) == 0 {
		return nil
	}
	return c.putManifest(ctx, c.own(choice), choice.tag)
}

func (c *soakClient) delete(ctx context.Context, choice soakChoice) error {
	if len(c.images) == 0 {
		return nil
	}
	return c.deleteImage(ctx, c.own(choice))
}

func (c *soakClient) deleteImage(ctx context.Context, image *soakImage) error {
	same := func(i *soakImage) bool { return i.repository == image.repository && i.name == image.name }
	for _, each := range c.images {
		if same(each) {
			c.giveUp(each)
		}
	}
	c.images = slices.DeleteFunc(c.images, same)
	err := c.until(ctx, func(r *pushClient) error {
		return c.simple(ctx, r, http.MethodDelete, "/v2/"+image.repository+"/manifests/"+image.name.String(), http.StatusAccepted)
	})
	if statusOf(err) == http.StatusNotFound { // the answer to the first one was lost
		err = nil
	}
	if err == nil {
		c.untagged(image.repository, image)
	}
	c.figures.deletes.Add(1)
	return err
}

func (c *soakClient) deleteAll(ctx context.Context) error {
	for len(c.images) > 0 {
		if err := c.deleteImage(ctx, c.images[0]); err != nil {
			return err
		}
	}
	return nil
}

// pull pulls an image whole. It may have been deleted meanwhile; if not, all of it has to be there.
func (c *soakClient) pull(ctx context.Context, image *soakImage) error {
	if image == nil {
		return nil
	}
	all := append([]soakLayer{{image.content, image.name}}, image.blobs...)
	for i, each := range all {
		kind := "blobs"
		if i == 0 {
			kind = "manifests"
		}
		path := image.repository + "/" + kind + "/" + each.name.String()
		var got []byte
		err := c.until(ctx, func(r *pushClient) (err error) {
			got, err = r.get(ctx, path)
			return err
		})
		switch {
		case err != nil && !c.has(image):
			return nil
		case err != nil:
			c.wrong("an image that was acknowledged cannot be pulled: %w", err)
			return nil
		case !bytes.Equal(got, each.content):
			c.wrong("%s has %d bytes that were never pushed", path, len(got))
			return nil
		}
	}
	c.figures.pulls.Add(1)
	return nil
}

// abandon begins an upload, and leaves it.
func (c *soakClient) abandon(ctx context.Context, choice soakChoice) error {
	layer := choice.layers[0]
	location, err := c.start(ctx, choice.repository)
	if err != nil {
		return err
	}
	size := 1 + int64(choice.sent*float64(len(layer.content)-1))
	_, _, err = c.replica().patch(ctx, mustPath(location), bytes.NewReader(layer.content[:size]), 0, size)
	c.figures.abandoned.Add(1)
	if err != nil && !isPassing(err) && statusOf(err) != http.StatusNotFound {
		return err
	}
	return nil
}

// takeOver lets one replica receive a chunk slowly while another one takes the upload over and finishes it. The first must not
// acknowledge what it received since.
func (c *soakClient) takeOver(ctx context.Context, choice soakChoice) error {
	layer := choice.layers[0]
	location, err := c.start(ctx, choice.repository)
	if err != nil {
		return err
	}
	c.figures.taken.Add(1)
	path, half := mustPath(location), len(layer.content)/2
	body, send := io.Pipe()
	answer := make(chan error, 1)
	slow := c.replica()
	go func() {
		_, _, err := slow.patch(ctx, path, body, 0, int64(len(layer.content)))
		_ = body.CloseWithError(errors.New("the request is over"))
		answer <- err
	}()
	_, _ = send.Write(layer.content[:half])
	wait(ctx, 100*time.Millisecond) // by then the replica has claimed it
	finished := c.until(ctx, func(r *pushClient) error { return c.finishFrom(ctx, r, path, layer) })
	_, _ = send.Write(layer.content[half:])
	_ = send.Close()
	err = <-answer
	switch status := statusOf(err); {
	case status == http.StatusRequestedRangeNotSatisfiable || status == http.StatusNotFound:
		c.figures.fenced.Add(1)
	case err == nil && finished == nil && half > 0:
		c.wrong("a chunk was acknowledged after its upload had been taken over and finished")
	case err != nil && !isPassing(err):
		return err
	}
	if status := statusOf(finished); status == http.StatusNotFound || status == http.StatusRequestedRangeNotSatisfiable {
		return nil // the slow one was first
	}
	return finished
}
