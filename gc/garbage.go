package gc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/ocikit/ocikit/store"
)

// sweep deletes objects that were condemned long enough ago, and forgets those that are gone. What is not forgotten comes
// again, to any collector: also after a crash between any two of its calls.
func (c *collector) sweep(ctx context.Context, limit int, done *Stats) (gain, error) {
	taken, err := c.meta.TakeGarbage(ctx, store.Take{
		Delay: c.options.Delay, Unfinished: c.options.unfinished(), Again: c.options.Again, Limit: limit,
	})
	if err != nil {
		return nothing, fmt.Errorf("take garbage: %w", err)
	}
	if len(taken) == 0 {
		return nothing, nil
	}
	keys, failed := c.finish(ctx, taken, done)
	gone, err := c.delete(ctx, keys)
	failed = errors.Join(failed, err)
	done.Failed = len(taken) - len(gone)
	if some := (*store.DeleteError)(nil); err != nil && !errors.As(err, &some) {
		return nothing, failed
	}
	if len(gone) > 0 {
		if err := c.meta.ForgetGarbage(ctx, gone); err != nil {
			return nothing, errors.Join(fmt.Errorf("forget garbage: %w", err), failed)
		}
		done.Objects, done.ObjectBytes = len(gone), sizeOf(gone, taken)
	}
	if c.stay += done.Failed; len(gone) > 0 {
		c.stay = 0
	}
	// If very many in a row fail, it is the store, or a large part of it is locked; and where those are due again before all have been tried,
	// since Again is short, to go on would never end. Then what is behind them waits for another round.
	if len(taken) == limit && c.stay < mostPutOff { // what failed has been put off: more may be due behind it
		return filled, inPart(failed)
	}
	c.stay = 0
	return gainOf(len(gone), limit-done.Failed), inPart(failed)
}

// sizeOf adds up how many bytes the index knows of under keys that were taken.
func sizeOf(keys []store.Key, taken []store.Garbage) (size int64) {
	sizes := make(map[store.Key]int64, len(taken))
	for _, g := range taken {
		sizes[g.Key] = g.Size
	}
	for _, key := range keys {
		size += sizes[key]
	}
	return size
}

// finish returns the keys that no multipart upload can become any more, by aborting those that are unfinished. Only what an
// upload has left behind under the prefix of content can have one.
func (c *collector) finish(ctx context.Context, taken []store.Garbage, done *Stats) (finished []store.Key, failed error) {
	var unfinished []store.Key
	for _, g := range taken {
		if g.Unfinished && strings.HasPrefix(string(g.Key), store.BlobPrefix) {
			unfinished = append(unfinished, g.Key)
		} else {
			finished = append(finished, g.Key)
		}
	}
	aborted := make([]int, len(unfinished))
	errs := each(len(unfinished), func(i int) (err error) {
		aborted[i], err = abortAll(ctx, c.objects, unfinished[i])
		return err
	})
	for i, key := range unfinished {
		done.Multiparts += aborted[i]
		if errs[i] == nil {
			finished = append(finished, key)
		}
	}
	return finished, firstOf("abort multipart uploads", errs)
}

// aborts is how often the multipart uploads of a key are aborted before it is left for another time.
const aborts = 3

// abortAll aborts the multipart uploads of exactly this key until the store says that there is none: a part that was on its
// way may survive an abort.
func abortAll(ctx context.Context, objects store.Objects, key store.Key) (aborted int, err error) {
	for range aborts {
		begun, err := objects.Begun(ctx, key)
		if err != nil {
			return aborted, fmt.Errorf("look for multipart uploads of %s: %w", key, err)
		}
		if len(begun) == 0 {
			return aborted, nil
		}
		for _, m := range begun {
			if err := objects.Abort(ctx, m); err != nil {
				return aborted, fmt.Errorf("abort multipart upload of %s: %w", key, err)
			}
			aborted++
		}
	}
	begun, err := objects.Begun(ctx, key)
	if err == nil && len(begun) > 0 {
		err = errors.New("it survives being aborted")
	}
	if err != nil {
		return aborted, fmt.Errorf("look for multipart uploads of %s: %w", key, err)
	}
	return aborted, nil
}

// delete deletes objects and returns the keys that are gone for certain.
func (c *collector) delete(ctx context.Context, keys []store.Key) (gone []store.Key, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	err = c.objects.Delete(ctx, keys)
	if err == nil {
		return keys, nil
	}
	var failed *store.DeleteError
	if !errors.As(err, &failed) {
		return nil, fmt.Errorf("delete objects: %w", err)
	}
	for _, key := range keys {
		if _, stays := failed.Failed[key]; !stays {
			gone = append(gone, key)
		}
	}
	return gone, fmt.Errorf("delete objects: %w", err)
}

// requests is how many requests to the objects a step has under way at once.
const requests = 8

// each calls do for every number below n, some at a time, and returns their errors in the numbers' order.
func each(n int, do func(i int) error) []error {
	errs := make([]error, n)
	var (
		wait sync.WaitGroup
		free = make(chan struct{}, requests)
	)
	for i := range n {
		free <- struct{}{}
		wait.Go(func() {
			defer func() { <-free }()
			errs[i] = do(i)
		})
	}
	wait.Wait()
	return errs
}

// firstOf returns the first error, and how many there are.
func firstOf(what string, errs []error) error {
	var first error
	n := 0
	for _, err := range errs {
		if err != nil {
			n++
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("%s: %d failed, among them: %w", what, n, first)
}
