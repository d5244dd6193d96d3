package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what a run found out, and the form of the JSON file.
type result struct {
	Time time.Time `json:"time"`
	// Applications of four objects each, and what they are made with.
	Applications int    `json:"applications"`
	Kind         string `json:"kind"`
	Processors   int    `json:"processors"`
	Platform     string `json:"platform"`
	// Load of the machine before the run, over 1, 5 and 15 minutes: what others
	// did there is in every time.
	Load string `json:"load"`
	// Figures by key; figures says what each is.
	Figures map[string]figure `json:"figures"`
	// Requests of Belay by phase, then by verb and resource.
	Requests map[string]map[string]int `json:"requests"`
}

// figure is one quantity, of the raw loop and of Belay. Either may be missing.
type figure struct {
	Unit  string   `json:"unit"`
	Raw   *float64 `json:"raw,omitempty"`
	Belay *float64 `json:"belay,omitempty"`
}

func (f figure) ratio() (float64, bool) {
	if f.Raw == nil || f.Belay == nil || *f.Raw == 0 {
		return 0, false
	}
	return *f.Belay / *f.Raw, true
}

// rows are the lines of the table, in order.
var rows = []struct{ key, unit, label string }{
	{"", "", "First rollout"},
	{"rollout.wall", "s", "start of the process until all objects exist"},
	{"rollout.serving", "s", "  of it, until it serves its API"},
	{"rollout.synced", "s", "until all applications are Synced"},
	{"rollout.requests", "", "requests"},
	{"rollout.patches", "", "  of them PATCH"},
	{"rollout.renders", "", "renders"},
	{"rollout.cpu", "cpu s", "CPU of Belay"},
	{"rollout.cpu.process", "cpu s", "  of it, its process"},
	{"rollout.cpu.workers", "cpu s", "  render workers"},
	{"rollout.cpu.others", "cpu s", "  git"},
	{"rollout.cpu.controlplane", "cpu s", "CPU of the control plane"},
	{"", "", "Commit to one application"},
	{"one.p50", "ms", "hook until the object changed, median"},
	{"one.p99", "ms", "hook until the object changed, 99th percentile"},
	{"one.requests", "", "requests a commit"},
	{"one.renders", "", "renders a commit"},
	{"one.cpu", "cpu ms", "CPU of Belay a commit"},
	{"one.cpu.process", "cpu ms", "  of it, its process"},
	{"one.cpu.workers", "cpu ms", "  render workers"},
	{"one.cpu.others", "cpu ms", "  git"},
	{"", "", "Commit to all applications"},
	{"all.wall", "s", "hook until the last ConfigMap changed, median"},
	{"all.requests", "", "requests a commit"},
	{"all.renders", "", "renders a commit"},
	{"all.cpu", "cpu s", "CPU of Belay a commit"},
	{"all.cpu.process", "cpu s", "  of it, its process"},
	{"all.cpu.workers", "cpu s", "  render workers"},
	{"all.cpu.others", "cpu s", "  git"},
	{"", "", "Edit by hand"},
	{"drift.p50", "ms", "edit until healed, median"},
	{"drift.p99", "ms", "edit until healed, 99th percentile"},
	{"drift.requests", "", "requests an edit, Events aside"},
	{"", "", "At rest"},
	{"rest.requests", "", "requests"},
	{"rest.cpu", "% core", "CPU of Belay"},
	{"", "", "Restart, everything in sync"},
	{"restart.wall", "s", "start of the process until all are Synced"},
	{"restart.requests", "", "requests"},
	{"restart.writes", "", "  of them writes"},
	{"restart.renders", "", "renders"},
	{"restart.cached", "", "renders saved by the cache"},
	{"restart.cpu", "cpu s", "CPU of Belay"},
	{"", "", "Memory, peak, all processes of Belay"},
	{"memory.rollout", "MiB", "first rollout"},
	{"memory.rollout.process", "MiB", "  without workers and git"},
	{"memory.one", "MiB", "commits to one"},
	{"memory.one.process", "MiB", "  without workers and git"},
	{"memory.all", "MiB", "commits to all"},
	{"memory.all.process", "MiB", "  without workers and git"},
	{"memory.rest", "MiB", "at rest"},
	{"memory.rest.process", "MiB", "  without workers and git"},
	{"memory.restart", "MiB", "restart"},
	{"memory.restart.process", "MiB", "  without workers and git"},
}

