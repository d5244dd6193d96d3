package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedFilesAreCurrent fails when types, rules or texts changed without
// `make generate`.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	const dir = "../../../docs/reference"
	files, err := outputs()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Errorf("%v: run make generate", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("docs/reference/%s is not what the types say: run make generate", name)
		}
	}
	have, err := filepath.Glob(filepath.Join(dir, "schemas", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range have {
		if _, ok := files["schemas/"+filepath.Base(p)]; !ok {
			t.Errorf("%s is of no kind: run make generate", p)
		}
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "schemas"), 0o777); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(dir, "schemas", "old.json")
	if err := os.WriteFile(old, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("the schema of a kind that is no more: %v", err)
	}
	files, err := outputs()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
