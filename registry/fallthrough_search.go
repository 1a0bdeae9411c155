package registry

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// patience is how long a source is waited for where a client can do without: it uploads what it could have skipped, and its push to a
// local repository does not hang with an upstream. Pulls wait longer: for a blob until it is here, and for a tag until a source has
// given up that has an older one to serve.
const patience = 5 * time.Second

// restTime is how long clients are not to wait for a source again that could not spare them an upload: else a push would, layer after
// layer. It is asked all the same, for restPatience: what it keeps comes at once, whatever its upstream does.
const (
	restTime     = 30 * time.Second
	restPatience = 250 * time.Millisecond
)

// source is one behind the local registry.
type source struct {
	Source
	rests atomic.Int64 // until then, in nanoseconds of Unix time
}

// spare asks a source for what only spares the client an upload. Nothing else that fails makes the source rest: pulls wait for what they
// need, and other repositories may have other ways.
func spare[T any](ctx context.Context, s *source, unknown *Error, ask func(context.Context, Registry) (T, error)) (T, error) {
	if time.Now().UnixNano() < s.rests.Load() {
		return soon(ctx, s, restPatience, ask)
	}
	found, err := soon(ctx, s, patience, ask)
	if err != nil && ctx.Err() == nil && !isUnknown(err, unknown) && !isRefusal(err) {
		s.rests.Store(time.Now().Add(restTime).UnixNano())
	}
	return found, err
}

// soon asks a source for what is not read any more once it has answered: that is all but a Blob.
func soon[T any](ctx context.Context, s *source, within time.Duration, ask func(context.Context, Registry) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return ask(ctx, s.Registry)
}

// wanted is something that the local registry does not have.
type wanted struct {
	repository string
	unknown    *Error // what clients are told if nobody has it
	byName     bool   // by what its owner calls it: a tag, or a list. Else by its digest
	spare      bool   // only to spare the client an upload
	own        bool   // by its digest, in a repository that is local: pushes ask so, and can do without
}

// wantManifest fails if nobody is to look for a manifest behind the local registry.
func (f *FallThrough) wantManifest(ctx context.Context, repository string, ref Reference) (wanted, error) {
	w := wanted{repository: repository, unknown: ErrManifestUnknown, byName: ref.Tag != ""}
	if !w.byName {
		var err error
		w.own, err = f.owns(ctx, repository)
		return w, err
	}
	hidden, err := f.hides(ctx, repository)
	if hidden {
		err = ErrManifestUnknown.With("%s; it is a local one, which hides what is behind it", ErrManifestUnknown.Message)
	}
	return w, err
}

// Search asks the sources for the manifest that ref names in a repository, as Manifest does for what the local registry does not have: in
// their order, until ask returns nil or it is not for the next one to answer. It is for what else can be done with a manifest than
// reading it, where the same source is to be asked. It fails with ErrManifestUnknown, also where a local repository hides the
// sources, else with what the first one said that could not be asked, or refused.
func (f *FallThrough) Search(ctx context.Context, repository string, ref Reference, ask func(source Registry) error) error {
	w, err := f.wantManifest(ctx, repository, ref)
	if err != nil {
		return err
	}
	_, nobody := search(f, w, func(s *source) (struct{}, error) { return struct{}{}, ask(s.Registry) })
	if nobody != nil {
		return nobody.reason()
	}
	return nil
}

// behind returns the first answer of a source. Where none has one, it is unknown, also where a source refuses: that is what registries say
// to strangers of what they do not have, and clients give up at it. A source that fails makes it unknown only where that misleads
// nobody: in a local repository, and for what spares an upload. Else the failure is told.
func behind[T any](ctx context.Context, f *FallThrough, w wanted, ask func(context.Context, Registry) (T, error)) (T, error) {
	found, nobody := search(f, w, func(s *source) (T, error) {
		switch {
		case w.spare:
			return spare(ctx, s, w.unknown, ask)
		case w.own:
			return soon(ctx, s, patience, ask)
		}
		return ask(ctx, s.Registry)
	})
	switch {
	case nobody == nil:
		return found, nil
	case ctx.Err() != nil:
		return found, nobody.reason()
	case nobody.failed == nil || w.spare || w.own:
		return found, nobody.answer()
	}
	own, err := f.owns(ctx, w.repository)
	if own {
		return found, nobody.answer()
	}
	return found, errors.Join(nobody.failed, err)
}

// search asks the sources, in their order, until one has what is wanted. What is asked for by name is asked of the next one only if one
// says that it does not have it, unless all are trusted alike: a name that one of them owns must not become another one's while
// that is down, or refuses. A digest is what it is, wherever it comes from.
func search[T any](f *FallThrough, w wanted, ask func(*source) (T, error)) (found T, nobody *nobodyError) {
	nobody = &nobodyError{unknown: w.unknown}
	for _, source := range f.sources {
		found, err := ask(source)
		if err == nil {
			return found, nil
		}
		if isUnknown(err, w.unknown) {
			continue
		}
		nobody.note(err)
		if w.byName && !f.options.Mix {
			break
		}
	}
	return found, nobody
}

// nobodyError says that no source has given something.
type nobodyError struct {
	unknown *Error
	refused error // of the first source that does not allow it; nil: none
	failed  error // of the first one that could not be asked
}

// note remembers what a source has said.
func (e *nobodyError) note(err error) {
	switch {
	case isRefusal(err):
		if e.refused == nil {
			e.refused = err
		}
	case e.failed == nil:
		e.failed = err
	}
}

// reason returns what it lay at.
func (e *nobodyError) reason() error {
	switch {
	case e.failed != nil:
		return e.failed
	case e.refused != nil:
		return e.refused
	}
	return e.unknown
}

// answer says that it is unknown, and to people why. The reason stands in its text alone: no code of it, challenge or time to wait
// is for this registry's clients.
func (e *nobodyError) answer() error {
	switch {
	case e.failed != nil:
		return fmt.Errorf("%w: %s", e.unknown.With("%s; the upstream registry does not answer", e.unknown.Message), e.failed.Error())
	case e.refused != nil:
		return fmt.Errorf("%w: %s", e.unknown.With("%s; the upstream registry refuses access to it, or to its name", e.unknown.Message), e.refused.Error())
	}
	return e.unknown
}

// isUnknown reports whether a source says that it does not have something.
func isUnknown(err error, unknown *Error) bool {
	return errors.Is(err, unknown) || errors.Is(err, ErrNameUnknown) || errors.Is(err, ErrUnsupported)
}

// isRefusal reports whether a source says that it does not give something, if it has it.
func isRefusal(err error) bool {
	return errors.Is(err, ErrDenied) || errors.Is(err, ErrUnauthorized)
}
