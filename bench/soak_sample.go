package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// soakSample is one look at everything that could grow.
type soakSample struct {
	// At is seconds since the fleet began to live, Life counts the starts of the server.
	At   float64 `json:"at"`
	Life int     `json:"life"`
	// Of Belay and all processes below it, except where they are the process's own.
	Memory        int64 `json:"memory"`
	MemoryProcess int64 `json:"memoryProcess"`
	Heap          int64 `json:"heap"`
	Goroutines    int64 `json:"goroutines"`
	Descriptors   int64 `json:"descriptors"`
	Processes     int64 `json:"processes"`
	// Strays are processes that an earlier life left behind.
	Strays int64 `json:"strays"`
	// Of the data directory, by part. Loose are Git objects that are in no pack;
	// Leftovers are files that a process that ended should not have left: temporary
	// ones and locks.
	Ledger  diskPart `json:"ledger"`
	Mirrors diskPart `json:"mirrors"`
	Renders diskPart `json:"renders"`
	Index   diskPart `json:"index"`
	Other   diskPart `json:"other"`
	// Records of the ledger, and commits that were pushed, up to now.
	Records int64 `json:"records"`
	Commits int64 `json:"commits"`
}

// diskPart is a part of the data directory.
type diskPart struct {
	Bytes     int64 `json:"bytes"`
	Files     int64 `json:"files"`
	Packs     int64 `json:"packs"`
	Loose     int64 `json:"loose"`
	Leftovers int64 `json:"leftovers"`
}

// look takes a sample. While the server is down there is none.
func (s *soak) look(ctx context.Context) error {
	var l *life
	if err := s.patiently(ctx, func() bool { l, _ = s.server.now(); return l != nil }); err != nil {
		return err
	}
	if l == nil {
		return nil // it was just killed
	}
	scrape, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	m, err := l.metrics(scrape)
	if err != nil {
		if s.server.is(l) && ctx.Err() == nil {
			s.res.unscraped()
		}
		return nil // it was just killed, or this is noted
	}
	u := readUsage(l.pid())
	x := soakSample{At: time.Since(s.began).Seconds(), Life: l.number, Memory: u.Memory, MemoryProcess: u.MemoryProcess,
		Heap: int64(m["go_memstats_heap_inuse_bytes"]), Goroutines: int64(m["go_goroutines"]), Descriptors: int64(m["process_open_fds"]),
		Records: int64(m[`belay_ledger_record{state="written"}`]), Commits: int64(len(s.living.commits()))}
	x.Processes, x.Strays = processes(l.pid(), s.belay, s.dataDir())
	parts := lookAtData(s.dataDir())
	x.Ledger, x.Mirrors, x.Renders, x.Index, x.Other = parts["ledger.git"], parts["repos"], parts["renders"], parts["ledger.sqlite"], parts[""]
	if s.server.is(l) { // else it was killed meanwhile, and what was seen is of no process, or of two
		s.res.sampled(x)
	}
	return nil
}

// lookAtData adds up the files of a data directory. Files come and go meanwhile:
// what cannot be looked at does not count.
func lookAtData(dir string) map[string]diskPart {
	out := map[string]diskPart{}
	// The function returns no error.
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil //nolint:nilerr // it is gone, or none
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // it is gone
		}
		rel, _ := filepath.Rel(dir, p) // it is below it
		part, _, _ := strings.Cut(rel, string(filepath.Separator))
		switch {
		case strings.HasPrefix(part, "ledger.sqlite"): // its journal, too
			part = "ledger.sqlite"
		case part != "ledger.git" && part != "repos" && part != "renders":
			part = ""
		}
		x := out[part]
		x.Bytes += info.Size()
		x.Files++
		name, parent := d.Name(), filepath.Base(filepath.Dir(p))
		switch {
		case strings.HasPrefix(name, "tmp_") || strings.HasPrefix(name, ".tmp-") || strings.HasSuffix(name, ".tmp") ||
			strings.HasSuffix(name, ".lock") && part != "repos" || strings.HasSuffix(name, ".new"):
			x.Leftovers++
		case strings.HasSuffix(name, ".pack"):
			x.Packs++
		case len(parent) == 2 && len(name) == 38:
			x.Loose++
		}
		out[part] = x
		return nil
	})
	return out
}

// processes counts the process and all below it, and those that run the same
// program, or work in its data directory, without being below it.
func processes(pid int, program, data string) (n, strays int64) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	children := map[int][]int{}
	suspects := map[int]bool{}
	for _, d := range dirs {
		s, ok := readStat(filepath.Base(d))
		if !ok {
			continue
		}
		children[s.parent] = append(children[s.parent], s.pid)
		exe, _ := os.Readlink(filepath.Join(d, "exe")) // nothing of one that ended
		cwd, _ := os.Readlink(filepath.Join(d, "cwd"))
		if exe == program || cwd == data || strings.HasPrefix(cwd, data+"/") {
			suspects[s.pid] = true
		}
	}
	var walk func(int)
	walk = func(pid int) {
		n++
		delete(suspects, pid)
		for _, c := range children[pid] {
			walk(c)
		}
	}
	walk(pid)
	return n, int64(len(suspects))
}

// parseMetrics reads the text that Prometheus does.
func parseMetrics(r io.Reader) (map[string]float64, error) {
	out := map[string]float64{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		i := strings.LastIndexByte(lines.Text(), ' ') // label values may have spaces
		if i < 0 || lines.Text()[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(lines.Text()[i+1:], 64); err == nil {
			out[lines.Text()[:i]] = v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	return out, nil
}

// synced counts the applications that are, in metrics.
func synced(m map[string]float64) (n float64) {
	for name := range maps.Keys(m) {
		if strings.HasPrefix(name, "belay_applications{") && strings.Contains(name, `sync="Synced"`) {
			n += m[name]
		}
	}
	return n
}
