package source

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

// snapshotOf fetches a repository and opens a commit of it.
func snapshotOf(t testing.TB, repo *gittest.Repo, commit string) *Snapshot {
	t.Helper()
	m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), repo.URL(), git.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := newSnapshot(t.Context(), m, commit, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

// tricky has one of everything that can be in a tree.
func tricky(t testing.TB) (*gittest.Repo, string) {
	repo := gittest.NewRepo(t)
	return repo, repo.CommitFiles("main", "tricky", map[string]gittest.File{
		"plain.txt":         gittest.Text("plain\n"),
		"empty":             gittest.Text(""),
		"run.sh":            gittest.Exec("#!/bin/sh\n"),
		"dir/file":          gittest.Text("in dir\n"),
		"dir.d/x":           gittest.Text("x\n"),
		"dir/deep/er":       gittest.Text("deeper\n"),
		"dir/up":            gittest.Link("../plain.txt"),
		"to-dir":            gittest.Link("dir"),
		"to-link":           gittest.Link("to-dir/up"),
		"through":           gittest.Link("to-dir/deep/../file"),
		"dangling":          gittest.Link("nowhere/at/all"),
		"absolute":          gittest.Link("/etc/passwd"),
		"dir/outside":       gittest.Link("../../etc/passwd"),
		"round/a":           gittest.Link("b"),
		"round/b":           gittest.Link("a"),
		"self":              gittest.Link("self/x"),
		"big.bin":           gittest.Text(pointer),
		"mod":               gittest.Submodule(strings.Repeat("1", 40)),
		"to-mod":            gittest.Link("mod/inner"),
		"weird \"name\"\n#": gittest.Text("weird\n"),
		".hidden":           gittest.Text("hidden\n"),
	})
}

func TestSnapshotReads(t *testing.T) {
	repo, commit := tricky(t)
	s := snapshotOf(t, repo, commit)
	for p, want := range map[string]string{
		"plain.txt": "plain\n", "empty": "", "dir/file": "in dir\n", "dir/up": "plain\n", "to-dir/file": "in dir\n",
		"to-link": "plain\n", "through": "in dir\n", "to-dir/deep/er": "deeper\n", "weird \"name\"\n#": "weird\n", ".hidden": "hidden\n",
	} {
		if b, err := s.ReadFile(p); string(b) != want || err != nil {
			t.Errorf("ReadFile(%q) = %q, %v, want %q", p, b, err, want)
		}
	}
	b, _ := s.ReadFile("plain.txt")
	copy(b, "XXXXX")
	if b, _ := s.ReadFile("plain.txt"); string(b) != "plain\n" {
		t.Error("a caller's change shows to others")
	}
	if s.Commit() != commit || s.Repo() != repo.URL() {
		t.Errorf("Commit, Repo = %q, %q", s.Commit(), s.Repo())
	}
}

func TestSnapshotErrors(t *testing.T) {
	repo, commit := tricky(t)
	s := snapshotOf(t, repo, commit)
	for _, tc := range []struct {
		path   string
		is     error
		code   belay.Code
		says   string
		listed bool
	}{
		{path: "nope", is: fs.ErrNotExist, says: "nope"},
		{path: "plain.txt/x", is: fs.ErrNotExist, says: "plain.txt/x"},
		{path: "dangling", is: fs.ErrNotExist, says: "dangling"},
		{path: "/etc/passwd", is: fs.ErrInvalid, says: "/etc/passwd"},
		{path: "../x", is: fs.ErrInvalid, says: "../x"},
		{path: "dir/../../x", is: fs.ErrInvalid, says: "dir"},
		{path: "", is: fs.ErrInvalid},
		{path: "dir", says: "is a directory"},
		{path: "absolute", code: belay.CodeInvalid, says: "absolute: leads out of the repository (make the link"},
		{path: "dir/outside", code: belay.CodeInvalid, says: "dir/outside: leads out of the repository"},
		{path: "to-dir/outside", code: belay.CodeInvalid, says: "through the symbolic link dir/outside"},
		{path: "round/a", code: belay.CodeInvalid, says: "round/a: is a symbolic link that comes back"},
		{path: "self", code: belay.CodeInvalid, says: "comes back"},
		{path: "big.bin", code: belay.CodeInvalid, says: "big.bin: is a Git LFS pointer"},
		{path: "mod", code: belay.CodeInvalid, says: "mod: is a submodule"},
		{path: "mod/x/y", code: belay.CodeInvalid, says: "mod/x/y: lies in the submodule mod"},
		{path: "to-mod", code: belay.CodeInvalid, says: "lies in the submodule mod"},
	} {
		_, err := s.ReadFile(tc.path)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("ReadFile(%q) = %v, want something about %q", tc.path, err, tc.says)
		}
		if tc.is != nil && !errors.Is(err, tc.is) {
			t.Errorf("ReadFile(%q) = %v, want %v", tc.path, err, tc.is)
		}
		if e, ok := errors.AsType[*belay.Error](err); tc.code != "" && (!ok || e.Code != tc.code || e.Origin.File != tc.path || e.Origin.Revision != commit || e.Hint == "") {
			t.Errorf("ReadFile(%q) = %#v", tc.path, err)
		}
	}
	entries, err := s.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	types := map[string]fs.FileMode{}
	for _, e := range entries {
		types[e.Name()] = e.Type()
	}
	for name, want := range map[string]fs.FileMode{"mod": fs.ModeIrregular, "big.bin": 0, "absolute": fs.ModeSymlink, "dir": fs.ModeDir} {
		if got, ok := types[name]; !ok || got != want {
			t.Errorf("%s is listed as %v, %v, want %v", name, got, ok, want)
		}
	}
	if _, err := s.ReadDir("mod"); belay.CodeOf(err) != belay.CodeInvalid {
		t.Errorf("ReadDir of a submodule: %v", err)
	}
	if i, err := s.Stat("mod"); err != nil || i.Mode().Type() != fs.ModeIrregular {
		t.Errorf("Stat of a submodule: %v, %v", i, err)
	}
}

