package render_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
)

func openCache(t *testing.T, dir string, max int64) *render.Cache {
	t.Helper()
	c, err := render.OpenCache(dir, max, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func cacheGet(t *testing.T, c *render.Cache, f render.Files, req render.Request) (render.Result, bool) {
	t.Helper()
	res, ok, err := c.Get(t.Context(), f, req)
	if err != nil {
		t.Fatal(err)
	}
	return res, ok
}

func TestCacheHoldsAsLongAsItsReads(t *testing.T) {
	p := newPool(t, testOptions)
	base := rendertest.Files{
		"a/base/x.yaml":                configMap("x", "1"),
		"a/base/kustomization.yaml":    "resources: [x.yaml]\n",
		"a/overlay/kustomization.yaml": "resources: [../base]\n",
		"dir/one.yaml":                 configMap("one", "1"),
		"dir/sub/two.yaml":             configMap("two", "2"),
		"dir/README":                   "x",
		"other.yaml":                   configMap("other", "1"),
	}
	for _, tc := range []struct {
		name   string
		path   string
		change func(rendertest.Files)
		hit    bool
	}{
		{"nothing", "dir", func(f rendertest.Files) {}, true},
		{"a file elsewhere", "dir", func(f rendertest.Files) { f["other.yaml"] = "x" }, true},
		{"a file that is listed but not read", "dir", func(f rendertest.Files) { f["dir/README"] = "y" }, true},
		{"a file that was read", "dir", func(f rendertest.Files) { f["dir/sub/two.yaml"] = configMap("two", "3") }, false},
		{"a new file in a listed directory", "dir", func(f rendertest.Files) { f["dir/sub/three.yaml"] = configMap("three", "3") }, false},
		{"a file that is gone", "dir", func(f rendertest.Files) { delete(f, "dir/one.yaml") }, false},
		{"a new directory", "dir", func(f rendertest.Files) { f["dir/new/x.yaml"] = configMap("n", "3") }, false},
		{"a kustomization that was absent", "dir", func(f rendertest.Files) { f["dir/kustomization.yaml"] = "resources: []" }, false},
		{"nothing, in an overlay", "a/overlay", func(f rendertest.Files) {}, true},
		{"a file next to a base", "a/overlay", func(f rendertest.Files) { f["a/base/unused.yaml"] = "x" }, true},
		{"a base's file", "a/overlay", func(f rendertest.Files) { f["a/base/x.yaml"] = configMap("x", "2") }, false},
		{"another kustomization in the base", "a/overlay", func(f rendertest.Files) { f["a/base/Kustomization"] = "x" }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			c := openCache(t, dir, 1<<20)
			req := request(tc.path)
			if _, ok := cacheGet(t, c, base, req); ok {
				t.Fatal("a hit in an empty cache")
			}
			res := mustRender(t, p, base, req)
			if err := c.Put(req, res); err != nil {
				t.Fatal(err)
			}
			changed := maps.Clone(base)
			tc.change(changed)
			for life, c := range []*render.Cache{c, openCache(t, dir, 1<<20)} {
				later := req
				later.Revision = "later"
				got, ok := cacheGet(t, c, changed, later)
				if ok != tc.hit {
					t.Fatalf("life %d: hit is %v", life, ok)
				}
				if !ok {
					continue
				}
				for i := range res.Objects {
					res.Objects[i].Origin.Revision = "later"
				}
				if !reflect.DeepEqual(got, res) {
					t.Errorf("life %d: got\n%+v\nwant\n%+v", life, got, res)
				}
			}
		})
	}
}

func TestCacheEntryIsOfOneRequest(t *testing.T) {
	p := newPool(t, testOptions)
	files := chartOf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {v: {{ .Capabilities.KubeVersion.Minor | quote }}}\n")
	maps.Copy(files, rendertest.Files{"plain/x.yaml": configMap("x", "1")})
	c := openCache(t, t.TempDir(), 1<<20)
	chart, plain := request("c"), request("plain")
	chart.KubeVersion, plain.KubeVersion = "v1.36.0", "v1.36.0"
	for _, req := range []render.Request{chart, plain} {
		res := mustRender(t, p, files, req)
		if res.UsesCapabilities != (req.Source.Path == "c") {
			t.Errorf("%s: uses capabilities: %v", req.Source.Path, res.UsesCapabilities)
		}
		if err := c.Put(req, res); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*render.Request){
		"application": func(r *render.Request) { r.Application = "other" },
		"namespace":   func(r *render.Request) { r.Namespace = "other" },
		"source":      func(r *render.Request) { r.Source.Directory = &belay.DirectorySource{Recurse: true} },
	} {
		req := plain
		change(&req)
		if _, ok := cacheGet(t, c, files, req); ok {
			t.Errorf("another %s: a hit", name)
		}
	}
	chart.KubeVersion, plain.KubeVersion = "v1.37.0", "v1.37.0"
	if _, ok := cacheGet(t, c, files, plain); !ok {
		t.Error("manifests that use no capabilities do not survive an upgrade of the cluster")
	}
	if _, ok := cacheGet(t, c, files, chart); ok {
		t.Error("a chart that uses capabilities survives an upgrade of the cluster")
	}
	if err := c.Put(chart, mustRender(t, p, files, chart)); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"v1.36.0", "v1.37.0"} {
		chart.KubeVersion = v
		if _, ok := cacheGet(t, c, files, chart); !ok {
			t.Errorf("the result for %s is not kept", v)
		}
	}
	other, err := render.OpenCache(t.TempDir(), 1<<20, bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := cacheGet(t, other, files, plain); ok {
		t.Error("a hit with another key")
	}
}

func TestCacheStoresNoSecretValues(t *testing.T) {
	p := newPool(t, testOptions)
	dir := t.TempDir()
	c := openCache(t, dir, 1<<20)
	files := rendertest.Files{"a/s.yaml": "apiVersion: v1\nkind: Secret\nmetadata:\n  name: s\n  annotations: {belay.dev/wave: \"3\"}\nstringData:\n  password: hunter2hunter2\ndata:\n  token: aHVudGVyM2h1bnRlcjM=\n",
		"a/cm.yaml": configMap("cm", "visible")}
	res := mustRender(t, p, files, request("a"))
	if err := c.Put(request("a"), res); err != nil {
		t.Fatal(err)
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	for _, name := range cacheFiles(t, dir) {
		packed, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := dec.DecodeAll(packed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(plain, []byte("visible")) {
			t.Error("the test looks at the wrong bytes")
		}
		for _, v := range []string{"hunter2", "hunter3", "aHVudGVyM2h1bnRlcjM"} {
			if bytes.Contains(plain, []byte(v)) || bytes.Contains(packed, []byte(v)) {
				t.Errorf("%s is in %s", v, name)
			}
		}
	}
	got, ok := cacheGet(t, c, files, request("a"))
	if !ok || !got.Partial || res.Partial {
		t.Fatalf("hit %v, partial %v", ok, got.Partial)
	}
	for i, o := range got.Objects {
		want := res.Objects[i]
		if o.Sensitive() {
			if !o.Redacted {
				t.Errorf("a Secret with its values: %s", o.Raw)
			}
			want.Raw, want.Redacted = o.Raw, true
		}
		if !reflect.DeepEqual(o, want) {
			t.Errorf("object %+v, want %+v", o, want)
		}
	}
	if err := c.Put(request("b"), got); err != nil {
		t.Fatal(err)
	}
	if _, ok := cacheGet(t, c, files, request("b")); ok {
		t.Error("a partial result was put back")
	}
}

func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCacheSurvivesCorruption(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{"a/x.yaml": configMap("x", "1")}
	res := mustRender(t, p, files, request("a"))
	for name, corrupt := range map[string]func([]byte) []byte{
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"empty":   func([]byte) []byte { return nil },
		"garbage": func([]byte) []byte { return []byte("not zstd at all") },
		"flipped": func(b []byte) []byte { b[len(b)/2] ^= 0xff; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c := openCache(t, dir, 1<<20)
			if err := c.Put(request("a"), res); err != nil {
				t.Fatal(err)
			}
			file := cacheFiles(t, dir)[0]
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, corrupt(b), 0o600); err != nil {
				t.Fatal(err)
			}
			leftover := filepath.Join(filepath.Dir(file), "new-1.tmp")
			if err := os.WriteFile(leftover, []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			c = openCache(t, dir, 1<<20)
			if _, ok := cacheGet(t, c, files, request("a")); ok {
				t.Error("a hit")
			}
			if left := cacheFiles(t, dir); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			if err := c.Put(request("a"), res); err != nil {
				t.Fatal(err)
			}
			if _, ok := cacheGet(t, c, files, request("a")); !ok {
				t.Error("no hit after it was put again")
			}
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	p := newPool(t, testOptions)
	dir := t.TempDir()
	const max = 8 << 10
	c := openCache(t, dir, max)
	files := rendertest.Files{"a/x.yaml": configMap("x", "1")}
	res := mustRender(t, p, files, request("a"))
	req := request("a")
	for i := range 100 {
		req.Application = fmt.Sprintf("app-%d", i)
		if err := c.Put(req, res); err != nil {
			t.Fatal(err)
		}
		first := req
		first.Application = "app-0"
		if _, ok := cacheGet(t, c, files, first); !ok {
			t.Fatalf("what is used all the time went with entry %d", i)
		}
	}
	var size int64
	for _, f := range cacheFiles(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	if size > max {
		t.Errorf("%d bytes, more than %d", size, max)
	}
	if _, ok := cacheGet(t, c, files, req); !ok {
		t.Error("the last one is not there")
	}
	old := time.Now().Add(-24 * time.Hour)
	for _, f := range cacheFiles(t, dir) {
		if err := os.Chtimes(f, old, old); err != nil {
			t.Fatal(err)
		}
	}
	c = openCache(t, dir, max)
	if _, ok := cacheGet(t, c, files, req); !ok {
		t.Error("no hit after a restart")
	}
	c = openCache(t, dir, 600)
	if _, ok := cacheGet(t, c, files, req); !ok {
		t.Error("what was used last was evicted first")
	}
}
