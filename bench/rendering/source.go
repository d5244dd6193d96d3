package rendering

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing/fstest"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
)

// source is a repository in memory with applications of one kind, four objects
// each. It is what the pool reads from; digests are known beforehand, as Git's are.
type source struct {
	kind    string
	files   fstest.MapFS
	digests map[string]string
	lists   map[string][]fs.DirEntry
	disk    filesys.FileSystem // the same for Kustomize
}

const objects = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers:
      - name: web
        image: example.test/web:1.4.0
        ports: [{containerPort: 8080}]
        envFrom: [{configMapRef: {name: web}}]
        resources: {requests: {cpu: 50m, memory: 64Mi}}
---
apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {app: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: web
  labels: {app: web}
`

func configMap(value string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\n  labels: {app: web}\ndata:\n  shared: \"1\"\n  value: " + value + "\n"
}

func newSource(kind string, applications int) (*source, error) {
	s := &source{kind: kind, files: fstest.MapFS{}, digests: map[string]string{}, lists: map[string][]fs.DirEntry{}, disk: filesys.MakeFsInMemory()}
	switch kind {
	case "plain":
	case "kustomize":
		s.add("base/kustomization.yaml", "resources: [configmap.yaml, objects.yaml]\n")
		s.add("base/configmap.yaml", configMap(`"0"`))
		s.add("base/objects.yaml", objects)
	case "helm":
	default:
		return nil, fmt.Errorf("no kind %q", kind)
	}
	for i := range applications {
		app, value := application(i), fmt.Sprintf("\"%d\"", i)
		switch kind {
		case "plain":
			s.add(app+"/configmap.yaml", configMap(value))
			for j, o := range strings.Split(objects, "---\n") {
				s.add(fmt.Sprintf("%s/object-%d.yaml", app, j), o)
			}
		case "kustomize":
			s.add(app+"/kustomization.yaml", "resources: [../../base]\npatches: [{path: config.yaml}]\n")
			s.add(app+"/config.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {value: "+value+"}\n")
		case "helm":
			s.add(app+"/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n")
			s.add(app+"/values.yaml", "value: "+value+"\n")
			s.add(app+"/templates/configmap.yaml", configMap("{{ .Values.value | quote }}"))
			for j, o := range strings.Split(objects, "---\n") {
				s.add(fmt.Sprintf("%s/templates/object-%d.yaml", app, j), o)
			}
		}
	}
	return s, s.index()
}

func application(i int) string { return fmt.Sprintf("apps/app-%05d", i) }

func (s *source) add(name, text string) {
	s.files[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	sum := sha256.Sum256([]byte(text))
	s.digests[name] = hex.EncodeToString(sum[:20])
}

// index learns directories, and copies the files for Kustomize.
func (s *source) index() error {
	for name := range maps.Clone(s.files) {
		if err := s.disk.WriteFile("/"+name, s.files[name].Data); err != nil {
			return fmt.Errorf("write %q into memory: %w", name, err)
		}
		for dir := path.Dir(name); s.lists[dir] == nil; dir = path.Dir(dir) {
			entries, err := fs.ReadDir(s.files, dir)
			if err != nil {
				return fmt.Errorf("list %q: %w", dir, err)
			}
			s.lists[dir] = entries
			sum := sha256.New()
			for _, e := range entries {
				fmt.Fprintln(sum, e.Name(), e.IsDir(), s.digests[path.Join(dir, e.Name())])
			}
			s.digests[dir] = hex.EncodeToString(sum.Sum(nil)[:20])
		}
	}
	return nil
}

// inside lists the files of an application below its directory.
func (s *source) inside(i int) []string {
	var out []string
	var walk func(dir string)
	walk = func(dir string) {
		for _, e := range s.lists[dir] {
			if p := path.Join(dir, e.Name()); e.IsDir() {
				walk(p)
			} else {
				out = append(out, p)
			}
		}
	}
	walk(application(i))
	slices.Sort(out)
	return out
}

func (s *source) request(i int) render.Request {
	return render.Request{Application: path.Base(application(i)), Source: belay.Source{Path: application(i)}, Namespace: "bench",
		Repo: "https://git.example.org/fleet.git", Revision: "0123456789abcdef0123456789abcdef01234567"}
}

func (s *source) pool(ctx context.Context, p *render.Pool, i int) error {
	_, err := p.Render(ctx, s, s.request(i))
	return err
}

// ReadFile implements [render.Files].
func (s *source) ReadFile(name string) ([]byte, error) {
	if f := s.files[name]; f != nil {
		return f.Data, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// ReadDir implements [render.Files].
func (s *source) ReadDir(name string) ([]fs.DirEntry, error) {
	if l, ok := s.lists[name]; ok {
		return l, nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// Stat implements [render.Files].
func (s *source) Stat(name string) (fs.FileInfo, error) {
	if s.digests[name] == "" {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	_, dir := s.lists[name]
	return info{name: path.Base(name), dir: dir}, nil
}

// Digest implements [render.Files].
func (s *source) Digest(kind belay.ReadKind, name string) (string, error) {
	d := s.digests[name]
	switch _, dir := s.lists[name]; {
	case d == "":
		return "absent", nil
	case kind != belay.ReadStat:
		return d, nil
	case dir:
		return "dir", nil
	}
	return "file", nil
}
