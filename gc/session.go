package gc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ocikit/ocikit/store"
)

// abortTimeout is how long the multipart uploads of the sessions that a step has ended may take to be aborted.
const abortTimeout = 30 * time.Second

// endSessions ends sessions that have outlived their life. Their keys are in the garbage from then on, so what aborting them
// at once does not reach is reached when that is due: a part that is on its way survives an abort on some stores.
func (c *collector) endSessions(ctx context.Context, limit int, done *Stats) (gain, error) {
	ended, err := c.meta.EndSessions(ctx, c.options.Life, limit)
	if err != nil {
		return nothing, fmt.Errorf("end sessions: %w", err)
	}
	done.Sessions, done.Tombstones = len(ended.Sessions), ended.Tombstones
	var begun []store.Multipart
	for i := range ended.Sessions {
		if m := ended.Sessions[i].Multipart; m != (store.Multipart{}) {
			begun = append(begun, m)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, abortTimeout)
	defer cancel()
	errs := each(len(begun), func(i int) error { return c.objects.Abort(ctx, begun[i]) })
	for _, err := range errs {
		if err == nil {
			done.Multiparts++
		} else {
			done.NotAborted++
		}
	}
	if err := errors.Join(errs...); err != nil {
		c.options.Logger.DebugContext(ctx, "multipart uploads of sessions that have ended are aborted later", "error", err)
	}
	switch {
	case ended.More:
		return filled, nil
	case done.Sessions+done.Tombstones > 0:
		return some, nil
	}
	return nothing, nil
}
