package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// What stands between these lines of a page is written by runReport.
const (
	reportBegin = "<!-- figures: written by go run ./bench report -->\n"
	reportEnd   = "<!-- end of figures -->\n"
)

// runReport writes figures as Markdown, to be kept.
func runReport(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("bench report", flag.ContinueOnError)
	f.SetOutput(stderr)
	into := f.String("into", "", "page to put them into, in place of those that it has")
	all, err := figuresOf(f, args, "[--into PAGE.md]")
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, s := range all.series() {
		markdown(&b, s)
	}
	if *into == "" {
		_, err := io.WriteString(stdout, b.String())
		return err
	}
	page, err := os.ReadFile(*into)
	if err != nil {
		return fmt.Errorf("read the page: %w", err)
	}
	before, rest, begins := strings.Cut(string(page), reportBegin)
	_, after, ends := strings.Cut(rest, reportEnd)
	if !begins || !ends {
		return fmt.Errorf("%s has no place for figures: it needs the lines\n%s%s", *into, reportBegin, reportEnd)
	}
	if err := os.WriteFile(*into, []byte(before+reportBegin+b.String()+reportEnd+after), 0o644); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// figuresOf reads the files that a command line names. Of the same fleet the last one
// counts.
func figuresOf(f *flag.FlagSet, args []string, usage string) (*results, error) {
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() == 0 {
		return nil, fmt.Errorf("name JSON files of earlier runs: %s %s FILE.json…", f.Name(), usage)
	}
	all := &results{}
	for _, file := range f.Args() {
		rs, err := readResults(file)
		if err != nil {
			return nil, err
		}
		for _, r := range rs.Results {
			all.put(r)
		}
	}
	return all, nil
}

// whereOf says how the fleet of a result is spread.
func whereOf(r *result) string {
	if r.Layout == layoutMany {
		return "many repositories"
	}
	return "one repository"
}

// markdown writes one table: a column for each size.
func markdown(b *strings.Builder, s []*result) {
	fmt.Fprintf(b, "\n### %s, %s\n\n| applications | mark |", strings.ToUpper(s[0].Kind[:1])+s[0].Kind[1:], whereOf(s[0]))
	for _, r := range s {
		fmt.Fprintf(b, " %s |", thousands(r.Applications))
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---:|", len(s)) + "\n")
	for _, l := range lines {
		m, marked := markOf(l.key)
		mark := ""
		if marked {
			mark = m.page()
		}
		fmt.Fprintf(b, "| %s | %s |", strings.TrimSpace(strings.Replace(l.label, "  ", "&nbsp;&nbsp;", 1)), mark)
		for _, r := range s {
			fmt.Fprintf(b, " %s |", cell(r, l.key, m, marked))
		}
		b.WriteByte('\n')
		if _, ok := s[0].Figures[l.key+".process"]; ok {
			b.WriteString("| &nbsp;&nbsp;of it its process, workers, git | |")
			for _, r := range s {
				fmt.Fprintf(b, " %s |", parts(r, l.key))
			}
			b.WriteByte('\n')
		}
	}
	b.WriteString("\n")
	for _, r := range s {
		fmt.Fprintf(b, "- %s: %s.\n", thousands(r.Applications), strings.ReplaceAll(r.how(), "\n", "; "))
	}
	last := s[len(s)-1]
	for _, phase := range []struct{ key, label string }{{"rollout", "first rollout"}, {"restart", "restart"}} {
		fmt.Fprintf(b, "- Requests at %s, %s: %s.\n", thousands(last.Applications), phase.label, list(last.Requests[phase.key]))
	}
}

// parts are what each kind of process has of a figure.
func parts(r *result, key string) string {
	var out []string
	for _, part := range []string{".process", ".workers", ".git"} {
		out = append(out, number(r.Figures[key+part].Belay))
	}
	return strings.Join(out, ", ") + " " + strings.TrimPrefix(r.Figures[key].Unit, "cpu ")
}

// cell is a figure in the table of a page: Belay's, the raw loop's after a colon,
// and the ratio where that is what the mark is of.
func cell(r *result, key string, m mark, marked bool) string {
	f := r.Figures[key]
	s := quantity(f.Belay, f.Unit)
	if f.Raw != nil && f.Unit != "" {
		s += " : " + quantity(f.Raw, f.Unit)
	}
	if marked && m.ratio {
		s = ratio(f) + " (" + s + ")"
	}
	if marked && m.verdict(r) == verdictOver {
		s += " **over**"
	}
	return s
}
