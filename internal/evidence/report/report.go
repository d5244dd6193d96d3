// Package report writes evidence down: as a page for people, as rows for a
// spreadsheet, as lines of JSON for programs.
//
// It decides how a report looks and never what it says. It must not know where the
// records came from but for what its caller tells it to print.
package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/evidence"
)

// Source says where a report comes from; all of it is printed.
type Source struct {
	// Generated is when the report was made.
	Generated time.Time `json:"generated"`
	// Program made it.
	Program string `json:"program"`
	// Ledger is the directory or address of the record.
	Ledger string `json:"ledger,omitempty"`
	// Verified says whether the ledger was proved whole, nil if nobody looked.
	Verified *Verified `json:"verified,omitempty"`
}

// Verified is what came of verifying the ledger.
type Verified struct {
	Passed  bool   `json:"passed"`
	Message string `json:"message"`
}

// moment prints times in the zone of the report.
type moment struct{ zone *time.Location }

func zoneOf(r *evidence.Report) moment { return moment{r.Period.From.Location()} }

func (m moment) rfc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(m.zone).Format(time.RFC3339)
}

func (m moment) minute(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(m.zone).Format("2 Jan 2006 15:04")
}

// Days is a period in whole days where it is one: "1 to 30 November 2026", else with times.
func Days(p evidence.Period) string {
	last := p.To.Add(-time.Second).In(p.From.Location())
	if !midnight(p.From) || !midnight(p.To.In(p.From.Location())) {
		const layout = "2 January 2006 15:04:05"
		return p.From.Format(layout) + " to " + p.To.In(p.From.Location()).Format(layout)
	}
	const layout = "2 January 2006"
	switch {
	case p.From.Format(time.DateOnly) == last.Format(time.DateOnly):
		return p.From.Format(layout)
	case p.From.Year() == last.Year() && p.From.Month() == last.Month():
		return p.From.Format("2") + " to " + last.Format(layout)
	case p.From.Year() == last.Year():
		return p.From.Format("2 January") + " to " + last.Format(layout)
	}
	return p.From.Format(layout) + " to " + last.Format(layout)
}

func midnight(t time.Time) bool { h, m, s := t.Clock(); return h+m+s == 0 && t.Nanosecond() == 0 }

// Zone names the zone of a period, with both offsets where summer time began or ended in it.
func Zone(p evidence.Period) string {
	offset := func(t time.Time) string {
		if name, secs := t.Zone(); secs == 0 {
			return "UTC"
		} else if name != "" && name[0] != '+' && name[0] != '-' {
			return name + ", UTC" + t.Format("-07:00")
		}
		return "UTC" + t.Format("-07:00")
	}
	out := offset(p.From)
	if end := offset(p.To.Add(-time.Second).In(p.From.Location())); end != out {
		out += ", later " + end
	}
	switch name := p.From.Location().String(); {
	case name == "Local", name == "UTC", name == "", strings.HasPrefix(out, name+","):
		return out
	default:
		return name + " (" + out + ")"
	}
}

// title is what a report is of.
func title(s evidence.Scope) string {
	var parts []string
	for _, p := range [][2]string{{"application", s.Application}, {"project", s.Project}, {"cluster", s.Cluster}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if len(parts) == 0 {
		return "the whole fleet"
	}
	return strings.Join(parts, ", ")
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
