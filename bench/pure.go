package main

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// pureRender calls the libraries that Belay renders with, and that is all: in
// this process, over files in memory, on all processors. No worker, no cache, no
// note of what was read, no origin of an object. It is the least that rendering
// a fleet could cost, as the raw loop is for applying it.
type pureRender struct {
	fleet *fleet
	files []map[string]string  // by repository
	trees []filesys.FileSystem // the same, for Kustomize
	chart [][]*archive.BufferedFile
}

// newPureRender takes the files as they are now.
func newPureRender(f *fleet) (*pureRender, error) {
	p := &pureRender{fleet: f}
	for r := range f.repositories() {
		files, tree := f.content(r), filesys.MakeFsInMemory()
		var chart []*archive.BufferedFile
		for _, name := range sortedKeys(files) {
			if err := tree.WriteFile("/"+name, []byte(files[name])); err != nil {
				return nil, fmt.Errorf("keep %s in memory: %w", name, err)
			}
			if inChart, ok := strings.CutPrefix(name, "charts/web/"); ok {
				chart = append(chart, &archive.BufferedFile{Name: inChart, Data: []byte(files[name])})
			}
		}
		p.files, p.trees, p.chart = append(p.files, files), append(p.trees, tree), append(p.chart, chart)
	}
	return p, nil
}

// run renders so many applications.
func (p *pureRender) run(ctx context.Context, apps int) error {
	return inParallelBy(ctx, processors(), apps, func(ctx context.Context, i int) error {
		objects, err := p.one(ctx, i)
		if err == nil && len(objects) != len(resources) {
			err = fmt.Errorf("%d objects came out", len(objects))
		}
		if err != nil {
			return fmt.Errorf("render %s with the library: %w", p.fleet.name(i), err)
		}
		return nil
	})
}

// one renders an application to the JSON of its objects.
func (p *pureRender) one(ctx context.Context, i int) ([][]byte, error) {
	r := p.fleet.repositoryOf(i)
	switch p.fleet.kindOf(i) {
	case "helm":
		return p.helm(ctx, r, p.fleet.name(i), p.fleet.namespace(fleetBelay, i))
	case "plain":
		return p.plain(r, "apps/"+p.fleet.name(i))
	default:
		return p.kustomize(r, "/apps/"+p.fleet.name(i))
	}
}

func (p *pureRender) kustomize(repository int, dir string) ([][]byte, error) {
	opts := krusty.MakeDefaultOptions()
	opts.LoadRestrictions = types.LoadRestrictionsNone
	m, err := krusty.MakeKustomizer(opts).Run(p.trees[repository], dir)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, object := range m.Resources() {
		j, err := object.MarshalJSON()
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

func (p *pureRender) plain(repository int, dir string) ([][]byte, error) {
	var out [][]byte
	for _, r := range resources {
		j, err := yaml.YAMLToJSON([]byte(p.files[repository][path.Join(dir, r.plural+".yaml")]))
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}

// helm does what "helm template" does: the chart is loaded for each release.
func (p *pureRender) helm(ctx context.Context, repository int, name, namespace string) ([][]byte, error) {
	chart, err := loader.LoadFiles(slices.Clone(p.chart[repository]))
	if err != nil {
		return nil, err
	}
	var values map[string]any
	if err := yaml.Unmarshal([]byte(p.files[repository]["values/"+name+".yaml"]), &values); err != nil {
		return nil, err
	}
	top, err := util.ToRenderValues(chart, values, common.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Engine{}.RenderWithContext(ctx, chart, top)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, file := range sortedKeys(rendered) {
		j, err := yaml.YAMLToJSON([]byte(rendered[file]))
		if err != nil {
			return nil, err
		}
		out = append(out, j)
	}
	return out, nil
}
