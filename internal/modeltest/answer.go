package modeltest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ocikit/ocikit/store"
)

// answer is a result, or what a caller may tell of an error.
func answer[T any](result T, err error) string {
	if err != nil {
		return outcome(err)
	}
	return fmt.Sprintf("%+v", result)
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	typed := []error{store.ErrSessionUnknown, store.ErrContentUnknown, store.ErrManifestUnknown,
		store.ErrRepositoryUnknown, store.ErrConditionFailed, store.ErrFenced}
	if i := slices.IndexFunc(typed, func(target error) bool { return errors.Is(err, target) }); i >= 0 {
		return typed[i].Error()
	}
	var offset *store.OffsetError
	if errors.As(err, &offset) {
		return fmt.Sprintf("%+v", offset.Session)
	}
	var missing *store.MissingError
	if errors.As(err, &missing) {
		return fmt.Sprintf("missing %v", missing.Digests)
	}
	var referenced *store.ReferencedError
	if errors.As(err, &referenced) {
		return "referenced by " + string(referenced.By)
	}
	var locked *store.TagLockedError
	if errors.As(err, &locked) {
		return "locked " + locked.Tag
	}
	return "untyped: " + err.Error()
}
