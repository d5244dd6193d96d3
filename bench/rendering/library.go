package rendering

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/loader/archive"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
)

// library renders an application by calling the library as its documentation
// shows it, and makes the objects that the pool makes: what is compared is how
// one gets there.
func (s *source) library(i int) ([]belay.Object, error) {
	manifests, err := s.manifests(i)
	if err != nil {
		return nil, err
	}
	out := make([]belay.Object, len(manifests))
	for i, m := range manifests {
		if out[i], err = belay.NewObject(m, belay.Origin{}); err != nil {
			return nil, fmt.Errorf("read an object: %w", err)
		}
	}
	return out, nil
}

func (s *source) manifests(i int) ([][]byte, error) {
	switch s.kind {
	case "kustomize":
		return s.kustomize(i)
	case "helm":
		return s.helm(i)
	}
	var out [][]byte
	for _, name := range s.inside(i) {
		j, err := yaml.YAMLToJSONStrict(s.files[name].Data)
		if err != nil {
			return nil, fmt.Errorf("read %q: %w", name, err)
		}
		out = append(out, j)
	}
	return out, nil
}

func (s *source) kustomize(i int) ([][]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(s.disk, "/"+application(i))
	if err != nil {
		return nil, fmt.Errorf("run Kustomize: %w", err)
	}
	out := make([][]byte, 0, resources.Size())
	for _, r := range resources.Resources() {
		j, err := r.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encode an object: %w", err)
		}
		out = append(out, j)
	}
	return out, nil
}

func (s *source) helm(i int) ([][]byte, error) {
	var files []*archive.BufferedFile
	for _, name := range s.inside(i) {
		files = append(files, &archive.BufferedFile{Name: strings.TrimPrefix(name, application(i)+"/"), Data: s.files[name].Data})
	}
	chart, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("load a chart: %w", err)
	}
	values := map[string]any{}
	if err := chartutil.ProcessDependencies(chart, values); err != nil {
		return nil, fmt.Errorf("process dependencies: %w", err)
	}
	release := common.ReleaseOptions{Name: s.request(i).Application, Namespace: "bench", Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(chart, values, release, common.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("make values: %w", err)
	}
	rendered, err := engine.Engine{}.RenderWithContext(context.Background(), chart, top)
	if err != nil {
		return nil, fmt.Errorf("run templates: %w", err)
	}
	out := make([][]byte, 0, len(rendered))
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		j, err := yaml.YAMLToJSONStrict([]byte(rendered[name]))
		if err != nil {
			return nil, fmt.Errorf("read the output of %q: %w", name, err)
		}
		out = append(out, j)
	}
	return out, nil
}

// info is of a file or directory in memory.
type info struct {
	name string
	dir  bool
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return 0 }
func (i info) Mode() fs.FileMode  { return 0o444 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }
