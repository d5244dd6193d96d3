package main

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// user runs Belay in the image.
const user = 65532

// entry is one file of a tree.
type entry struct {
	head tar.Header
	data []byte
}

// tree is a file system, by paths without a leading slash.
type tree map[string]entry

func (t tree) dir(name string, mode int64, owner int) {
	t[name] = entry{head: tar.Header{Typeflag: tar.TypeDir, Mode: mode, Uid: owner, Gid: owner}}
}

func (t tree) file(name string, mode int64, data []byte) {
	t[name] = entry{head: tar.Header{Typeflag: tar.TypeReg, Mode: mode}, data: data}
}

func (t tree) link(name, target string) {
	t[name] = entry{head: tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}}
}

// merged are the directories that are links into usr in today's Debian; packages
// still name files by either path.
var merged = []string{"bin", "sbin", "lib", "lib64"}

// baseTree puts the file systems of a directory together.
func baseTree(dir string) (tree, error) {
	names, err := filepath.Glob(filepath.Join(dir, "tars", "*.tar"))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("there is nothing in %s", filepath.Join(dir, "tars"))
	}
	t := tree{}
	for _, name := range names { // sorted
		if err := t.extract(name); err != nil {
			return nil, fmt.Errorf("read %s: %w", name, err)
		}
	}
	for _, d := range merged {
		t.dir("usr/"+d, 0o755, 0)
		t.link(d, "usr/"+d)
	}
	t.finish()
	if list, err := os.ReadFile(filepath.Join(dir, "packages.txt")); err == nil {
		t.file("usr/share/belay/packages.txt", 0o644, list)
	}
	return t, nil
}

// extract adds the files of a tar.
func (t tree) extract(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		p := inUsr(h.Name)
		if p == "." || unwanted(p) {
			continue
		}
		e := entry{head: tar.Header{Typeflag: h.Typeflag, Mode: h.Mode &^ 0o6000, Linkname: h.Linkname}}
		switch h.Typeflag {
		case tar.TypeReg:
			if e.data, err = io.ReadAll(r); err != nil {
				return err
			}
		case tar.TypeLink:
			e.head.Linkname = inUsr(h.Linkname)
		case tar.TypeDir, tar.TypeSymlink:
		default:
			continue // no devices
		}
		t[p] = e
	}
}

// inUsr is where a path leads.
func inUsr(name string) string {
	p := strings.TrimPrefix(path.Clean("/"+name), "/")
	if p == "" {
		return "."
	}
	first, _, _ := strings.Cut(p, "/")
	if slices.Contains(merged, first) {
		return "usr/" + p
	}
	return p
}

// unwanted is what nobody reads in a container. The licences stay.
func unwanted(p string) bool {
	if strings.HasPrefix(p, "usr/share/doc/") {
		return path.Base(p) != "copyright"
	}
	for _, d := range []string{"usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian", "usr/share/bash-completion", "usr/share/perl5",
		"usr/share/gitweb", "usr/share/apport", "usr/share/bug", "usr/share/menu", "usr/share/git-core/contrib", "usr/lib/systemd", "usr/share/doc-base",
		"etc/init.d", "etc/default", "etc/bash_completion.d", "etc/cron.daily", "var", "etc/ld.so.conf.d", "boot", "dev", "proc", "sys", "run", "tmp", "home"} {
		if p == d || strings.HasPrefix(p, d+"/") {
			return true
		}
	}
	return strings.Contains(p, "/gconv/")
}

// finish adds what package scripts would have made.
func (t tree) finish() {
	for _, d := range []string{"etc", "dev", "proc", "sys", "run", "root", "var", "var/lib", "home", "usr", "usr/share", "usr/share/belay"} {
		t.dir(d, 0o755, 0)
	}
	t.dir("tmp", 0o1777, 0)
	t.dir("home/belay", 0o755, user)
	t.dir("var/lib/belay", 0o700, user)
	t.file("etc/passwd", 0o644, fmt.Appendf(nil, "root:x:0:0:root:/root:/bin/sh\nbelay:x:%d:%[1]d:belay:/home/belay:/bin/sh\n", user))
	t.file("etc/group", 0o644, fmt.Appendf(nil, "root:x:0:\nbelay:x:%d:\n", user))
	t.file("etc/nsswitch.conf", 0o644, []byte("passwd: files\ngroup: files\nhosts: files dns\n"))
	if _, ok := t["usr/bin/dash"]; ok {
		t.link("usr/bin/sh", "dash")
	}
	var bundle bytes.Buffer
	for _, p := range slices.Sorted(maps.Keys(t)) {
		if strings.HasPrefix(p, "usr/share/ca-certificates/") && strings.HasSuffix(p, ".crt") {
			bundle.Write(bytes.TrimSpace(t[p].data))
			bundle.WriteByte('\n')
		}
	}
	if bundle.Len() > 0 {
		t.dir("etc/ssl", 0o755, 0)
		t.dir("etc/ssl/certs", 0o755, 0)
		t.file("etc/ssl/certs/ca-certificates.crt", 0o644, bundle.Bytes())
	}
	// Every directory on the way to a file is there.
	for p := range maps.Clone(t) {
		for d := path.Dir(p); d != "."; d = path.Dir(d) {
			if _, ok := t[d]; !ok {
				t.dir(d, 0o755, 0)
			}
		}
	}
}

// unresolved are shared libraries that some program of the tree needs and that
// are not in it: a package left out that should not have been.
func (t tree) unresolved() []string {
	have := map[string]bool{}
	for p := range t {
		have[path.Base(p)] = true
	}
	var missing []string
	for p, e := range t {
		if e.head.Typeflag != tar.TypeReg || !bytes.HasPrefix(e.data, []byte(elf.ELFMAG)) {
			continue
		}
		f, err := elf.NewFile(bytes.NewReader(e.data))
		if err != nil {
			continue // not for a machine that we know
		}
		libraries, err := f.ImportedLibraries()
		if err != nil {
			continue // static
		}
		for _, l := range libraries {
			if !have[l] {
				missing = append(missing, l+" (for "+p+")")
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// tar writes the tree, the same each time.
func (t tree) tar(w io.Writer, at time.Time) error {
	out := tar.NewWriter(w)
	write := func(p string) error {
		e := t[p]
		h := e.head
		h.Name, h.Size, h.ModTime, h.Format = p, int64(len(e.data)), at, tar.FormatPAX
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		if err := out.WriteHeader(&h); err != nil {
			return fmt.Errorf("write %s: %w", p, err)
		}
		_, err := out.Write(e.data)
		return err
	}
	// Links to files come after the files.
	for _, hard := range []bool{false, true} {
		for _, p := range slices.Sorted(maps.Keys(t)) {
			if (t[p].head.Typeflag == tar.TypeLink) == hard {
				if err := write(p); err != nil {
					return err
				}
			}
		}
	}
	return out.Close()
}
