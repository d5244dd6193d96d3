package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

// soakResult is all that a soak found.
type soakResult struct {
	mu sync.Mutex

	Taken        time.Time `json:"taken"`
	Processors   int       `json:"processors"`
	Load         string    `json:"load"` // before
	Applications int       `json:"applications"`
	Kind         string    `json:"kind"`
	Seconds      float64   `json:"seconds"`
	Calm         float64   `json:"calm"` // of them without crashes, at the end
	Seed         uint64    `json:"seed"`

	Samples []soakSample `json:"samples"`
	Effects []effect     `json:"effects"`
	Crashes []crash      `json:"crashes"`
	Drifts  int          `json:"drifts"`
	// Unscraped and Unanswered count questions that a living server left open.
	Unscraped  int `json:"unscraped"`
	Unanswered int `json:"unanswered"`

	// Equal is how long it took after the last push until the cluster was what Git says.
	Equal    float64        `json:"equal"`
	Verify   float64        `json:"verify"` // seconds
	Verified string         `json:"verified"`
	Strays   int64          `json:"strays"`
	Events   map[string]int `json:"events"` // of the ledger, by type
	Log      map[string]int `json:"log"`    // warnings and errors
	Findings []finding      `json:"findings"`
	Growth   []growth       `json:"growth"`
	Latency  []latency      `json:"latency"`
}

// effect is a time from a cause to what it led to.
type effect struct {
	At           float64 `json:"at"`
	Kind         string  `json:"kind"` // of a commit, or "drift", "question"
	Milliseconds float64 `json:"ms"`
	// Disturbed: a crash or a commit to all fell into it.
	Disturbed bool `json:"disturbed,omitempty"`
	Late      bool `json:"late,omitempty"`
}

// crash is a kill and what followed: seconds from it until the new process served,
// and until it said that it is ready.
type crash struct {
	At      float64 `json:"at"`
	Serving float64 `json:"serving"`
	Ready   float64 `json:"ready"`
}

// finding is something that has to hold.
type finding struct {
	What  string   `json:"what"`
	OK    bool     `json:"ok"`
	Wrong []string `json:"wrong,omitempty"` // the first few
	Count int      `json:"count,omitempty"` // of all that is wrong
}

func newSoakResult(o soakOptions) *soakResult {
	return &soakResult{Taken: time.Now().UTC().Truncate(time.Second), Processors: processors(), Load: load(), Applications: o.apps, Kind: o.kind,
		Seconds: o.length.Seconds(), Calm: o.calm.Seconds(), Seed: o.seed}
}

func (r *soakResult) effect(e effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Effects = append(r.Effects, e)
}

func (r *soakResult) sampled(s soakSample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Samples = append(r.Samples, s)
}

func (r *soakResult) crashed(c crash) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Crashes = append(r.Crashes, c)
}

func (r *soakResult) drifted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Drifts++
}

func (r *soakResult) unscraped() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Unscraped++
}

func (r *soakResult) unanswered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Unanswered++
}

// found notes whether something holds: wrong is what does not.
func (r *soakResult) found(what string, wrong []string) {
	const most = 10
	r.Findings = append(r.Findings, finding{What: what, OK: len(wrong) == 0, Wrong: wrong[:min(len(wrong), most)], Count: len(wrong)})
}

// passed tells whether all held.
func (r *soakResult) passed() bool {
	for _, f := range r.Findings {
		if !f.OK {
			return false
		}
	}
	if !r.judged() {
		return true
	}
	for _, g := range r.Growth {
		if !g.OK {
			return false
		}
	}
	for _, l := range r.Latency {
		if !l.OK {
			return false
		}
	}
	return true
}

// write keeps everything as JSON and the samples as CSV, each where it is asked for.
func (r *soakResult) write(jsonFile, csvFile string) error {
	if jsonFile != "" {
		b, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the result: %w", err)
		}
		if err := os.WriteFile(jsonFile, append(b, '\n'), 0o644); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	if csvFile == "" {
		return nil
	}
	f, err := os.Create(csvFile)
	if err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	w := csv.NewWriter(f)
	head := []string{"seconds"}
	for _, b := range bounds {
		head = append(head, b.key)
	}
	rows := [][]string{head}
	for i := range r.Samples {
		row := []string{strconv.FormatFloat(r.Samples[i].At, 'f', 1, 64)}
		for _, b := range bounds {
			row = append(row, strconv.FormatFloat(b.of(&r.Samples[i]), 'f', -1, 64))
		}
		rows = append(rows, row)
	}
	if err := w.WriteAll(rows); err != nil {
		_ = f.Close() // the first error is the one to report
		return fmt.Errorf("write the samples: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the samples: %w", err)
	}
	return nil
}
