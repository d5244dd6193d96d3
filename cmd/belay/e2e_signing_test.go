package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// commitSigned makes two applications, a of which only what is signed is let in, and
// b; it returns the commit.
func (w *world) commitSigned(key, public string) string {
	w.t.Helper()
	w.commit("One", map[string]string{"belay/project.yaml": signing("head", public),
		"belay/a.yaml": inProject(application("a", "apps/a", "NS-a"), "signed"), "belay/b.yaml": application("b", "apps/b", "NS-b"),
		"apps/a/a.yaml": configMap("a", "1"), "apps/b/b.yaml": configMap("b", "1")})
	return w.repo.Sign("main", key)
}

// refusedRollback runs a rollback that has to end with an error that says all of
// this, and that nothing is pushed or held for.
func (s *serveProcess) refusedRollback(h *gittest.HTTP, app, to string, texts ...string) {
	s.w.t.Helper()
	head := s.w.repo.Resolve("main")
	out, stderr, code := s.cli("rollback", app, "--to", to, "--yes")
	if code != exitError {
		s.w.t.Fatalf("belay rollback %s ended with %d:\n%s%s", app, code, out, stderr)
	}
	for _, text := range texts {
		if !strings.Contains(stderr, text) {
			s.w.t.Errorf("the refusal lacks %q:\n%s", text, stderr)
		}
	}
	if n := strings.Count(stderr, "error:"); n != 1 || strings.Contains(out, "error") {
		s.w.t.Errorf("the refusal is told %d times:\n%s%s", n, out, stderr)
	}
	_, err := s.Rollback(s.w.t.Context(), app, belay.RollbackRequest{To: to}) // whoever does not look first is refused as well
	if belay.CodeOf(err) != belay.CodeDenied && belay.CodeOf(err) != belay.CodeInvalid {
		s.w.t.Errorf("without a look before: %v", err)
	}
	if at := s.w.repo.Resolve("main"); at != head {
		s.w.t.Errorf("main moved from %s to %s", head, at)
	}
	if r := pushes(h); len(r) > 0 {
		s.w.t.Errorf("it was pushed: %v", r)
	}
	if evs := slices.DeleteFunc(s.events(), func(ev belay.Event) bool { return ev.Type != belay.EventHold }); len(evs) > 0 {
		s.w.t.Errorf("it was held: %v", evs)
	}
}

func pushes(h *gittest.HTTP) []string {
	return slices.DeleteFunc(h.Requests(), func(r string) bool { return !strings.Contains(r, "git-receive-pack") })
}

// signer is what the command says of the server's key.
func (s *serveProcess) signer() belay.CommitSigner {
	s.w.t.Helper()
	out, stderr, code := s.cli("signing-key", "-o", "json")
	var signer belay.CommitSigner
	if err := json.Unmarshal([]byte(out), &signer); code != 0 || err != nil {
		s.w.t.Fatalf("belay signing-key ended with %d: %v\n%s%s", code, err, out, stderr)
	}
	return signer
}

// trusting adds signers to the Project that signing makes.
func trusting(project string, signers ...belay.CommitSigner) string {
	for _, s := range signers {
		project += fmt.Sprintf("      - {name: %q, key: %q}\n", s.Committer, s.Key)
	}
	return project
}

