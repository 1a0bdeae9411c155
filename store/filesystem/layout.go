package filesystem

import (
	"path/filepath"
	"strings"

	"github.com/ocikit/ocikit/store"
)

// layout knows where things are. It reads and writes nothing, and is given valid keys only.
type layout struct {
	root string // absolute
}

func (l layout) format() string  { return l.join("format") }
func (l layout) objects() string { return l.join("objects") }
func (l layout) staged() string  { return l.join("staged") }
func (l layout) temp() string    { return l.join("temp") }
func (l layout) newTemp() string { return l.join("temp", store.NewID()) }

// join is filepath.Join without cleaning.
func (l layout) join(names ...string) string {
	return l.root + string(filepath.Separator) + strings.Join(names, string(filepath.Separator))
}

// shardMark ends the name of a folder of objects, lest the name end with a dot, which Windows drops.
const shardMark = "_"

// shard returns the beginning of a key that it shares with the others of its folder: up to two letters after its first slash.
// It is a prefix that is chosen by the first segment alone, so that shards are in the order of their keys: every key of
// one shard comes before every key of a later one.
func shard(key store.Key) string {
	slash := strings.IndexByte(string(key), '/')
	if slash < 0 {
		return string(key)
	}
	return string(key[:min(slash+3, len(key))])
}

// folder returns the folder of the objects of a shard.
func (l layout) folder(shard string) string {
	return l.join("objects", toName(shard)+shardMark)
}

// object returns an object's folder and its file.
func (l layout) object(key store.Key) (folder, file string) {
	file = l.join("objects", toName(shard(key))+shardMark, toName(string(key)))
	return file[:strings.LastIndexByte(file, filepath.Separator)], file
}

// toName turns a key, or the beginning of one, into a name that sorts as it does: of what a key may hold only '-' is lower than
// a slash, and it is lower than a dot, too.
func toName(key string) string { return strings.ReplaceAll(key, "/", ".") }

// toKey is the reverse of toName. ok is false when name is not a key's.
func toKey(name string) (key store.Key, ok bool) {
	if strings.Contains(name, "/") {
		return "", false
	}
	key = store.Key(strings.ReplaceAll(name, ".", "/"))
	return key, key.Valid()
}

// toShard returns the shard of a folder's name. ok is false when it is not one of ours.
func toShard(name string) (shard string, ok bool) {
	shard, ok = strings.CutSuffix(name, shardMark)
	return strings.ReplaceAll(shard, ".", "/"), ok
}

// The files of a multipart upload: KEY+ID.data, KEY+ID.parts.
const (
	idMark    = "+"
	dataMark  = ".data"
	partsMark = ".parts"
)

// upload returns the files of a multipart upload. ok is false when m is none that Begin may have returned.
func (l layout) upload(m store.Multipart) (data, parts string, ok bool) {
	if !m.Key.Valid() || !store.Key(m.ID).Valid() || strings.Contains(m.ID, "/") {
		return "", "", false
	}
	name := l.join("staged", toName(string(m.Key))+idMark+m.ID)
	return name + dataMark, name + partsMark, true
}