func newResult(o options) *result {
	return &result{Time: time.Now().UTC().Truncate(time.Second), Applications: o.apps, Kind: o.kind, Processors: processors(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Load: load(), Figures: map[string]figure{}, Requests: map[string]map[string]int{}}
}

func (r *result) raw(key string, v float64) {
	f := r.figure(key)
	f.Raw = &v
	r.Figures[key] = f
}

func (r *result) belay(key string, v float64) {
	f := r.figure(key)
	f.Belay = &v
	r.Figures[key] = f
}

func (r *result) figure(key string) figure {
	f := r.Figures[key]
	for _, row := range rows {
		if row.key == key {
			f.Unit = row.unit
			return f
		}
	}
	panic("no row for " + key) // a key of this program
}

func (r *result) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}

func readResult(path string) (*result, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read earlier figures: %w", err)
	}
	r := &result{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read earlier figures in %q: %w", path, err)
	}
	if len(r.Figures) == 0 {
		return nil, fmt.Errorf("read earlier figures: there are none in %q", path)
	}
	return r, nil
}

// print writes the table; with earlier figures, what became of each beside it.
func (r *result) print(out io.Writer, earlier *result) {
	fmt.Fprintf(out, "%d applications × %d objects, %s, on %d processors of %s, load before %s\n",
		r.Applications, len(resources), r.Kind, r.Processors, r.Platform, r.Load)
	if earlier != nil {
		fmt.Fprintf(out, "earlier: %s, %d applications, %s, on %d processors, load before %s\n",
			earlier.Time.Format(time.RFC3339), earlier.Applications, earlier.Kind, earlier.Processors, earlier.Load)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "\traw loop\tBelay\tratio\t"
	if earlier != nil {
		head += "earlier\tratio\tBelay now / then\t"
	}
	fmt.Fprintln(w, head)
	for _, row := range rows {
		f, ok := r.Figures[row.key]
		switch {
		case row.key == "":
			fmt.Fprintf(w, "%s\t\t\t\t", pad(row.label))
		case !ok:
			continue
		default:
			label := "  " + row.label
			if row.unit != "" {
				label += ", " + row.unit
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", pad(label), number(f.Raw), number(f.Belay), ratio(f))
		}
		if earlier != nil {
			var then figure
			if row.key != "" {
				then = earlier.Figures[row.key]
			}
			change := figure{Raw: then.Belay, Belay: f.Belay}
			fmt.Fprintf(w, "%s\t%s\t%s\t", number(then.Belay), ratio(then), ratio(change))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // the terminal may be gone
	for _, phase := range []string{"rollout", "rest", "restart"} {
		fmt.Fprintf(out, "requests, %s: %s\n", phase, list(r.Requests[phase]))
	}
}

// labelWidth makes labels flush left in a table that is flush right.
const labelWidth = 62

func pad(label string) string { return fmt.Sprintf("%-*s", labelWidth, label) }

func number(v *float64) string {
	switch {
	case v == nil:
		return ""
	case *v == float64(int64(*v)):
		return fmt.Sprintf("%.0f", *v)
	case *v < 10:
		return fmt.Sprintf("%.2f", *v)
	default:
		return fmt.Sprintf("%.1f", *v)
	}
}

func ratio(f figure) string {
	if v, ok := f.ratio(); ok {
		return fmt.Sprintf("%.2f", v)
	}
	return ""
}

func list(requests map[string]int) string {
	if len(requests) == 0 {
		return "none"
	}
	// One line has to do: the few that are many, and the sum of the many that are few.
	const few = 2
	var parts []string
	rest := map[string]int{}
	for _, k := range sortedKeys(requests) {
		if n := requests[k]; n > few {
			parts = append(parts, fmt.Sprintf("%d %s", n, k))
		} else {
			verb, _, _ := strings.Cut(k, " ")
			rest[verb] += n
		}
	}
	for _, verb := range sortedKeys(rest) {
		parts = append(parts, fmt.Sprintf("%d other %s", rest[verb], verb))
	}
	return strings.Join(parts, ", ")
}
