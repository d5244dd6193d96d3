package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/term"
)

const auditShowLong = `Tells all of one thing on record.

Of a deployment: who caused it and why, its commits with who reviewed and approved
them, the revision before and after, the digest of its plan, each object with what
became of it, what it changed of the manifests (secret values are never on
record), how it ended, and what else went out with the same Change.

Of any other record: what happened, to what, and by whom. Of a commit of a
repository: every deployment that it led to or was part of.

ID is that of a deployment or a record, as "belay history" and "belay audit list"
show them; a number alone will do where one server writes the ledger. COMMIT is
the beginning of a commit, at least 7 digits, of a repository or of the ledger.

With "-o json" the output is {"deployment": ..., "changes": [...], "records":
[...], "sameChange": [...]}, {"record": ...}, or for a commit {"commit": ...,
"deployments": [...]}.`

const auditShowExample = `  belay audit show main/4711
  belay audit show 1f0c2e9
  belay audit show main/4711 --ledger /srv/ledger.git -o json`

// shown is what show writes for programs.
type shown struct {
	Deployment *belay.Deployment      `json:"deployment,omitempty"`
	Changes    []belay.ManifestChange `json:"changes,omitempty"`
	// Records are what happened during the deployment, oldest first and in brief.
	Records []belay.Record `json:"records,omitempty"`
	// SameChange are the deployments of the same Change, in brief.
	SameChange []belay.Deployment `json:"sameChange,omitempty"`

	Record *belay.Record `json:"record,omitempty"`

	Commit      *belay.Commit      `json:"commit,omitempty"`
	Deployments []belay.Deployment `json:"deployments,omitempty"`
}

func newAuditShow(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID|COMMIT", Short: "Tell all of a deployment, a record or a commit",
		Long: auditShowLong, Example: auditShowExample,
		Args: cobra.ExactArgs(1),
	}
	out := addOutput(cmd)
	where := addLedger(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return env.withRecord(cmd.Context(), *where, func(r recordReader) error {
			s, err := lookUp(cmd.Context(), r, args[0])
			if err != nil {
				return err
			}
			if *out != outputTable {
				return env.write(*out, s)
			}
			return printShown(env.printer(), s)
		})
	}
	return cmd
}

// lookUp finds what a name means: a record, a commit of the ledger, or one of a source.
func lookUp(ctx context.Context, r recordReader, name string) (*shown, error) {
	record, err := r.Record(ctx, name)
	if err == nil {
		return ofRecord(ctx, r, &record)
	}
	if belay.CodeOf(err) != belay.CodeNotFound || strings.Contains(name, "/") || len(name) < 7 {
		return nil, err
	}
	list, _, err := pages(ctx, belay.RecordQuery{Change: name}, 0, r.Deployments)
	if err != nil {
		return nil, err
	}
	switch len(list) {
	case 0:
		return lookUpOther(ctx, r, name)
	case 1:
		return ofDeployment(ctx, r, list[0].ID)
	}
	s := &shown{Commit: commitOf(list, name)}
	for _, d := range list {
		d.Objects, d.Sources, d.Manifests = nil, nil, nil
		d.Commits = d.Commits[:min(len(d.Commits), 1)]
		s.Deployments = append(s.Deployments, d)
	}
	return s, nil
}

// lookUpOther finds the newest record of a commit that led to no deployment.
func lookUpOther(ctx context.Context, r recordReader, name string) (*shown, error) {
	records, _, err := r.Records(ctx, belay.RecordQuery{Change: name, Limit: 1})
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("nothing on record is called %q, and no commit that begins so led to anything", name),
			Hint: "\"belay history\" and \"belay audit list\" show IDs; a commit that was skipped over is part of the next deployment"}
	}
	return &shown{Record: &records[0]}, nil
}

// commitOf is what deployments know of a commit.
func commitOf(list []belay.Deployment, prefix string) *belay.Commit {
	whole := belay.Commit{ID: prefix}
	for i := range list {
		for j := range list[i].Commits {
			if c := &list[i].Commits[j]; strings.HasPrefix(c.ID, strings.ToLower(prefix)) {
				return c
			}
		}
		for _, id := range []string{list[i].Change, list[i].Revision} {
			if strings.HasPrefix(id, strings.ToLower(prefix)) {
				whole.ID = id
			}
		}
	}
	return &whole
}

