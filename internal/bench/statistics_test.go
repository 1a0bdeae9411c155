package main

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestQuantileIsAValueThatWasMeasured(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	assert.Equal(t, time.Duration(99), quantile(hundred, 0.99))
	assert.Equal(t, time.Duration(50), quantile(hundred, 0.5))
	assert.Equal(t, time.Duration(1), quantile(hundred, 0))
	assert.Equal(t, time.Duration(100), quantile(hundred, 1))
	assert.Equal(t, time.Duration(7), quantile([]time.Duration{7}, 0.99))
	assert.Zero(t, quantile(nil, 0.99))
	assert.Equal(t, time.Duration(2), medianDelay([]time.Duration{3, 1, 2}))
}

func TestMedianAndSpread(t *testing.T) {
	t.Parallel()
	assert.InDelta(t, 3, median([]float64{5, 1, 3}), 0)
	assert.InDelta(t, 2.5, median([]float64{4, 1, 3, 2}), 0)
	assert.True(t, math.IsNaN(median(nil)), "expected no median of nothing")
	assert.InDelta(t, 0.25, spread([]float64{2, 4, 6, 3, 5}), 1e-9, "quartiles 3 and 5, median 4")
	assert.InDelta(t, 0, spread([]float64{8}), 0)
}

func TestCompareIsPairedByRound(t *testing.T) {
	t.Parallel()
	// The machine is twice as slow in each round as in the one before: unpaired medians would say nothing.
	base := map[int]float64{1: 110, 2: 55, 3: 27.5, 4: 13.75, 5: 6.875, 6: 3.4375, 7: 1.71875, 8: 5}
	other := map[int]float64{1: 100, 2: 50, 3: 25, 4: 12.5, 5: 6.25, 6: 3.125, 7: 1.5625}
	faster := compare(base, other, false)
	assert.InDelta(t, 1.1, faster.ratio, 1e-9)
	assert.Equal(t, []int{7, 7}, []int{faster.won, faster.rounds}, "round 8, which the other did not have, does not count")
	assert.Equal(t, "ahead", faster.verdict())
	slower := compare(base, other, true)
	assert.InDelta(t, 1/1.1, slower.ratio, 1e-9, "over 1 is ahead, also where less is better")
	assert.Zero(t, slower.won)
	assert.Equal(t, "behind", slower.verdict())
}

func TestVerdictNeedsMoreThanChance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		won, rounds int
		want        string
	}{
		{0, 0, "even"}, {5, 5, "even"}, {6, 6, "ahead"}, {6, 7, "even"}, {7, 7, "ahead"}, {0, 7, "behind"},
		{8, 9, "ahead"}, {1, 9, "behind"}, {7, 9, "even"}, {15, 20, "ahead"}, {14, 20, "even"},
	} {
		assert.Equal(t, c.want, comparison{ratio: 1, won: c.won, rounds: c.rounds}.verdict(), "%d of %d", c.won, c.rounds)
	}
}

func TestNumberKeepsThreeDigits(t *testing.T) {
	t.Parallel()
	for value, want := range map[float64]string{
		0.456: "0.46", 9.994: "9.99", 9.996: "10.0", 99.94: "99.9", 99.96: "100", 999.6: "1,000", 38100.4: "38,100", 1234567: "1,234,567",
		math.NaN(): "–", math.Inf(1): "–",
	} {
		assert.Equal(t, want, number(value))
	}
}

func TestReportPrintsMediansAndWhoIsAhead(t *testing.T) {
	t.Parallel()
	var samples []sample
	for round := 1; round <= 7; round++ {
		n := float64(round)
		samples = append(samples,
			sample{Round: round, Peer: "ours", Line: "images", Value: 1000 + 100*n, Processor: 1, Operations: 1000},
			sample{Round: round, Peer: "theirs", Line: "images", Value: 500 + 50*n},
			sample{Round: round, Peer: "ours", Line: "finalise", Value: 2},
			sample{Round: round, Peer: "theirs", Line: "finalise", Value: 1},
			sample{Round: round, Peer: "ours", Line: "rss", Value: 10 * n},
			sample{Round: round, Peer: "theirs", Line: "rss", Value: 20 * n},
			sample{Round: round, Peer: "ours", Line: "blob-head", Value: 5},
		)
	}
	found := newReport([]string{"theirs", "ours"}, samples)
	var printed bytes.Buffer
	require.NoError(t, found.write(&printed, "ours"))
	assert.Equal(t, strings.TrimLeft(`
| median (± half the quartiles' distance) | theirs | ours |
|---|---:|---:|
| its closing PUT, ms | 1.00 ±0% | 2.00 ±0% |
| small images pushed, /s | 700 ±11% | 1,400 ±11% |
| blob HEAD, /s | – | 5.00 ±0% |
| peak RSS, MiB | 140 | 70.0 |

| ours against | theirs |
|---|---:|
| its closing PUT | 0.50× behind (0 of 7) |
| small images pushed | 2.00× ahead (7 of 7) |
| blob HEAD | – |
| peak RSS | 2.00× |
`, "\n"), printed.String())

	printed.Reset()
	require.NoError(t, found.writeProcessor(&printed))
	assert.Contains(t, printed.String(), "| small images pushed | – | 1,000 ±0% |")
}

func TestRawResultsThatWereCutOffAreRefused(t *testing.T) {
	t.Parallel()
	_, _, err := readRaw(strings.NewReader(`{"peers":["a"]}` + "\n" + `{"round":1,"peer":"a","line":"images","value":1}` + "\n" + `{"rou`))
	require.ErrorContains(t, err, "read raw result 2")
	_, _, err = readRaw(strings.NewReader(""))
	require.ErrorContains(t, err, "read the heading")
}
