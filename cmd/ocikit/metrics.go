package main

import (
	"context"
	"io"
	"net/http"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ocikit/ocikit/gc"
	"github.com/ocikit/ocikit/registry"
	"github.com/ocikit/ocikit/staging"
)

// metrics counts for Prometheus. Its labels have few values: no repository is among them.
type metrics struct {
	all      *prometheus.Registry
	requests *prometheus.CounterVec
	latency  *prometheus.HistogramVec
	read     *prometheus.CounterVec
	written  *prometheus.CounterVec
	uploads  prometheus.Gauge
	asked    *prometheus.CounterVec
	asking   *prometheus.HistogramVec
	queried  *prometheus.CounterVec
	querying prometheus.Histogram

	gcDone   *prometheus.CounterVec
	gcBytes  prometheus.Counter
	gcSize   prometheus.Counter
	gcFreed  prometheus.Counter
	gcErrors *prometheus.CounterVec
	gcSteps  *prometheus.HistogramVec

	mirrors mirrorMetrics
}

func newMetrics(budget *staging.Budget) *metrics {
	m := &metrics{
		all: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_requests_total", Help: "Requests that were answered.",
		}, []string{"route", "method", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ocikit_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"route", "method", "status"}),
		read: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_request_bytes_total", Help: "Bytes of requests' bodies that were read.",
		}, []string{"route"}),
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_response_bytes_total", Help: "Bytes of answers' bodies that were written.",
		}, []string{"route"}),
		uploads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ocikit_uploads_receiving", Help: "Uploads whose bytes are being received now.",
		}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_s3_requests_total", Help: "Requests to S3, repetitions included: answered, refused (4xx) or failed (5xx, or no answer).",
		}, []string{"operation", "outcome"}),
		asking: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ocikit_s3_request_duration_seconds", Help: "Time from a request to S3 to the header of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"operation"}),
		queried: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_database_requests_total", Help: "Statements, or batches of them, that were sent to PostgreSQL: answered, or failed.",
		}, []string{"outcome"}),
		querying: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "ocikit_database_request_duration_seconds", Help: "Time until PostgreSQL had answered a statement, or a batch of them.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	m.gcDone = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ocikit_gc_done_total", Help: "What the collector of this process did, by kind.",
	}, []string{"kind"})
	m.gcBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ocikit_gc_content_bytes_total", Help: "Bytes of content that went with its last reference.",
	})
	m.gcSize = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ocikit_gc_object_bytes_total", Help: "Bytes of objects that were deleted, as far as the index knew.",
	})
	m.gcFreed = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ocikit_gc_evicted_bytes_total", Help: "Bytes of mirrored content that only manifests needed that were evicted.",
	})
	m.gcErrors = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ocikit_gc_errors_total", Help: "Steps of the collector that failed, and were tried again.",
	}, []string{"step"})
	m.gcSteps = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "ocikit_gc_step_duration_seconds", Help: "Time that one step of the collector took.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"step"})
	m.mirrors = newMirrorMetrics()
	held := func() float64 { return float64(budget.Held()) }
	size := func() float64 { return float64(budget.Size()) }
	m.all.MustRegister(
		m.requests, m.latency, m.read, m.written, m.uploads, m.asked, m.asking, m.queried, m.querying,
		m.gcDone, m.gcBytes, m.gcSize, m.gcFreed, m.gcErrors, m.gcSteps, m.mirrors.asked, m.mirrors.bytes, m.mirrors.took,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ocikit_upload_memory_held_bytes", Help: "Buffers that uploads hold."}, held),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "ocikit_upload_memory_bytes", Help: "Buffers that uploads may hold together."}, size),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

func (m *metrics) observe(o registry.Observation) {
	status := strconv.Itoa(o.Status)
	m.requests.WithLabelValues(o.Route, o.Method, status).Inc()
	m.latency.WithLabelValues(o.Route, o.Method, status).Observe(o.Duration.Seconds())
	m.read.WithLabelValues(o.Route).Add(float64(o.Read))
	m.written.WithLabelValues(o.Route).Add(float64(o.Written))
}

// collected counts what a step of the collector did.
func (m *metrics) collected(e gc.Event) {
	for kind, n := range map[string]int{
		"candidates": e.Stats.Candidates, "links": e.Stats.Links, "contents": e.Stats.Contents, "objects": e.Stats.Objects,
		"sessions": e.Stats.Sessions, "tombstones": e.Stats.Tombstones, "multiparts": e.Stats.Multiparts, "rows": e.Stats.Drained,
		"manifests": e.Stats.Manifests, "tags": e.Stats.Tags, "evicted": e.Stats.Evicted, "pulls": e.Stats.Pulls,
		"pulls_dropped": e.Stats.DroppedPulls, "candidates_left": e.Stats.Left, "objects_left": e.Stats.Failed,
		"multiparts_left": e.Stats.NotAborted,
	} {
		m.gcDone.WithLabelValues(kind).Add(float64(n))
	}
	m.gcBytes.Add(float64(e.Stats.Bytes))
	m.gcSize.Add(float64(e.Stats.ObjectBytes))
	m.gcFreed.Add(float64(e.Stats.EvictedBytes))
	m.gcSteps.WithLabelValues(string(e.Step)).Observe(e.Took.Seconds())
	if e.Err != nil {
		m.gcErrors.WithLabelValues(string(e.Step)).Inc()
	}
}

// handler serves the metrics.
func (m *metrics) handler() http.Handler { return promhttp.HandlerFor(m.all, promhttp.HandlerOpts{}) }

// count counts the uploads that r is receiving.
func (m *metrics) count(r registry.Registry) registry.Registry { return counted{r, m.uploads} }

type counted struct {
	registry.Registry
	uploads prometheus.Gauge
}

func (c counted) PushBlob(ctx context.Context, repository string, d digest.Digest, body io.Reader, size int64) (ocispec.Descriptor, error) {
	c.uploads.Inc()
	defer c.uploads.Dec()
	return c.Registry.PushBlob(ctx, repository, d, body, size)
}

func (c counted) AppendUpload(ctx context.Context, repository, id string, chunk registry.Chunk) (registry.Upload, error) {
	c.uploads.Inc()
	defer c.uploads.Dec()
	return c.Registry.AppendUpload(ctx, repository, id, chunk)
}

func (c counted) FinishUpload(ctx context.Context, repository, id string, chunk registry.Chunk, d digest.Digest) (ocispec.Descriptor, error) {
	c.uploads.Inc()
	defer c.uploads.Dec()
	return c.Registry.FinishUpload(ctx, repository, id, chunk, d)
}
