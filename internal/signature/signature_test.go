package signature_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/signature"
	"github.com/belaydev/belay/internal/xec"
)

// run runs a real program, as a person would.
func run(t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	out, err := xec.Command{Path: name, Args: args, Inherit: []string{"PATH"}, Env: env}.Output(t.Context(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sshKey makes a key with ssh-keygen.
func sshKey(t *testing.T, kind string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	run(t, nil, "ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", file)
	b, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(b))
}

// signedSSH is a repository with a commit and a tag that git signed with a key.
func signedSSH(t *testing.T, key string) (commit, tag []byte) {
	t.Helper()
	repo := gittest.NewRepo(t)
	repo.Git("config", "gpg.format", "ssh")
	repo.Git("config", "user.signingkey", key)
	return signed(t, repo, nil)
}

func signed(t *testing.T, repo *gittest.Repo, env []string) (commit, tag []byte) {
	t.Helper()
	tree := repo.GitInput("", "mktree")
	env = append(env, "GIT_DIR="+repo.Dir, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_AUTHOR_NAME=Ada", "GIT_AUTHOR_EMAIL=ada@example.org",
		"GIT_COMMITTER_NAME=Ada", "GIT_COMMITTER_EMAIL=ada@example.org")
	id := strings.TrimSpace(string(run(t, env, "git", "commit-tree", "-S", "-m", "Signed\n\nWith a body, and\n-----BEGIN SSH SIGNATURE-----\nin it.", tree)))
	repo.Git("update-ref", "refs/heads/main", id)
	run(t, env, "git", "tag", "-s", "-m", "A release", "v1", id)
	return run(t, env, "git", "cat-file", "commit", id), run(t, env, "git", "cat-file", "tag", "v1")
}

func allowed(t *testing.T, text string) *signature.Keys {
	t.Helper()
	k, err := signature.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestGitSignsWithSSH(t *testing.T) {
	for _, kind := range []string{"ed25519", "ecdsa", "rsa"} {
		file, public := sshKey(t, kind)
		_, other := sshKey(t, "ed25519")
		commit, tag := signedSSH(t, file)
		for _, test := range []struct {
			name, signers string
			want          signature.Reason
		}{
			{"listed", "ada@example.org " + public, ""},
			{"among others", "eve@example.org " + other + "\n# a comment\n\nada@example.org " + public + " comment\n", ""},
			{"namespace", `ada@example.org namespaces="file,git" ` + public, ""},
			{"pattern", `*@example.org,!eve@example.org namespaces="*" ` + public, ""},
			{"in its time", `ada@example.org valid-after="20200101Z",valid-before="29990101Z" ` + public, ""},
			{"another", "eve@example.org " + other, signature.Unknown},
			{"nobody", "", signature.Unknown},
			{"other namespace", `ada@example.org namespaces="file" ` + public, signature.Unknown},
			{"not for Ada", `*@example.org,!ada@example.org ` + public, signature.Unknown},
			{"too early", `ada@example.org valid-after="29990101Z" ` + public, signature.Expired},
			{"too late", `ada@example.org valid-before="20200101000000Z" ` + public, signature.Expired},
			{"good once more", "ada@example.org valid-before=\"20200101Z\" " + public + "\nada@example.org " + public, ""},
		} {
			t.Run(kind+"/"+test.name, func(t *testing.T) {
				keys := allowed(t, test.signers)
				signer, err := keys.Commit(commit, "ada@example.org")
				if signature.ReasonOf(err) != test.want || (err == nil) != (test.want == "") {
					t.Errorf("commit: %v, want %q", err, test.want)
				}
				if err == nil && !strings.HasPrefix(signer.Key, "SHA256:") {
					t.Errorf("signer %v", signer)
				}
				if _, err := keys.Tag(tag, "ada@example.org"); signature.ReasonOf(err) != test.want {
					t.Errorf("tag: %v, want %q", err, test.want)
				}
			})
		}
		tampered(t, allowed(t, "ada@example.org "+public), commit, tag)
	}
}

// tampered changes each byte of what was signed: never may it count.
func tampered(t *testing.T, keys *signature.Keys, commit, tag []byte) {
	t.Helper()
	payload, sig, err := signature.SplitCommit(commit)
	if err != nil {
		t.Fatal(err)
	}
	for i := range payload {
		b := bytes.Clone(payload)
		b[i] ^= 1
		if _, err := keys.Verify(b, sig, signature.When(payload), ""); err == nil {
			t.Fatalf("byte %d of the commit changed, and the signature still counts", i)
		}
	}
	_, end := signature.SplitTag(tag)
	for i := range len(tag) - len(end) {
		b := bytes.Clone(tag)
		b[i] ^= 1
		if _, err := keys.Tag(b, ""); err == nil {
			t.Fatalf("byte %d of the tag changed, and the signature still counts", i)
		}
	}
	if _, err := keys.Commit(payload, ""); signature.ReasonOf(err) != signature.Missing {
		t.Errorf("without its signature: %v", err)
	}
	if _, err := keys.Tag(tag[:len(tag)-len(end)], ""); signature.ReasonOf(err) != signature.Missing {
		t.Errorf("tag without its signature: %v", err)
	}
	twice := signature.Attach(commit, sig)
	if _, err := keys.Commit(twice, ""); signature.ReasonOf(err) != signature.Unsupported {
		t.Errorf("with two signatures: %v", err)
	}
}

// A signature that was made for something else than Git does not count.
func TestOtherNamespace(t *testing.T) {
	file, public := sshKey(t, "ed25519")
	payload := []byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n")
	data := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(data, payload, 0o600); err != nil {
		t.Fatal(err)
	}
	keys := allowed(t, "* "+public)
	for namespace, want := range map[string]signature.Reason{"file": signature.Bad, "git": ""} {
		run(t, nil, "ssh-keygen", "-q", "-Y", "sign", "-f", file, "-n", namespace, data)
		sig, err := os.ReadFile(data + ".sig")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Commit(signature.Attach(payload, sig), ""); signature.ReasonOf(err) != want {
			t.Errorf("signed for %q: %v", namespace, err)
		}
		if err := os.Remove(data + ".sig"); err != nil {
			t.Fatal(err)
		}
	}
}

// What is signed here, git takes for good.
func TestSignForGit(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	line := "ada@example.org " + string(ssh.MarshalAuthorizedKey(pub))
	repo := gittest.NewRepo(t)
	payload := "tree " + repo.GitInput("", "mktree") + "\nauthor A <a@b> 1700000000 +0000\ncommitter A <a@b> 1700000000 +0000\n\nA line\n\nand more\n"
	sig, err := signature.Sign(rand.Reader, signer, []byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	raw := signature.Attach([]byte(payload), sig)
	id := repo.GitInput(string(raw), "hash-object", "-t", "commit", "-w", "--stdin")
	file := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	repo.Git("-c", "gpg.ssh.allowedSignersFile="+file, "verify-commit", id)
	if _, err := allowed(t, line).Commit(raw, "ada@example.org"); err != nil {
		t.Fatal(err)
	}
}

// Real signatures of gpg over real commits and tags of git.
func TestGitSignsWithGPG(t *testing.T) {
	home, err := os.MkdirTemp("", "gpg") // the path of the agent's socket must be short
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + home, "HOME=" + home}
	t.Cleanup(func() {
		_ = xec.Command{Path: "gpgconf", Args: []string{"--kill", "all"}, Env: env, Inherit: []string{"PATH"}}.Run(t.Context())
		_ = os.RemoveAll(home)
	})
	gpg := func(args ...string) []byte {
		return run(t, env, "gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	gpg("--quick-gen-key", "Ada <ada@example.org>", "ed25519", "sign", "never")
	gpg("--quick-gen-key", "Eve <eve@example.org>", "rsa2048", "sign", "never")
	armored := string(gpg("--armor", "--export", "ada@example.org"))
	repo := gittest.NewRepo(t)
	repo.Git("config", "user.signingkey", "ada@example.org")
	commit, tag := signed(t, repo, env)

	ada := allowed(t, armored)
	signer, err := ada.Commit(commit, "ada@example.org")
	if err != nil || signer.Name != "Ada <ada@example.org>" || len(signer.Key) != 40 {
		t.Fatalf("%v, %v", signer, err)
	}
	if _, err := ada.Tag(tag, ""); err != nil {
		t.Error(err)
	}
	tampered(t, ada, commit, tag)
	if _, err := allowed(t, string(gpg("--armor", "--export"))).Commit(commit, ""); err != nil {
		t.Errorf("with a ring of two: %v", err)
	}
	if _, err := allowed(t, string(gpg("--export"))).Commit(commit, ""); err != nil {
		t.Errorf("with a ring without armor: %v", err)
	}
	eve := allowed(t, string(gpg("--armor", "--export", "eve@example.org")))
	if _, err := eve.Commit(commit, ""); signature.ReasonOf(err) != signature.Unknown {
		t.Errorf("with another key: %v", err)
	}
	named := &signature.Keys{}
	if err := named.AddKey("ada", armored, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := named.Commit(commit, ""); signature.ReasonOf(err) != signature.Expired {
		t.Errorf("after the end: %v", err)
	}
	if _, err := signature.Parse(gpg("--armor", "--export-secret-keys", "ada@example.org")); err == nil || strings.Contains(err.Error(), "BEGIN") {
		t.Errorf("a private key: %v", err)
	}
	// SHA-1 collides: nothing that is signed with it counts.
	repo.Git("config", "gpg.program", weakGPG(t))
	commit, _ = signed(t, gittest.OpenRepo(t, again(t, repo)), env)
	if _, err := ada.Commit(commit, ""); signature.ReasonOf(err) != signature.Unsupported {
		t.Errorf("signed with SHA-1: %v", err)
	}
	// A key that is revoked as compromised counts for nothing, whenever it signed.
	run(t, env, "sh", "-c", `printf 'y\n1\n\ny\n' | gpg --no-tty --pinentry-mode loopback --passphrase '' --command-fd 0 --yes --gen-revoke ada@example.org >"$GNUPGHOME/rev" 2>/dev/null && gpg --batch --quiet --import "$GNUPGHOME/rev"`)
	commit = run(t, nil, "git", "--git-dir", repo.Dir, "cat-file", "commit", "main")
	if _, err := allowed(t, string(gpg("--armor", "--export", "ada@example.org"))).Commit(commit, ""); signature.ReasonOf(err) != signature.Expired {
		t.Errorf("by a revoked key: %v", err)
	}
}

func again(t *testing.T, repo *gittest.Repo) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "again.git")
	run(t, nil, "git", "init", "-q", "--bare", dir)
	for _, key := range []string{"user.signingkey", "gpg.program"} {
		run(t, nil, "git", "--git-dir", dir, "config", key, repo.Git("config", key))
	}
	return dir
}

func weakGPG(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gpg")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexec gpg --digest-algo SHA1 --allow-weak-digest-algos \"$@\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAllowedSignersThatAreWrong(t *testing.T) {
	_, public := sshKey(t, "ed25519")
	for text, want := range map[string]string{
		"ada@example.org":                                                    "PRINCIPALS",
		"ada@example.org " + public[:40]:                                     "not a public key",
		"ada@example.org cert-authority " + public:                           "cert-authority is not supported",
		"ada@example.org valid-after=\"soon\" " + public:                     `"soon" is no time`,
		"ada@example.org valid-after=20200101 " + public:                     "not in quotes",
		"ada@example.org valid-after=\"20200101\" x " + public:               "not a public key",
		"ada@example.org sudo " + public:                                     `no option "sudo"`,
		"\n\"ada@example.org " + public:                                      "line 2: a quote",
		"a@b valid-after=\"2021\",valid-before=\"20200101\" " + public:       "no time",
		"a@b valid-after=\"20210101Z\",valid-before=\"20200101Z\" " + public: "not before",
		"a@b namespaces=\"\" " + public:                                      "names none",
	} {
		if _, err := signature.ParseAllowedSigners([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	k, err := signature.ParseAllowedSigners([]byte(`"ada@example.org,bob smith" ` + public))
	if err != nil || k.Len() != 1 || k.Signers()[0].Name != "ada@example.org,bob smith" {
		t.Errorf("%v, %v", k.Signers(), err)
	}
}

// ssh-keygen is asked for the same: both have to agree on whom a line allows.
func TestAgreesWithSSHKeygen(t *testing.T) {
	file, public := sshKey(t, "ed25519")
	payload := []byte("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1600000000 +0000\ncommitter A <a@b> 1600000000 +0000\n\nx\n")
	dir := t.TempDir()
	data, signers := filepath.Join(dir, "data"), filepath.Join(dir, "signers")
	if err := os.WriteFile(data, payload, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "ssh-keygen", "-q", "-Y", "sign", "-f", file, "-n", "git", data)
	sig, err := os.ReadFile(data + ".sig")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"ada@example.org", "*", "a??@example.org", "a?@example.org", "*,!ada@*", "!ada@*,*", "bob,ada@example.org", "*@*.org", "ADA@example.org", "",
		`* namespaces="git"`, `* namespaces="g*"`, `* namespaces="file"`, `* namespaces="*,!git"`,
		`* valid-after="20200913122640Z"`, `* valid-after="20200913122641Z"`, `* valid-before="20200913122640Z"`, `* valid-before="20200913122639Z"`,
		`* valid-before="20200913122641Z"`, `* valid-after="20200913"`, `* valid-after="20200914Z"`, `* valid-after="202009131226Z",namespaces="git"`,
	} {
		text := line + " " + public + "\n"
		if err := os.WriteFile(signers, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		theirs := xec.Command{Path: "ssh-keygen", Args: []string{"-Y", "verify", "-f", signers, "-I", "ada@example.org", "-n", "git", "-s", data + ".sig", "-Overify-time=20200913122640Z"},
			Stdin: bytes.NewReader(payload), Inherit: []string{"PATH"}}.Run(t.Context())
		keys, err := signature.ParseAllowedSigners([]byte(text))
		if err == nil {
			_, err = keys.Verify(payload, sig, signature.When(payload), "ada@example.org")
		}
		if (theirs == nil) != (err == nil) {
			t.Errorf("%s: ssh-keygen says %v, this says %v", line, theirs, err)
		}
	}
}

func TestErrorsAreForPeople(t *testing.T) {
	for _, e := range []*signature.Error{{Reason: signature.Missing}, {Reason: signature.Unknown, Key: "SHA256:x"},
		{Reason: signature.Expired, Key: "K", Name: "Ada", Detail: "valid before 2020"}, {Reason: signature.Bad}, {Reason: signature.Unsupported, Detail: "d"}} {
		if s := e.Error(); s == "" || strings.Contains(s, "%") {
			t.Errorf("%+v says %q", e, s)
		}
	}
	if s := (&signature.Error{Reason: signature.Expired, Key: "K", Name: "Ada", Detail: "valid before 2020"}).Error(); s != "signed by the key K of Ada, which was not valid at that time: valid before 2020" {
		t.Error(s)
	}
	if fmt.Sprint(signature.Signer{Name: "Ada", Key: "K"}) != "Ada (K)" {
		t.Error("signer")
	}
}
