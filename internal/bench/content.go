package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"sync/atomic"
)

const (
	chunkSize    = 32 << 10 // what docker's copy loop sends as one chunk
	blockSize    = 4 << 20  // random bytes that content is cut from
	nonceSize    = 16
	manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	configType   = "application/vnd.docker.container.image.v1+json"
	layerType    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// source makes content that no registry has seen: random bytes that are made once, behind a nonce that differs each time.
// So content costs the client little, and de-duplication never answers for the work that is measured.
type source struct {
	run    string // names the repositories of this run
	block  []byte
	framed []byte // block as HTTP chunks of chunkSize
	seed   [8]byte
	count  atomic.Uint64
}

func newSource() (*source, error) {
	s := &source{block: make([]byte, blockSize)}
	if _, err := rand.Read(s.block); err != nil {
		return nil, fmt.Errorf("make random content: %w", err)
	}
	if _, err := rand.Read(s.seed[:]); err != nil {
		return nil, fmt.Errorf("make a seed: %w", err)
	}
	s.run = "bench-" + hex.EncodeToString(s.seed[:4])
	for at := 0; at < blockSize; at += chunkSize {
		s.framed = appendChunk(s.framed, s.block[at:at+chunkSize])
	}
	return s, nil
}

// repository is the path below which the requests of one measure's repository lie.
func (s *source) repository(name string) string { return "/v2/" + s.run + "/" + name }

func (s *source) nonce() (n [nonceSize]byte) {
	copy(n[:], s.seed[:])
	binary.BigEndian.PutUint64(n[8:], s.count.Add(1))
	return n
}

// blob is small content: the nonce, and then bytes that all blobs of its size share.
type blob struct {
	nonce  [nonceSize]byte
	rest   []byte
	digest string
}

func (b *blob) size() int { return nonceSize + len(b.rest) }

// blob makes content of a size, at least a nonce and at most a block.
func (s *source) blob(size int) blob {
	b := blob{nonce: s.nonce(), rest: s.block[:max(0, min(size, blockSize)-nonceSize)]}
	hash := sha256.New()
	hash.Write(b.nonce[:])
	hash.Write(b.rest)
	b.digest = digestOf(hash.Sum(nil))
	return b
}

// largeBlob is content of many chunks: a first one with the nonce, then the block again and again.
type largeBlob struct {
	source *source
	start  []byte // of chunkSize
	first  []byte // the same, framed
	size   int64
	digest string
}

// largeBlob makes content of a size that is rounded up to whole chunks.
func (s *source) largeBlob(size int64) largeBlob {
	nonce := s.nonce()
	chunk := append(nonce[:], s.block[:chunkSize-nonceSize]...)
	chunks := max(1, (size+chunkSize-1)/chunkSize)
	hash := sha256.New()
	hash.Write(chunk)
	for left := (chunks - 1) * chunkSize; left > 0; left -= blockSize {
		hash.Write(s.block[:min(left, blockSize)])
	}
	return largeBlob{source: s, start: chunk, first: appendChunk(nil, chunk), size: chunks * chunkSize, digest: digestOf(hash.Sum(nil))}
}

// write sends the chunks as they are framed, without the one of length 0 that ends them.
func (b *largeBlob) write(w io.Writer) error {
	if _, err := w.Write(b.first); err != nil {
		return err
	}
	framed := b.source.framed
	each := len(framed) / (blockSize / chunkSize)
	for left := b.size/chunkSize - 1; left > 0; left -= blockSize / chunkSize {
		if _, err := w.Write(framed[:min(left*int64(each), int64(len(framed)))]); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt reads the content without its frames.
func (b *largeBlob) ReadAt(p []byte, offset int64) (n int, err error) {
	for n < len(p) && offset < b.size {
		from := b.start
		if offset >= chunkSize {
			at := (offset - chunkSize) % blockSize
			from = b.source.block[at:min(blockSize, at+b.size-offset)]
		} else {
			from = from[offset:]
		}
		copied := copy(p[n:], from)
		n, offset = n+copied, offset+int64(copied)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// image is what one docker push sends: its configuration, its layers, and the manifest that names them.
type image struct {
	config       []byte
	configDigest string
	layers       []blob
	manifest     []byte
}

func (s *source) image(layers, layerSize int) image {
	made := image{layers: make([]blob, layers)}
	for i := range made.layers {
		made.layers[i] = s.blob(layerSize)
	}
	nonce := s.nonce()
	made.config = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/bin:/bin"],"Labels":{"nonce":"%x"}},"rootfs":{"type":"layers","diff_ids":[`, nonce)
	for i, layer := range made.layers {
		made.config = fmt.Appendf(made.config, "%s%q", comma(i), layer.digest)
	}
	made.config = append(made.config, `]}}`...)
	sum := sha256.Sum256(made.config)
	made.configDigest = digestOf(sum[:])
	made.manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"size":%d,"digest":%q},"layers":[`,
		manifestType, configType, len(made.config), made.configDigest)
	for i, layer := range made.layers {
		made.manifest = fmt.Appendf(made.manifest, `%s{"mediaType":%q,"size":%d,"digest":%q}`, comma(i), layerType, layer.size(), layer.digest)
	}
	made.manifest = append(made.manifest, `]}`...)
	return made
}

func comma(i int) string {
	if i == 0 {
		return ""
	}
	return ","
}

func digestOf(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

func appendChunk(to, data []byte) []byte {
	to = fmt.Appendf(to, "%x\r\n", len(data))
	return append(append(to, data...), "\r\n"...)
}
