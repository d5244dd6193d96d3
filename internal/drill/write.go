package drill

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/term"
)

// Format is how a report is written.
type Format string

// The formats.
const (
	Text     Format = "text"
	JSON     Format = "json"
	Markdown Format = "markdown"
	JUnit    Format = "junit"
)

// Formats lists them.
func Formats() []Format { return []Format{Text, JSON, Markdown, JUnit} }

// Write writes the report; p is what text is written by.
func (r *Report) Write(p *term.Printer, as Format) error {
	switch as {
	case JSON:
		out, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		_, err = p.Write(append(out, '\n'))
		return err
	case Markdown:
		_, err := io.WriteString(p, r.markdown())
		return err
	case JUnit:
		return r.junit(p)
	}
	return r.text(p)
}

func took(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func (r *Report) head() string {
	return fmt.Sprintf("%s at %s", r.Repo, belay.Revision{Commit: r.Revision}.Short())
}

// rto says what the figures mean.
func (r *Report) rto() string {
	s := fmt.Sprintf("%s to fetch the repository, ", took(r.FetchSeconds))
	if r.GivenUp > 0 {
		return s + fmt.Sprintf("%s until those that came back were there, given up after %s, %d writes", took(r.Seconds), took(r.GivenUp), r.Writes)
	}
	return s + fmt.Sprintf("%s until the last application was back, %d writes", took(r.Seconds), r.Writes)
}

var styles = map[Result]term.Style{Passed: term.Green, Failed: term.Red, Waiting: term.Yellow, Suspended: term.Faint}

func (r *Report) text(p *term.Printer) error {
	fmt.Fprintf(p, "\n%s %s: %s\n", p.Paint(styles[r.Result]+";1", strings.ToUpper(string(r.Result))), term.Clean(r.head()), r.Summary())
	fmt.Fprintf(p, "  %s\n", r.rto())
	if r.Reason != "" {
		fmt.Fprintf(p, "  %s\n", term.Clean(r.Reason))
	}
	fmt.Fprintln(p)
	t := term.NewTable("APPLICATION", "CLUSTER", "RESULT", "AFTER", "OBJECTS", "WHY")
	for i := range r.Applications {
		a := &r.Applications[i]
		t.Row(term.Text(a.Name), term.Text(a.Cluster), term.Cell{Text: string(a.Result), Style: styles[a.Result]}, term.Text(took(a.Seconds)),
			term.Text(fmt.Sprint(a.Objects)), term.Text(a.why()))
	}
	if err := p.Print(t); err != nil {
		return err
	}
	for i := range r.Applications {
		r.Applications[i].details(p)
	}
	section(p, "Wrong definitions", len(r.Problems), func(i int) string { return term.ErrorLine(&r.Problems[i]) })
	section(p, byHand, len(r.ByHand), func(i int) string { return r.ByHand[i] })
	section(p, "Not in Git: a rebuilt cluster will lack it", len(r.Missing), func(i int) string { return r.Missing[i].line() })
	section(p, "Not rehearsed", len(r.NotRehearsed), func(i int) string { return r.NotRehearsed[i] })
	return nil
}

// byHand is the title of what needs somebody.
const byHand = "Does not come back by itself"

func section(p *term.Printer, title string, n int, line func(int) string) {
	if n == 0 {
		return
	}
	fmt.Fprintf(p, "\n%s\n", p.Paint(term.Bold, title))
	for i := range n {
		fmt.Fprintf(p, "  - %s\n", term.Clean(line(i)))
	}
}

// why an application is where it is, in a line.
func (a *Application) why() string {
	switch {
	case a.Error != "":
		return a.Error
	case a.Message != "":
		return a.Message
	case a.NotRehearsed > 0:
		return fmt.Sprintf("%d applied, no controller here", a.NotRehearsed)
	}
	return ""
}

// details says all that is known of one that did not come back.
func (a *Application) details(p *term.Printer) {
	if a.Result == Passed || a.Result == Suspended {
		return
	}
	fmt.Fprintf(p, "\n%s\n", p.Paint(term.Bold, a.Name+": "+string(a.Result)))
	for _, text := range a.lines() {
		fmt.Fprintf(p, "  %s\n", term.Clean(text))
	}
}

// lines are what there is to say, each once.
func (a *Application) lines() []string {
	var out []string
	add := func(text string) {
		if text != "" && !slices.ContainsFunc(out, func(s string) bool { return strings.Contains(s, text) }) {
			out = append(out, text)
		}
	}
	add(a.Error)
	add(a.Message)
	if a.Hint != "" && !strings.Contains(a.Error, a.Hint) {
		add("hint: " + a.Hint)
	}
	for _, o := range a.Unfinished {
		text := o.Message
		if !strings.Contains(text, o.Name) { // it may say so itself
			text = o.Name + ": " + text
			if o.File != "" {
				text = (belay.Origin{File: o.File, Line: o.Line}).String() + ": " + text
			}
		}
		add(text)
	}
	return out
}

func (f *Finding) line() string {
	s := f.Title() + ": " + f.Message
	if f.File != "" {
		s = (belay.Origin{File: f.File, Line: f.Line}).String() + ": " + s
	}
	if len(f.Applications) > 0 {
		s += " [" + strings.Join(f.Applications, ", ") + "]"
	}
	if f.Hint != "" {
		s += " (" + f.Hint + ")"
	}
	return s
}

// cell makes text fit into a table of Markdown, and steer nothing in it.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "`", "'", "@", "&#64;", "[", "\\[", "]", "\\]").Replace(term.Clean(s))
}

