package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// figuresFile is a file with two sizes of one fleet and one of another.
func figuresFile(t *testing.T) string {
	t.Helper()
	all := &results{}
	for _, apps := range []int{1000, 100} {
		r := newResult(benchConfig{options: options{apps: apps, kind: "plain", layout: layoutMono}})
		for _, p := range plotted {
			for _, c := range p.curves {
				r.raw(c.key, float64(apps))
				r.belay(c.key, 2*float64(apps))
			}
		}
		r.belay("one.p50", 160)
		r.belay("rest.requests", 0) // has no place on a logarithmic axis
		all.put(r)
	}
	lone := newResult(benchConfig{options: options{apps: 5, kind: "helm", layout: layoutMany}})
	lone.belay("one.p50", 1)
	all.put(lone)
	file := filepath.Join(t.TempDir(), "figures.json")
	if err := all.write(file); err != nil {
		t.Fatal(err)
	}
	return file
}

// A picture is well-formed, names its curves and sizes, and has colours for both
// light and dark pages. One size makes no picture.
func TestPlot(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	if err := runPlot(t.Context(), []string{"--out", dir, figuresFile(t)}, &said, t.Output()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "growth-monorepo-plain.svg")
	if said.String() != file+"\n" {
		t.Errorf("it drew %q", said.String())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	elements := 0
	for d := xml.NewDecoder(strings.NewReader(string(b))); ; elements++ {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(string(b), "NaN") || strings.Contains(string(b), "Inf") || elements < 50 {
		t.Errorf("the picture is not whole:\n%s", b)
	}
	for _, want := range []string{">to one<", ">to all<", ">at rest<", ">100<", ">1,000<", "prefers-color-scheme: dark"} {
		if !strings.Contains(string(b), want) {
			t.Errorf("the picture has no %s", want)
		}
	}
	if err := runPlot(t.Context(), nil, &said, t.Output()); err == nil {
		t.Error("no file is accepted")
	}
}

// A report takes the place of the one before, and leaves the rest of the page.
func TestReport(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	write := func(content string) {
		if err := os.WriteFile(page, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + reportBegin + "old\n" + reportEnd + "after\n")
	if err := runReport(t.Context(), []string{"--into", page, figuresFile(t)}, io.Discard, t.Output()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if strings.Contains(got, "old") || !strings.HasPrefix(got, "before\n"+reportBegin) || !strings.HasSuffix(got, reportEnd+"after\n") {
		t.Errorf("the page is\n%s", got)
	}
	for _, want := range []string{"### Plain, one repository", "| applications | mark | 100 | 1,000 |", "≤ 150 ms up to 1,000", "160 ms : 1,000 ms **over**", "2.00 (2,000 s : 1,000 s) **over**", "### Helm, many repositories"} {
		if !strings.Contains(got, want) {
			t.Errorf("the page has no %q:\n%s", want, got)
		}
	}
	write("no place\n")
	if err := runReport(t.Context(), []string{"--into", page, figuresFile(t)}, io.Discard, t.Output()); err == nil {
		t.Error("a page without a place is accepted")
	}
}
