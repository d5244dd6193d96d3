package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results is the form of the JSON file: one result for each size, layout and kind.
type results struct {
	Results []*result `json:"results"`
}

// result is what the runs with one fleet found out.
type result struct {
	Time time.Time `json:"time"`
	// Belay is what the program says that it was made from.
	Belay string `json:"belay"`
	// Applications of four objects each, what they are made with, and over how
	// many repositories they are spread.
	Applications int    `json:"applications"`
	Kind         string `json:"kind"`
	Layout       string `json:"layout"`
	Repositories int    `json:"repositories"`
	// RawApplications is how many the raw loop applied; its figures are of as many
	// as Belay's, in proportion.
	RawApplications int    `json:"rawApplications"`
	Processors      int    `json:"processors"`
	Platform        string `json:"platform"`
	// Load of the machine before each run, over 1, 5 and 15 minutes: what others
	// did there is in every time.
	Load []string `json:"load"`
	// Figures by key; rows says what each is. They are medians of the runs.
	Figures map[string]figure `json:"figures"`
	// Runs are the figures of each.
	Runs []map[string]figure `json:"runs,omitempty"`
	// Requests of Belay by phase, then by verb and resource, of the first run.
	Requests map[string]map[string]int `json:"requests"`
}

// figure is one quantity, of the raw loop and of Belay. Either may be missing.
// Of several runs each is a median, that of the ratios too: a ratio is taken
// within a run.
type figure struct {
	Unit  string   `json:"unit"`
	Raw   *float64 `json:"raw,omitempty"`
	Belay *float64 `json:"belay,omitempty"`
	Ratio *float64 `json:"ratio,omitempty"`
}

func (f figure) ratio() (float64, bool) {
	switch {
	case f.Ratio != nil:
		return *f.Ratio, true
	case f.Raw == nil || f.Belay == nil || *f.Raw == 0:
		return 0, false
	}
	return *f.Belay / *f.Raw, true
}

func newResult(c benchConfig) *result {
	return &result{Time: time.Now().UTC().Truncate(time.Second), Applications: c.apps, Kind: c.kind, Layout: c.layout,
		Repositories: max(1, repositoriesOf(c.layout, c.apps)), RawApplications: (&bench{benchConfig: c}).rawSize(),
		Processors: processors(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Load: []string{load()},
		Figures: map[string]figure{}, Requests: map[string]map[string]int{}}
}

func (r *result) raw(key string, v float64) {
	f := r.Figures[key]
	f.Unit, f.Raw = unitOf(key), &v
	r.Figures[key] = f
}

func (r *result) belay(key string, v float64) {
	f := r.Figures[key]
	f.Unit, f.Belay = unitOf(key), &v
	r.Figures[key] = f
}

// same tells whether two results are of the same fleet.
func (r *result) same(s *result) bool {
	return r.Applications == s.Applications && r.Kind == s.Kind && r.Layout == s.Layout
}

func (r *result) String() string {
	where := "one repository"
	if r.Layout == layoutMany {
		where = fmt.Sprintf("%d repositories", r.Repositories)
	}
	return fmt.Sprintf("%s applications × %d objects, %s, in %s", thousands(r.Applications), len(resources), r.Kind, where)
}

// median makes one result of several runs with the same fleet.
func median(runs []*result) *result {
	out := *runs[0]
	out.Figures, out.Load, out.Runs = map[string]figure{}, nil, nil
	for _, r := range runs {
		out.Load = append(out.Load, r.Load...)
		out.Runs = append(out.Runs, r.Figures)
	}
	middle := func(key string, of func(figure) *float64) *float64 {
		var values []float64
		for _, r := range runs {
			if v := of(r.Figures[key]); v != nil {
				values = append(values, *v)
			}
		}
		if len(values) == 0 {
			return nil
		}
		return new(quantile(values, .5))
	}
	for key, f := range runs[0].Figures {
		out.Figures[key] = figure{Unit: f.Unit,
			Raw:   middle(key, func(f figure) *float64 { return f.Raw }),
			Belay: middle(key, func(f figure) *float64 { return f.Belay }),
			Ratio: middle(key, func(f figure) *float64 {
				if v, ok := f.ratio(); ok {
					return &v
				}
				return nil
			})}
	}
	return &out
}

// find returns the result of the same fleet, nil if there is none.
func (rs *results) find(r *result) *result {
	if rs == nil {
		return nil
	}
	if i := slices.IndexFunc(rs.Results, r.same); i >= 0 {
		return rs.Results[i]
	}
	return nil
}

// put adds a result in place of one of the same fleet.
func (rs *results) put(r *result) {
	rs.Results = append(slices.DeleteFunc(rs.Results, r.same), r)
	slices.SortStableFunc(rs.Results, func(a, b *result) int {
		return strings.Compare(a.order(), b.order())
	})
}

func (r *result) order() string {
	return fmt.Sprintf("%d %d %08d", slices.Index(layouts, r.Layout), slices.Index(kinds, r.Kind), r.Applications)
}

// write replaces the file whole, so that a run that is interrupted leaves the
// earlier one.
func (rs *results) write(path string) error {
	b, err := json.MarshalIndent(rs, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the figures: %w", err)
	}
	beside := path + ".new"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if err := os.WriteFile(beside, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	if err := os.Rename(beside, path); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	return nil
}

func readResults(path string) (*results, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read earlier figures: %w", err)
	}
	rs := &results{}
	if err := json.Unmarshal(b, rs); err != nil {
		return nil, fmt.Errorf("read earlier figures in %q: %w", path, err)
	}
	if len(rs.Results) == 0 {
		return nil, fmt.Errorf("read earlier figures: there are none in %q", path)
	}
	for _, r := range rs.Results {
		if len(r.Figures) == 0 {
			return nil, fmt.Errorf("read earlier figures: there are none of %s in %q", r, path)
		}
	}
	return rs, nil
}

// readOrNone is readResults for a file that may not be there yet.
func readOrNone(path string) (*results, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return &results{}, nil
	}
	return readResults(path)
}