// Where a Project lets in only what is signed, a rollback of the server is let in
// when its key is named, and refused before anything happens when it is not.
func TestSignedRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	first := w.commitSigned(key, public)
	s := w.serve("--committer", "Fleet Robot <robot@example.org>")
	s.awaitSynced("a", "b")
	s.pushSigned(key, "Two", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/b/b.yaml": configMap("b", "2")})
	s.awaitSynced("a", "b")
	w.awaitValue(w.ns("a"), "a", "2")

	// The key of the server is not among the signers.
	signer := s.signer()
	s.refusedRollback(h, "a", first, `project "signed" would not let the commit in`, signer.Fingerprint, "none of the trusted keys",
		`spec.signatures.signers of project "signed" (belay/project.yaml:1)`, fmt.Sprintf("- {name: %q, key: %q}", signer.Committer, signer.Key), "git am -S FILE")
	if signer.Committer != "Fleet Robot <robot@example.org>" || signer.AllowedSigner != `robot@example.org namespaces="git" `+signer.Key {
		t.Errorf("the signer is %+v", signer)
	}
	// A dry run shows the commit and why it would be refused; a patch has no signature.
	plan, err := s.Rollback(t.Context(), "a", belay.RollbackRequest{To: first, DryRun: true})
	if err != nil || plan.Problem == nil || !strings.Contains(plan.Problem.Message, "none of the trusted keys") || len(plan.Commits) != 1 ||
		plan.Commits[0].Signer != signer.String() || !plan.Commits[0].MustBeSigned {
		t.Errorf("the dry run says %v, %+v", err, plan)
	}
	patch := filepath.Join(t.TempDir(), "back.patch")
	if out := s.rollback("a", "--to", first, "--patch", patch); !strings.Contains(out, "It is not signed: a patch has no signature, and to be deployed it needs one") ||
		!strings.Contains(out, "git am -S "+patch) || strings.Contains(out, "error") {
		t.Errorf("of the patch it says\n%s", out)
	}

	// Once its key is named the rollback is let in and deployed.
	s.pushSigned(key, "Trust the server", map[string]string{"belay/project.yaml": trusting(signing("head", public), signer)})
	s.awaitSynced("a", "b")
	out := s.rollback("a", "--to", first, "--yes", "--reason", "a is down")
	if !strings.Contains(out, "It is signed by "+signer.String()) {
		t.Errorf("it says\n%s", out)
	}
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitSynced("a", "b")
	back := w.repo.Resolve("main")
	w.verifyCommit(s, back)
	s.awaitEvent(belay.EventRollback, "a", "commit "+back[:10], "signed by "+signer.String())
	devtest.Await(t, "the signer to be on the record", func() error {
		out, _, _ := s.cli("audit", "list", "--type", "rollback", "-o", "json")
		if !strings.Contains(out, signer.Fingerprint) || !strings.Contains(out, back) {
			return fmt.Errorf("on the record is\n%s", out)
		}
		return nil
	})

	// With every commit to be signed, too, also after a restart.
	s.pushSigned(key, "Three", map[string]string{"belay/project.yaml": trusting(signing("all", public), signer), "apps/a/a.yaml": configMap("a", "3")})
	w.awaitValue(w.ns("a"), "a", "3")
	s.awaitSynced("a", "b")
	s.kill()
	s = w.serve("--committer", "Fleet Robot <robot@example.org>")
	s.awaitSynced("a", "b")
	if again := s.signer(); again != signer {
		t.Errorf("after a restart the signer is %+v", again)
	}
	s.rollback("a", "--to", first, "--yes")
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitSynced("a", "b")
}

// verifyCommit has git check a commit with what the command prints.
func (w *world) verifyCommit(s *serveProcess, commit string) {
	w.t.Helper()
	line, stderr, code := s.cli("signing-key")
	if code != 0 {
		w.t.Fatalf("belay signing-key ended with %d: %s", code, stderr)
	}
	file := filepath.Join(w.t.TempDir(), "allowed_signers")
	write(w.t, file, line)
	w.repo.Git("-c", "gpg.ssh.allowedSignersFile="+file, "verify-commit", commit)
}

// A signature stands for all that a commit contains. What a Project refused does not
// come in because somebody, or nobody, rolls something else back on top of it.
func TestRollbackDoesNotSignWhatWasRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	w.commit("One", map[string]string{"belay/project.yaml": signing("head", public),
		"belay/a.yaml": inProject(application("a", "apps/a", "NS-a"), "signed"), "belay/other.yaml": inProject(application("other", "apps/other", "NS-other"), "signed"),
		"belay/open.yaml": application("open", "apps/open", "NS-open"),
		"apps/a/a.yaml":   configMap("a", "1"), "apps/other/o.yaml": configMap("o", "1"), "apps/open/b.yaml": configMap("b", "1")})
	first := w.repo.Sign("main", key)
	s := w.serve()
	s.awaitSynced("a", "open", "other")
	s.pushSigned(key, "Trust the server", map[string]string{"belay/project.yaml": trusting(signing("head", public), s.signer()), "apps/a/a.yaml": configMap("a", "2"), "apps/open/b.yaml": configMap("b", "2")})
	s.awaitSynced("a", "open", "other")

	// Evil is refused, and stays refused whatever goes back on top of it.
	s.push("Evil", map[string]string{"apps/other/o.yaml": configMap("o", "evil"), "apps/open/b.yaml": configMap("b", "3")})
	evil := w.repo.Resolve("main")
	s.awaitMessage("other", "is refused", evil[:10])
	w.awaitValue(w.ns("open"), "b", "3")
	s.refusedRollback(h, "a", first, `project "signed" lets in only what is signed, and the commit is not`, "nothing is signed on top of", "commit "+evil[:10], "no signature")

	// An application that needs no signatures goes back, without one.
	if out := s.rollback("open", "--to", first, "--yes"); !strings.Contains(out, "It is not signed: nothing is signed on top of what project \"signed\" does not let in") ||
		!strings.Contains(out, `note: project "signed" will not let the commit in, and stays at what it has`) {
		t.Errorf("it says\n%s", out)
	}
	w.awaitValue(w.ns("open"), "b", "1")
	back := w.repo.Resolve("main")
	s.awaitMessage("other", "is refused", back[:10], "no signature")
	s.awaitEvent(belay.EventRollback, "open", "not signed: nothing is signed on top of")
	for name, want := range map[string]string{"a": "2", "other": "1"} {
		if v, _ := w.value(w.ns(name), map[string]string{"a": "a", "other": "o"}[name]); v != want {
			t.Errorf("%s has the value %q, want %q", name, v, want)
		}
	}

	// Nor does it come back in with an application that may go back to it.
	s.pushSigned(key, "Good again", map[string]string{"apps/other/o.yaml": configMap("o", "1"), "apps/open/b.yaml": configMap("b", "4")})
	s.awaitSynced("a", "open", "other")
	if out := s.rollback("open", "--to", evil, "--yes"); !strings.Contains(out, "It is not signed: nothing is signed that goes back to what project \"signed\" does not let in") {
		t.Errorf("it says\n%s", out)
	}
	w.awaitValue(w.ns("open"), "b", "3")

	// Once somebody vouches for all of it, it goes on.
	s.pushSigned(key, "Mine", map[string]string{"apps/a/a.yaml": configMap("a", "3")})
	s.awaitSynced("a", "open", "other")
	s.rollback("a", "--to", first, "--yes")
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitSynced("a", "open", "other")
}

