package main

import (
	"bytes"
	"strings"
	"testing"
)

// Without git nothing works; it says so, and does not blame what was to be done first.
func TestNothingIsServedWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, args := range [][]string{
		{"serve", "--repo", t.TempDir(), "--data", t.TempDir(), "--listen", "127.0.0.1:0"},
		{"plan", "--kubeconfig", "/nowhere", "--dir", t.TempDir()},
		{"drill", "--repo", t.TempDir(), "--devcluster", "/bin/sh"},
	} {
		var out bytes.Buffer
		e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) string { return "" }}
		code := e.execute(t.Context(), args)
		if code == 0 || !strings.Contains(out.String(), "error: git is not installed, or not in PATH\nhint: install git 2.36 or newer") {
			t.Errorf("belay %s ended with %d: %s", args[0], code, out.String())
		}
	}
}
