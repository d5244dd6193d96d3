package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/evidence"
)

var keep = flag.String("keep", "", "directory to leave the reports of the tests in, for looking at them")

var (
	berlin = time.FixedZone("CET", 3600)
	period = evidence.Period{From: time.Date(2026, 11, 1, 0, 0, 0, 0, berlin), To: time.Date(2026, 12, 1, 0, 0, 0, 0, berlin)}
	source = Source{Generated: time.Date(2026, 12, 2, 9, 30, 0, 0, berlin), Program: "belay v0.0.0-test", Ledger: "/var/lib/belay/ledger.git",
		Verified: &Verified{true, "5120 records, 12 checkpoints, signed by SHA256:qb2J"}}
)

// tale makes records one after another.
type tale struct {
	c    *evidence.Collector
	seq  uint64
	now  time.Time
	last map[string]string
}

func newTale() *tale {
	return &tale{c: evidence.Collect(period, evidence.Scope{}), now: period.From.Add(8 * time.Hour), last: map[string]string{}}
}

func (t *tale) add(ev belay.Event) string {
	t.seq++
	ev.Time = t.now
	r := belay.Record{Writer: "hub", Seq: t.seq, Commit: fmt.Sprintf("4d1f0c6f0d2a2f3b7c1f6f1f0b6a5c4d3e%06x", t.seq), Event: ev}
	t.c.Add(&r)
	return r.ID()
}

func (t *tale) deploy(app, project, cluster string, m belay.Commit, result belay.Result, hooks ...belay.ObjectResult) {
	key := cluster + "/" + app
	ev := belay.Event{Type: belay.EventSyncStarted, Application: app, Project: project, Cluster: cluster, Repo: "https://git.example.com/fleet.git",
		Revision: m.ID, Change: m.ID, Actor: m.Author, Plan: "sha256:5f2b9c0d11", Message: "sync to " + m.ID[:10] + ": 2 of 14 objects to write",
		Detail: &belay.Detail{Previous: t.last[key], Commits: []belay.Commit{m}, Objects: append(hooks, belay.ObjectResult{Verb: belay.VerbUpdate})}}
	id := t.add(ev)
	t.now = t.now.Add(95 * time.Second)
	ev.Type, ev.Deployment, ev.Result, ev.Message = belay.EventSynced, id, result, "synced to "+m.ID[:10]+": 14 objects"
	switch result {
	case belay.Failed:
		ev.Type, ev.Message = belay.EventSyncFailed, "Deployment.apps "+app+"/"+app+": quota exceeded: pods: 20, limited to 20"
	case belay.Superseded:
		ev.Type, ev.Message = belay.EventSuperseded, "the sync was not finished; a newer commit takes its place"
	default:
		t.last[key] = m.ID
	}
	t.add(ev)
}

func commit(n int, author, subject string, at time.Time, reviewers ...string) belay.Commit {
	return belay.Commit{ID: fmt.Sprintf("%016x%024x", 0x9e3779b97f4a7c15*uint64(n+1), n), Author: author, Time: at, Subject: subject, Reviewers: reviewers}
}

