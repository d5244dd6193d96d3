package reconcile

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// mapFiles are files in memory.
type mapFiles struct{ fstest.MapFS }

func (f mapFiles) Digest(_ belay.ReadKind, path string) (string, error) {
	b, err := f.ReadFile(path)
	return string(b), err
}

func files(m map[string]string) mapFiles {
	out := fstest.MapFS{}
	for p, c := range m {
		out[p] = &fstest.MapFile{Data: []byte(c)}
	}
	return mapFiles{out}
}

func TestATreeShowsOthers(t *testing.T) {
	other := belay.Mount{Repo: "https://git.example.com/a/b", Ref: "v1"}
	gone := errors.New("gone")
	opened := 0
	tree := NewTree(Mounted{Files: files(map[string]string{"a": "own"})}, func(m belay.Mount) (Mounted, error) {
		opened++
		if m != other {
			return Mounted{}, gone
		}
		return Mounted{Files: files(map[string]string{"allowed/deep/a": "other", "secret/a": "s"}), Repo: m.Repo, Revision: "c1",
			Permit: func(p string) error {
				if p != "allowed" && !strings.HasPrefix(p, "allowed/") {
					return &belay.Error{Code: belay.CodeDenied, Message: p}
				}
				return nil
			}}, nil
	})
	for path, want := range map[string]string{"a": "own", other.Path() + "/allowed/deep/a": "other"} {
		if b, err := tree.ReadFile(path); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", path, b, err)
		}
	}
	if tree.Err() != nil || opened != 1 {
		t.Errorf("%d mounts, %v", opened, tree.Err())
	}
	for _, path := range []string{"/secret/a", "", "/allowedtoo"} {
		if _, err := tree.Stat(other.Path() + path); belay.CodeOf(err) != belay.CodeDenied {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := tree.ReadDir((belay.Mount{Source: "x"}).Path()); !errors.Is(err, gone) {
		t.Error(err)
	}
	o := belay.Origin{Repo: "r", File: other.Path() + "/allowed/a", Line: 3}
	if !tree.Locate(&o) || o != (belay.Origin{Repo: other.Repo, Revision: "c1", File: "allowed/a", Line: 3}) {
		t.Errorf("the origin is %+v", o)
	}
	if _, err := tree.Stat("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	// The reason of a failed render is the mount, at the place that named it.
	err := tree.Explain(&belay.Error{Code: belay.CodeInvalid, Message: "x", Origin: belay.Origin{File: "k.yaml", Line: 2}})
	if be, ok := errors.AsType[*belay.Error](err); !ok || be.Code != belay.CodeDenied || be.Origin.File != "k.yaml" {
		t.Errorf("the error is %v", err)
	}
}

func TestWhatFilesMayName(t *testing.T) {
	cat := &catalog.Catalog{Repositories: map[string]belay.Repository{
		"ours":  {Name: "ours", Spec: belay.RepositorySpec{URL: "oci://registry.example.com/charts"}},
		"inner": {Name: "inner", Spec: belay.RepositorySpec{URL: "https://git.inner/a/b"}}}}
	for _, tc := range []struct {
		m  belay.Mount
		ok bool
	}{
		{belay.Mount{Repo: "https://git.example.com/a/b"}, true}, {belay.Mount{Repo: "git@git.example.com:a/b"}, true},
		{belay.Mount{Repo: "ours", Chart: "web"}, true}, {belay.Mount{Repo: "oci://r.example.com/a", Chart: "web"}, true},
		{belay.Mount{Repo: "theirs", Chart: "web"}, false}, {belay.Mount{Repo: "file:///etc"}, false}, {belay.Mount{Repo: "FILE:///etc"}, false},
		{belay.Mount{Repo: "/etc"}, false}, {belay.Mount{Repo: "https://git.example.com/a#b"}, false},
		{belay.Mount{Repo: "oci://r.example.com/a", Chart: "../b"}, false}, {belay.Mount{Repo: "https://c.example.com", Chart: "a#b"}, false},
	} {
		if err := remote(cat, tc.m); (err == nil) != tc.ok {
			t.Errorf("%+v: %v", tc.m, err)
		}
	}
	e := &Engine{Options: Options{Repo: "ssh://git@config.example.com/fleet"}}
	for url, want := range map[string]bool{
		"https://git.inner/c/d": true, "git@git.inner:c/d": true, "https://config.example.com:8443/x": true, "https://config.example.com#web": true,
		"https://git.example.com/a/b": false, "https://registry.example.com#x": true, "oci://127.0.0.1:5000/x": false,
	} {
		if got := e.trusted(cat, url); got != want {
			t.Errorf("%s is trusted: %v", url, got)
		}
	}
}
