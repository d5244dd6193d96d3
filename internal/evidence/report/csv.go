package report

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/belaydev/belay/internal/evidence"
)

// Columns are those of the rows. Programs may rely on their names and their order;
// new ones come at the end.
func Columns() []string {
	return []string{"change", "repository", "subject", "author", "review", "reviewers", "approvers", "commits",
		"application", "project", "cluster", "kind", "revision", "previous", "deployment", "started", "ended", "result",
		"failures", "objects", "hooks", "health", "trouble", "trouble_at", "restored_at", "actor", "reason", "plan", "message", "records",
		"exception", "object", "fields"}
}

// CSV writes a row for each deployment of each change, and below them one for each
// exception, with CRLF at the ends of lines as RFC 4180 has it.
func CSV(w io.Writer, r *evidence.Report) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write(Columns()); err != nil {
		return err
	}
	write := func(row []string) error {
		for i := range row {
			row[i] = harmless(row[i])
		}
		return out.Write(row)
	}
	m := zoneOf(r)
	for _, x := range r.Changes {
		commits := make([]string, 0, len(x.Commits))
		for i := range x.Commits {
			commits = append(commits, x.Commits[i].ID)
		}
		if x.MoreCommits > 0 {
			commits = append(commits, fmt.Sprintf("and %d more", x.MoreCommits))
		}
		head := []string{x.ID, x.Repo, x.Subject, x.Author, string(x.Review), list(x.Reviewers), list(x.Approvers), list(commits)}
		for _, d := range x.Deliveries {
			row := slices.Concat(head, []string{d.Application, d.Project, d.Cluster, string(d.Kind), d.Revision, d.Previous, d.ID,
				m.rfc(d.Started), m.rfc(d.Ended), string(d.Result), strconv.Itoa(d.Failures), strconv.Itoa(d.Objects), hooks(d), string(d.Health),
				string(d.Trouble), m.rfc(d.TroubleAt), m.rfc(d.RestoredAt), d.Actor, d.Reason, d.Plan, d.Message, list(d.Records), "", "", ""})
			if err := write(row); err != nil {
				return err
			}
		}
	}
	for i := range r.Exceptions {
		if err := write(exception(&r.Exceptions[i], m)); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

// exceptionKind is in the column "kind" of rows that are no deployment.
const exceptionKind = "exception"

// exception is the row of one: what it has in common with deployments stands where
// theirs does.
func exception(e *evidence.Exception, m moment) []string {
	records := e.Records
	if e.MoreRecords > 0 {
		records = append(slices.Clone(records), fmt.Sprintf("and %d more", e.MoreRecords))
	}
	row := make([]string, len(Columns()))
	for column, text := range map[string]string{
		"change": e.Change, "repository": e.Repo, "application": e.Application, "project": e.Project, "cluster": e.Cluster, "kind": exceptionKind,
		"started": m.rfc(e.Time), "ended": m.rfc(e.Until), "actor": e.Who, "reason": e.Reason, "message": e.What, "records": list(records),
		"exception": string(e.Kind), "object": e.Object, "fields": list(e.Fields),
	} {
		row[slices.Index(Columns(), column)] = text
	}
	return row
}

func list(s []string) string { return strings.Join(s, "; ") }

func hooks(d *evidence.Delivery) string {
	var out []string
	for _, h := range d.Hooks {
		s := strings.TrimSpace(string(h.Phase) + " " + h.Object)
		if h.Result != "" {
			s += ": " + string(h.Result)
		}
		out = append(out, s)
	}
	return list(out)
}

// harmless keeps a spreadsheet from taking foreign text for a formula: quoting does
// not, an apostrophe in front does. What is no text in a cell is taken out.
func harmless(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == 0 || r == '\r' {
			return -1
		}
		return r
	}, s)
	if first := strings.TrimLeft(s, " \t\n\u00a0"); first != "" && strings.ContainsRune("=+-@＝＋－＠", []rune(first)[0]) || strings.HasPrefix(s, "\t") {
		return "'" + s
	}
	return s
}
