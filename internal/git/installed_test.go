package git

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func TestCheckInstalled(t *testing.T) {
	if err := CheckInstalled(t.Context()); err != nil {
		t.Errorf("with the git of this machine: %v", err)
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	check := func(code belay.Code, want string) {
		t.Helper()
		err := CheckInstalled(t.Context())
		if belay.CodeOf(err) != code || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "install git 2.36 or newer") {
			t.Errorf("it says %v, want %q", err, want)
		}
	}
	check(belay.CodeNotFound, "git is not installed, or not in PATH")
	says := func(script string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "git"), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	says("echo git version 2.35.8")
	check(belay.CodeInvalid, filepath.Join(dir, "git")+" is too old: it is git version 2.35.8")
	says("echo git version 1.99")
	check(belay.CodeInvalid, "it is git version 1.99")
	says("echo no such library >&2; exit 127")
	check(belay.CodeUnavailable, "does not run: ")
	for _, good := range []string{"git version 2.36.0", "git version 2.39.5 (Apple Git-154)", "git version 2.50.1.windows.1", "git version 3.0", "another git"} {
		says("echo '" + good + "'")
		if err := CheckInstalled(t.Context()); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
}
