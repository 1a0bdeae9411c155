package gc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/store"
)

// ill is objects of which some cannot be read.
type ill struct {
	store.Objects
	open func(key store.Key) error // fails what is asked for; nil: nothing
	read func(key store.Key) error // fails what has been opened, after half of its bytes; nil: nothing
	list func() error              // nil: lists work
}

func (o *ill) Open(ctx context.Context, key store.Key, offset, length int64) (io.ReadCloser, error) {
	if o.open != nil {
		if err := o.open(key); err != nil {
			return nil, err
		}
	}
	r, err := o.Objects.Open(ctx, key, offset, length)
	if err != nil || o.read == nil || length >= 0 {
		return r, err
	}
	if failed := o.read(key); failed != nil {
		data, err := io.ReadAll(r)
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(strings.NewReader(string(data[:len(data)/2])), iotest.ErrReader(failed)), r}, err
	}
	return r, nil
}

func (o *ill) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	if o.list != nil {
		if err := o.list(); err != nil {
			return nil, err
		}
	}
	return o.Objects.List(ctx, prefix, after, limit)
}

// auditOf audits a world's index and other objects, and returns what was found, too.
func (w *world) auditOf(t *testing.T, objects store.Objects, opts gc.AuditOptions) ([]gc.AuditFinding, gc.AuditReport, error) {
	t.Helper()
	var found []gc.AuditFinding
	opts.Found = func(f gc.AuditFinding) error {
		found = append(found, f)
		return nil
	}
	report, err := gc.Audit(t.Context(), w.meta, objects, &opts)
	return found, report, err
}

// only fails what is asked of one key.
func only(bad store.Key, err error) func(store.Key) error {
	return func(key store.Key) error {
		if key == bad {
			return err
		}
		return nil
	}
}

var (
	errDisk = &fsError{syscall.EIO}
	errBusy = fmt.Errorf("read object: %w: %w", store.ErrUnavailable, io.ErrUnexpectedEOF)
)

// fsError is an error of several lines, as some stores tell.
type fsError struct{ error }

func (e *fsError) Error() string { return "the disk says:\n  " + e.error.Error() }

func TestAuditGoesPastWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		open, read error
		deep       bool
		reason     string
	}{
		"NotOpened":   {open: errDisk, deep: true, reason: "open object: the disk says: input/output error"},
		"Unavailable": {open: errBusy, deep: true, reason: "store unavailable"},
		"CutOff":      {read: errBusy, deep: true, reason: "unexpected EOF"},
		"SizeOnly":    {open: errDisk, reason: "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				var contents []store.Content
				for i := range 10 {
					contents = append(contents, w.push(t, repository, text(i)))
					w.put(t, manifest{text: fmt.Sprint("image ", i), layers: []digest.Digest{contents[i].Digest}})
				}
				bad := contents[4]
				if !test.deep { // what fits the listing is not looked at
					w.write(t, bad.Key, "another size")
				}
				objects := &ill{Objects: w.objects, open: only(bad.Key, test.open), read: only(bad.Key, test.read)}
				want := map[gc.AuditKind]int{gc.AuditUnreadable: 1, gc.AuditBroken: 1}
				for _, opts := range []gc.AuditOptions{{}, {Repair: true}, {Batch: 1}} {
					opts.Deep = test.deep
					found, report, err := w.auditOf(t, objects, opts)
					require.NoError(t, err)
					require.True(t, report.Done)
					assert.Equal(t, want, report.Findings)
					assert.EqualValues(t, 10, report.Contents, "an audit goes on behind it")
					require.Len(t, found, 2)
					assert.Equal(t, bad.Key, found[0].Key)
					assert.Contains(t, found[0].Reason, test.reason)
					assert.NotContains(t, found[0].Reason, "\n")
					assert.Equal(t, digest.FromString("image 4"), found[1].Manifest)
					assert.Zero(t, report.Repaired)
					require.True(t, w.has(t, repository, bad.Digest), "a store that recovers has it again")
				}
				_, report, err := w.auditOf(t, objects, gc.AuditOptions{Deep: test.deep, Repair: true, RepairUnreadable: true})
				require.NoError(t, err)
				assert.Equal(t, want, report.Findings)
				assert.Equal(t, 1, report.Repaired)
				require.False(t, w.has(t, repository, bad.Digest), "it was said twice")
				found, report, err := w.auditOf(t, objects, gc.AuditOptions{Repair: true})
				require.NoError(t, err)
				assert.Equal(t, want, report.Findings, "what is marked is looked at in any audit")
				assert.True(t, found[0].Marked)

				w.write(t, bad.Key, text(4))
				found, report = w.audit(t, gc.AuditOptions{Repair: true})
				assert.Equal(t, []store.Key{bad.Key}, kindsOf(found)[gc.AuditFound])
				assert.Equal(t, 1, report.Repaired)
				assert.True(t, w.has(t, repository, bad.Digest), "content that can be read again is unmarked")
			})
		})
	}
}

