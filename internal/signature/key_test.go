package signature_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/signature"
)

// What a key of any kind signs git takes for good, with the line that the key
// itself gives, and so do we.
func TestKeySignsCommits(t *testing.T) {
	generated, err := signature.GenerateKey("belay commits")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]byte{"generated": generated}
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		file, public := sshKey(t, kind)
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if k, err := signature.ParseKey(b); err != nil || k.Public() != public {
			t.Fatalf("%s: %v: the public key is not %q", kind, err, public)
		}
		keys[kind] = b
	}
	for kind, b := range keys {
		t.Run(kind, func(t *testing.T) {
			k, err := signature.ParseKey(b)
			if err != nil {
				t.Fatal(err)
			}
			repo := gittest.NewRepo(t)
			raw := "tree " + repo.GitInput("", "mktree") + "\nauthor A <a@b> 1700000000 +0000\ncommitter B <b@c> 1700000000 +0000\n\nA line\n\nand more\n"
			commit, err := k.Commit([]byte(raw))
			if err != nil {
				t.Fatal(err)
			}
			id := repo.GitInput(string(commit), "hash-object", "-t", "commit", "-w", "--stdin")
			file := filepath.Join(t.TempDir(), "allowed")
			if err := os.WriteFile(file, []byte(k.AllowedSigner("b@c")+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			repo.Git("-c", "gpg.ssh.allowedSignersFile="+file, "verify-commit", id)
			if got := repo.Git("-c", "gpg.ssh.allowedSignersFile="+file, "log", "-1", "--format=%G? %GF %GS", id); got != "G "+k.Fingerprint()+" b@c" {
				t.Errorf("git says %q", got)
			}
			signer, err := allowed(t, k.AllowedSigner("b@c")).Commit(commit, "b@c")
			if err != nil || signer.Key != k.Fingerprint() {
				t.Errorf("signed by %v, %v", signer, err)
			}
			// The line trusts the key with commits, and with nothing else.
			if out, err := os.ReadFile(file); err != nil || !strings.Contains(string(out), `namespaces="git" `) {
				t.Errorf("the line is %q, %v", out, err)
			}
		})
	}
}

// A key that cannot be used is told apart from one with a passphrase, and never quoted.
func TestKeysThatCannotSign(t *testing.T) {
	locked := filepath.Join(t.TempDir(), "locked")
	run(t, nil, "ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-C", "", "-f", locked)
	b, err := os.ReadFile(locked)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signature.ParseKey(b); !errors.Is(err, signature.ErrPassphrase) {
		t.Errorf("with a passphrase: %v", err)
	}
	_, public := sshKey(t, "ed25519")
	for _, text := range []string{"", "hunter2", public, "-----BEGIN OPENSSH PRIVATE KEY-----\naHVudGVyMg==\n-----END OPENSSH PRIVATE KEY-----\n"} {
		_, err := signature.ParseKey([]byte(text))
		if err == nil || errors.Is(err, signature.ErrPassphrase) || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "aHVu") {
			t.Errorf("%q: %v", text, err)
		}
	}
	k, err := signature.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParseKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Commit([]byte("tree a\n")); err == nil {
		t.Error("what is no commit was signed")
	}
}
