package index

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// around is the number of unchanged lines around a change.
const around = 3

// Manifests are what a deployment left an application with, sorted by object. One
// that has not ended left what was there before.
func (x *Index) Manifests(ctx context.Context, deployment string) ([]belay.ManifestText, error) {
	d, began, ended, err := x.deployment(ctx, deployment)
	if err != nil {
		return nil, err
	}
	tree := cmp.Or(ended, began)
	out, err := command(x.ledger, "ls-tree", "-r", "-z", "--name-only", "--full-tree", tree, "--", dirOf(&d)+record.ManifestDir+"/").Output(ctx, maxObject)
	if err != nil {
		return nil, fmt.Errorf("list the manifests of %s: %w", d.ID, err)
	}
	files, err := x.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer files.close()
	texts := []belay.ManifestText{}
	for path := range strings.SplitSeq(string(out), "\x00") {
		short := strings.TrimPrefix(path, dirOf(&d))
		id, ok := record.ParseManifestPath(short)
		if !ok {
			continue
		}
		text, err := files.read(tree, path)
		if err != nil {
			return nil, err
		}
		texts = append(texts, belay.ManifestText{Object: id, Path: short, YAML: string(text)})
	}
	slices.SortFunc(texts, func(a, b belay.ManifestText) int { return a.Object.Compare(b.Object) })
	return texts, nil
}

func dirOf(d *belay.Deployment) string {
	return record.Dir(&belay.Event{Application: d.Application, Cluster: d.Cluster})
}

// Changes are the manifests that a deployment changed, against what was there
// before, sorted by object.
func (x *Index) Changes(ctx context.Context, deployment string) ([]belay.ManifestChange, error) {
	d, began, ended, err := x.deployment(ctx, deployment)
	if err != nil {
		return nil, err
	}
	if ended == "" {
		return []belay.ManifestChange{}, nil
	}
	return x.compare(ctx, side{began, dirOf(&d), "before " + d.ID}, side{ended, dirOf(&d), d.ID})
}

// Diff compares what two deployments of an application left it with. They are
// named by their IDs or by their revisions; of several with one revision the
// latest that succeeded counts.
func (x *Index) Diff(ctx context.Context, application, from, to string) ([]belay.ManifestChange, error) {
	var sides [2]side
	for i, name := range []string{from, to} {
		id, err := x.resolve(ctx, application, name)
		if err != nil {
			return nil, err
		}
		d, began, ended, err := x.deployment(ctx, id)
		if err != nil {
			return nil, err
		}
		if d.Application != application {
			return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("deployment %s is one of %s, not of %s", d.ID, d.Application, application),
				Hint: fmt.Sprintf("\"belay history %s\" lists those of %s", application, application)}
		}
		sides[i] = side{cmp.Or(ended, began), dirOf(&d), d.ID}
	}
	return x.compare(ctx, sides[0], sides[1])
}

// resolve is the ID of the deployment of an application that a name means.
func (x *Index) resolve(ctx context.Context, application, name string) (string, error) {
	if _, _, ok := belay.ParseRecordID(name); ok && (strings.Contains(name, "/") || len(name) < 7) {
		return name, nil
	}
	all, _, err := x.Deployments(ctx, belay.RecordQuery{Applications: []string{application}, Change: name, Brief: true, Limit: belay.MaxPage})
	if err != nil {
		return "", err
	}
	prefix := strings.ToLower(name)
	rank := func(d *belay.Deployment) int { // what it was deployed at counts before what led to it
		switch own, ok := strings.HasPrefix(d.Revision, prefix), d.Result == belay.Succeeded; {
		case own && ok:
			return 3
		case ok:
			return 2
		case own:
			return 1
		}
		return 0
	}
	best := -1
	for i := range all {
		if best < 0 || rank(&all[i]) > rank(&all[best]) {
			best = i
		}
	}
	if best < 0 {
		return "", &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("%s has no deployment %q, and none of a revision that begins so", application, name),
			Hint: fmt.Sprintf("\"belay history %s\" lists its deployments", application)}
	}
	return all[best].ID, nil
}

// side is one of two states of an application.
type side struct{ commit, dir, label string }

// compare reads what differs between two states.
func (x *Index) compare(ctx context.Context, a, b side) ([]belay.ManifestChange, error) {
	paths, err := x.differing(ctx, a, b)
	if err != nil {
		return nil, err
	}
	files, err := x.reader(ctx)
	if err != nil {
		return nil, err
	}
	defer files.close()
	changes := []belay.ManifestChange{}
	for _, path := range paths {
		id, ok := record.ParseManifestPath(path)
		if !ok {
			continue
		}
		before, err := files.read(a.commit, a.dir+path)
		if err != nil {
			return nil, err
		}
		after, err := files.read(b.commit, b.dir+path)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(before, after) {
			continue
		}
		changes = append(changes, belay.ManifestChange{Object: id, Path: path, Added: before == nil, Removed: after == nil,
			Diff: unified(id.String()+" ("+a.label+")", id.String()+" ("+b.label+")", string(before), string(after))})
	}
	slices.SortFunc(changes, func(a, b belay.ManifestChange) int { return a.Object.Compare(b.Object) })
	return changes, nil
}

// differing are the manifests that may differ, by their paths below the directory
// of the application.
func (x *Index) differing(ctx context.Context, a, b side) ([]string, error) {
	if a.dir == b.dir {
		out, err := command(x.ledger, "diff-tree", "-r", "-z", "--no-renames", "--name-only", a.commit, b.commit, "--", a.dir+record.ManifestDir+"/").Output(ctx, maxObject)
		if err != nil {
			return nil, fmt.Errorf("compare %s with %s: %w", a.label, b.label, err)
		}
		return relative(out, a.dir), nil
	}
	// The application moved to another cluster in between.
	var paths []string
	for _, s := range []side{a, b} {
		out, err := command(x.ledger, "ls-tree", "-r", "-z", "--name-only", "--full-tree", s.commit, "--", s.dir+record.ManifestDir+"/").Output(ctx, maxObject)
		if err != nil {
			return nil, fmt.Errorf("compare %s with %s: %w", a.label, b.label, err)
		}
		paths = append(paths, relative(out, s.dir)...)
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func relative(out []byte, dir string) []string {
	var paths []string
	for p := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if p != "" {
			paths = append(paths, strings.TrimPrefix(p, dir))
		}
	}
	return paths
}

// unified is the unified diff of two texts.
func unified(labelA, labelB, a, b string) string {
	out, err := udiff.ToUnified(labelA, labelB, a, udiff.Lines(a, b), around)
	if err != nil {
		// Only edits that do not fit their text fail, and these were made from it.
		return fmt.Sprintf("--- %s\n+++ %s\n", labelA, labelB)
	}
	return out
}
