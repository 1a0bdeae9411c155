package main

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// How long a request waits for PostgreSQL. A server that is stopped, or cut off, says nothing: without a limit the client would
// wait for as long as it likes to. No round trip of a registry takes seconds.
const (
	acquireTimeout = 5 * time.Second  // for a connection: a free one, or a new one
	answerTimeout  = 10 * time.Second // for the answers of one round trip
)

// deadlines bounds each use of a pool. It is a tracer, since that is whom pgx asks for the context of each call.
type deadlines struct{ metrics *metrics }

var (
	_ pgxpool.AcquireTracer = deadlines{}
	_ pgx.QueryTracer       = deadlines{}
	_ pgx.BatchTracer       = deadlines{}
)

// span is a use under way.
type span struct {
	start time.Time
	end   context.CancelFunc
}

type spanKey struct{}

func begin(ctx context.Context, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(ctx, limit)
	return context.WithValue(ctx, spanKey{}, span{time.Now(), cancel})
}

func end(ctx context.Context) (took time.Duration) {
	s, ok := ctx.Value(spanKey{}).(span)
	if !ok {
		return 0
	}
	s.end()
	return time.Since(s.start)
}

// TraceAcquireStart implements [pgxpool.AcquireTracer].
func (d deadlines) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return begin(ctx, acquireTimeout)
}

// TraceAcquireEnd implements [pgxpool.AcquireTracer].
func (d deadlines) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	end(ctx)
}

// TraceQueryStart implements [pgx.QueryTracer].
func (d deadlines) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return begin(ctx, answerTimeout)
}

// TraceQueryEnd implements [pgx.QueryTracer].
func (d deadlines) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	d.metrics.countDatabase(end(ctx), data.Err)
}

// TraceBatchStart implements [pgx.BatchTracer].
func (d deadlines) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return begin(ctx, answerTimeout)
}

// TraceBatchQuery implements [pgx.BatchTracer].
func (d deadlines) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

// TraceBatchEnd implements [pgx.BatchTracer].
func (d deadlines) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, data pgx.TraceBatchEndData) {
	d.metrics.countDatabase(end(ctx), data.Err)
}