// sample is a month of a small fleet with one exception of each kind.
func sample() *evidence.Report {
	t := newTale()
	people := []string{"Ada Byron <ada@example.com>", "Grace Hopper <grace@example.com>", "Linus Meyer <linus@example.com>", "Renovate <bot@renovateapp.com>"}
	subjects := []string{"Raise the memory of the checkout to 512Mi", "Update redis to 7.4.2", "Add the newsletter service", "Move ingress hosts to shop.example.com",
		"Rotate the payment provider's certificate", "Scale search to five replicas", "Turn on the new price calculation for all customers in the European Union and Switzerland"}
	apps := [][2]string{{"checkout", "shop"}, {"search", "shop"}, {"newsletter", "marketing"}, {"prices", "shop"}, {"redis", "platform"}, {"ingress", "platform"}}
	hook := belay.ObjectResult{Verb: belay.VerbCreate, ID: belay.ObjectID{Group: "batch", Kind: "Job", Namespace: "checkout", Name: "migrate"}, Hook: belay.PreSync, Result: belay.Succeeded}
	for i := range 46 {
		author := people[i%4]
		reviewers := []string{people[(i+1)%3]}
		if reviewers[0] == author {
			reviewers[0] = people[(i+2)%3]
		}
		if i%17 == 11 {
			reviewers = nil
		}
		m := commit(i, author, subjects[i%len(subjects)], t.now.Add(-time.Duration(i%9+1)*47*time.Minute), reviewers...)
		app := apps[i%len(apps)]
		result := belay.Succeeded
		if i%15 == 7 {
			result = belay.Failed
		}
		if app[0] == "checkout" {
			t.deploy(app[0], app[1], "eu-1", m, result, hook)
		} else {
			t.deploy(app[0], app[1], "eu-1", m, result)
		}
		if i%3 == 0 {
			t.deploy(app[0], app[1], "us-1", m, belay.Succeeded)
		}
		t.now = t.now.Add(time.Duration(9+i%8) * time.Hour)
	}
	self := commit(100, people[0], "Fix the typo that took the search down", t.now.Add(-10*time.Minute), people[0])
	t.deploy("search", "shop", "eu-1", self, belay.Succeeded)
	t.now = t.now.Add(4 * time.Minute)
	t.add(belay.Event{Type: belay.EventHealth, Application: "search", Cluster: "eu-1", Message: "Degraded, was Healthy: 0 of 5 replicas are ready"})
	t.add(belay.Event{Type: belay.EventHold, Application: "search", Cluster: "eu-1", Actor: people[2], Reason: "search answers with errors since the last deployment", Message: "held at " + t.last["eu-1/search"][:10],
		Detail: &belay.Detail{Hold: &belay.Hold{Application: "search", Cluster: "eu-1", Revision: "0123456789abcdef", Bad: self.ID, By: people[2], Reason: "search answers with errors since the last deployment"}}})
	t.now = t.now.Add(6 * time.Minute)
	t.add(belay.Event{Type: belay.EventHealth, Application: "search", Cluster: "eu-1", Message: "Healthy, was Degraded"})
	t.now = t.now.Add(70 * time.Minute)
	t.add(belay.Event{Type: belay.EventRelease, Application: "search", Cluster: "eu-1", Message: "released: Git has caught up"})
	drift := &belay.Drift{Taken: []string{".spec.replicas"}, Manager: "kubectl-scale", Operation: "Update", Time: t.now}
	t.add(belay.Event{Type: belay.EventDrift, Application: "checkout", Cluster: "eu-1", Object: "Deployment.apps checkout/checkout", Actor: "kubectl-scale", Message: "changed: .spec.replicas", Detail: &belay.Detail{Drift: drift}})
	t.now = t.now.Add(3 * time.Second)
	t.add(belay.Event{Type: belay.EventHealed, Application: "checkout", Cluster: "eu-1", Object: "Deployment.apps checkout/checkout", Message: "set back to what Git declares"})
	t.add(belay.Event{Type: belay.EventOverride, Application: "checkout", Cluster: "eu-1", Actor: people[2], Reason: "certificate expires at midnight", Message: "windows overridden for one sync"})
	t.add(belay.Event{Type: belay.EventRewritten, Repo: "https://git.example.com/fleet.git", Ref: "main", Revision: self.ID, Actor: people[0], Message: "main moved from 77aa01c2d3 to a commit that does not follow it"})
	t.add(belay.Event{Type: belay.EventRefused, Repo: "https://git.example.com/fleet.git", Revision: self.ID, Actor: "Mallory <mallory@example.net>", Message: "not signed by any key that project shop trusts"})
	t.add(belay.Event{Type: belay.EventDenied, Actor: "intern@example.com", Message: "may not roll back applications of project shop"})
	return t.c.Report()
}

