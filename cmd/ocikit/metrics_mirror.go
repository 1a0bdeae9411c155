package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ocikit/ocikit/registry/upstream"
)

// mirrorMetrics counts what is pulled through.
type mirrorMetrics struct {
	asked *prometheus.CounterVec
	bytes *prometheus.CounterVec
	took  *prometheus.HistogramVec
}

func newMirrorMetrics() mirrorMetrics {
	return mirrorMetrics{
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_upstream_requests_total",
			Help: "What was asked for that an upstream has: kept, fetched, passed (and not to be kept), unkept (the stores failed), followed (on its way already), stale, missing or failed.",
		}, []string{"upstream", "kind", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ocikit_upstream_bytes_total", Help: "Bytes that came from an upstream.",
		}, []string{"upstream"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "ocikit_upstream_fetch_duration_seconds", Help: "Time until something had come from an upstream, or failed to.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"upstream", "kind"}),
	}
}

// pulledThrough counts what an upstream was asked for.
func (m *metrics) pulledThrough(e upstream.Event) {
	m.mirrors.asked.WithLabelValues(e.Upstream, string(e.Kind), string(e.Outcome)).Inc()
	m.mirrors.bytes.WithLabelValues(e.Upstream).Add(float64(e.Bytes))
	if e.Took > 0 {
		m.mirrors.took.WithLabelValues(e.Upstream, string(e.Kind)).Observe(e.Took.Seconds())
	}
}

// watchSpool tells how full the spool is; nil is none.
func (m *metrics) watchSpool(s *upstream.Spool) {
	if s == nil {
		return
	}
	m.all.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "ocikit_spool_used_bytes", Help: "Room on the disk that content on its way from upstreams takes.",
	}, func() float64 { return float64(s.Used()) }))
}
