package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
)

// The committer is one that git, forges and files of allowed signers take.
func TestCommitter(t *testing.T) {
	for committer, principal := range map[string]string{
		"Belay <belay@localhost>": "belay@localhost", "Fleet Robot <12+fleet[bot]@users.example.com>": "12+fleet[bot]@users.example.com", "Ä <ä@example.org>": "ä@example.org",
		"belay@localhost": "", "<belay@localhost>": "", "Belay <>": "", "Belay": "", "Belay <a b@c>": "", "Belay <a,b@c>": "", "Belay <a@b": "", "Belay <*>": "", "Be\nlay <a@b>": "",
		"Belay <a@b> x": "", "Belay <a@b>>": "", "Belay <<a@b>": "", "Belay <!a@b>": "", `Belay <"a"@b>`: "", "Belay <#a@b>": "",
	} {
		s, err := (&commitOptions{committer: committer}).signing(t.TempDir(), slog.New(slog.DiscardHandler))
		switch {
		case principal == "" && err == nil:
			t.Errorf("%q is taken, as %q", committer, s.principal)
		case principal != "" && (err != nil || s.principal != principal || s.committer != committer):
			t.Errorf("%q: %v, %+v", committer, err, s)
		}
	}
}

// A key is made once and kept, where nobody else reads it; one that was given is
// never made, has to work at the start, and is read anew for each commit.
func TestCommitSigningKey(t *testing.T) {
	data, log := t.TempDir(), slog.New(slog.DiscardHandler)
	o := commitOptions{committer: "Belay <belay@localhost>"}
	fingerprint := func() string {
		t.Helper()
		s, err := o.signing(data, log)
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.key()
		if err != nil {
			t.Fatal(err)
		}
		return k.Fingerprint()
	}
	made := fingerprint()
	if again := fingerprint(); again != made {
		t.Errorf("the second time the key is %s, and was %s", again, made)
	}
	if st, err := os.Stat(filepath.Join(data, commitKey)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", st.Mode(), err)
	}

	// Without a place for it everything else goes on.
	s, err := o.signing(filepath.Join(data, "missing"), log)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.key(); belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "give a key with --commit-signing-key") {
		t.Errorf("without a place for it: %v", err)
	}

	o.key = filepath.Join(data, "given")
	if _, err := o.signing(data, log); belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "check --commit-signing-key") {
		t.Errorf("a key that is not there: %v", err)
	}
	if _, err := os.Stat(o.key); err == nil {
		t.Error("a key was made where one was to be given")
	}
	first, _ := gittest.SSHKey(t)
	second, _ := gittest.SSHKey(t)
	replace := func(from string) {
		t.Helper()
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, o.key, string(b))
	}
	replace(first)
	if s, err = o.signing(data, log); err != nil {
		t.Fatal(err)
	}
	was, err := s.key()
	if err != nil {
		t.Fatal(err)
	}
	replace(second)
	if is, err := s.key(); err != nil || is.Fingerprint() == was.Fingerprint() {
		t.Errorf("after it was replaced the key is still %s, %v", was.Fingerprint(), err)
	}
	write(t, o.key, "hunter2")
	if _, err := s.key(); belay.CodeOf(err) != belay.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("broken: %v", err)
	}
}