func TestDigests(t *testing.T) {
	repo, commit := tricky(t)
	s := snapshotOf(t, repo, commit)
	id := func(p string) string { return repo.Git("rev-parse", commit+":"+p) }
	for _, tc := range []struct {
		kind belay.ReadKind
		path string
		want string
	}{
		{belay.ReadFile, "plain.txt", id("plain.txt")},
		{belay.ReadFile, "to-link", id("plain.txt")},
		{belay.ReadFile, "big.bin", id("big.bin")},
		{belay.ReadFile, "dir", "dir"},
		{belay.ReadFile, "nope", "absent"},
		{belay.ReadFile, "dangling", "absent"},
		{belay.ReadFile, "absolute", "outside"},
		{belay.ReadFile, "round/a", "loop"},
		{belay.ReadFile, "mod/x", "submodule"},
		{belay.ReadStat, "plain.txt", "file"},
		{belay.ReadStat, "to-dir", "dir"},
		{belay.ReadStat, "nope", "absent"},
		{belay.ReadLink, "to-dir", id("to-dir")},
		{belay.ReadLink, "plain.txt", "file"},
		{belay.ReadList, "plain.txt", "file"},
	} {
		if got, err := s.Digest(tc.kind, tc.path); got != tc.want || err != nil {
			t.Errorf("Digest(%s, %q) = %q, %v, want %q", tc.kind, tc.path, got, err, tc.want)
		}
	}
	list := func(c, p string) string {
		d, err := snapshotOf(t, repo, c).Digest(belay.ReadList, p)
		if err != nil || len(d) != 40 {
			t.Fatalf("Digest(list, %q) = %q, %v", p, d, err)
		}
		return d
	}
	edited := repo.CommitFiles("main", "edit", map[string]gittest.File{"dir/file": gittest.Exec("other\n")})
	added := repo.Commit("main", "add", map[string]string{"dir/new": ""})
	if list(commit, "dir") != list(edited, "dir") || list(commit, "dir") == list(added, "dir") || list(commit, "to-dir") != list(commit, "dir") {
		t.Error("the digest of a list covers something else than names and types")
	}
	if got, err := s.TreeDigest("to-dir"); got != id("dir") || err != nil {
		t.Errorf("TreeDigest = %q, %v", got, err)
	}
	if _, err := s.TreeDigest("plain.txt"); err == nil {
		t.Error("TreeDigest of a file")
	}
}

