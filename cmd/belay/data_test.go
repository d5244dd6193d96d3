package main

import (
	"path/filepath"
	"testing"
)

// Git runs in directories of its own, so that a relative path would lead elsewhere.
func TestDataDirectoryIsAbsolute(t *testing.T) {
	t.Chdir(t.TempDir())
	d, err := openData("data")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !filepath.IsAbs(d.path) {
		t.Errorf("the data directory is %s", d.path)
	}
}
