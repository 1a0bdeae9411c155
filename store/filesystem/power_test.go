package filesystem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/store"
)

// client is somebody who uses the store and knows what was acknowledged: what the index is to a registry.
type client struct {
	objects map[store.Key]expected
	uploads map[store.Key]*upload
	next    int // the step that was not acknowledged yet
}

// expected is what an object must be.
type expected struct {
	data   []byte
	absent bool // it was never acknowledged, or its deletion was begun: it may be there, whole, or not
}

// upload is a multipart upload that was begun.
type upload struct {
	store.Multipart
	parts     []store.Part // that were acknowledged, and are to be the object
	data      []byte       // of those
	replacing bool         // a step is under way that overwrites some of them
	ended     bool         // it was completed or aborted, or that is under way
}

// step is one call.
type step func(ctx context.Context, c *client, o *Objects) error

// The bytes that steps write. They differ at every place.
func pattern(seed byte, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = seed + byte(i%7)*16
	}
	return b
}

func put(key store.Key, data []byte) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		before, again := c.objects[key]
		if !again {
			before = expected{data: data, absent: true}
		}
		c.objects[key] = before
		err := o.Put(ctx, key, bytes.NewReader(data), int64(len(data)))
		if err == nil {
			c.objects[key] = expected{data: data}
		}
		return err
	}
}

func remove(key store.Key) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		c.objects[key] = expected{data: c.objects[key].data, absent: true}
		err := o.Delete(ctx, []store.Key{key})
		var failed *store.DeleteError
		if errors.As(err, &failed) {
			return failed.Failed[key]
		}
		return err
	}
}

func begin(key store.Key) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		m, err := o.Begin(ctx, key)
		if err == nil {
			c.uploads[key] = &upload{Multipart: m}
		}
		return err
	}
}

// part puts a part at the offset. If keep is not set, it is one that no Complete will name. What it overwrites is given up.
func part(key store.Key, fence int64, number int32, offset int, data []byte, keep bool) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		up := c.uploads[key]
		up.replacing = offset < len(up.data)
		done, err := o.PutPart(ctx, up.Multipart, fence, store.Part{Number: number, Offset: int64(offset), Size: int64(len(data))}, bytes.NewReader(data))
		if err != nil {
			return err
		}
		up.replacing = false
		up.parts = slices.DeleteFunc(up.parts, func(p store.Part) bool { return p.Offset >= int64(offset) })
		up.data = up.data[:min(offset, len(up.data))]
		if keep {
			up.parts = append(up.parts, done)
			up.data = append(slices.Clip(up.data), data...)
		}
		return nil
	}
}

func complete(key store.Key) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		up := c.uploads[key]
		up.ended = true
		c.objects[key] = expected{data: up.data, absent: true}
		err := o.Complete(ctx, up.Multipart, up.parts)
		if err == nil {
			c.objects[key] = expected{data: up.data}
		}
		return err
	}
}

func abort(key store.Key) step {
	return func(ctx context.Context, c *client, o *Objects) error {
		c.uploads[key].ended = true
		return o.Abort(ctx, c.uploads[key].Multipart)
	}
}

// The keys of the story. Their shards are partly the same.
const (
	keyPut       store.Key = "blobs/aa-put"
	keyDeleted   store.Key = "blobs/aa-deleted"
	keyCompleted store.Key = "blobs/bb-completed"
	keyAborted   store.Key = "uploads/cc/aborted"
	keyOpen      store.Key = "blobs/dd-open"
)