func TestAuditTriesAgainWhatMayPass(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		bad := w.push(t, repository, "content").Key
		failures := 2
		objects := &ill{Objects: w.objects, read: func(store.Key) error {
			if failures--; failures >= 0 {
				return errBusy
			}
			return nil
		}}
		began := time.Now()
		found, _, err := w.auditOf(t, objects, gc.AuditOptions{Deep: true})
		require.NoError(t, err)
		require.Empty(t, found)
		require.InDelta(t, 3, time.Since(began).Seconds(), 1, "not all at once")

		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		objects.read = only(bad, errBusy)
		report, err := gc.Audit(ctx, w.meta, objects, &gc.AuditOptions{Deep: true})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Empty(t, report.Findings, "who is told to stop knows nothing of it")
	})
}

func TestAuditOfAStoreThatIsDownEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 50 {
			w.push(t, repository, text(i))
		}
		stored := keysOf(w.stored(t))
		listed, opened := 0, map[store.Key]bool{}
		objects := &ill{
			Objects: w.objects,
			open: func(key store.Key) error {
				if opened[key] = true; len(opened) > 30 {
					return errBusy
				}
				return nil
			},
			list: func() error {
				if listed++; listed > 1 {
					return errDisk
				}
				return nil
			},
		}
		found, report, err := w.auditOf(t, objects, gc.AuditOptions{Deep: true, Repair: true, RepairUnreadable: true, Force: true})
		require.ErrorIs(t, err, store.ErrUnavailable)
		require.ErrorIs(t, err, errDisk)
		require.Empty(t, found, "nothing is known of what it has")
		require.Equal(t, stored[29], report.Next)
		_, rest := w.audit(t, gc.AuditOptions{Deep: true, After: report.Next})
		require.EqualValues(t, 50, report.Contents+rest.Contents)
	})
}

func TestAuditOfAStoreThatReadsNothingEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 100 {
			w.push(t, repository, text(i))
		}
		objects := &ill{Objects: w.objects, read: func(store.Key) error { return errBusy }}
		total, after := 0, store.Key("")
		for audits := 1; audits < 10; audits++ {
			found, report, err := w.auditOf(t, objects, gc.AuditOptions{Deep: true, After: after})
			require.LessOrEqual(t, len(found), 20)
			total, after = total+len(found), report.Next
			if err == nil {
				require.Equal(t, 6, audits)
				break
			}
			require.ErrorIs(t, err, store.ErrUnavailable)
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		}
		require.Equal(t, 100, total, "an audit that goes on gets past what was told")

		bad := map[store.Key]bool{}
		for i, key := range keysOf(w.stored(t)) {
			bad[key] = i%20 != 0
		}
		objects.read = func(key store.Key) error {
			if bad[key] {
				return errBusy
			}
			return nil
		}
		found, _, err := w.auditOf(t, objects, gc.AuditOptions{Deep: true})
		require.NoError(t, err, "a store that reads something is not down")
		require.Len(t, found, 95)

		found, _, err = w.auditOf(t, objects, gc.AuditOptions{Deep: true, Repair: true, RepairUnreadable: true})
		require.NoError(t, err)
		require.Len(t, found, 95)
		found, report, err := w.auditOf(t, objects, gc.AuditOptions{})
		require.NoError(t, err, "what has been marked says nothing about the store")
		require.True(t, report.Done)
		require.Len(t, found, 95)
	})
}

func TestAuditOfSizesReadsSomethingBeforeItGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 300 {
			w.push(t, repository, text(i))
		}
		bad := map[store.Key]bool{}
		for i, key := range keysOf(w.stored(t)) {
			if i%10 == 5 {
				w.write(t, key, "another size")
				bad[key] = true
			}
		}
		down := false
		objects := &ill{Objects: w.objects, open: func(key store.Key) error {
			if down || bad[key] {
				return errDisk
			}
			return nil
		}}
		found, report, err := w.auditOf(t, objects, gc.AuditOptions{})
		require.NoError(t, err, "a store that reads what is between is not down")
		require.True(t, report.Done)
		require.Len(t, found, 30)

		down = true
		found, _, err = w.auditOf(t, objects, gc.AuditOptions{})
		require.ErrorIs(t, err, store.ErrUnavailable, "what fits the listing need not be readable")
		require.Len(t, found, 20)
	})
}

