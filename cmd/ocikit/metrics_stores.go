package main

import (
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// countObjects counts a request to S3. Its labels are the operation, and how it ended.
func (m *metrics) countObjects(operation string, response *http.Response, err error, took time.Duration) {
	outcome := "answered"
	switch {
	case err != nil || response.StatusCode >= http.StatusInternalServerError:
		outcome = "failed"
	case response.StatusCode >= http.StatusBadRequest:
		outcome = "refused"
	}
	m.asked.WithLabelValues(operation, outcome).Inc()
	m.asking.WithLabelValues(operation).Observe(took.Seconds())
}

// countDatabase counts what was sent to PostgreSQL.
func (m *metrics) countDatabase(took time.Duration, err error) {
	outcome := "answered"
	if err != nil {
		outcome = "failed"
	}
	m.queried.WithLabelValues(outcome).Inc()
	m.querying.Observe(took.Seconds())
}

// watchPool tells what PostgreSQL's pool tells of itself.
func (m *metrics) watchPool(pool *pgxpool.Pool) { m.all.MustRegister(&poolCollector{pool}) }

// poolCollector reads the pool's own figures, all from one moment.
type poolCollector struct{ pool *pgxpool.Pool }

var (
	poolConnections = prometheus.NewDesc("ocikit_database_connections", "Connections to PostgreSQL.", []string{"state"}, nil)
	poolMost        = prometheus.NewDesc("ocikit_database_connections_max", "Connections to PostgreSQL that there may be.", nil, nil)
	poolUses        = prometheus.NewDesc("ocikit_database_acquires_total", "Times that a connection to PostgreSQL was taken.", nil, nil)
	poolWaits       = prometheus.NewDesc("ocikit_database_acquire_waits_total", "Times that none was free, and had to be waited for or made.", nil, nil)
	poolWaited      = prometheus.NewDesc("ocikit_database_acquire_wait_seconds_total", "Time that was spent on that.", nil, nil)
	poolGivenUp     = prometheus.NewDesc("ocikit_database_acquires_canceled_total", "Times that who waited gave up.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (*poolCollector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolConnections, poolMost, poolUses, poolWaits, poolWaited, poolGivenUp} {
		descriptions <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *poolCollector) Collect(to chan<- prometheus.Metric) {
	s := c.pool.Stat()
	gauge, counter := prometheus.GaugeValue, prometheus.CounterValue
	to <- prometheus.MustNewConstMetric(poolConnections, gauge, float64(s.AcquiredConns()), "used")
	to <- prometheus.MustNewConstMetric(poolConnections, gauge, float64(s.IdleConns()), "idle")
	to <- prometheus.MustNewConstMetric(poolConnections, gauge, float64(s.ConstructingConns()), "opening")
	to <- prometheus.MustNewConstMetric(poolMost, gauge, float64(s.MaxConns()))
	to <- prometheus.MustNewConstMetric(poolUses, counter, float64(s.AcquireCount()))
	to <- prometheus.MustNewConstMetric(poolWaits, counter, float64(s.EmptyAcquireCount()))
	to <- prometheus.MustNewConstMetric(poolWaited, counter, s.EmptyAcquireWaitTime().Seconds())
	to <- prometheus.MustNewConstMetric(poolGivenUp, counter, float64(s.CanceledAcquireCount()))
}
