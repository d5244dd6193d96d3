package index

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/belaydev/belay"
)

// Blame tells of each line of the manifests of an application, as it was deployed
// last, which deployment set it. object chooses some of them, "" all. Of an
// application that was removed it tells what it had until then.
//
// It follows the deployments of the application and not the commits of the ledger,
// of which a fleet makes a hundred times as many.
func (x *Index) Blame(ctx context.Context, application, cluster, object string) ([]belay.ManifestBlame, error) {
	steps, err := x.steps(ctx, application, cluster)
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the ledger has no deployment of %q that ended", application),
			Hint: "\"belay audit list\" shows what it has"}
	}
	texts, err := x.Manifests(ctx, steps[len(steps)-1].d.ID)
	for err == nil && len(texts) == 0 && len(steps) > 1 && steps[len(steps)-1].d.Revision == "" {
		steps = steps[:len(steps)-1] // it only took something away
		texts, err = x.Manifests(ctx, steps[len(steps)-1].d.ID)
	}
	if err != nil {
		return nil, err
	}
	last := &steps[len(steps)-1]
	files, err := x.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer files.close()
	asked, out := parseObject(object), []belay.ManifestBlame{}
	for i := range texts {
		if !asked.fits(parseObject(texts[i].Object.String())) {
			continue
		}
		b, err := blame(files, steps, texts[i].Path)
		if err != nil {
			return nil, err
		}
		b.Object = texts[i].Object
		out = append(out, b)
	}
	if len(out) == 0 {
		if object == "" {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("deployment %s of %s left no manifests", last.d.ID, application),
				Hint: fmt.Sprintf("\"belay audit show %s\" tells what it did", last.d.ID)}
		}
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("deployment %s of %s has no manifest of %q", last.d.ID, application, object),
			Hint: fmt.Sprintf("\"belay audit blame %s\" shows all that it has; an object is KIND/NAME", application)}
	}
	return out, nil
}

// step is a deployment that ended, with the commit that says so.
type step struct {
	d      belay.Deployment
	commit string
	sums   map[string]string // digests of its manifests, by path
}

// steps are the deployments of an application to the cluster it was deployed to
// last, or to the one named, oldest first.
func (x *Index) steps(ctx context.Context, application, cluster string) (steps []step, err error) {
	err = x.ask(ctx, func(db *sql.DB) error {
		steps = nil
		rows, err := db.QueryContext(ctx, `SELECT d.ended, d.body FROM records r JOIN deployments d ON d.id = r.id
			WHERE r.starts = 1 AND r.app = (SELECT id FROM names WHERE name = ?) AND d.ended <> '' ORDER BY r.time DESC, r.writer DESC, r.seq DESC`, application)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var s step
			var body []byte
			if err := rows.Scan(&s.commit, &body); err != nil {
				return err
			}
			if _, err := unpack(body, &s.d); err != nil {
				return err
			}
			s.sums = map[string]string{}
			for _, f := range s.d.Manifests {
				s.sums[f.Path] = f.SHA256
			}
			s.d = brief(s.d)
			if cluster == "" {
				cluster = s.d.Cluster
			}
			if s.d.Cluster == cluster {
				steps = append(steps, s)
			}
		}
		return rows.Err()
	})
	slices.Reverse(steps)
	return steps, err
}

// blame follows one manifest through the deployments.
func blame(files *reader, steps []step, path string) (belay.ManifestBlame, error) {
	b := belay.ManifestBlame{Path: path}
	var text []byte
	var owners []int // of each line: the step that set it
	sum := ""
	for i := range steps {
		next := steps[i].sums[path]
		if next != "" && next == sum {
			continue // most deployments leave most manifests alone
		}
		sum = next
		now, err := files.read(steps[i].commit, dirOf(&steps[i].d)+path)
		if err != nil {
			return b, err
		}
		if bytes.Equal(now, text) {
			continue
		}
		owners = inherit(owners, string(text), string(now), i)
		text = now
	}
	named := map[int]bool{}
	for n, line := range lines(string(text)) {
		b.Lines = append(b.Lines, belay.BlameLine{Deployment: steps[owners[n]].d.ID, Text: strings.TrimSuffix(line, "\n")})
		named[owners[n]] = true
	}
	for i, s := range slices.Backward(steps) {
		if named[i] {
			b.Deployments = append(b.Deployments, s.d)
		}
	}
	return b, nil
}

// inherit gives each line of a text the owner it had before, or the new one.
func inherit(owners []int, before, after string, by int) []int {
	var out []int
	old, at := lines(before), 0 // the line of before that comes next
	offset := 0
	keep := func(end int) {
		for at < len(old) && offset < end {
			out = append(out, owners[at])
			offset += len(old[at])
			at++
		}
	}
	for _, e := range udiff.Lines(before, after) {
		keep(e.Start)
		for at < len(old) && offset < e.End {
			offset += len(old[at])
			at++
		}
		for range lines(e.New) {
			out = append(out, by)
		}
	}
	keep(len(before))
	return out
}

// lines splits a text after each line's end.
func lines(s string) []string {
	l := strings.SplitAfter(s, "\n")
	return slices.DeleteFunc(l, func(s string) bool { return s == "" })
}