// story is what happens until the power goes: every method, twice where repeating it is another matter.
func story() []step {
	return []step{
		put(keyPut, pattern(1, 300)),
		put(keyDeleted, pattern(2, 100)),
		begin(keyCompleted),
		part(keyCompleted, 1, 1, 0, pattern(3, 200), true),
		part(keyCompleted, 1, 2, 200, pattern(4, 150), true),
		part(keyCompleted, 1, 3, 350, pattern(5, 150), true),
		// Another claim continues from 200, with other boundaries.
		part(keyCompleted, 2, 4, 200, pattern(6, 100), true),
		part(keyCompleted, 2, 5, 300, pattern(7, 300), true),
		part(keyCompleted, 2, 5, 300, pattern(8, 50), true), // shorter, under the same number
		part(keyCompleted, 3, 6, 350, pattern(9, 500), false),
		complete(keyCompleted),
		complete(keyCompleted),
		put(keyPut, pattern(1, 300)),
		remove(keyDeleted),
		begin(keyAborted),
		part(keyAborted, 1, 1, 0, pattern(10, 100), true),
		abort(keyAborted),
		begin(keyOpen),
		part(keyOpen, 1, 1, 0, pattern(11, 100), true),
		part(keyOpen, 1, 9, 100, pattern(12, 100), true),
	}
}

// run makes the steps that were not acknowledged yet.
func (c *client) run(ctx context.Context, o *Objects, steps []step) error {
	for ; c.next < len(steps); c.next++ {
		if err := steps[c.next](ctx, c, o); err != nil {
			return fmt.Errorf("step %d: %w", c.next, err)
		}
	}
	return nil
}

// check tells what of the contract does not hold.
func (c *client) check(ctx context.Context, o *Objects) error {
	listed, err := o.List(ctx, "", "", 100)
	if err != nil {
		return err
	}
	for _, object := range listed {
		if _, ok := c.objects[object.Key]; !ok {
			return fmt.Errorf("object %s is there, which nobody made", object.Key)
		}
	}
	for key, want := range c.objects {
		got, err := readAll(ctx, o, key)
		switch {
		case errors.Is(err, store.ErrObjectUnknown) && want.absent:
		case err != nil:
			return fmt.Errorf("object %s was acknowledged: %w", key, err)
		case !bytes.Equal(want.data, got):
			return fmt.Errorf("object %s has %d bytes that are not the %d that were written", key, len(got), len(want.data))
		}
	}
	return nil
}

// checkUploads tells whether unfinished uploads can be completed with what was acknowledged. It spends them.
func (c *client) checkUploads(ctx context.Context, o *Objects) error {
	for key, up := range c.uploads {
		if up.ended || len(up.parts) == 0 {
			continue
		}
		err := o.Complete(ctx, up.Multipart, up.parts)
		if errors.Is(err, store.ErrInvalidPart) && up.replacing {
			continue
		}
		if err != nil {
			return fmt.Errorf("acknowledged parts: %w", err)
		}
		got, err := readAll(ctx, o, key)
		if err != nil {
			return err
		}
		if !bytes.Equal(up.data, got) {
			return fmt.Errorf("object %s is completed from parts with other bytes", key)
		}
	}
	return nil
}

