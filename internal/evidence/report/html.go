package report

import (
	"bufio"
	_ "embed" // for the page
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/evidence"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// page is what the template sees.
type page struct {
	R          *evidence.Report
	Source     Source
	Style      template.CSS
	Title      string
	Days, Zone string
	Lead       string
	// Early is true where the period had not ended.
	Early      bool
	Tiles      []tile
	Chart      *chart
	Groups     []group
	Figures    []figures
	NotCounted string
	Metrics    []evidence.Definition
	Kinds      []evidence.Definition
	Controls   []evidence.Control
	Limits     []string
}

// tile is a figure of the summary.
type tile struct {
	Name, Value, More string
	Attention         bool
}

// group are the exceptions of a kind.
type group struct {
	Definition evidence.Definition
	// Ends heads the column that says when they ended; empty for what has no end.
	Ends  string
	Items []*evidence.Exception
}

// figures are a table of them.
type figures struct {
	Name, Named string
	Rows        []evidence.Metrics
}

// badge is a word with a colour.
type badge struct{ Class, Text string }

// HTML writes a page of one file that needs no other. It is written as it is made:
// what it holds in memory does not grow with its length.
func HTML(w io.Writer, r *evidence.Report, src Source) error {
	m := zoneOf(r)
	at := make(map[string]string, len(r.Changes))
	for i, x := range r.Changes {
		at[x.ID] = fmt.Sprintf("change-%d", i)
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"minute": m.minute, "count": count, "join": strings.Join, "short": short,
		"changeAt": func(id string) string { return at[id] },
		"where": func(e *evidence.Exception) string {
			if n := len(e.Records) + e.MoreRecords; e.Change != "" && n > 1 {
				return count(n, "deployment")
			}
			return ""
		},
		"lasted": func(e *evidence.Exception) string { return evidence.Duration(e.Lasted().Seconds()) },
		"tally":  tally, "review": reviewBadge, "outcome": outcomeBadge, "result": resultBadge, "took": took,
		"others": func(c belay.Commit) []string { return evidence.Others(c.Author, c.Reviewers) },
	}).Parse(pageHTML)
	if err != nil {
		return fmt.Errorf("read the page of the report: %w", err)
	}
	p := page{
		R: r, Source: src, Style: template.CSS(pageCSS), // it is ours, and part of the program
		Title: title(r.Scope), Days: Days(r.Period), Zone: Zone(r.Period), Lead: lead(r), Early: src.Generated.Before(r.Period.To), Tiles: tiles(r), Chart: newChart(r, m), Groups: groups(r),
		Figures: figuresOf(r), NotCounted: notCounted(&r.Metrics[0].NotCounted), Metrics: evidence.MetricDefinitions(), Controls: evidence.Controls(), Limits: evidence.Limits(),
	}
	for _, k := range evidence.ExceptionKinds() {
		p.Kinds = append(p.Kinds, k.KindDefinition())
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	if err := t.Execute(buf, &p); err != nil {
		return err
	}
	return buf.Flush()
}

func short(id string) string { return belay.Revision{Commit: id}.Short() }

// lead says the most important in sentences.
func lead(r *evidence.Report) string {
	s := &r.Summary
	if s.Changes == 0 {
		return "In this period no change reached a cluster."
	}
	out := fmt.Sprintf("In this period %s by %s reached %s in %s, by %s.", count(s.Changes, "change"), people(s.Authors), count(s.Applications, "application"),
		count(s.Clusters, "cluster"), count(s.Deployments, "deployment"))
	if s.Reviewed == s.Changes {
		out += " Each of them was reviewed by somebody else than its author, as far as Git tells."
	} else {
		out += fmt.Sprintf(" Of %d the record names a reviewer other than the author; of %d it does not.", s.Reviewed, s.Changes-s.Reviewed)
	}
	if n := s.Exceptions[evidence.ExcManual]; n > 0 {
		out += fmt.Sprintf(" %s made in a cluster past Git.", were(n, "change", "was", "were"))
	}
	return out
}

func commits(s *evidence.Summary) string {
	if s.Commits == 0 {
		return "0 commits"
	}
	return count(s.Commits, "commit") + " by " + people(s.Authors)
}

func people(n int) string {
	switch n {
	case 0:
		return "unnamed people"
	case 1:
		return "1 person"
	}
	return fmt.Sprintf("%d people", n)
}

func were(n int, noun, one, many string) string {
	if n == 1 {
		return count(n, noun) + " " + one
	}
	return count(n, noun) + " " + many
}

func tiles(r *evidence.Report) []tile {
	s, m := &r.Summary, &r.Metrics[0]
	past := s.Exceptions[evidence.ExcManual]
	emergencies := s.Exceptions[evidence.ExcHold] + s.Exceptions[evidence.ExcOverride]
	refused := s.Exceptions[evidence.ExcRefused] + s.Exceptions[evidence.ExcUnverified] + s.Exceptions[evidence.ExcRewritten]
	return []tile{
		{Name: "Changes", Value: fmt.Sprint(s.Changes), More: commits(s)},
		{Name: "Reviewed by another", Value: share(s.Reviewed, s.Changes), More: fmt.Sprintf("%d of %d", s.Reviewed, s.Changes), Attention: s.Reviewed < s.Changes},
		{Name: "Deployments", Value: fmt.Sprint(s.Deployments), More: deployments(s)},
		{Name: "Failed", Value: fmt.Sprint(s.Failed), More: fmt.Sprintf("of %d that ended", s.Deployments-s.Running), Attention: s.Failed > 0},
		{Name: "Manual changes", Value: fmt.Sprint(past), More: "past Git, in a cluster", Attention: past > 0},
		{Name: "Emergency measures", Value: fmt.Sprint(emergencies), More: "holds and window overrides", Attention: emergencies > 0},
		{Name: "Signatures and history", Value: fmt.Sprint(refused), More: "refused, unverified or rewritten", Attention: refused > 0},
		{Name: "Lead time", Value: m.LeadTime.MedianText(), More: "median, from commit to success"},
	}
}

func share(n, of int) string {
	switch {
	case of == 0:
		return "–"
	case n == of:
		return "all"
	case of < 10:
		return fmt.Sprintf("%d of %d", n, of)
	}
	// Rounded down: less than all is never shown as all.
	return fmt.Sprintf("%d%%", n*100/of)
}

func deployments(s *evidence.Summary) string {
	parts := []string{fmt.Sprintf("%d succeeded", s.Succeeded)}
	for _, p := range []struct {
		n    int
		word string
	}{{s.Superseded, "superseded"}, {s.Running, "still running"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}

// groups are the exceptions by kind; kinds without any are left out.
func groups(r *evidence.Report) []group {
	by := map[evidence.ExceptionKind][]*evidence.Exception{}
	for i := range r.Exceptions {
		e := &r.Exceptions[i]
		by[e.Kind] = append(by[e.Kind], e)
	}
	ends := map[evidence.ExceptionKind]string{evidence.ExcManual: "Set back", evidence.ExcHold: "Released", evidence.ExcFailed: "Overcome"}
	var out []group
	for _, k := range evidence.ExceptionKinds() {
		if len(by[k]) > 0 {
			out = append(out, group{k.KindDefinition(), ends[k], by[k]})
		}
	}
	return out
}

func figuresOf(r *evidence.Report) []figures {
	by := map[evidence.Level][]evidence.Metrics{}
	for i := range r.Metrics {
		by[r.Metrics[i].Level] = append(by[r.Metrics[i].Level], r.Metrics[i])
	}
	out := []figures{{"As a whole", "", by[evidence.OfFleet]}}
	if rows := by[evidence.OfProject]; len(rows) > 0 {
		out = append(out, figures{"By project", "Project", rows})
	}
	rows := slices.DeleteFunc(by[evidence.OfApplication], func(m evidence.Metrics) bool { return m.Failures.Total == 0 })
	if len(rows) > 0 {
		out = append(out, figures{"By application", "Application", rows})
	}
	return out
}

func notCounted(n *evidence.NotCounted) string { return strings.Join(n.Words(), ", ") }

func tally(x *evidence.Change) string {
	out := count(len(x.Deliveries), "deployment")
	if n := len(x.Reviewers); n > 0 {
		out += " · reviewed by " + strings.Join(x.Reviewers[:min(n, 3)], ", ")
		if n > 3 {
			out += fmt.Sprintf(" and %d more", n-3)
		}
	}
	return out
}

func reviewBadge(x *evidence.Change) *badge {
	switch x.Review {
	case evidence.Reviewed:
		return &badge{"good", "reviewed"}
	case evidence.SelfApproved:
		return &badge{"bad", "self-approved"}
	case evidence.Unreviewed:
		return &badge{"bad", "nobody reviewed"}
	case evidence.ReviewUnknown:
		return &badge{"warn", "review not known"}
	case evidence.NoReview:
		return &badge{"", "return to an earlier state"}
	}
	return nil
}

func outcomeBadge(x *evidence.Change) *badge {
	n := map[belay.Result]int{}
	for _, d := range x.Deliveries {
		n[d.Result]++
	}
	all := len(x.Deliveries)
	switch {
	case n[belay.Succeeded] == all:
		return &badge{"good", "succeeded"}
	case n[belay.Failed] > 0 && all == 1:
		return &badge{"bad", "failed"}
	case n[belay.Failed] > 0:
		return &badge{"bad", fmt.Sprintf("%d of %d failed", n[belay.Failed], all)}
	case n[belay.Superseded] > 0:
		return &badge{"warn", "superseded"}
	}
	return &badge{"warn", "still running"}
}

func resultBadge(d *evidence.Delivery) *badge {
	b := &badge{"warn", "still running"}
	switch d.Result {
	case belay.Succeeded:
		b = &badge{"good", "succeeded"}
		if n := d.Failures; n > 0 {
			b.Text += fmt.Sprintf(" after %s", count(n, "failure"))
		}
	case belay.Failed:
		b = &badge{"bad", "failed"}
	case belay.Superseded:
		b = &badge{"warn", "superseded"}
	}
	switch {
	case d.Trouble == evidence.TroubleDegraded:
		b.Class, b.Text = "bad", b.Text+", then degraded"
	case d.Trouble == evidence.TroubleRolledBack:
		b.Class, b.Text = "bad", b.Text+", then rolled back"
	case d.Kind != evidence.Deploys:
		b.Text = map[evidence.DeliveryKind]string{evidence.RollsBack: "return to an earlier state", evidence.TearsDown: "removal"}[d.Kind] + ": " + b.Text
	}
	return b
}

func took(d *evidence.Delivery) string {
	if d.Started.IsZero() || d.Ended.IsZero() {
		return ""
	}
	return evidence.Duration(d.Ended.Sub(d.Started).Seconds())
}
