// Package footprint gives memory back that a process at rest does not need: what
// the garbage collector keeps for the next burst, and the pages of the program that
// only its start, or the burst, has used.
//
// It must not know what the process does; its users say when it rests.
package footprint

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// GCPercent is how much garbage may gather beside what is alive, in percent. A
// server that rests most of its time gives the memory back when it does, so it
// may spend more of it, and less time on collecting, while it works. More than
// this leaves what is alive scattered over pages that cannot be given back.
const GCPercent = 150

// Tune sets the garbage collector, unless whoever started the program did (GOGC).
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(GCPercent)
	}
}

// Program is where the running program lies in memory.
type Program struct{ mappings []mapping }

// mapping is a part of the program's file, mapped and never written to.
type mapping struct{ start, size uintptr }

// Release collects garbage, returns what is free to the system, and lets go of the
// pages of the program: those that are used next come back from its file, which the
// system keeps in its cache, at the cost of a page fault for several at a time.
func (p Program) Release() {
	debug.FreeOSMemory()
	for _, m := range p.mappings {
		m.release()
	}
}

// Idler calls a function when nothing happened for a while. The zero value is of
// no use; make it with [NewIdler].
type Idler struct {
	after, every time.Duration
	rest         func()

	mu     sync.Mutex
	timer  *time.Timer
	rested time.Time
	ended  bool
}

// NewIdler makes an Idler that calls rest when Touch was not called for after, and
// no sooner than every since it was called last. It begins with the first Touch, and
// costs nothing while nothing happens.
func NewIdler(after, every time.Duration, rest func()) *Idler {
	return &Idler{after: after, every: every, rest: rest}
}

// Touch says that something happens.
func (i *Idler) Touch() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ended {
		return
	}
	wait := max(i.after, i.every-time.Since(i.rested))
	if i.timer == nil {
		i.timer = time.AfterFunc(wait, i.idle)
		return
	}
	i.timer.Reset(wait)
}

func (i *Idler) idle() {
	i.mu.Lock()
	i.rested = time.Now()
	ended := i.ended
	i.mu.Unlock()
	if !ended {
		i.rest()
	}
}

// End has nothing called any more.
func (i *Idler) End() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	if i.timer != nil {
		i.timer.Stop()
	}
}
