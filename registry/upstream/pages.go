package upstream

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/ocikit/ocikit/registry"
)

// Bounds of a list that is read from the upstream. One that goes beyond them is refused: a part of it would look like all of it.
const (
	mostPages   = 10_000
	mostEntries = 100_000
	maxPage     = 8 << 20  // bytes of one page
	maxEntry    = 1 << 20  // bytes of one entry
	maxList     = 16 << 20 // bytes of memory that its entries take
	maxQuery    = 8 << 10  // bytes of a link's query
)

var errTooLong = registry.ErrUnsupported.With("the upstream registry's list has more than %d entries, or more than %d MiB: too much to pass on",
	mostEntries, maxList>>20)

// each reads a list, page by page, as the upstream links them. add is given each entry of the array that each page has under a key;
// what it is given is only good until it returns.
func (l *reading) each(ctx context.Context, path, key string, query url.Values, add func(entry []byte) error) error {
	asked := map[[sha256.Size]byte]bool{}
	for range mostPages {
		sum := sha256.Sum256([]byte(query.Encode()))
		if asked[sum] {
			return wrong("a list of %s that leads back to a page that it had", l.name)
		}
		asked[sum] = true
		before := l.entries
		next, err := l.page(ctx, path, key, query, add)
		if err != nil || next == nil {
			return err
		}
		if l.entries == before && next.Encode() == query.Encode() { // some say so that there is no more
			return nil
		}
		query = next
	}
	return errTooLong
}

// page reads one, and returns the query of the next one; nil if there is none. Only the query is taken from a link, so that it leads
// nowhere else.
func (l *reading) page(ctx context.Context, path, key string, query url.Values, add func(entry []byte) error) (url.Values, error) {
	remote := l.registry.remote
	got, err := remote.ask(ctx, question{method: http.MethodGet, repository: l.name, path: path, query: query})
	if err != nil {
		return nil, err
	}
	defer got.close()
	done, err := l.turn(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	l.pages++
	body := &bounded{Reader: got.body, left: maxPage}
	err = eachEntry(body, key, add)
	switch {
	case body.full:
		return nil, wrong("a page of a list of more than %d bytes", maxPage)
	case body.err != nil:
		return nil, remote.failed(ctx, l.name, fmt.Errorf("receive list: %w", body.err))
	case err != nil:
		return nil, err
	}
	got.body.drain()
	return nextPage(got.Header.Get("Link"))
}

// nextPage returns the query of a link to the next page; nil if it is none.
func nextPage(link string) (url.Values, error) {
	link, parameters, _ := strings.Cut(link, ">")
	link, ok := strings.CutPrefix(strings.TrimSpace(link), "<")
	if !ok || !strings.Contains(parameters, "next") {
		return nil, nil
	}
	u, err := url.Parse(link)
	if err != nil || len(u.RawQuery) > maxQuery {
		return nil, wrong("a link to a next page that is none")
	}
	return u.Query(), nil
}

// bounded is a body of which no more than so many bytes are read. It remembers why it ended early.
type bounded struct {
	io.Reader
	left int64
	full bool  // it has more
	err  error // of the transfer
}

// Read implements [io.Reader].
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.full = true
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Reader.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// eachEntry reads a JSON object, and calls add with each element of the array that it has under a key, as soon as that has come: an
// array of millions of nothing takes as little memory as one of a few.
func eachEntry(body io.Reader, key string, add func(entry []byte) error) error {
	d := json.NewDecoder(body)
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return noList(err)
	}
	var value json.RawMessage
	for d.More() {
		found, err := d.Token()
		if err != nil {
			return noList(err)
		}
		if found != key {
			if err := d.Decode(&value); err != nil {
				return noList(err)
			}
			continue
		}
		token, err := d.Token()
		if token == nil && err == nil { // null is as good as no entries
			continue
		}
		if err != nil || token != json.Delim('[') {
			return noList(err)
		}
		for d.More() {
			if err := d.Decode(&value); err != nil {
				return noList(err)
			}
			if len(value) > maxEntry {
				return wrong("a list with an entry of more than %d bytes", maxEntry)
			}
			if err := add(value); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil { // the array's end
			return noList(err)
		}
	}
	if _, err := d.Token(); err != nil { // the object's end
		return noList(err)
	}
	return nil
}

// noList says that a page is not what it should be; nil is one of another form.
func noList(err error) error {
	if err == nil {
		return wrong("a list that is none")
	}
	return wrong("a list that is none: %v", err)
}
