package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// bound is what a figure may do. It is bounded when its level grows by no more in
// the second half of the run than is said here. What grows with every event is
// judged by the event: a later one may not take more room than an earlier one.
type bound struct {
	key, title string
	unit       float64 // what the figure is shown in
	of         func(*soakSample) float64
	// A level may grow by share of what it was at half time, or by room if that is more.
	share, room float64
	// most is what it may never be above, at any time; 0 for no such limit.
	most float64
	// per is what the figure grows with by nature, and perUnit its name: then share
	// is how much more each one may take, and room what it may take in any case.
	per     func(*soakSample) float64
	perUnit string
	// process: it begins anew with each life, so what one life gathers shows in the
	// time without crashes, and the rest is judged over the time with them.
	process bool
}

const (
	kilobyte = 1 << 10
	megabyte = 1 << 20
)

func records(s *soakSample) float64 { return float64(s.Records) }
func commits(s *soakSample) float64 { return float64(s.Commits) }

var bounds = []bound{
	{key: "memory", title: "memory of Belay and all below it, MiB", unit: megabyte, share: .15, room: 24 * megabyte, process: true, of: func(s *soakSample) float64 { return float64(s.Memory) }},
	{key: "memory.process", title: "of it Belay's process, MiB", unit: megabyte, share: .15, room: 16 * megabyte, process: true, of: func(s *soakSample) float64 { return float64(s.MemoryProcess) }},
	{key: "heap", title: "heap in use, MiB", unit: megabyte, share: .15, room: 12 * megabyte, process: true, of: func(s *soakSample) float64 { return float64(s.Heap) }},
	{key: "goroutines", title: "goroutines", unit: 1, share: .1, room: 10, process: true, of: func(s *soakSample) float64 { return float64(s.Goroutines) }},
	{key: "descriptors", title: "file descriptors", unit: 1, share: .1, room: 8, process: true, of: func(s *soakSample) float64 { return float64(s.Descriptors) }},
	{key: "processes", title: "processes", unit: 1, room: 2, most: 40, of: func(s *soakSample) float64 { return float64(s.Processes) }},
	{key: "ledger.bytes", title: "ledger, MiB", unit: megabyte, share: .25, room: 1.5 * kilobyte, per: records, perUnit: "record", of: func(s *soakSample) float64 { return float64(s.Ledger.Bytes) }},
	{key: "ledger.packs", title: "its packs", unit: 1, share: .25, room: 30, most: 300, of: func(s *soakSample) float64 { return float64(s.Ledger.Packs) }},
	{key: "ledger.loose", title: "its loose objects", unit: 1, share: .25, room: 200, most: 5000, of: func(s *soakSample) float64 { return float64(s.Ledger.Loose) }},
	{key: "index.bytes", title: "index, MiB", unit: megabyte, share: .25, room: 2 * kilobyte, per: records, perUnit: "record", of: func(s *soakSample) float64 { return float64(s.Index.Bytes) }},
	{key: "mirrors.bytes", title: "mirrors, MiB", unit: megabyte, share: .25, room: 3 * kilobyte, per: commits, perUnit: "commit", of: func(s *soakSample) float64 { return float64(s.Mirrors.Bytes) }},
	{key: "mirrors.packs", title: "their packs", unit: 1, share: .25, room: 15, most: 100, of: func(s *soakSample) float64 { return float64(s.Mirrors.Packs) }},
	{key: "mirrors.loose", title: "their loose objects", unit: 1, room: 50, most: 500, of: func(s *soakSample) float64 { return float64(s.Mirrors.Loose) }},
	{key: "renders.bytes", title: "render cache, MiB", unit: megabyte, share: .15, room: megabyte, of: func(s *soakSample) float64 { return float64(s.Renders.Bytes) }},
	{key: "renders.files", title: "its files", unit: 1, share: .15, room: 20, of: func(s *soakSample) float64 { return float64(s.Renders.Files) }},
	// The list of hooks that have run is written anew when it has 4,096 lines that count no more.
	{key: "other.bytes", title: "other files, kB", unit: kilobyte, room: megabyte, most: 8 * megabyte, of: func(s *soakSample) float64 { return float64(s.Other.Bytes) }},
	{key: "leftovers", title: "temporary files and locks", unit: 1, room: 10, most: 60, of: func(s *soakSample) float64 {
		return float64(s.Ledger.Leftovers + s.Mirrors.Leftovers + s.Renders.Leftovers + s.Index.Leftovers + s.Other.Leftovers)
	}},
	{key: "strays", title: "processes left behind by a crash", unit: 1, room: 0, of: func(s *soakSample) float64 { return float64(s.Strays) }},
}

