package main

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ocikit/ocikit/staging"
)

// doer is a store: it does what a test says.
type doer func(r *http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func ask(t *testing.T, body io.Reader, store doer) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://localhost", body)
	require.NoError(t, err)
	return (&objectsClient{next: store, metrics: newMetrics(staging.NewBudget(1 << 20))}).Do(r)
}

// quiet waits as a transport does, which ends when its request's context does.
func quiet(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// slow yields a byte every so often.
type slow struct {
	left  int
	pause time.Duration
	r     *http.Request // or nil; ends it
}

func (s *slow) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	if s.r != nil {
		select {
		case <-time.After(s.pause):
		case <-s.r.Context().Done():
			return 0, s.r.Context().Err()
		}
	}
	s.left--
	p[0] = 'x'
	return 1, nil
}

func TestStoreThatIsQuietIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := ask(t, strings.NewReader("x"), quiet)
		require.ErrorAs(t, err, new(*quietError))
		assert.True(t, isTimeout(err))
		assert.False(t, newRetryer(0).IsErrorRetryable(err), "the client has waited long enough")
		assert.Equal(t, quietTimeout, time.Since(start))
	})
}

func TestTransferThatMovesMayTakeAnyTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const pieces = 100
		start := time.Now()
		response, err := ask(t, &slow{left: pieces}, func(r *http.Request) (*http.Response, error) {
			for { // takes the body slowly
				if _, err := r.Body.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
					break
				}
				time.Sleep(quietTimeout - time.Second)
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&slow{left: pieces, pause: quietTimeout - time.Second, r: r})}, r.Context().Err()
		})
		require.NoError(t, err)
		content, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		assert.Len(t, content, pieces)
		assert.Equal(t, 2*pieces*(quietTimeout-time.Second), time.Since(start))
		require.NoError(t, response.Body.Close())
	})
}

func TestAnswerThatStopsIsGivenUpButNotOneThatIsNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		response, err := ask(t, nil, func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&slow{left: 2, pause: quietTimeout / 2, r: r})}, nil
		})
		require.NoError(t, err)
		_, err = response.Body.Read(make([]byte, 1))
		require.NoError(t, err)
		time.Sleep(time.Hour) // the client takes its time
		_, err = response.Body.Read(make([]byte, 1))
		require.NoError(t, err, "what the client does is not held against the store")
		require.NoError(t, response.Body.Close())

		response, err = ask(t, nil, func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(&slow{left: 1, pause: time.Hour, r: r})}, nil
		})
		require.NoError(t, err)
		_, err = response.Body.Read(make([]byte, 1))
		require.ErrorAs(t, err, new(*quietError))
		require.NoError(t, response.Body.Close())
	})
}
