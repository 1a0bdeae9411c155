package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/ocikit/ocikit/store"
)

// List implements [store.Objects]. It reads the names of each folder that may hold a part of the page, and keeps no more of
// them than the page needs.
func (o *Objects) List(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	list, err := o.list(ctx, prefix, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list objects: %w", classify(err))
	}
	return list, nil
}

// shardPage is how many folders are looked for at a time. A registry's own keys come to 512.
const shardPage = 1024

func (o *Objects) list(ctx context.Context, prefix string, after store.Key, limit int) ([]store.Object, error) {
	var list []store.Object
	for last, more := "", true; more && len(list) < limit; {
		shards, err := o.shards(ctx, prefix, string(after), last)
		if err != nil {
			return nil, err
		}
		for _, shard := range shards {
			if list, err = o.listShard(ctx, list, shard, prefix, after, limit); err != nil {
				return nil, err
			}
			if len(list) >= limit {
				break
			}
			last = shard
		}
		more = len(shards) == shardPage
	}
	return list, nil
}

// shards returns the next shards, after last, that may hold keys with the prefix and after the given key.
func (o *Objects) shards(ctx context.Context, prefix, after, last string) ([]string, error) {
	return o.smallest(ctx, o.objects(), shardPage, func(name string) (string, bool) {
		shard, ok := toShard(name)
		ok = ok && shard > last &&
			(strings.HasPrefix(shard, prefix) || strings.HasPrefix(prefix, shard)) &&
			(shard > after || strings.HasPrefix(after, shard))
		return shard, ok
	})
}

// listShard appends the objects of one shard to the list, up to limit in all. An object that is deleted meanwhile makes room for
// another one: a page that is not full says that there are no more.
func (o *Objects) listShard(ctx context.Context, list []store.Object, shardName, prefix string, after store.Key, limit int) ([]store.Object, error) {
	folder := o.folder(shardName)
	for len(list) < limit {
		room := limit - len(list)
		keys, err := o.smallest(ctx, folder, room, func(name string) (string, bool) {
			key, ok := toKey(name)
			return string(key), ok && key > after && strings.HasPrefix(string(key), prefix) && shard(key) == shardName
		})
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			after = store.Key(key)
			_, name := o.object(after)
			switch found, err := o.files.stat(name); {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				return nil, err
			default:
				list = append(list, store.Object{Key: after, Size: found.size, Modified: found.modified})
			}
		}
		if len(keys) < room {
			break
		}
	}
	return list, nil
}

// smallest returns the first n, in byte order, of what pick makes of the names in a folder. It never holds more than a few times
// as many. A folder that is missing has no names.
func (o *Objects) smallest(ctx context.Context, folder string, n int, pick func(name string) (string, bool)) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var found []string
	shrink := func() {
		slices.Sort(found)
		found = slices.Compact(found)
		found = found[:min(n, len(found))]
	}
	err := o.files.names(folder, func(name string) {
		picked, ok := pick(name)
		if !ok {
			return
		}
		if found = append(found, picked); len(found)/2-128 >= n {
			shrink()
		}
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	shrink()
	return found, nil
}