// A repository that a Project follows under another URL is the same repository.
func TestRollbackDoesNotSignWhatWasRefusedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	elsewhere := gittest.ServeHTTP(t, filepath.Dir(w.repo.Dir), gittest.HTTPOptions{}).URL + "/fleet.git"
	far := strings.Replace(inProject(application("far", "apps/far", "NS-far"), "signed"), "  source:\n", "  source:\n    repo: "+elsewhere+"\n", 1)
	w.commit("One", map[string]string{"belay/project.yaml": signing("head", public), "belay/far.yaml": far, "belay/open.yaml": application("open", "apps/open", "NS-open"),
		"apps/far/f.yaml": configMap("f", "1"), "apps/open/b.yaml": configMap("b", "1")})
	first := w.repo.Sign("main", key)
	s := w.serve()
	s.awaitSynced("far", "open")
	both := func() {
		t.Helper()
		s.hook()
		if _, err := s.Push(t.Context(), elsewhere); err != nil {
			t.Fatal(err)
		}
	}
	s.pushSigned(key, "Trust the server", map[string]string{"belay/project.yaml": trusting(signing("head", public), s.signer()), "apps/open/b.yaml": configMap("b", "2"), "apps/far/f.yaml": configMap("f", "2")})
	both()
	s.awaitSynced("far", "open")
	w.commit("Evil", map[string]string{"apps/far/f.yaml": configMap("f", "evil"), "apps/open/b.yaml": configMap("b", "3")})
	evil := w.repo.Resolve("main")
	both()
	s.awaitMessage("far", "is refused", evil[:10])
	w.awaitValue(w.ns("open"), "b", "3")
	if out := s.rollback("open", "--to", first, "--yes"); !strings.Contains(out, "It is not signed: nothing is signed on top of what project \"signed\" does not let in") {
		t.Errorf("it says\n%s", out)
	}
	both()
	s.awaitMessage("far", "is refused", w.repo.Resolve("main")[:10], "no signature")
	if v, _ := w.value(w.ns("far"), "f"); v != "2" {
		t.Errorf("far has the value %q", v)
	}
}

// Without a key that works a rollback is refused where it has to be signed, and
// nowhere else; a branch for a pull request is signed by those who merge it.
func TestRollbackWithoutAKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	first := w.commitSigned(key, public)
	broken := filepath.Join(w.data, commitKey)
	if err := os.MkdirAll(w.data, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, broken, "broken")
	s := w.serve()
	s.awaitSynced("a", "b")
	if _, stderr, code := s.cli("signing-key"); code != exitError || !strings.Contains(stderr, "commit-signing.key cannot sign commits: not a private key") {
		t.Errorf("belay signing-key ended with %d: %s", code, stderr)
	}
	s.pushSigned(key, "Two", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/b/b.yaml": configMap("b", "2")})
	s.awaitSynced("a", "b")
	s.refusedRollback(h, "a", first, `project "signed" lets in only what is signed, and the commit is not`, "commit-signing.key cannot sign commits", "ssh-keygen -t ed25519")

	// As a pull request it is for others to sign.
	pulling := strings.Replace(signing("all", public), "  signatures:\n", "  rollback: {push: pullRequest}\n  signatures:\n", 1)
	s.pushSigned(key, "Pull requests", map[string]string{"belay/project.yaml": pulling})
	s.awaitSynced("a", "b")
	if out := s.rollback("a", "--to", first, "--yes"); !strings.Contains(out, "was pushed to belay/rollback-a-"+first[:10]) || !strings.Contains(out, "merge it as a commit of its own that is signed") {
		t.Errorf("it says\n%s", out)
	}
	// Where nobody wants a signature there is none.
	if out := s.rollback("b", "--to", first, "--yes"); !strings.Contains(out, "It is not signed: ") {
		t.Errorf("it says\n%s", out)
	}
	w.awaitValue(w.ns("b"), "b", "1")

	// A key that is mended counts at once.
	if err := os.Remove(broken); err != nil {
		t.Fatal(err)
	}
	s.pushSigned(key, "Trust the server", map[string]string{"belay/project.yaml": trusting(signing("head", public), s.signer())})
	s.awaitSynced("a", "b")
	s.rollback("a", "--to", first, "--yes")
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitSynced("a", "b")
}