// ofRecord shows a deployment where the record is its start or its end.
func ofRecord(ctx context.Context, r recordReader, record *belay.Record) (*shown, error) {
	ends := []belay.EventType{belay.EventSyncStarted, belay.EventSynced, belay.EventSyncFailed, belay.EventSuperseded}
	if !slices.Contains(ends, record.Event.Type) {
		return &shown{Record: record}, nil
	}
	s, err := ofDeployment(ctx, r, record.ID())
	if belay.CodeOf(err) == belay.CodeNotFound {
		return &shown{Record: record}, nil // the end of a sync that wrote nothing, and so was no deployment
	}
	return s, err
}

// ofDeployment gathers all of a deployment.
func ofDeployment(ctx context.Context, r recordReader, id string) (*shown, error) {
	d, err := r.Deployment(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &shown{Deployment: &d}
	if s.Changes, err = r.Changes(ctx, d.ID); err != nil {
		return nil, err
	}
	records, _, err := pages(ctx, belay.RecordQuery{Deployment: d.ID, Brief: true}, 0, r.Records)
	if err != nil {
		return nil, err
	}
	slices.Reverse(records)
	s.Records = records
	change := d.Change
	if change == "" {
		change = d.Revision
	}
	if change == "" {
		return s, nil
	}
	same, _, err := pages(ctx, belay.RecordQuery{Change: change, Brief: true}, 0, r.Deployments)
	for _, other := range same {
		if other.ID != d.ID && (other.Change == change || other.Revision == change) {
			s.SameChange = append(s.SameChange, other)
		}
	}
	return s, err
}

func printShown(p *term.Printer, s *shown) error {
	var b strings.Builder
	switch {
	case s.Record != nil:
		printRecord(p, &b, s.Record)
	case s.Commit != nil:
		printCommits(&b, []belay.Commit{*s.Commit}, 0)
		if _, err := fmt.Fprintf(p, "%s%s\n", b.String(), p.Paint(term.Bold, "Went out in")); err != nil {
			return err
		}
		return p.Print(deploymentTable(s.Deployments, true, false))
	default:
		printDeployment(p, &b, s)
	}
	if _, err := p.Write([]byte(b.String())); err != nil || len(s.SameChange) == 0 {
		return err
	}
	if _, err := fmt.Fprintf(p, "\n%s\n", p.Paint(term.Bold, "Went out with the same Change")); err != nil {
		return err
	}
	return p.Print(deploymentTable(s.SameChange, true, false))
}

// field writes a line of a name and a value, if there is one.
func field(p *term.Printer, b *strings.Builder, name, value string) {
	if value != "" {
		fmt.Fprintf(b, "  %s%s\n", p.Paint(term.Faint, fmt.Sprintf("%-12s", name)), term.Clean(value))
	}
}

func printDeployment(p *term.Printer, b *strings.Builder, s *shown) {
	d := s.Deployment
	fmt.Fprintf(b, "%s of %s on %s\n", p.Paint(term.Bold, "Deployment "+term.Clean(d.ID)), p.Paint(term.Bold, term.Clean(d.Application)), term.Clean(d.Cluster))
	field(p, b, "who", d.Actor)
	field(p, b, "approved by", strings.Join(approvers(d.Commits), ", "))
	when := moment(d.Started)
	if t := took(d); t != "" {
		when += ", took " + t
	}
	field(p, b, "when", when)
	field(p, b, "why", d.Reason)
	result := resultCell(d.Result)
	fmt.Fprintf(b, "  %s%s: %s\n", p.Paint(term.Faint, fmt.Sprintf("%-12s", "result")), p.Paint(result.Style, result.Text), term.Clean(d.Message))
	revision := d.Revision
	if d.Previous != "" && d.Previous != d.Revision {
		revision = d.Previous + " -> " + d.Revision
	}
	field(p, b, "revision", revision)
	field(p, b, "repository", d.Repo)
	field(p, b, "change", d.Change)
	field(p, b, "project", d.Project)
	field(p, b, "plan", d.Plan)
	for _, src := range d.Sources {
		if src.Revision != d.Revision {
			field(p, b, "also from", fmt.Sprintf("%s %s at %s", src.Repo, src.Ref, src.Revision))
		}
	}
	printContents(p, b, d.Commits, d.MoreCommits, d.Objects)
	if len(s.Changes) > 0 {
		b.WriteString("\n" + p.Paint(term.Bold, "Changed against what was there before") + "\n")
		printChanges(p, b, s.Changes)
	}
	if len(s.Records) > 2 { // more than its start and its end
		b.WriteString("\n" + p.Paint(term.Bold, "What happened") + "\n")
		for i := range s.Records {
			ev := &s.Records[i].Event
			fmt.Fprintf(b, "  %s  %s  %s%s\n", term.Clean(s.Records[i].ID()), moment(ev.Time), p.Paint(eventStyle(ev.Type), fmt.Sprintf("%-12s", term.Clean(string(ev.Type)))), term.Clean(ev.Message))
		}
	}
}

func approvers(commits []belay.Commit) []string {
	var all []string
	for i := range commits {
		all = append(all, without(commits[i].Approvers, all)...)
	}
	return all
}

// printContents says what a deployment, or another event, brought and wrote.
func printContents(p *term.Printer, b *strings.Builder, commits []belay.Commit, more int, objects []belay.ObjectResult) {
	if len(commits) > 0 {
		b.WriteString("\n" + p.Paint(term.Bold, "Commits") + "\n")
		printCommits(b, commits, more)
	}
	if len(objects) > 0 {
		b.WriteString("\n" + p.Paint(term.Bold, "Objects") + "\n")
		for i := range objects {
			printObject(p, b, &objects[i])
		}
	}
}

func printCommits(b *strings.Builder, commits []belay.Commit, more int) {
	for i := range commits {
		c := &commits[i]
		line := shortRevision(c.ID) + "  " + c.Subject
		var by []string
		if c.Author != "" {
			by = append(by, c.Author)
		}
		if !c.Time.IsZero() {
			by = append(by, moment(c.Time))
		}
		if len(by) > 0 {
			line += " (" + strings.Join(by, ", ") + ")"
		}
		b.WriteString("  " + term.Clean(strings.TrimSpace(line)) + "\n")
		for _, who := range []struct {
			did  string
			list []string
		}{{"approved by ", c.Approvers}, {"reviewed by ", without(c.Reviewers, c.Approvers)}, {"signed by ", []string{c.Signer}}} {
			if text := strings.Join(who.list, ", "); text != "" {
				b.WriteString("      " + who.did + term.Clean(text) + "\n")
			}
		}
	}
	if more > 0 {
		fmt.Fprintf(b, "  and %s more\n", term.Count(more, "commit"))
	}
}

// without is a list without what another one has.
func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

func printObject(p *term.Printer, b *strings.Builder, o *belay.ObjectResult) {
	what := string(o.Verb)
	if o.Hook != "" {
		what = string(o.Hook) + " hook"
	}
	line := fmt.Sprintf("  %-9s %s", term.Clean(what), term.Clean(o.ID.String()))
	if o.Result != "" {
		cell := resultCell(o.Result)
		line += "  " + p.Paint(cell.Style, cell.Text)
	}
	if o.Error != "" {
		line += ": " + term.Clean(o.Error)
	}
	b.WriteString(line + "\n")
}

func printChanges(p *term.Printer, b *strings.Builder, changes []belay.ManifestChange) {
	for i := range changes {
		p.Diff(b, "  ", changes[i].Diff)
	}
}

func printRecord(p *term.Printer, b *strings.Builder, r *belay.Record) {
	ev := &r.Event
	fmt.Fprintf(b, "%s: %s\n", p.Paint(term.Bold, "Record "+term.Clean(r.ID())), p.Paint(eventStyle(ev.Type), term.Clean(string(ev.Type))))
	field(p, b, "what", ev.Message)
	field(p, b, "about", about(ev))
	field(p, b, "object", ev.Object)
	field(p, b, "who", ev.Actor)
	field(p, b, "when", moment(ev.Time))
	field(p, b, "why", ev.Reason)
	field(p, b, "result", string(ev.Result))
	field(p, b, "repository", ev.Repo)
	field(p, b, "ref", ev.Ref)
	field(p, b, "revision", ev.Revision)
	field(p, b, "change", ev.Change)
	field(p, b, "deployment", ev.Deployment)
	field(p, b, "project", ev.Project)
	field(p, b, "ledger", r.Commit)
	d := ev.Detail
	if d == nil {
		return
	}
	if x := d.Drift; x != nil {
		who := x.Manager
		if x.Operation != "" {
			who += " (" + x.Operation + ")"
		}
		field(p, b, "changed by", who)
		field(p, b, "fields", strings.Join(slices.Concat(x.Taken, x.Added), ", "))
	}
	if h := d.Hold; h != nil {
		field(p, b, "held at", h.Revision)
		if !h.Until.IsZero() {
			field(p, b, "until", moment(h.Until))
		}
		field(p, b, "rolled back", h.Bad)
	}
	printContents(p, b, d.Commits, d.MoreCommits, d.Objects)
}
