package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// report is what a run found, by line, peer and round.
type report struct {
	peers  []string
	values map[string]map[string]map[int]float64
	// perOperation is the processor time in µs that a peer used for one operation, in the same order.
	perOperation map[string]map[string]map[int]float64
}

func newReport(peers []string, samples []sample) *report {
	r := &report{peers: peers, values: map[string]map[string]map[int]float64{}, perOperation: map[string]map[string]map[int]float64{}}
	for _, s := range samples {
		put(r.values, s, s.Value)
		if s.Processor > 0 && s.Operations > 0 {
			put(r.perOperation, s, s.Processor*1e6/float64(s.Operations))
		}
	}
	return r
}

func put(table map[string]map[string]map[int]float64, s sample, value float64) {
	if table[s.Line] == nil {
		table[s.Line] = map[string]map[int]float64{}
	}
	if table[s.Line][s.Peer] == nil {
		table[s.Line][s.Peer] = map[int]float64{}
	}
	table[s.Line][s.Peer][s.Round] = value
}

// lines are the rows that anything is known for.
func (r *report) lines() []line {
	var all []line
	for _, d := range definitions() {
		all = append(all, d.lines...)
	}
	return slices.DeleteFunc(append(all, memory()), func(l line) bool { return r.values[l.Key] == nil })
}

// write prints the medians of all peers, then how far base is ahead of each other one.
func (r *report) write(w io.Writer, base string) error {
	rows := [][]string{append([]string{"median (± half the quartiles' distance)"}, r.peers...)}
	for _, l := range r.lines() {
		row := []string{l.Title + ", " + l.Unit}
		for _, p := range r.peers {
			row = append(row, cell(l, r.values[l.Key][p]))
		}
		rows = append(rows, row)
	}
	if err := writeTable(w, rows); err != nil || len(r.peers) < 2 {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(r.peers), func(p string) bool { return p == base })
	header := []string{base + " against"}
	rows = [][]string{append(header, others...)}
	for _, l := range r.lines() {
		row := []string{l.Title}
		for _, p := range others {
			row = append(row, comparisonCell(l, r.values[l.Key][base], r.values[l.Key][p]))
		}
		rows = append(rows, row)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return writeTable(w, rows)
}

// writeProcessor prints how much processor time a peer used for one operation.
func (r *report) writeProcessor(w io.Writer) error {
	rows := [][]string{append([]string{"µs of processor an operation"}, r.peers...)}
	for _, d := range definitions() {
		l := d.lines[0] // all lines of a definition come from the same operations
		if r.perOperation[l.Key] == nil {
			continue
		}
		row := []string{l.Title}
		for _, p := range r.peers {
			row = append(row, cell(line{}, r.perOperation[l.Key][p]))
		}
		rows = append(rows, row)
	}
	return writeTable(w, rows)
}

func cell(l line, byRound map[int]float64) string {
	values := sorted(byRound)
	switch {
	case len(values) == 0:
		return "–"
	case l.Highest:
		return number(values[len(values)-1])
	case len(values) == 1:
		return number(values[0])
	}
	return fmt.Sprintf("%s ±%.0f%%", number(median(values)), 100*spread(values))
}

func comparisonCell(l line, base, other map[int]float64) string {
	if l.Highest {
		b, o := sorted(base), sorted(other)
		if len(b) == 0 || len(o) == 0 {
			return "–"
		}
		return number(o[len(o)-1]/b[len(b)-1]) + "×"
	}
	c := compare(base, other, l.Lower)
	if c.rounds == 0 {
		return "–"
	}
	return fmt.Sprintf("%s× %s (%d of %d)", number(c.ratio), c.verdict(), c.won, c.rounds)
}

func sorted(byRound map[int]float64) []float64 {
	values := make([]float64, 0, len(byRound))
	for _, v := range byRound {
		values = append(values, v)
	}
	slices.Sort(values)
	return values
}

// number keeps three digits that count, and separates thousands.
func number(v float64) string {
	switch {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "–"
	case math.Abs(v) < 9.995:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case math.Abs(v) < 99.95:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

func writeTable(w io.Writer, rows [][]string) error {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString("|---|" + strings.Repeat("---:|", len(row)-1) + "\n")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write a table: %w", err)
	}
	return nil
}