func TestAuditLeavesAloneWhatItCannotVerify(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		content := w.pushAs(t, repository, "content", digest.SHA384.FromString("content"))
		w.put(t, manifest{text: "image", layers: []digest.Digest{content.Digest}})
		began := time.Now()
		everything := gc.AuditOptions{Deep: true, Repair: true, RepairUnreadable: true}
		found, report := w.audit(t, everything)
		require.Zero(t, time.Since(began), "it is not tried again")
		require.Equal(t, map[gc.AuditKind][]store.Key{gc.AuditUnverified: {content.Key}}, kindsOf(found), "what refers to it is not said to be broken")
		require.Equal(t, content.Digest, found[0].Digest)
		require.Zero(t, report.Repaired)
		require.True(t, w.has(t, repository, content.Digest), "it is not marked")
		found, _ = w.audit(t, gc.AuditOptions{})
		require.Empty(t, found, "its size can be compared")

		_, err := w.meta.MarkContent(t.Context(), content.Digest, content.Key, true)
		require.NoError(t, err)
		found, report = w.audit(t, everything)
		require.Equal(t, map[gc.AuditKind]int{gc.AuditUnverified: 1, gc.AuditBroken: 1}, report.Findings)
		require.True(t, found[0].Marked)
		require.False(t, w.has(t, repository, content.Digest), "what was marked is not unmarked unseen")

		w.write(t, content.Key, "another size")
		_, report = w.audit(t, gc.AuditOptions{})
		require.Equal(t, map[gc.AuditKind]int{gc.AuditWrongSize: 1, gc.AuditBroken: 1}, report.Findings)
	})
}

func TestRepairBeginsWhereSomethingCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 3 {
			w.push(t, repository, text(i))
		}
		orphan := store.Key("blobs/ffffffff-ffff-4fff-8fff-ffffffffffff")
		w.write(t, orphan, "orphan")
		time.Sleep(48 * time.Hour)
		objects := &ill{Objects: w.objects, open: func(store.Key) error { return errDisk }}
		found, report, err := w.auditOf(t, objects, gc.AuditOptions{Repair: true})
		require.NoError(t, err)
		require.True(t, report.Done)
		require.Equal(t, map[gc.AuditKind][]store.Key{gc.AuditOrphan: {orphan}}, kindsOf(found), "what an orphan holds does not matter")
		require.Equal(t, 1, report.Repaired)

		lost := keysOf(w.stored(t))[0]
		require.NoError(t, w.objects.Delete(t.Context(), []store.Key{lost}))
		objects.open = func(key store.Key) error {
			if key != lost {
				return errDisk
			}
			return nil
		}
		_, report, err = w.auditOf(t, objects, gc.AuditOptions{Repair: true})
		require.NoError(t, err)
		require.Equal(t, 1, report.Repaired, "an object that is listed belongs to its content")

		objects.list = func() error { return errBusy }
		_, _, err = w.auditOf(t, objects, gc.AuditOptions{Repair: true})
		require.ErrorIs(t, err, store.ErrUnavailable)
	})
}

func TestDeepAuditGoesOnAtTheObjectWhereItEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		for i := range 10 {
			w.push(t, repository, text(i))
			w.write(t, store.NewBlobKey(), "orphan")
		}
		contents, err := w.meta.StoredContents(t.Context(), "", 100)
		require.NoError(t, err)
		errStop := errors.New("stop")
		for i, row := range contents {
			var before, after []gc.AuditFinding
			ctx, cancel := context.WithCancelCause(t.Context())
			objects := &ill{Objects: w.objects, read: func(key store.Key) error {
				if key == row.Key {
					cancel(errStop)
				}
				return nil
			}}
			report, err := gc.Audit(ctx, w.meta, objects, &gc.AuditOptions{
				Deep: true, Found: func(f gc.AuditFinding) error { before = append(before, f); return nil },
			})
			require.ErrorIs(t, err, context.Canceled)
			require.EqualValues(t, i, report.Contents)
			require.Less(t, report.Next, row.Key)
			if i > 0 {
				require.GreaterOrEqual(t, report.Next, contents[i-1].Key)
			}
			rest, err := gc.Audit(t.Context(), w.meta, w.objects, &gc.AuditOptions{
				Deep: true, After: report.Next, Found: func(f gc.AuditFinding) error { after = append(after, f); return nil },
			})
			require.NoError(t, err)
			require.EqualValues(t, 10-i, rest.Contents, "what was read is not read again")
			require.EqualValues(t, 20, report.Objects+rest.Objects)
			require.Len(t, append(before, after...), 10, "everything is found, and nothing twice")
		}
	})
}

func TestAuditRefusesToMarkTheUnreadableAlone(t *testing.T) {
	t.Parallel()
	w := newWorld()
	_, err := gc.Audit(t.Context(), w.meta, w.objects, &gc.AuditOptions{RepairUnreadable: true})
	require.ErrorContains(t, err, "RepairUnreadable:")
}
