package gc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ocikit/ocikit/store"
)

const (
	// readTries is how often an audit reads an object that cannot be read, with pauses from firstRetry on: a store that is busy, or
	// a connection that is cut, is no damage.
	readTries = 3

	// mostUnread is how many contents that cannot be read, one after the other, are taken for damage. Where one in two is damaged,
	// so many in a row come once in a million contents; where the store is ill, they come at once.
	mostUnread = 20
)

// patiently is state, tried again when the object cannot be read.
func (a *audit) patiently(ctx context.Context, row store.StoredContent) (AuditKind, error) {
	for try := 0; ; try++ {
		kind, err := a.state(ctx, row)
		if err == nil || ctx.Err() != nil || try == readTries-1 {
			return kind, err
		}
		pause(ctx, jitter(firstRetry<<try))
	}
}

// unreadable fails if it is not the object that cannot be read, but the store that does not answer: then nothing is known of this
// object, nor of those after it. What is marked has been told of before, and says nothing about the store.
func (a *audit) unreadable(ctx context.Context, row store.StoredContent, failed error) error {
	if _, err := a.objects.List(ctx, "", "", 1); err != nil {
		return fmt.Errorf("%w; and the store lists nothing: %w", failed, err)
	}
	if !row.Missing {
		a.unread++
		a.reason = failed
	}
	return nil
}

// lost fails if so many contents in a row could not be read that it must be the store, which still lists what it has. They have been
// reported, so that an audit which goes on gets past them, whatever it was. Those between them that fit the listing have not been read: the
// last one is now, as a store that reads it is not down.
func (a *audit) lost(ctx context.Context) error {
	if a.unread < mostUnread {
		return nil
	}
	if a.fitted != "" && a.reads(ctx, a.fitted) {
		a.unread, a.fitted = 0, ""
		return nil
	}
	return fmt.Errorf("%w: none of the last %d contents can be read, the last one because of: %w", store.ErrUnavailable, a.unread, a.reason)
}

// reads reports whether an object can be read.
func (a *audit) reads(ctx context.Context, key store.Key) bool {
	r, err := a.objects.Open(ctx, key, 0, 1)
	if err != nil {
		return errors.Is(err, store.ErrOutOfRange) // it is empty
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err == nil
}

// exists reports whether an object is there. One that cannot be read is, if it is listed: what it holds does not matter here.
func (a *audit) exists(ctx context.Context, key store.Key) (bool, error) {
	r, err := a.objects.Open(ctx, key, 0, 1)
	switch {
	case err == nil:
		return true, r.Close()
	case errors.Is(err, store.ErrOutOfRange):
		return true, nil
	case errors.Is(err, store.ErrObjectUnknown):
		return false, nil
	}
	listed, unlisted := a.objects.List(ctx, string(key), "", 1)
	if unlisted != nil {
		return false, fmt.Errorf("look for object: %w; and the store does not list it: %w", err, unlisted)
	}
	return len(listed) > 0 && listed[0].Key == key, nil
}
