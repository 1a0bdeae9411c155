package registry

import (
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// pieceSize is how many bytes are written at a time. Larger pieces cost less processor; each has pieceTimeouts times the
	// IdleTimeout, so that a client needs to take a quarter of a MiB in each.
	pieceSize     = 512 << 10
	pieceTimeouts = 2

	// quietBytes are written without a deadline: they fit into the buffers of the connection.
	quietBytes = 64 << 10

	bufferSize = 64 << 10
)

// The values of headers that are always the same, made once.
var (
	valueAPIVersion  = []string{"registry/2.0"}
	valueZero        = []string{"0"}
	valueBytes       = []string{"bytes"}
	valueJSON        = []string{"application/json"}
	valueOctetStream = []string{"application/octet-stream"}
	valueIndex       = []string{"application/vnd.oci.image.index.v1+json"}
)

// response writes an answer. It remembers the status and the bytes, and ends a transfer that the client does not read.
type response struct {
	http.ResponseWriter
	header  http.Header
	head    bool  // the request's method is HEAD: headers only
	status  int   // 0 as long as nothing was written
	written int64 // bytes of the body
	gone    bool  // writing failed: there is nobody to tell anything
	coming  bool  // the body comes slowly: nothing of it waits in buffers
	idle    idle
	buffers *sync.Pool // of *[bufferSize]byte; the handler's

	values [6]string // backs the headers that set makes, so that they cost no allocation each
	used   int
}

func (w *response) begin(rw http.ResponseWriter, r *http.Request, timeout time.Duration) {
	w.ResponseWriter = rw
	w.head = r.Method == http.MethodHead
	w.idle = idle{timeout: pieceTimeouts * timeout, connection: rw, set: (*http.ResponseController).SetWriteDeadline}
	w.header = rw.Header()
	w.header["Docker-Distribution-Api-Version"] = valueAPIVersion
}

// set sets a header whose name is given in its canonical form.
func (w *response) set(name, value string) {
	if w.used == len(w.values) {
		w.header[name] = []string{value}
		return
	}
	w.values[w.used] = value
	w.used++
	w.header[name] = w.values[w.used-1 : w.used : w.used]
}

func (w *response) setLength(n int64) { w.set("Content-Length", strconv.FormatInt(n, 10)) }

// empty answers with a status and no body.
func (w *response) empty(status int) {
	w.header["Content-Length"] = valueZero
	w.WriteHeader(status)
}

// json answers with a document that was marshalled.
func (w *response) json(status int, document []byte) error {
	w.header["Content-Type"] = valueJSON
	return w.document(status, document)
}

func (w *response) document(status int, document []byte) error {
	w.setLength(int64(len(document)))
	w.WriteHeader(status)
	if w.head {
		return nil
	}
	_, err := w.Write(document)
	return err
}

// WriteHeader remembers the status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write writes p piece by piece, each of which the client has IdleTimeout to take.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	total := 0
	for {
		piece := p[total:min(total+pieceSize, len(p))]
		if w.written+int64(len(piece)) > quietBytes {
			w.idle.renew()
		}
		n, err := w.ResponseWriter.Write(piece)
		total += n
		w.written += int64(n)
		if err != nil {
			w.gone = true
			return total, err
		}
		if total == len(p) {
			return total, nil
		}
	}
}

// ReadFrom copies from src piece by piece. A file goes from the page cache to the socket, through no buffer of ours.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	left := int64(math.MaxInt64)
	limited, ok := src.(*io.LimitedReader) // the kernel's copying sees through one of these, not through two
	if ok {
		left, src = limited.N, limited.R
	}
	var total int64
	var err error
	if sink, ok := w.ResponseWriter.(io.ReaderFrom); ok && isFile(src) {
		total, err = w.sendFile(sink, src, left)
	} else {
		total, err = w.copyBuffered(src, left)
	}
	if limited != nil {
		limited.N -= total
	}
	return total, err
}

// isFile reports whether src has a file descriptor: a file itself, or what its WriteTo passes on in its stead.
func isFile(src io.Reader) bool {
	_, ok := src.(syscall.Conn)
	return ok
}

func (w *response) sendFile(sink io.ReaderFrom, src io.Reader, left int64) (total int64, err error) {
	piece := &io.LimitedReader{R: src}
	for left > 0 {
		w.idle.renew()
		piece.N = min(left, pieceSize)
		n, err := sink.ReadFrom(piece)
		total += n
		left -= n
		w.written += n
		if err != nil {
			w.gone = disconnected(err)
			return total, err
		}
		if piece.N > 0 {
			return total, nil // the file's end
		}
	}
	return total, nil
}

func (w *response) copyBuffered(src io.Reader, left int64) (total int64, err error) {
	buffer, ok := w.buffers.Get().(*[bufferSize]byte) // a pointer, so that putting it back does not allocate
	if !ok {
		buffer = new([bufferSize]byte)
	}
	defer w.buffers.Put(buffer)
	for left > 0 {
		n, err := src.Read(buffer[:min(left, int64(len(buffer)))])
		left -= int64(n)
		if n > 0 {
			m, err := w.Write(buffer[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
			if w.coming && n < len(buffer) {
				_ = http.NewResponseController(w.ResponseWriter).Flush() // where that cannot be done, it comes later
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// disconnected reports whether an error of copying to a connection is the connection's, rather than the source's.
func disconnected(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, os.ErrDeadlineExceeded)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// maxWarning is how many bytes of a warning clients read (distribution-spec, "Warnings").
const maxWarning = 4096

// warning returns the value of a Warning header: a code, no agent, and a text in quotes without what would end it.
func warning(text string) string {
	const begin, end = `299 - "`, `"`
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return ' '
		}
		return r
	}, text)
	return begin + text[:min(len(text), maxWarning-len(begin)-len(end))] + end
}
