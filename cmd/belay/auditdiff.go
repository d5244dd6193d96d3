package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/term"
)

const auditDiffLong = `Compares what two deployments of an application left it with, manifest by manifest.
Secret values are never on record: a digest stands for each, so that it shows that
one changed.

A and B are IDs of deployments, as "belay history APP" shows them, or beginnings of
revisions; of several deployments of one revision the latest that succeeded counts.

With "-o json" the output is {"changes": [...]}, each with its object and its diff.`

// changeList is what diff writes for programs.
type changeList struct {
	Changes []belay.ManifestChange `json:"changes"`
}

func newAuditDiff(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "diff APP A B", Short: "Compare the manifests of two deployments",
		Long: auditDiffLong, Example: "  belay audit diff shop main/4711 main/4805\n  belay audit diff shop 1f0c2e9 8a7b6c5",
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: completeFirst(env.completeApplications),
	}
	out := addOutput(cmd)
	where := addLedger(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return env.withRecord(cmd.Context(), *where, func(r recordReader) error {
			changes, err := r.Diff(cmd.Context(), args[0], args[1], args[2])
			if err != nil {
				return err
			}
			if *out != outputTable {
				return env.write(*out, changeList{changes})
			}
			p := env.printer()
			var b strings.Builder
			if len(changes) == 0 {
				b.WriteString("No manifest differs.\n")
			}
			for i := range changes {
				p.Diff(&b, "", changes[i].Diff)
			}
			_, err = p.Write([]byte(b.String()))
			return err
		})
	}
	return cmd
}

const auditBlameLong = `Shows the manifests of an application, as they were deployed last, and for each
line which deployment set it, when and by whom. Lines that were set together
name it once. Of an application that was removed it shows what it had until then.

Use it to answer "who set this value?"; "belay audit show ID" then tells why, and
who approved it. OBJECT is KIND/NAME, KIND/NAMESPACE/NAME or NAME, in any case;
without it every object is shown.

With "-o json" the output is {"manifests": [...]}, each with its lines and the
deployments that set them.`

// blameList is what blame writes for programs.
type blameList struct {
	Manifests []belay.ManifestBlame `json:"manifests"`
}

func newAuditBlame(env *env) *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use: "blame APP [OBJECT]", Short: "Show who set each line of a manifest",
		Long: auditBlameLong, Example: "  belay audit blame shop deployment/web\n  belay audit blame shop --cluster production",
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeFirst(env.completeApplications),
	}
	out := addOutput(cmd)
	where := addLedger(cmd)
	cmd.Flags().StringVar(&cluster, "cluster", "", "of this cluster (default: the one that was deployed to last)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		object := ""
		if len(args) == 2 {
			object = args[1]
		}
		return env.withRecord(cmd.Context(), *where, func(r recordReader) error {
			manifests, err := r.Blame(cmd.Context(), args[0], cluster, object)
			if err != nil {
				return err
			}
			if *out != outputTable {
				return env.write(*out, blameList{manifests})
			}
			p := env.printer()
			var b strings.Builder
			gone, err := removed(cmd.Context(), r, args[0], cluster)
			if err != nil {
				return err
			}
			b.WriteString(gone)
			for i := range manifests {
				if i > 0 {
					b.WriteByte('\n')
				}
				printBlame(p, &b, &manifests[i])
			}
			_, err = p.Write([]byte(b.String()))
			return err
		})
	}
	return cmd
}

// removed says that an application was removed, where the newest deployment to the
// cluster did that.
func removed(ctx context.Context, r recordReader, application, cluster string) (string, error) {
	q := belay.RecordQuery{Applications: []string{application}, Limit: 1, Brief: true}
	if cluster != "" {
		q.Clusters = []string{cluster}
	}
	newest, _, err := r.Deployments(ctx, q)
	if err != nil || len(newest) == 0 || newest[0].Revision != "" || newest[0].Result != belay.Succeeded {
		return "", err
	}
	d := &newest[0]
	return fmt.Sprintf("%s was removed from %s by %s, %s; until then it had\n\n", term.Clean(application), term.Clean(d.Cluster), term.Clean(d.ID), moment(d.Started)), nil
}

func printBlame(p *term.Printer, b *strings.Builder, m *belay.ManifestBlame) {
	b.WriteString(p.Paint(term.Bold, term.Clean(m.Object.String())) + "\n")
	whose, id, width := map[string]string{}, 0, 0
	for i := range m.Deployments {
		d := &m.Deployments[i]
		id = max(id, term.Columns(term.Clean(d.ID)))
	}
	for i := range m.Deployments {
		d := &m.Deployments[i]
		name := term.Clean(d.ID)
		whose[d.ID] = name + strings.Repeat(" ", id-term.Columns(name)) + "  " + moment(d.Started) + "  " + term.Truncate(term.Clean(personName(d.Actor)), 24)
		width = max(width, term.Columns(whose[d.ID]))
	}
	last := ""
	for _, l := range m.Lines {
		margin := ""
		if l.Deployment != last {
			margin, last = whose[l.Deployment], l.Deployment
		}
		fmt.Fprintf(b, "  %s%s  %s\n", p.Paint(term.Faint, margin), strings.Repeat(" ", width-term.Columns(margin)), term.CleanLine(l.Text))
	}
}
