package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// heading is the first line of a file of raw results.
type heading struct {
	Started  time.Time `json:"started"`
	System   string    `json:"system"`
	Cores    int       `json:"cores"`
	Peers    []string  `json:"peers"`
	Settings settings  `json:"settings"`
}

func newHeading(peers []*peer, settings settings) heading {
	h := heading{Started: time.Now().UTC().Truncate(time.Second), System: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Settings: settings}
	for _, p := range peers {
		h.Peers = append(h.Peers, p.name)
	}
	return h
}

// sample is every further line: one value of one line of the report.
type sample struct {
	Round      int     `json:"round"`
	Peer       string  `json:"peer"`
	Line       string  `json:"line"`
	Unit       string  `json:"unit"`
	Value      float64 `json:"value"`
	Operations int     `json:"operations,omitempty"`
	Seconds    float64 `json:"seconds,omitempty"`
	Processor  float64 `json:"processor_seconds,omitempty"` // what the peer used meanwhile, in steps of 10 ms
}

// readRaw reads what a run has written; an unfinished last line, of a run that was cut off, is an error.
func readRaw(r io.Reader) (heading, []sample, error) {
	decoder := json.NewDecoder(r)
	var head heading
	if err := decoder.Decode(&head); err != nil {
		return heading{}, nil, fmt.Errorf("read the heading of raw results: %w", err)
	}
	var samples []sample
	for {
		var next sample
		err := decoder.Decode(&next)
		if errors.Is(err, io.EOF) {
			return head, samples, nil
		}
		if err != nil {
			return heading{}, nil, fmt.Errorf("read raw result %d: %w", len(samples)+1, err)
		}
		samples = append(samples, next)
	}
}