func readAll(ctx context.Context, o *Objects, key store.Key) ([]byte, error) {
	r, err := o.Open(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// trial is an end of the process after some operations.
type trial struct {
	opts       *Options
	operations int
	luck       luck
	lies       func(op, path string) bool
	powerLater bool // only the process ends then; the power goes when another one has done the rest
	untilFirst bool // one way in which the contract breaks is enough
}

const dir = "/srv/objects"

// run tells how the contract was broken, or that the story was over before the end came.
func (trial trial) run(ctx context.Context) (over bool, err error) {
	c := &client{objects: map[store.Key]expected{}, uploads: map[store.Key]*upload{}}
	d := newDisk()
	start := func(operations int) (*Objects, error) {
		return open(&process{disk: d, left: operations, lies: trial.lies}, dir, trial.opts, time.Time{})
	}
	o, err := start(trial.operations)
	if err == nil {
		err = c.run(ctx, o, story())
	}
	switch {
	case err == nil:
		over = true
	case !errors.Is(err, errEnd):
		return false, fmt.Errorf("before the end: %w", err)
	}
	if !trial.powerLater {
		d = d.powerCut(trial.luck)
	}

	// Everything that was acknowledged is there, and nothing partial is.
	if o, err = start(-1); err != nil {
		return over, fmt.Errorf("open again: %w", err)
	}
	if err := c.check(ctx, o); err != nil {
		return over, err
	}
	if names := d.root.at(o.temp()).names; len(names) > 0 {
		return over, fmt.Errorf("%d temporary files are left", len(names))
	}
	// What was begun can be completed as it is …
	if !trial.powerLater {
		kept := d
		d = d.powerCut(luck{all: true}) // a copy
		if o, err = start(-1); err != nil {
			return over, err
		}
		if err := c.checkUploads(ctx, o); err != nil {
			return over, err
		}
		d = kept
		if o, err = start(-1); err != nil {
			return over, err
		}
	}
	// … or continued, the step that had an unknown outcome first; and all that survives the next power cut.
	if err := c.run(ctx, o, story()); err != nil {
		return over, fmt.Errorf("continue: %w", err)
	}
	d = d.powerCut(trial.luck)
	if o, err = start(-1); err != nil {
		return over, fmt.Errorf("open again: %w", err)
	}
	if err := c.check(ctx, o); err != nil {
		return over, fmt.Errorf("after it was continued: %w", err)
	}
	if err := c.checkUploads(ctx, o); err != nil {
		return over, fmt.Errorf("after it was continued: %w", err)
	}
	aborted := c.uploads[keyAborted]
	if err := o.Complete(ctx, aborted.Multipart, aborted.parts); !errors.Is(err, store.ErrMultipartUnknown) {
		return over, fmt.Errorf("completing what was aborted: want %w, got %w", store.ErrMultipartUnknown, err)
	}
	return over, nil
}

// at returns the node of a name.
func (n *node) at(path string) *node {
	for _, name := range split(path) {
		n = n.names[name]
	}
	return n
}

// trials runs the story with an end after every number of operations, and returns how many ends there were and what broke.
func trials(ctx context.Context, t trial) (ends int, broken []error) {
	const lucks = 12
	for over := false; !over; ends++ {
		for seed := range uint64(lucks) {
			t.operations = ends
			t.luck = luck{none: seed == 0, all: seed == 1, Rand: rand.New(rand.NewPCG(seed, uint64(ends)))}
			var err error
			if over, err = t.run(ctx); err != nil {
				broken = append(broken, fmt.Errorf("after %d operations, luck %d: %w", ends, seed, err))
				over = over || t.untilFirst
			}
		}
	}
	return ends, broken
}

func TestPowerCutAfterAnyOperationLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	ends, broken := trials(t.Context(), trial{opts: &Options{}})
	require.Greater(t, ends, 100, "the story has many operations")
	require.Empty(t, broken)
}

func TestEndOfTheProcessAfterAnyOperationLosesNothingAcknowledged(t *testing.T) {
	t.Parallel()
	_, broken := trials(t.Context(), trial{opts: &Options{}, powerLater: true})
	require.Empty(t, broken)
}

// The proof of the two tests above: they fail without syncs, and without any one kind of them.
func TestEverySyncIsNeeded(t *testing.T) {
	t.Parallel()
	of := func(op, pattern string) func(op, path string) bool {
		return func(o, path string) bool {
			ok, err := filepath.Match(pattern, path)
			return o == op && ok && err == nil
		}
	}
	for name, without := range map[string]trial{
		"any":                         {opts: &Options{NoSync: true}},
		"bytes of a put":              {opts: &Options{}, lies: of("sync", dir+"/temp/*")},
		"bytes of a part":             {opts: &Options{}, lies: of("sync", dir+"/staged/*.data")},
		"table of parts":              {opts: &Options{}, lies: of("sync", dir+"/staged/*.parts")},
		"names of objects":            {opts: &Options{}, lies: of("syncDir", dir+"/objects/*")},
		"names of folders of objects": {opts: &Options{}, lies: of("syncDir", dir+"/objects")},
		"names of uploads":            {opts: &Options{}, lies: of("syncDir", dir+"/staged")},
		"names of the layout":         {opts: &Options{}, lies: of("syncDir", dir)},
		"name of the folder":          {opts: &Options{}, lies: of("syncDir", "/srv")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			without.untilFirst = true
			_, broken := trials(t.Context(), without)
			without.powerLater = true
			_, later := trials(t.Context(), without)
			require.NotEmpty(t, append(broken, later...), "a simulated disk that does not sync (%s) loses what was acknowledged", name)
		})
	}
}
