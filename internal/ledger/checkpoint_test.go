package ledger_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
)

func key(t *testing.T, name string) *ledger.Key {
	t.Helper()
	k, err := ledger.MakeKey(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// signers writes the allowed signers of a commit to a file.
func signers(t *testing.T, dir, commit string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "allowed_signers")
	if err := os.WriteFile(path, []byte(git(t, dir, "show", commit+":allowed_signers")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkpoints are the commits of the checkpoints, oldest first.
func checkpoints(t *testing.T, dir string) []string {
	t.Helper()
	return strings.Fields(git(t, dir, "log", "--reverse", "--format=%H", "--grep=^Belay-Event: checkpoint$", "ledger/main"))
}

func TestPlainGitVerifiesCheckpoints(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	k := key(t, "key")
	for range 2 {
		l := open(t, ledger.Options{Dir: dir, Key: k})
		record(t, l, belay.Event{Type: belay.EventStarted, Message: "belay started"})
		closeLedger(t, l)
	}
	all := checkpoints(t, dir)
	if len(all) != 2 || all[1] != git(t, dir, "rev-parse", "ledger/main") {
		t.Fatalf("checkpoints: %v", all)
	}
	for _, c := range all {
		git(t, dir, "-c", "gpg.ssh.allowedSignersFile="+signers(t, dir, "ledger/main"), "verify-commit", c)
	}
	if got := git(t, dir, "log", "--format=%(trailers:key=Belay-Record,valueonly,separator=%x2C)", "ledger/main"); got != "main/4\nmain/3\nmain/2\nmain/1" {
		t.Errorf("records:\n%s", got)
	}
	git(t, dir, "fsck", "--strict")

	// Nothing happened, so there is nothing to sign.
	closeLedger(t, open(t, ledger.Options{Dir: dir, Key: k}))
	if again := checkpoints(t, dir); len(again) != 2 {
		t.Errorf("checkpoints of nothing: %v", again[2:])
	}
}

func TestTheOldKeyHandsOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	first, second, third := key(t, "1"), key(t, "2"), key(t, "3")
	l := open(t, ledger.Options{Dir: dir, Key: first})
	record(t, l, belay.Event{Type: belay.EventStarted, Message: "belay started"})
	closeLedger(t, l)
	closeLedger(t, open(t, ledger.Options{Dir: dir, Key: second, OldKeys: []*ledger.Key{third, first}}))
	l = open(t, ledger.Options{Dir: dir, Key: third}) // the second is lost
	record(t, l, belay.Event{Type: belay.EventStarted, Message: "belay started"})
	closeLedger(t, l)

	all := checkpoints(t, dir)
	if len(all) != 4 {
		t.Fatalf("checkpoints: %s", git(t, dir, "log", "--oneline", "ledger/main"))
	}
	for i, by := range []*ledger.Key{first, first, third, third} {
		got := git(t, dir, "-c", "gpg.ssh.allowedSignersFile="+signers(t, dir, "ledger/main"), "log", "-1", "--format=%G? %GK", all[i])
		if got != "G "+by.Fingerprint() {
			t.Errorf("checkpoint %d: %s, want %s", i, got, by.Fingerprint())
		}
	}
	// Up to the hand-over the keys known before are enough.
	if got := git(t, dir, "-c", "gpg.ssh.allowedSignersFile="+signers(t, dir, all[0]), "log", "-1", "--format=%G?", all[1]); got != "G" {
		t.Errorf("the hand-over is %s for who knows the first key only", got)
	}
	if got := git(t, dir, "-c", "gpg.ssh.allowedSignersFile="+signers(t, dir, all[1]), "log", "-1", "--format=%G?", all[2]); got == "G" {
		t.Errorf("a key from nowhere is trusted by who knows the keys before")
	}
	// Changing back makes the first the one in use again.
	closeLedger(t, open(t, ledger.Options{Dir: dir, Key: first, OldKeys: []*ledger.Key{third}}))
	lines := strings.Split(strings.TrimSpace(git(t, dir, "show", "ledger/main:allowed_signers")), "\n")
	if len(lines) != 3 {
		t.Errorf("allowed signers:\n%s", strings.Join(lines, "\n"))
	}
}

func TestKeysOfPeople(t *testing.T) {
	dir := t.TempDir()
	if k, err := ledger.MakeKey(filepath.Join(dir, "made")); err != nil || !strings.HasPrefix(k.Fingerprint(), "SHA256:") {
		t.Fatal(k, err)
	}
	if st, _ := os.Stat(filepath.Join(dir, "made")); st.Mode().Perm() != 0o600 {
		t.Errorf("the key has mode %v", st.Mode())
	}
	for name, args := range map[string][]string{"ed25519": {"-t", "ed25519", "-N", ""}, "rsa": {"-t", "rsa", "-b", "2048", "-N", ""}, "ecdsa": {"-t", "ecdsa", "-N", ""}, "locked": {"-t", "ed25519", "-N", "secret"}} {
		path := filepath.Join(dir, name)
		run(t, "ssh-keygen", append([]string{"-q", "-f", path}, args...)...)
		k, err := ledger.ReadKey(path)
		if name == "locked" {
			if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "passphrase") {
				t.Errorf("a key with a passphrase: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		repo := filepath.Join(dir, name+".git")
		l := open(t, ledger.Options{Dir: repo, Key: k})
		record(t, l, belay.Event{Type: belay.EventStarted, Message: "belay started"})
		closeLedger(t, l)
		git(t, repo, "-c", "gpg.ssh.allowedSignersFile="+signers(t, repo, "ledger/main"), "verify-commit", "ledger/main")
	}
	if _, err := ledger.ReadKey(filepath.Join(dir, "none")); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("a key that is not there: %v", err)
	}
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("hunter2-no-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.ReadKey(bad); belay.CodeOf(err) != belay.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a file without a key: %v", err)
	}
}