// growth is what became of one figure. Sixth, Half and End are its levels then.
type growth struct {
	Key   string  `json:"key"`
	Sixth float64 `json:"sixth"`
	Half  float64 `json:"half"`
	End   float64 `json:"end"`
	Peak  float64 `json:"peak"`
	// First and Second are what one more record or commit took in each half, where
	// it grows with those; else Second is the growth in the second half.
	First  float64 `json:"first,omitempty"`
	Second float64 `json:"second"`
	Bound  float64 `json:"bound"`
	OK     bool    `json:"ok"`
	Per    string  `json:"per,omitempty"`
	// Calm: over the time without crashes alone.
	Calm bool `json:"calm,omitempty"`
}

// level is the median of the samples of a while, which ends at a time.
func level(samples []soakSample, at, window float64, of func(*soakSample) float64) float64 {
	var values []float64
	for i := range samples {
		if s := &samples[i]; s.At <= at && s.At > at-window {
			values = append(values, of(s))
		}
	}
	if len(values) == 0 { // none of that while: the nearest
		nearest := slices.MinFunc(samples, func(a, b soakSample) int { return int(abs(a.At-at)*1000) - int(abs(b.At-at)*1000) })
		return of(&nearest)
	}
	return quantile(values, .5)
}

func abs(f float64) float64 { return max(f, -f) }

// judgeOver finds out what became of a figure from one time to another; its growth
// is judged up to a time in between, or the same.
func (b *bound) judgeOver(samples []soakSample, from, to, judged float64) growth {
	window := (judged - from) / 12
	levelAt := func(at float64, of func(*soakSample) float64) float64 { return level(samples, at, window, of) }
	last := samples[len(samples)-1].At
	g := growth{Key: b.key, Sixth: levelAt(from+(to-from)/6, b.of), Half: levelAt((from+to)/2, b.of), End: levelAt(min(last, to), b.of)}
	for i := range samples {
		if samples[i].At >= from && samples[i].At <= to {
			g.Peak = max(g.Peak, b.of(&samples[i]))
		}
	}
	middle, end := (from+judged)/2, min(last, judged)
	if b.per == nil {
		half := levelAt(middle, b.of)
		g.Second, g.Bound = levelAt(end, b.of)-half, max(b.room, b.share*half)
		g.OK = g.Second <= g.Bound && (b.most == 0 || g.Peak <= b.most)
		return g
	}
	start := from + window
	g.Per = b.perUnit
	each := func(from, to float64) float64 {
		n := levelAt(to, b.per) - levelAt(from, b.per)
		return (levelAt(to, b.of) - levelAt(from, b.of)) / max(n, 1)
	}
	g.First, g.Second = each(start, middle), each(middle, end)
	g.Bound = max(b.room, (1+b.share)*g.First)
	g.OK = g.Second <= g.Bound
	return g
}

// latency is what became of one kind of times: those that nothing else disturbed.
type latency struct {
	Kind string `json:"kind"`
	// Median and Worst are the median and the 99th percentile around a sixth of the
	// run, half of it, and its end, in milliseconds; N how many there were.
	Median [3]float64 `json:"median"`
	Worst  [3]float64 `json:"worst"`
	N      [3]int     `json:"n"`
	Bound  float64    `json:"bound"` // of the last median
	OK     bool       `json:"ok"`
}

