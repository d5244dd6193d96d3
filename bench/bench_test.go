package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Every file of a fleet is YAML, apart from the templates of charts, and a commit
// to one or to all changes only files that are there.
func TestFleetFiles(t *testing.T) {
	for _, kind := range kinds {
		for _, urls := range [][]string{nil, {"file:///a", "file:///b"}} {
			f := newFleet(5, kind, "p")
			f.urls = urls
			definitions := f.files()
			before := make([]map[string]string, f.repositories())
			for r := range before {
				before[r] = f.content(r)
			}
			for _, files := range append(before, definitions) {
				for path, content := range files {
					var v any
					if err := yaml.Unmarshal([]byte(content), &v); err != nil {
						t.Errorf("%s: %s: %v\n%s", kind, path, err, content)
					}
				}
			}
			for path, content := range definitions {
				if strings.HasPrefix(path, "belay/") == (before[0][path] == content) {
					t.Errorf("%s, %d repositories: %s is in the wrong one", kind, len(urls), path)
				}
			}
			f.values[1], f.shared = "one", "all"
			changes(t, kind+": a commit to one", before[f.repositoryOf(1)], f.own(1))
			for r := range before {
				changes(t, kind+": a commit to all", before[r], f.common(r))
			}
		}
	}
}

// changes fails the test unless a commit changes something, and only what is there.
func changes(t *testing.T, what string, before, changed map[string]string) {
	t.Helper()
	differ := 0
	for path, content := range changed {
		was, ok := before[path]
		if !ok {
			t.Errorf("%s makes %s", what, path)
		}
		if was != content {
			differ++
		}
	}
	if differ == 0 {
		t.Errorf("%s changes nothing", what)
	}
}

func TestParseAudit(t *testing.T) {
	for _, test := range []struct {
		line   string
		want   request
		counts bool
	}{
		{`{"stage":"ResponseComplete","verb":"patch","userAgent":"belay/1","requestURI":"/x","objectRef":{"resource":"pods","subresource":"status","namespace":"n"}}`,
			request{"belay/1", "", "patch", "pods/status"}, true},
		{`{"stage":"ResponseComplete","verb":"watch","objectRef":{"resource":"pods"}}`, request{"", "", "watch", "pods"}, false},
		{`{"stage":"ResponseStarted","verb":"watch","impersonatedUser":{"username":"u"},"objectRef":{"resource":"pods"}}`, request{"", "u", "watch", "pods"}, true},
		{`{"stage":"ResponseComplete","verb":"get","requestURI":"/version?x=y"}`, request{"", "", "get", "/version"}, true},
	} {
		got, counts, err := parseAudit([]byte(test.line))
		if err != nil || got != test.want || counts != test.counts {
			t.Errorf("%s: %+v %v %v, want %+v %v", test.line, got, counts, err, test.want, test.counts)
		}
	}
}

// A mark is between lines, also while one is being written.
func TestAuditMark(t *testing.T) {
	log := audit{filepath.Join(t.TempDir(), "audit.log")}
	line := `{"stage":"ResponseComplete","verb":"get","requestURI":"/version"}` + "\n"
	for content, want := range map[string]int{"": 0, line[:9]: 0, line: len(line), line + line[:9]: len(line), line + line: 2 * len(line)} {
		if err := os.WriteFile(log.path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := log.mark()
		if err != nil || got != int64(want) {
			t.Errorf("the mark after %q is %d, want %d: %v", content, got, want, err)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, .5: 3, .99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestCompareWithNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.json")
	for _, content := range []any{map[string]any{"applications": 1}, results{}, results{[]*result{{Applications: 1}}}} {
		b, err := json.Marshal(content)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readResults(file); err == nil {
			t.Errorf("a file without figures is accepted: %s", b)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"--kind", "other"}, {"--layout", "flat"}, {"--apps", "0"}, {"--apps", "1,x"}, {"--runs", "0"}, {"--raw-apps", "-1"}, {"--resume"}, {"more"}} {
		if _, err := parse(args, t.Output()); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	o, err := parse([]string{"--apps", "1,20", "--kind", "plain,helm", "--layout", "many"}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if got := len(o.fleets()); got != 4 {
		t.Errorf("two sizes of two kinds are %d fleets", got)
	}
}

// Each of a median is of its own, the ratio too: it is taken within a run.
func TestMedian(t *testing.T) {
	var runs []*result
	for _, v := range [][2]float64{{1, 3}, {10, 11}, {2, 8}} {
		r := &result{Figures: map[string]figure{}}
		r.raw("one.p50", v[0])
		r.belay("one.p50", v[1])
		r.belay("rest.cpu", v[1])
		runs = append(runs, r)
	}
	m := median(runs)
	f := m.Figures["one.p50"]
	if *f.Raw != 2 || *f.Belay != 8 || *f.Ratio != 3 || f.Unit != "ms" {
		t.Errorf("the median of 1, 10, 2 and 3, 11, 8 is %v, %v, %v %s", *f.Raw, *f.Belay, *f.Ratio, f.Unit)
	}
	if f := m.Figures["rest.cpu"]; f.Raw != nil || f.Ratio != nil || *f.Belay != 8 {
		t.Errorf("what was not measured has a median: %+v", f)
	}
	if len(m.Runs) != len(runs) {
		t.Errorf("%d runs are kept", len(m.Runs))
	}
}

func TestVerdict(t *testing.T) {
	for _, test := range []struct {
		key        string
		raw, belay float64
		want       string
	}{
		{"one.p50", 1, 150, verdictOK}, {"one.p50", 1, 151, verdictOver},
		{"all.wall", 10, 13, verdictOK}, {"all.wall", 10, 14, verdictOver},
		{"one.renders", 1, 0.5, verdictOver}, {"one.renders", 1, 1, verdictOK},
		{"rollout.patches", 1, 4000, verdictOK}, {"rollout.patches", 1, 4001, verdictOver},
		{"memory.rest", 0, 150, verdictOK}, {"memory.rest", 0, 151, verdictOver},
	} {
		r := &result{Applications: 1000, Figures: map[string]figure{}}
		m, ok := markOf(test.key)
		if !ok {
			t.Fatalf("%s has no mark", test.key)
		}
		if got := m.verdict(r); got != "" {
			t.Errorf("%s was not measured and is %q", test.key, got)
		}
		r.raw(test.key, test.raw)
		r.belay(test.key, test.belay)
		if got := m.verdict(r); got != test.want {
			t.Errorf("%s of %v is %q, want %q", test.key, test.belay, got, test.want)
		}
	}
	// Marks that are not for a size judge nothing of it, and say so.
	for key, apps := range map[string]int{"all.wall": 999, "one.p50": 1001} {
		r := &result{Applications: apps, Figures: map[string]figure{}}
		r.raw(key, 1)
		r.belay(key, 1)
		if m, _ := markOf(key); m.verdict(r) != "" || !strings.HasPrefix(m.text(apps), "(") {
			t.Errorf("%s: the mark at %d applications is %q, %q", key, apps, m.text(apps), m.verdict(r))
		}
	}
}

// Whatever the screen, the growth and the marks name is a figure.
func TestKeysAreFigures(t *testing.T) {
	for _, l := range lines {
		unitOf(l.key)
	}
	for _, g := range growthRows {
		unitOf(g.key)
	}
	for _, m := range marks {
		unitOf(m.key)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 1.234: "1.23", 12.34: "12.3", 1234.5: "1,235", 40000: "40,000", 1234567: "1,234,567"} {
		if got := number(&v); got != want {
			t.Errorf("%v is written %s, want %s", v, got, want)
		}
	}
}
