package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// usage is what a process and all below it have used. Times are in seconds,
// memory in bytes. Where the kernel does not tell (only Linux does), all is zero.
type usage struct {
	// Process is the process itself, Workers those below it that run the same
	// program, Others the rest: git.
	Process, Workers, Others float64
	// Memory is what is resident now, of all; MemoryProcess of the process
	// itself. What processes of one program share counts once, with the first of
	// them: MemoryWorkers and MemoryOthers is what came on top.
	Memory, MemoryProcess, MemoryWorkers, MemoryOthers int64
	// MemoryProgram is the part of MemoryProcess that is mapped from files: the
	// program itself, which the kernel can drop and read again.
	MemoryProgram int64
	// workers are those that live, by process.
	workers map[int]float64
}

func (u usage) cpu() float64 { return u.Process + u.Workers + u.Others }

func (u usage) minus(v usage) usage {
	u.Process, u.Workers, u.Others = u.Process-v.Process, u.Workers-v.Workers, u.Others-v.Others
	return u
}

func (u usage) plus(v usage) usage {
	u.Process, u.Workers, u.Others = u.Process+v.Process, u.Workers+v.Workers, u.Others+v.Others
	return u
}

// ticks is USER_HZ, which Linux fixes for all programs.
const ticks = 100

// stat is one process.
type stat struct {
	pid, parent int
	name        string
	cpu, ended  float64 // seconds of its own, and of its children that have ended
	// private memory, and that which others may share: the program, mapped files.
	private, shared int64
}

func readStat(pid string) (stat, bool) {
	b, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return stat{}, false // it has ended
	}
	// The name is in parentheses and may have any character in it.
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if from < 0 || to < 0 {
		return stat{}, false
	}
	f := strings.Fields(string(b[to+1:]))
	const fields = 15
	if len(f) < fields {
		return stat{}, false
	}
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(f[i], 10, 64) // written by the kernel
		return n
	}
	s := stat{name: string(b[from+1 : to]), parent: int(number(1))}
	s.pid, _ = strconv.Atoi(pid) // a name of digits
	s.cpu = float64(number(11)+number(12)) / ticks
	s.ended = float64(number(13)+number(14)) / ticks
	if b, err = os.ReadFile(filepath.Join("/proc", pid, "statm")); err != nil {
		return stat{}, false
	}
	var total, resident, shared int64
	if _, err := fmt.Sscan(string(b), &total, &resident, &shared); err != nil {
		return stat{}, false
	}
	page := int64(os.Getpagesize())
	s.private, s.shared = (resident-shared)*page, shared*page
	return s, true
}

// readUsage looks at a process and all below it.
func readUsage(pid int) (u usage) {
	root, ok := readStat(strconv.Itoa(pid))
	if !ok {
		return u
	}
	u.Process, u.Others = root.cpu, root.ended
	u.MemoryProcess, u.MemoryProgram = root.private+root.shared, root.shared
	shared := map[string]int64{}
	u.workers = map[int]float64{}
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	children := map[int][]stat{}
	for _, d := range dirs {
		if s, ok := readStat(filepath.Base(d)); ok {
			children[s.parent] = append(children[s.parent], s)
		}
	}
	line := commandLine(pid)
	var walk func(int)
	walk = func(parent int) {
		for _, s := range children[parent] {
			if s.name == root.name && aboutToChange(&s, line) {
				continue // all it has is its parent's
			}
			u.Others += s.ended
			if s.name == root.name {
				u.Workers += s.cpu
				u.workers[s.pid] = s.cpu
				u.MemoryWorkers += s.private
			} else {
				u.Others += s.cpu
				u.MemoryOthers += s.private
				shared[s.name] = max(shared[s.name], s.shared)
			}
			walk(s.pid)
		}
	}
	walk(pid)
	for _, n := range shared {
		u.MemoryOthers += n
	}
	u.Memory = u.MemoryProcess + u.MemoryWorkers + u.MemoryOthers
	return u
}

// aboutToChange tells a process that was forked to become another program, by the
// command line of its parent, or none while the new one is being loaded.
func aboutToChange(s *stat, parent []byte) bool {
	line := commandLine(s.pid)
	return bytes.Equal(line, parent) || len(line) == 0 && s.private > 0
}

// commandLine is what a process was started with, empty if it has ended.
func commandLine(pid int) []byte {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")) // it may have ended
	return b
}

// cpuOf is what one process alone has used, in seconds.
func cpuOf(pid int) float64 {
	s, _ := readStat(strconv.Itoa(pid))
	return s.cpu
}

// peaks of memory. Those of the parts need not have been at the same moment.
type peaks struct{ All, Process, Workers, Others int64 }

// sampler keeps the peak of the memory of a process and all below it.
type sampler struct {
	mu   sync.Mutex
	peak peaks
	// workers is what each of them had used when it was seen last; the sum of
	// those that are no more is among the others by now.
	workers map[int]float64
	pid     int
	stop    context.CancelFunc
	done    chan struct{}
}

func sample(ctx context.Context, pid int) *sampler {
	ctx, stop := context.WithCancel(ctx)
	s := &sampler{pid: pid, workers: map[int]float64{}, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for pause(ctx, 100*time.Millisecond) == nil {
			s.usage()
		}
	}()
	return s
}

// usage is that of now. Workers that have ended are told from git by what they
// had used when they were seen last.
func (s *sampler) usage() usage {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := readUsage(s.pid)
	s.peak = peaks{max(s.peak.All, u.Memory), max(s.peak.Process, u.MemoryProcess), max(s.peak.Workers, u.MemoryWorkers), max(s.peak.Others, u.MemoryOthers)}
	maps.Copy(s.workers, u.workers)
	for pid, cpu := range s.workers {
		if _, lives := u.workers[pid]; !lives {
			u.Workers += cpu
			u.Others -= cpu
		}
	}
	return u
}

// take returns the peaks since the last take.
func (s *sampler) take() peaks {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peak
	s.peak = peaks{}
	return p
}

func (s *sampler) end() {
	s.stop()
	<-s.done
}

// memoryPeak keeps the peak of the memory of one process alone, which costs less to
// look at than a whole tree.
type memoryPeak struct {
	mu   sync.Mutex
	pid  int
	most int64
}

// follow looks until ctx ends.
func (p *memoryPeak) follow(ctx context.Context) {
	for pause(ctx, 200*time.Millisecond) == nil {
		p.look()
	}
}

func (p *memoryPeak) look() {
	s, _ := readStat(strconv.Itoa(p.pid))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = max(p.most, s.private+s.shared)
}

// take returns the peak since the last take.
func (p *memoryPeak) take() int64 {
	p.look()
	p.mu.Lock()
	defer p.mu.Unlock()
	most := p.most
	p.most = 0
	return most
}

// pause lets time pass: for intervals of measurement, not to wait for something.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// settle waits until the control plane has little to do, so that what was done
// before does not weigh on what is measured next. It gives up after a while: on a
// busy machine that is no error.
func settle(ctx context.Context, controlPlane int) error {
	if controlPlane == 0 {
		return nil // others use it too
	}
	const interval, little = time.Second, 0.15
	before := readUsage(controlPlane).cpu()
	for range 60 {
		if err := pause(ctx, interval); err != nil {
			return err
		}
		now := readUsage(controlPlane).cpu()
		if now-before < little*interval.Seconds() {
			return nil
		}
		before = now
	}
	return nil
}

// load is what the machine says of how busy it is.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	f := strings.Fields(string(b))
	return fmt.Sprint(strings.Join(f[:min(3, len(f))], " "))
}