// A median at the end may be half as much again as that after a sixth, and some
// milliseconds, which is what a busy machine makes of the same work.
const (
	latencyShare = 1.5
	latencyRoom  = 25
)

// judgeLatency compares three stretches of a sixth each.
func (r *soakResult) judgeLatency(kind string) latency {
	l := latency{Kind: kind}
	sixth := r.Seconds / 6
	for i, from := range []float64{sixth / 2, r.Seconds/2 - sixth/2, r.Seconds - sixth} {
		var values []float64
		for _, e := range r.Effects {
			if e.Kind == kind && !e.Disturbed && e.At >= from && e.At < from+sixth {
				values = append(values, e.Milliseconds)
			}
		}
		if l.N[i] = len(values); len(values) > 0 {
			l.Median[i], l.Worst[i] = quantile(values, .5), quantile(values, .99)
		}
	}
	l.Bound = latencyShare*l.Median[0] + latencyRoom
	l.OK = l.Median[2] <= l.Bound
	return l
}

// judgedFrom is how long a run must be for its growth to mean something.
// Caches have to be full at half time.
const judgedFrom = 30 * time.Minute

// judge finds out whether all is bounded. Of a short run it tells the figures only.
func (r *soakResult) judge() {
	var late []string
	for _, e := range r.Effects {
		if e.Late {
			late = append(late, fmt.Sprintf("of kind %s, after %.0f s", e.Kind, e.At))
		}
	}
	r.found("the effect of every commit and edit was seen within "+soakPatience.String(), late)
	var open []string
	if n := r.Unscraped + r.Unanswered; n > 0 {
		open = append(open, fmt.Sprintf("%d scrapes and %d questions of the record were not", r.Unscraped, r.Unanswered))
	}
	r.found("every scrape and question was answered", open)
	var strays []string
	if r.Strays > 0 {
		strays = append(strays, fmt.Sprintf("%d live", r.Strays))
	}
	r.found("no process is left", strays)
	if len(r.Samples) == 0 {
		r.found("there are samples", []string{"none"})
		return
	}
	for i := range bounds {
		judged := r.Seconds
		if bounds[i].process {
			judged -= r.Calm
		}
		r.Growth = append(r.Growth, bounds[i].judgeOver(r.Samples, 0, r.Seconds, judged))
	}
	if calm := r.calmSamples(); len(calm) > 0 {
		for i := range bounds {
			if b := bounds[i]; b.process {
				g := b.judgeOver(calm, r.Seconds-r.Calm, r.Seconds, r.Seconds)
				g.Calm = true
				r.Growth = append(r.Growth, g)
			}
		}
	}
	for _, kind := range []string{string(changeOne), "drift", "question"} {
		r.Latency = append(r.Latency, r.judgeLatency(kind))
	}
	r.Latency = append(r.Latency, r.judgeRestarts())
	for i := range r.Latency { // what was not measured is not shown to be well
		l := &r.Latency[i]
		l.OK = l.OK && l.N[0] > 0 && l.N[2] > 0
	}
}

func (r *soakResult) judged() bool { return r.Seconds >= judgedFrom.Seconds() }

// calmSamples are those of the last life.
func (r *soakResult) calmSamples() (out []soakSample) {
	if r.Calm == 0 {
		return nil
	}
	for i := range r.Samples {
		if r.Samples[i].Life == r.Samples[len(r.Samples)-1].Life && r.Samples[i].At >= r.Seconds-r.Calm {
			out = append(out, r.Samples[i])
		}
	}
	return out
}

// judgeRestarts is the latency of starts after a crash, by thirds of them.
func (r *soakResult) judgeRestarts() latency {
	l := latency{Kind: "restart"}
	n := len(r.Crashes)
	for i := range l.Median {
		var values []float64
		for _, c := range r.Crashes[i*n/3 : (i+1)*n/3] {
			values = append(values, 1000*c.Ready)
		}
		if l.N[i] = len(values); len(values) > 0 {
			l.Median[i], l.Worst[i] = quantile(values, .5), quantile(values, .99)
		}
	}
	const room = 1000 // a start waits for discovery and lists, which vary
	l.Bound = latencyShare*l.Median[0] + room
	l.OK = l.Median[2] <= l.Bound
	return l
}

