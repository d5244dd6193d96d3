package main

import (
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

// signing is a Project whose sources have to be signed.
func signing(commits, public string) string {
	return fmt.Sprintf(`apiVersion: belay.dev/v1alpha1
kind: Project
metadata: {name: signed}
spec:
  sources: [{repo: "**"}]
  destinations: [{}]
  signatures:
    commits: %s
    signers:
      - {name: Ada, key: %q}
`, commits, public)
}

func inProject(app, project string) string {
	return strings.Replace(app, "spec:\n", "spec:\n  project: "+project+"\n", 1)
}

// pushSigned is push with a signed commit.
func (s *serveProcess) pushSigned(key, subject string, files map[string]string) string {
	s.w.t.Helper()
	s.w.commit(subject, files)
	id := s.w.repo.Sign("main", key)
	s.hook()
	return id
}

// What is signed is deployed, what is not is refused and changes nothing in the
// cluster, also after a restart; and a signed commit on top of a refused one is
// enough only where the newest alone has to be signed.
func TestSignedSources(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, public := gittest.SSHKey(t)
	fleet := map[string]string{"belay/project.yaml": signing("all", public), "belay/a.yaml": inProject(application("a", "apps/a", "NS-a"), "signed"),
		"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/a/a.yaml": configMap("a", "1"), "apps/b/b.yaml": configMap("b", "1")}
	w.commit("A signed fleet", fleet)
	w.repo.Sign("main", key)
	s := w.serve()
	s.awaitSynced("a", "b")
	w.awaitValue(w.ns("a"), "a", "1")

	// Unsigned: the application of the project stays, the other one goes on.
	mark := w.cp.Mark(t)
	s.push("Not signed", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "apps/b/b.yaml": configMap("b", "2")})
	unsigned := w.repo.Resolve("main")
	w.awaitValue(w.ns("b"), "b", "2")
	s.awaitMessage("a", "is refused", "no signature", unsigned[:10])
	s.awaitEvent(belay.EventRefused, unsigned[:10], "no signature")
	stays := func() {
		t.Helper()
		if v, _ := w.value(w.ns("a"), "a"); v != "1" {
			t.Fatalf("a refused commit was deployed: %q", v)
		}
	}
	stays()
	if writes := w.writes(mark); slices.ContainsFunc(writes, func(r devtest.Request) bool { return r.Namespace == w.ns("a") }) {
		t.Errorf("written for what was refused: %v", writes)
	}
	if n := len(slices.DeleteFunc(s.events(), func(ev belay.Event) bool { return ev.Type != belay.EventRefused })); n != 1 {
		t.Errorf("refused %d times", n)
	}

	// What was accepted last is still what counts after a restart: drift is healed to it.
	s.kill()
	s = w.serve()
	s.awaitMessage("a", "is refused", unsigned[:10])
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"edited"}}`)
	w.awaitValue(w.ns("a"), "a", "1")

	// Signed on top, and the one between is not.
	s.pushSigned(key, "Signed again", map[string]string{"apps/a/a.yaml": configMap("a", "3")})
	s.awaitMessage("a", "is refused", unsigned[:10], "which "+w.repo.Resolve("main")[:10]+" brings")
	stays()

	// With the newest alone to be signed it is deployed.
	s.pushSigned(key, "The newest is enough", map[string]string{"belay/project.yaml": signing("head", public)})
	w.awaitValue(w.ns("a"), "a", "3")
	s.awaitSynced("a", "b")

	// Only warned of: deployed, and told.
	s.push("Warn", map[string]string{"belay/project.yaml": strings.Replace(signing("head", public), "signatures:\n", "signatures:\n    mode: warn\n", 1), "apps/a/a.yaml": configMap("a", "4")})
	w.awaitValue(w.ns("a"), "a", "4")
	s.awaitMessage("a", "no signature", "deployed all the same")
}

// Definitions themselves: those of an unsigned commit are not loaded, so that nobody
// who may push can take the rules away.
func TestSignedDefinitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key, public := gittest.SSHKey(t)
	signers := filepath.Join(t.TempDir(), "signers")
	if err := os.WriteFile(signers, []byte("ada@example.org "+public+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.commit("A signed fleet", map[string]string{"belay/project.yaml": signing("head", public), "belay/a.yaml": inProject(application("a", "apps/a", "NS-a"), "signed"), "apps/a/a.yaml": configMap("a", "1")})
	w.repo.Sign("main", key)
	s := w.serve("--config-signers", signers, "--require-signed-config")
	s.awaitSynced("a")
	s.push("Take the rules away", map[string]string{"belay/project.yaml": strings.Replace(signing("head", public), "signatures:\n", "signatures:\n    mode: off\n", 1),
		"apps/a/a.yaml": configMap("a", "evil"), "belay/b.yaml": application("b", "apps/a", "NS-b")})
	s.awaitProblem("is refused", "no signature")
	if _, there := s.app("b"); there {
		t.Error("a definition of an unsigned commit was loaded")
	}
	s.kill()
	s = w.serve("--config-signers", signers, "--require-signed-config")
	s.awaitProblem("is refused", "no signature")
	s.awaitMessage("a", "is refused")
	if v, _ := w.value(w.ns("a"), "a"); v != "1" {
		t.Fatalf("%q was deployed", v)
	}
	s.pushSigned(key, "As it should be", map[string]string{"belay/project.yaml": signing("head", public), "apps/a/a.yaml": configMap("a", "2"), "belay/b.yaml": ""})
	w.awaitValue(w.ns("a"), "a", "2")
	s.awaitSynced("a")
}
