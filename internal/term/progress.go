package term

import (
	"fmt"
	"io"
	"sync"
)

// Progress writes one line for each thing whenever its state changes. With a
// nil writer (not a terminal) it writes nothing.
type Progress struct {
	w    io.Writer
	mu   sync.Mutex
	last map[string]string
}

// NewProgress makes a Progress that writes to w if w is a terminal.
func NewProgress(w io.Writer) *Progress {
	if !IsTerminal(w) {
		w = nil
	}
	return newProgress(w)
}

func newProgress(w io.Writer) *Progress { return &Progress{w: w, last: map[string]string{}} }

// Set shows the state of a thing, unless it shows already. That a line of
// progress cannot be written is no reason to stop, so no error is returned.
func (p *Progress) Set(thing, state string) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state = Clean(state)
	if p.last[thing] == state {
		return
	}
	p.last[thing] = state
	_, _ = fmt.Fprintf(p.w, "%s: %s\n", Clean(thing), state)
}
