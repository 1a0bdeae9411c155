package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/staging"
)

func TestEvictionsAreCounted(t *testing.T) {
	t.Parallel()
	m := newMetrics(staging.NewBudget(0))
	m.collected(gc.Event{Step: gc.StepEviction, Stats: gc.Stats{Evicted: 3, EvictedBytes: 1 << 20}})
	answer := httptest.NewRecorder()
	m.handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
	assert.Contains(t, answer.Body.String(), `ocikit_gc_done_total{kind="evicted"} 3`)
	assert.Contains(t, answer.Body.String(), "ocikit_gc_evicted_bytes_total 1.048576e+06")
	assert.Contains(t, answer.Body.String(), `ocikit_gc_step_duration_seconds_count{step="eviction"} 1`)
}