// Definitions that have to be signed: the file of keys on the command line decides,
// and the key may be one that was brought.
func TestSignedRollbackOfDefinitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	own, ownPublic := gittest.SSHKey(t)
	signers := filepath.Join(t.TempDir(), "signers")
	write(t, signers, "ada@example.org "+public+"\n")
	w.commit("One", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	first := w.repo.Sign("main", key)
	s := w.serve("--config-signers", signers, "--require-signed-config", "--commit-signing-key", own)
	s.awaitSynced("a")
	s.pushSigned(key, "Two", map[string]string{"belay/a.yaml": application("a", "apps/new", "NS-a"), "apps/a/a.yaml": "", "apps/new/a.yaml": configMap("a", "2")})
	w.awaitValue(w.ns("a"), "a", "2")
	s.awaitSynced("a")
	line, _, _ := s.cli("signing-key")
	if want := `belay@localhost namespaces="git" ` + ownPublic + "\n"; line != want {
		t.Fatalf("the key is %q, want %q", line, want)
	}
	s.refusedRollback(h, "a", first, "this server would not let the commit in", "none of the trusted keys", "add to "+signers+": "+strings.TrimSpace(line))

	write(t, signers, "ada@example.org "+public+"\n"+strings.Replace(line, `namespaces="git"`, `namespaces="git",valid-before="20200101Z"`, 1))
	s.refusedRollback(h, "a", first, "not valid at that time", "mend when the key of this server is valid in "+signers)

	write(t, signers, "ada@example.org "+public+"\n"+line)
	s.rollback("a", "--to", first, "--yes")
	w.awaitValue(w.ns("a"), "a", "1")
	s.awaitSynced("a")
	w.verifyCommit(s, w.repo.Resolve("main"))
}

// An automatic rollback is signed as any other.
func TestSignedAutomaticRollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.serveOverHTTP()
	key, public := gittest.SSHKey(t)
	app := inProject(application("a", "apps/a", "NS-a", "  sync: {rollback: {window: 3m}, retry: {limit: 1, first: 100ms}}\n"), "signed")
	w.commit("One", map[string]string{"belay/project.yaml": signing("all", public), "belay/a.yaml": app, "apps/a/a.yaml": configMap("a", "1")})
	w.repo.Sign("main", key)
	s := w.serve()
	s.awaitSynced("a")
	wrong := "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {ports: [{port: 99999999}]}\n"

	// Not trusted: held, and said what to do; Git stays as it is.
	bad := s.pushSigned(key, "Bad", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/a/wrong.yaml": wrong})
	signer := s.signer()
	s.awaitEvent(belay.EventRollback, "a", "but no commit was made", "none of the trusted keys", fmt.Sprintf("- {name: %q, key: %q}", signer.Committer, signer.Key))
	if at := w.repo.Resolve("main"); at != bad {
		t.Errorf("main is at %s", at)
	}
	w.awaitValue(w.ns("a"), "a", "1")

	// Trusted: committed and let in.
	s.pushSigned(key, "Good", map[string]string{"belay/project.yaml": trusting(signing("all", public), signer), "apps/a/a.yaml": configMap("a", "3"), "apps/a/wrong.yaml": ""})
	w.awaitValue(w.ns("a"), "a", "3")
	s.awaitSynced("a")
	s.pushSigned(key, "Worse", map[string]string{"apps/a/a.yaml": configMap("a", "4"), "apps/a/wrong.yaml": wrong})
	s.awaitEvent(belay.EventRollback, "a", "signed by "+signer.String())
	s.awaitEvent(belay.EventRelease, "a", "Git says the same now")
	w.awaitValue(w.ns("a"), "a", "3")
	s.awaitSynced("a")
	w.verifyCommit(s, w.repo.Resolve("main"))
}