// latencyTitles say what is measured.
var latencyTitles = map[string]string{
	string(changeOne): "commit to one: hook until changed, ms", "drift": "edit by hand: until healed, ms",
	"question": "the latest 20 deployments, ms", "restart": "crash: until ready again, ms",
}

// print shows one table: levels, what the second half made of them, and whether
// that is bounded.
func (r *soakResult) print(w io.Writer) {
	verdict := func(ok bool) string {
		switch {
		case !r.judged():
			return "too short"
		case ok:
			return "ok"
		}
		return "TOO MUCH"
	}
	n := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) }
	kind := map[string]int{}
	for _, e := range r.Effects {
		kind[e.Kind]++
	}
	total := func(kinds string) (all int) {
		for _, k := range kinds {
			all += kind[string(k)]
		}
		return all
	}
	fmt.Fprintf(w, "%d applications × %d objects, %s, %s; %d processors, load before %s; seed %d\n", r.Applications, len(resources), r.Kind,
		time.Duration(r.Seconds*float64(time.Second)), r.Processors, r.Load, r.Seed)
	fmt.Fprintf(w, "%d commits (%d to all; %d applications removed, %d added, %d broken, %d mended), %d edits by hand, %d crashes, %d records\n\n",
		total("1Arabm"), kind["A"], kind["r"], kind["a"], kind["b"], kind["m"], r.Drifts, len(r.Crashes), sum(r.Events))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	at := func(share float64) string {
		return time.Duration(r.Seconds * share * float64(time.Second)).Truncate(time.Second).String()
	}
	fmt.Fprintf(t, "\tat %s\tat %s\tat the end\thighest\tsecond half\tmay be\t\n", at(1./6), at(.5))
	for _, g := range r.Growth {
		b := bounds[slices.IndexFunc(bounds, func(b bound) bool { return b.key == g.Key })]
		title, second, most := b.title, n(g.Second/b.unit), n(g.Bound/b.unit)
		if g.Calm {
			title = "without crashes: " + strings.TrimPrefix(title, "of it ")
		}
		if g.Second >= 0 {
			second = "+" + second
		}
		if g.Per != "" {
			second, most = fmt.Sprintf("%.0f B a %s (first half %.0f)", g.Second, g.Per, g.First), fmt.Sprintf("%.0f", g.Bound)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", title, n(g.Sixth/b.unit), n(g.Half/b.unit), n(g.End/b.unit), n(g.Peak/b.unit), second, most, verdict(g.OK))
	}
	fmt.Fprintf(t, "\t\t\t\t\t\t\t\nmedian (99th percentile)\taround %s\taround %s\tat the end\tmeasured\t\tmay be\t\n", at(1./6), at(.5))
	for _, l := range r.Latency {
		fmt.Fprintf(t, "%s\t%s (%s)\t%s (%s)\t%s (%s)\t%d\t\t%s\t%s\n", latencyTitles[l.Kind], n(l.Median[0]), n(l.Worst[0]), n(l.Median[1]), n(l.Worst[1]),
			n(l.Median[2]), n(l.Worst[2]), l.N[0]+l.N[1]+l.N[2], n(l.Bound), verdict(l.OK))
	}
	_ = t.Flush() // whoever reads sees
	fmt.Fprintln(w)
	for _, f := range r.Findings {
		mark := "yes"
		if !f.OK {
			mark = "NO "
		}
		fmt.Fprintf(w, "%s  %s\n", mark, f.What)
		for _, wrong := range f.Wrong {
			fmt.Fprintf(w, "       %s\n", wrong)
		}
		if f.Count > len(f.Wrong) {
			fmt.Fprintf(w, "       and %d more\n", f.Count-len(f.Wrong))
		}
	}
	for _, msg := range sortedKeys(r.Log) {
		fmt.Fprintf(w, "%6d × %s\n", r.Log[msg], msg)
	}
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