func (r *Report) markdown() string {
	var b strings.Builder
	mark := map[Result]string{Passed: "✅", Failed: "❌", Waiting: "⏳", Suspended: "⏸️"}
	fmt.Fprintf(&b, "### %s Recovery drill: %s\n\n%s: %s.\n", mark[r.Result], r.Summary(), cell(r.head()), r.rto())
	if r.Reason != "" {
		fmt.Fprintf(&b, "\n%s\n", cell(r.Reason))
	}
	b.WriteString("\n| | application | cluster | after | objects | why |\n|---|---|---|---|---|---|\n")
	for i := range r.Applications {
		a := &r.Applications[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %s |\n", mark[a.Result], cell(a.Name), cell(a.Cluster), took(a.Seconds), a.Objects, cell(a.why()))
	}
	part := func(title string, n int, line func(int) string) {
		if n == 0 {
			return
		}
		fmt.Fprintf(&b, "\n**%s**\n\n", title)
		for i := range n {
			fmt.Fprintf(&b, "- %s\n", cell(line(i)))
		}
	}
	for i := range r.Applications {
		if a := &r.Applications[i]; a.Result != Passed && a.Result != Suspended {
			lines := a.lines()
			part(cell(a.Name), len(lines), func(i int) string { return lines[i] })
		}
	}
	part("Wrong definitions", len(r.Problems), func(i int) string { return term.ErrorLine(&r.Problems[i]) })
	part(byHand, len(r.ByHand), func(i int) string { return r.ByHand[i] })
	part("Not in Git: a rebuilt cluster will lack it", len(r.Missing), func(i int) string { return r.Missing[i].line() })
	part("Not rehearsed", len(r.NotRehearsed), func(i int) string { return r.NotRehearsed[i] })
	return b.String()
}

type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     float64     `xml:"time,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Time    float64       `xml:"time,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Skipped *junitSkipped `xml:"skipped,omitempty"`
}

type junitSkipped struct {
	Message string `xml:"message,attr"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// junit writes applications, and definitions that are wrong, as test cases.
func (r *Report) junit(w io.Writer) error {
	s := junitSuite{Name: "belay drill", Time: r.FetchSeconds + r.Seconds}
	for i := range r.Applications {
		a := &r.Applications[i]
		c := junitCase{Class: a.Cluster, Name: a.Name, Time: a.Seconds}
		switch a.Result {
		case Passed:
		case Suspended:
			c.Skipped = &junitSkipped{Message: term.Clean(a.why())}
			s.Skipped++
		default:
			c.Failure = &junitFailure{Message: term.Clean(string(a.Result) + ": " + a.why()), Text: strings.Join(a.lines(), "\n")}
		}
		s.Cases = append(s.Cases, c)
	}
	for i := range r.Problems {
		p := &r.Problems[i]
		s.Cases = append(s.Cases, junitCase{Class: "definitions", Name: p.Origin.String(), Failure: &junitFailure{Message: term.Clean(p.Message), Text: p.Error()}})
	}
	if r.Reason != "" {
		s.Cases = append(s.Cases, junitCase{Class: "drill", Name: "end", Failure: &junitFailure{Message: term.Clean(r.Reason)}})
	}
	s.Tests = len(s.Cases)
	for i := range s.Cases {
		if s.Cases[i].Failure != nil {
			s.Failures++
		}
	}
	out, err := xml.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, out)
	return err
}
