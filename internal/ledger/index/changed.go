package index

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// changed tells of deployments whether they added or removed a line of a manifest
// that matches an expression; with none, all did. done ends it.
func (x *Index) changed(ctx context.Context, expr string) (tell func(d *belay.Deployment, began, ended string) (bool, error), done func(), err error) {
	if expr == "" {
		return func(*belay.Deployment, string, string) (bool, error) { return true, nil }, func() {}, nil
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%q is not a regular expression: %v", expr, err),
			Hint: "write a part of a line of a manifest, such as replicas or 'image: .*web'"}
	}
	files, err := x.reader(ctx)
	if err != nil {
		return nil, nil, err
	}
	return func(d *belay.Deployment, began, ended string) (bool, error) {
		if ended == "" {
			return false, nil
		}
		for _, path := range written(d) {
			before, err := files.read(began, dirOf(d)+path)
			if err != nil {
				return false, err
			}
			after, err := files.read(ended, dirOf(d)+path)
			if err != nil {
				return false, err
			}
			if !bytes.Equal(before, after) && touches(re, string(before), string(after)) {
				return true, nil
			}
		}
		return false, nil
	}, files.close, nil
}

// written are the manifests that a deployment may have changed: those of the
// objects it wrote, or all where it does not say which these are.
func written(d *belay.Deployment) []string {
	var paths []string
	for i := range d.Objects {
		paths = append(paths, record.ManifestPath(d.Objects[i].ID))
	}
	if len(paths) == 0 {
		for i := range d.Manifests {
			paths = append(paths, d.Manifests[i].Path)
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}

// touches says whether a line that only one of two texts has matches.
func touches(re *regexp.Regexp, before, after string) bool {
	for _, e := range udiff.Lines(before, after) {
		for _, text := range []string{before[e.Start:e.End], e.New} {
			for line := range strings.Lines(text) {
				if re.MatchString(strings.TrimSuffix(line, "\n")) {
					return true
				}
			}
		}
	}
	return false
}
