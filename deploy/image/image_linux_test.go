package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// packages makes a directory as packages.sh leaves it, of two packages.
func packages(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, entries ...tar.Header) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, h := range entries {
			body := ""
			if h.Typeflag == tar.TypeReg {
				body = "content of " + h.Name
				h.Size = int64(len(body))
			}
			if err := w.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(dir, "tars", name), b.Bytes())
	}
	write("a.tar",
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./bin/dash", Typeflag: tar.TypeReg, Mode: 0o755},
		tar.Header{Name: "./bin/hard", Typeflag: tar.TypeLink, Linkname: "./bin/dash", Mode: 0o755},
		tar.Header{Name: "./usr/bin/setuid", Typeflag: tar.TypeReg, Mode: 0o4755},
		tar.Header{Name: "./usr/share/doc/a/copyright", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./usr/share/doc/a/changelog.gz", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./usr/share/man/man1/a.1.gz", Typeflag: tar.TypeReg, Mode: 0o644})
	write("b.tar",
		tar.Header{Name: "./usr/share/ca-certificates/mozilla/One.crt", Typeflag: tar.TypeReg, Mode: 0o644},
		tar.Header{Name: "./usr/share/ca-certificates/mozilla/Two.crt", Typeflag: tar.TypeReg, Mode: 0o644})
	put(t, filepath.Join(dir, "belay"), []byte("the program"))
	put(t, filepath.Join(dir, "packages.txt"), []byte("a 1\n"))
	return dir
}

func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, out, dir string) error {
	t.Helper()
	return run([]string{"--out", out, "--version", "v1", "--time", "2026-01-02T03:04:05Z", "amd64=" + dir, "arm64=" + dir})
}

func TestSameInputSameImage(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.tar"), filepath.Join(dir, "two.tar")
	if err := build(t, one, packages(t)); err != nil {
		t.Fatal(err)
	}
	if err := build(t, two, packages(t)); err != nil {
		t.Fatal(err)
	}
	a, _ := os.ReadFile(one)
	b, _ := os.ReadFile(two)
	if len(a) == 0 || !bytes.Equal(a, b) {
		t.Errorf("two builds differ (%d and %d bytes)", len(a), len(b))
	}
}

func TestUnpack(t *testing.T) {
	image, to := filepath.Join(t.TempDir(), "image.tar"), filepath.Join(t.TempDir(), "fs")
	if err := build(t, image, packages(t)); err != nil {
		t.Fatal(err)
	}
	if err := run([]string{"--unpack", "arm64", "--to", to, image}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"usr/local/bin/belay":               "the program",
		"bin/sh":                            "content of ./bin/dash",
		"bin/hard":                          "content of ./bin/dash",
		"etc/ssl/certs/ca-certificates.crt": "content of ./usr/share/ca-certificates/mozilla/One.crt\ncontent of ./usr/share/ca-certificates/mozilla/Two.crt\n",
		"usr/share/doc/a/copyright":         "content of ./usr/share/doc/a/copyright",
		"usr/share/belay/packages.txt":      "a 1\n",
	} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, gone := range []string{"usr/share/doc/a/changelog.gz", "usr/share/man"} {
		if _, err := os.Lstat(filepath.Join(to, gone)); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
	if info, err := os.Stat(filepath.Join(to, "usr/bin/setuid")); err != nil || info.Mode()&os.ModeSetuid != 0 {
		t.Errorf("a program keeps the right of its owner: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(filepath.Join(to, "tmp")); err != nil || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("/tmp is %v, %v", info.Mode(), err)
	}
	if err := run([]string{"--unpack", "s390x", "--to", to, image}); err == nil || !strings.Contains(err.Error(), "no architecture s390x") {
		t.Errorf("%v", err)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Replace(data, []byte(`"Entrypoint"`), []byte(`"entrypoint"`), 1)
	put(t, image, damaged)
	if err := run([]string{"--unpack", "amd64", "--to", filepath.Join(t.TempDir(), "fs"), image}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a changed image: %v", err)
	}
}

// A program whose libraries are not in the image is found before anybody runs it.
func TestMissingLibrary(t *testing.T) {
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	dir := packages(t)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "./bin/other", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(shell))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(shell); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(dir, "tars", "c.tar"), b.Bytes())
	if err := build(t, filepath.Join(t.TempDir(), "image.tar"), dir); err == nil || !strings.Contains(err.Error(), "libraries are missing") || !strings.Contains(err.Error(), "usr/bin/other") {
		t.Errorf("%v", err)
	}
}