func TestFS(t *testing.T) {
	repo := gittest.NewRepo(t)
	commit := repo.CommitFiles("main", "tree", map[string]gittest.File{
		"a/b/c": gittest.Text("c"), "a/b/d": gittest.Exec("d"), "a.b": gittest.Text(""), "z": gittest.Text(strings.Repeat("z", 1000)),
		"a/link": gittest.Link("b/c"), "a/todir": gittest.Link("b"),
	})
	s := snapshotOf(t, repo, commit)
	if err := fstest.TestFS(s, "a/b/c", "a/b/d", "a.b", "z"); err != nil {
		t.Error(err)
	}
	if err := fstest.TestFS(s.Record(), "a/b/c"); err != nil {
		t.Error(err)
	}
	d, _ := checkout(t, repo, commit)
	if err := fstest.TestFS(d, "a/b/c", "a/b/d", "a.b", "z"); err != nil {
		t.Error(err)
	}
}

// checkout is a working directory at a commit.
func checkout(t testing.TB, repo *gittest.Repo, commit string) (*DirSnapshot, string) {
	t.Helper()
	dir := t.TempDir()
	repo.Git("--work-tree="+dir, "checkout", "-q", "-f", commit, "--", ".")
	d, err := Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, dir
}

// A working directory gives what the commit of it gives.
func TestDirIsLikeTheCommit(t *testing.T) {
	repo, _ := tricky(t)
	commit := repo.CommitFiles("main", "no submodule", map[string]gittest.File{"mod": gittest.Delete(), "to-mod": gittest.Delete()})
	s := snapshotOf(t, repo, commit)
	d, dir := checkout(t, repo, commit)
	if err := os.MkdirAll(filepath.Join(dir, ".git", "objects"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{".", "dir", "to-dir", "plain.txt", "to-link", "through", "dangling", "absolute", "dir/outside", "round/a", "self", "big.bin", "nope", "plain.txt/x", "run.sh"} {
		for _, kind := range []belay.ReadKind{belay.ReadFile, belay.ReadList, belay.ReadStat, belay.ReadLink} {
			want, _ := s.Digest(kind, p)
			if got, err := d.Digest(kind, p); got != want || err != nil {
				t.Errorf("Digest(%s, %q) = %q, %v, want %q", kind, p, got, err, want)
			}
		}
		want, werr := s.ReadFile(p)
		got, err := d.ReadFile(p)
		if string(got) != string(want) || (err == nil) != (werr == nil) {
			t.Errorf("ReadFile(%q) = %q, %v, want %q, %v", p, got, err, want, werr)
		}
	}
	if _, err := d.ReadFile(".git/config"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf(".git can be read: %v", err)
	}
	changes, err := Diff(t.Context(), s, &d.Snapshot)
	if err != nil || len(changes) != 0 {
		t.Errorf("Diff = %v, %v", changes, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dir", "file"), []byte("edited\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "empty")); err != nil {
		t.Fatal(err)
	}
	changes, err = Diff(t.Context(), s, &d.Snapshot)
	if err != nil || len(changes) != 2 || changes[0].Path != "dir/file" || changes[1].Path != "empty" || changes[1].New != "" {
		t.Errorf("Diff after edits = %+v, %v", changes, err)
	}
	if d.Commit() != "" || d.Repo() != "" {
		t.Error("a working directory has a commit")
	}
	// Of a repository inside this one Git takes no files.
	if err := os.WriteFile(filepath.Join(dir, "dir", ".git"), []byte("gitdir: ../elsewhere\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"dir", "dir/file", "to-dir"} {
		_, err := d.ReadDir(p)
		if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "submodule") {
			t.Errorf("ReadDir(%q) = %v", p, err)
		}
	}
}

func TestRecorderNotesLinks(t *testing.T) {
	repo, commit := tricky(t)
	s := snapshotOf(t, repo, commit)
	rec := s.Record()
	rec.ReadFile("to-link")
	rec.ReadFile("nope/deeper")
	rec.ReadFile("mod/x")
	rec.ReadDir("dir")
	rec.Stat("run.sh")
	rec.ReadFile("to-link")
	var got []string
	for _, r := range rec.Reads() {
		got = append(got, string(r.Kind)+" "+r.Path)
	}
	want := []string{"link dir", "list dir", "link dir/up", "stat mod", "stat nope/deeper", "file plain.txt", "stat run.sh", "link to-dir", "link to-link"}
	if !slices.Equal(got, want) {
		t.Errorf("Reads = %q\nwant    %q", got, want)
	}
	if !Holds(s, rec.Reads()) {
		t.Error("reads do not hold where they were made")
	}
	traced, err := s.Trace(belay.ReadFile, "to-link")
	if err != nil || len(traced) != 5 {
		t.Errorf("Trace = %v, %v", traced, err)
	}
	moved := repo.CommitFiles("main", "retarget", map[string]gittest.File{"dir/up": gittest.Link("file")})
	if Holds(snapshotOf(t, repo, moved), rec.Reads()) {
		t.Error("reads hold although a link on the way points elsewhere")
	}
	other := repo.Commit("main", "unrelated", map[string]string{"unrelated": "x"})
	repo.CommitFiles("main", "back", map[string]gittest.File{"dir/up": gittest.Link("../plain.txt")})
	if back := repo.Resolve("main"); !Holds(snapshotOf(t, repo, back), rec.Reads()) {
		t.Errorf("reads do not hold after an unrelated change (%s)", other)
	}
}

func TestDiffOfCommits(t *testing.T) {
	repo := gittest.NewRepo(t)
	a := repo.CommitFiles("main", "a", map[string]gittest.File{
		"keep/x": gittest.Text("x"), "edit": gittest.Text("1"), "exec": gittest.Text("e"), "gone/deep/y": gittest.Text("y"),
		"swap": gittest.Text("s"), "dir-to-file/x": gittest.Text("x"), "mod": gittest.Submodule(strings.Repeat("1", 40)),
	})
	b := repo.CommitFiles("main", "b", map[string]gittest.File{
		"edit": gittest.Text("2"), "exec": gittest.Exec("e"), "gone": gittest.Delete(), "new/deep/z": gittest.Text("z"), "keep/w": gittest.Text("w"),
		"swap": gittest.Link("edit"), "dir-to-file": gittest.Text("f"), "mod": gittest.Submodule(strings.Repeat("2", 40)),
	})
	changes, err := Diff(context.Background(), snapshotOf(t, repo, a), snapshotOf(t, repo, b))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range changes {
		sign := "~"
		if c.Old == "" {
			sign = "+"
		} else if c.New == "" {
			sign = "-"
		}
		got = append(got, sign+c.Path+" "+c.Top)
	}
	want := []string{"+dir-to-file dir-to-file", "-dir-to-file/x dir-to-file", "~edit edit", "-gone/deep/y gone", "+keep/w keep/w",
		"~mod mod", "+new/deep/z new", "-swap swap", "+swap swap"}
	if !slices.Equal(got, want) {
		t.Errorf("Diff = %q\nwant   %q", got, want)
	}
}
