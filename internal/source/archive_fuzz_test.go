package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"testing"

	"github.com/belaydev/belay/internal/git"
)

// The archive of a stranger is refused, or becomes a tree in which every path is
// one of the tree, as it is called there.
func FuzzArchive(f *testing.F) {
	for _, h := range []tar.Header{
		{Name: "web/Chart.yaml", Typeflag: tar.TypeReg, Size: 1}, {Name: "./a//b/../c", Typeflag: tar.TypeReg, Size: 1}, {Name: "../a", Typeflag: tar.TypeReg, Size: 1},
		{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, {Name: "a/", Typeflag: tar.TypeDir}, {Name: "a", Typeflag: tar.TypeChar},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("x")); err != nil {
				f.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, packed []byte) {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(packed); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		a := newArchive()
		if a.unpack(b.Bytes()) != nil {
			return
		}
		a.top.seal()
		var look func(dir node)
		look = func(dir node) {
			entries, err := a.children(dir)
			if err != nil {
				t.Fatalf("%s: %v", dir.path, err)
			}
			for _, e := range entries {
				n, err := a.child(dir, e.Name)
				if err != nil || !fs.ValidPath(n.path) || e.Name == "." || e.Name == ".." {
					t.Fatalf("%q in %q: %v", e.Name, dir.path, err)
				}
				if e.Type == git.TypeDir {
					look(n)
				} else if _, err := a.content(n); err != nil {
					t.Fatalf("%s: %v", n.path, err)
				}
			}
		}
		look(a.root())
	})
}