func render(t *testing.T, name string, f func(io.Writer) error) string {
	t.Helper()
	var b bytes.Buffer
	if err := f(&b); err != nil {
		t.Fatal(err)
	}
	if *keep != "" {
		if err := os.WriteFile(filepath.Join(*keep, name), b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestHTML(t *testing.T) {
	r := sample()
	out := render(t, "sample.html", func(w io.Writer) error { return HTML(w, r, source) })
	for _, want := range []string{
		"1 to 30 November 2026", "CET, UTC&#43;01:00", "from 1 Nov 2026 00:00", `<span class="badge good">passed</span> 5120 records`, "record hub/136, commit <code>4d1f0c6f0d2a2f3b7c1f6f1f0b6a5c4d3e000088",
		"Nobody reviewed", "Self-approved", "kubectl-scale", ".spec.replicas", "Reason given: certificate expires at midnight", "intern@example.com",
		"PreSync Job.batch checkout/migrate: succeeded", "then degraded", "CC8.1", "A.8.32", "By project", "Lead time for changes",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// One file: nothing is fetched, nothing runs.
	if m := regexp.MustCompile(`(?i)<(script|link|img|iframe|object|embed|base)\b|\bsrc=|@import|url\(|href="[^#]|javascript:`).FindString(out); m != "" {
		t.Errorf("the page is not one file without programs: %q", m)
	}
	// Links within the page lead somewhere.
	for _, m := range regexp.MustCompile(`href="#([^"]*)"`).FindAllStringSubmatch(out, -1) {
		if !strings.Contains(out, `id="`+m[1]+`"`) {
			t.Errorf("nothing is called %q", m[1])
		}
	}
}

func TestHTMLSaysWhatIsNotThere(t *testing.T) {
	r := evidence.Collect(period, evidence.Scope{Project: "shop"}).Report()
	out := render(t, "empty.html", func(w io.Writer) error { return HTML(w, r, Source{Generated: source.Generated, Program: "belay"}) })
	for _, want := range []string{"Changes to project shop", "no change reached a cluster", "shows no exception", "not checked", "There were none."} {
		if !strings.Contains(out, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(out, "unnamed people") {
		t.Error("nobody wrote no commits")
	}
	failed := source
	failed.Verified = &Verified{false, "record hub/17 does not follow hub/16"}
	if out := render(t, "failed.html", func(w io.Writer) error { return HTML(w, r, failed) }); !strings.Contains(out, `<span class="badge bad">failed</span> record hub/17`) {
		t.Error("the page hides that the ledger is not whole")
	}
}

// hostile is text that means something to browsers and spreadsheets.
const hostile = `=HYPERLINK("http://evil.example","x")</style></script><script>alert(1)</script>"'><img src=x onerror=alert(1)>`

func hostileReport() *evidence.Report {
	t := newTale()
	m := commit(1, hostile, hostile, t.now, hostile+"2")
	ev := belay.Event{Type: belay.EventSyncStarted, Application: hostile, Project: hostile, Cluster: hostile, Repo: hostile, Revision: m.ID, Change: m.ID, Actor: hostile,
		Reason: hostile, Plan: hostile, Message: hostile, Detail: &belay.Detail{Previous: "x", Commits: []belay.Commit{m},
			Objects: []belay.ObjectResult{{ID: belay.ObjectID{Kind: hostile, Name: hostile}, Hook: belay.PreSync, Error: hostile}}}}
	t.add(ev)
	t.add(belay.Event{Type: belay.EventDenied, Actor: hostile, Message: hostile, Reason: hostile})
	t.add(belay.Event{Type: belay.EventDrift, Application: hostile, Project: hostile, Cluster: hostile, Object: hostile, Message: hostile, Detail: &belay.Detail{Drift: &belay.Drift{Taken: []string{hostile}, Manager: hostile}}})
	return t.c.Report()
}

func TestHTMLEscapesEverything(t *testing.T) {
	out := render(t, "hostile.html", func(w io.Writer) error {
		return HTML(w, hostileReport(), Source{Generated: source.Generated, Program: hostile, Ledger: hostile, Verified: &Verified{true, hostile}})
	})
	if strings.Contains(out, "<script") || strings.Contains(out, "<img") || strings.Count(out, "</style>") != 1 {
		t.Error("foreign text is part of the page's structure")
	}
	if !strings.Contains(out, "&lt;script&gt;alert(1)") {
		t.Error("foreign text is not shown")
	}
}

func TestCSV(t *testing.T) {
	r := sample()
	out := render(t, "sample.csv", func(w io.Writer) error { return CSV(w, r) })
	if strings.Count(out, "\r\n") != strings.Count(out, "\n") {
		t.Error("lines do not end as RFC 4180 has it")
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	deployments := len(rows) - 1 - len(r.Exceptions)
	if !slices.Equal(rows[0], Columns()) || deployments != r.Summary.Deployments || len(r.Exceptions) == 0 {
		t.Errorf("%d rows for %d deployments and %d exceptions, columns %v", len(rows)-1, r.Summary.Deployments, len(r.Exceptions), rows[0])
	}
	cell := func(row []string, column string) string { return row[slices.Index(Columns(), column)] }
	for i, row := range rows[1:] {
		if cell(row, "kind") == "exception" != (i >= deployments) || cell(row, "exception") == "" != (i < deployments) {
			t.Errorf("row %d is of kind %q, exception %q", i, cell(row, "kind"), cell(row, "exception"))
		}
		if i < deployments {
			continue
		}
		e := &r.Exceptions[i-deployments]
		if cell(row, "exception") != string(e.Kind) || cell(row, "message") != e.What || cell(row, "actor") != e.Who || cell(row, "application") != e.Application ||
			cell(row, "object") != e.Object || cell(row, "fields") != strings.Join(e.Fields, "; ") || cell(row, "reason") != e.Reason {
			t.Errorf("%+v is the row\n%q", e, row)
		}
	}
	for _, row := range rows[1:] {
		started := row[slices.Index(Columns(), "started")]
		if at, err := time.Parse(time.RFC3339, started); err != nil || !strings.HasSuffix(started, "+01:00") || !period.Contains(at) {
			t.Errorf("started at %q", started)
		}
	}
}

func TestCSVIsHarmless(t *testing.T) {
	out := render(t, "hostile.csv", func(w io.Writer) error { return CSV(w, hostileReport()) })
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
				t.Errorf("%s would be a formula: %q", rows[0][i], cell)
			}
		}
	}
	space := " " // the linter takes one that leads in a key for a slip
	for in, want := range map[string]string{"": "", "a=b": "a=b", "=1": "'=1", "+1": "'+1", "-1": "'-1", "@x": "'@x", "\t=1": "'\t=1", space + "=1": "' =1", "＝1": "'＝1", "\r=1": "'=1", "a\x00b": "ab", "\n=1": "'\n=1"} {
		if got := harmless(in); got != want {
			t.Errorf("harmless(%q) is %q, want %q", in, got, want)
		}
	}
}

func TestJSONL(t *testing.T) {
	r := sample()
	out := render(t, "sample.jsonl", func(w io.Writer) error { return JSONL(w, r, source) })
	count := map[string]int{}
	for line := range strings.Lines(out) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		typ, _ := v["type"].(string)
		if v["version"] != float64(evidence.Version) || typ == "" {
			t.Errorf("a line without version or type: %s", line)
		}
		if count[typ]++; count[typ] > 1 {
			continue
		}
		for _, key := range map[string][]string{"report": {"period", "zone", "summary", "source", "definitions", "limits"}, "exception": {"kind", "time", "what", "records"},
			"change": {"id", "review", "deployments", "commits"}, "metrics": {"level", "deploymentFrequency", "leadTime", "changeFailureRate", "timeToRestore", "notCounted"}}[typ] {
			if v[key] == nil {
				t.Errorf("a line of type %s lacks %s: %s", typ, key, line)
			}
		}
	}
	want := map[string]int{"report": 1, "exception": len(r.Exceptions), "change": len(r.Changes), "metrics": len(r.Metrics)}
	for typ, n := range want {
		if count[typ] != n {
			t.Errorf("%d lines of type %s, want %d", count[typ], typ, n)
		}
	}
}

func TestDaysAndZone(t *testing.T) {
	d := func(s string) time.Time {
		at, err := time.ParseInLocation("2006-01-02 15:04", s, berlin)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, tt := range []struct{ from, to, want string }{
		{"2026-11-01 00:00", "2026-11-02 00:00", "1 November 2026"},
		{"2026-11-01 00:00", "2026-12-01 00:00", "1 to 30 November 2026"},
		{"2026-10-15 00:00", "2026-12-01 00:00", "15 October to 30 November 2026"},
		{"2025-12-01 00:00", "2026-02-01 00:00", "1 December 2025 to 31 January 2026"},
		{"2026-11-01 08:00", "2026-11-01 09:00", "1 November 2026 08:00:00 to 1 November 2026 09:00:00"},
	} {
		if got := Days(evidence.Period{From: d(tt.from), To: d(tt.to)}); got != tt.want {
			t.Errorf("%s to %s is %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
	if got := Zone(evidence.Period{From: d("2026-11-01 00:00").UTC(), To: d("2026-12-01 00:00").UTC()}); got != "UTC" {
		t.Errorf("zone is %q", got)
	}
	loc, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := evidence.Period{From: time.Date(2026, 10, 1, 0, 0, 0, 0, loc), To: time.Date(2026, 11, 1, 0, 0, 0, 0, loc)}
	if got := Zone(p); got != "Europe/Berlin (CEST, UTC+02:00, later CET, UTC+01:00)" {
		t.Errorf("zone is %q", got)
	}
}

// counting counts what is written and keeps nothing.
type counting struct{ bytes, most int }

func (c *counting) Write(p []byte) (int, error) {
	c.bytes += len(p)
	c.most = max(c.most, len(p))
	return len(p), nil
}

// big is a month of ten thousand changes, each to three clusters.
func big() *evidence.Report {
	t := newTale()
	for i := range 10000 {
		t.now = period.From.Add(time.Duration(i) * 4 * time.Minute)
		m := commit(i, fmt.Sprintf("Dev %d <dev%d@example.com>", i%40, i%40), "Change the number of replicas", t.now.Add(-time.Hour), "Grace Hopper <grace@example.com>")
		if i%10 == 0 {
			m.Reviewers = nil
		}
		for _, cluster := range []string{"eu-1", "us-1", "ap-1"} {
			t.now = period.From.Add(time.Duration(i) * 4 * time.Minute)
			t.deploy(fmt.Sprintf("app-%d", i%800), fmt.Sprintf("team-%d", i%20), cluster, m, belay.Succeeded)
		}
	}
	return t.c.Report()
}

// A page is written as it is made: no piece of it is long, however long the whole is.
func TestLargeReportsAreStreamed(t *testing.T) {
	begin := time.Now()
	r := big()
	collected := time.Since(begin)
	for name, f := range map[string]func(io.Writer) error{
		"html":  func(w io.Writer) error { return HTML(w, r, source) },
		"csv":   func(w io.Writer) error { return CSV(w, r) },
		"jsonl": func(w io.Writer) error { return JSONL(w, r, source) },
	} {
		begin := time.Now()
		var w counting
		if err := f(&w); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d MB in %v, after %v", name, w.bytes>>20, time.Since(begin), collected)
		if w.bytes < 1<<20 || w.most > 1<<20 {
			t.Errorf("%s: %d bytes, up to %d at once", name, w.bytes, w.most)
		}
	}
}
