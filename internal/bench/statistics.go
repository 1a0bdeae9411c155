package main

import (
	"math"
	"slices"
	"time"
)

// quantile takes from delays, which are sorted, the smallest that the share of them does not exceed; 0 if there is none.
func quantile(delays []time.Duration, share float64) time.Duration {
	if len(delays) == 0 {
		return 0
	}
	rank := int(math.Ceil(share*float64(len(delays)))) - 1
	return delays[max(0, min(rank, len(delays)-1))]
}

func medianDelay(delays []time.Duration) time.Duration {
	slices.Sort(delays)
	return quantile(delays, 0.5)
}

// percentile interpolates between the two nearest values; NaN if there is none.
func percentile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := share * float64(len(sorted)-1)
	low := int(at)
	if low == len(sorted)-1 {
		return sorted[low]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func median(values []float64) float64 { return percentile(values, 0.5) }

// spread is half the distance between the quartiles, as a share of the median.
func spread(values []float64) float64 {
	return (percentile(values, 0.75) - percentile(values, 0.25)) / 2 / median(values)
}

// comparison tells how far one peer is ahead of another on a line.
type comparison struct {
	ratio  float64 // median of the ratios round by round; over 1 is ahead, whichever direction is better
	won    int     // rounds in which it was ahead
	rounds int     // rounds that both have
}

// compare pairs the rounds of two peers: what the machine did in a round did it to both.
func compare(base, other map[int]float64, lower bool) comparison {
	var ratios []float64
	found := comparison{}
	for round, b := range base {
		o, both := other[round]
		if !both {
			continue
		}
		ratio := b / o
		if lower {
			ratio = o / b
		}
		if ratio > 1 {
			found.won++
		}
		ratios = append(ratios, ratio)
	}
	found.ratio, found.rounds = median(ratios), len(ratios)
	return found
}

// verdict is "ahead" or "behind" if a fair coin would fall so one-sidedly in fewer than 1 of 20 tries, in either
// direction; else "even".
func (c comparison) verdict() string {
	if c.rounds == 0 || 2*tail(c.rounds, max(c.won, c.rounds-c.won)) >= 0.05 {
		return "even"
	}
	if c.won*2 > c.rounds {
		return "ahead"
	}
	return "behind"
}

// tail is the chance that a fair coin shows heads at least k times of n.
func tail(n, k int) float64 {
	sum, ways := 0.0, 1.0 // ways to choose i of n
	for i := 0; i <= n; i++ {
		if i >= k {
			sum += ways
		}
		ways = ways * float64(n-i) / float64(i+1)
	}
	return sum / math.Pow(2, float64(n))
}
