package e2e_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ocikit/ocikit/internal/servertest"
	"github.com/ocikit/ocikit/internal/tooltest"
	"github.com/stretchr/testify/require"
)

// mirror is a server that pulls through, and its metrics.
type mirror struct {
	*servertest.Server
	metrics string // the address
	data    string // the folder, if it has one
}

// startMirror starts a server on SQLite and a folder, with the lines of a configuration file.
func startMirror(t *testing.T, configuration []string, args ...string) *mirror {
	t.Helper()
	metrics, data := tooltest.FreeAddress(t), t.TempDir()
	args = append([]string{"--data", data, "--metrics-listen", metrics, "--config", writeConfiguration(t, configuration...)}, args...)
	return &mirror{Server: servertest.Start(t, args...), metrics: metrics, data: data}
}

// writeConfiguration writes a file for --config.
func writeConfiguration(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ocikit.yaml")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return path
}

// hub is a configuration in which hub/… is pulled through from an URL, with more settings of that upstream, as "name: value".
func hub(url string, settings ...string) []string {
	return []string{"upstreams:", "  hub: {" + strings.Join(append([]string{"url: '" + url + "'"}, settings...), ", ") + "}"}
}

// metric returns the sum of a metric's series that have all the labels, as name="value".
func (m *mirror) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	sum, err := readMetric(m.metrics, name, labels...)
	require.NoError(t, err)
	return sum
}

func readMetric(address, name string, labels ...string) (sum float64, err error) {
	response, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
lines:
	for line := range strings.Lines(string(content)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(series, label) {
				continue lines
			}
		}
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", line, err)
		}
		sum += number
	}
	return sum, nil
}

// awaitKept waits until nothing is on its way from upstreams any more: what was has been kept then.
func (m *mirror) awaitKept(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		used, err := readMetric(m.metrics, "ocikit_spool_used_bytes")
		return err == nil && used == 0
	}, 30*time.Second, 10*time.Millisecond, "all that was pulled through should be kept, and have left the spool")
}
