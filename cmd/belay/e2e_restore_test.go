package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// restoreFleet is a small fleet with everything that could tell two lives of a
// server apart: a Secret, a hook that leaves no object, something to prune.
func restoreFleet() (files map[string]string, names []string) {
	files, names = mixedFleet(6)
	files["apps/app-00/hook.yaml"] = hookJob("migrate", "PreSync", "", belay.AnnotationHookDelete, "HookSucceeded")
	return files, names
}

// restorable is a world in which that fleet is delivered.
func restorable(t *testing.T) (w *world, s *serveProcess, names []string) {
	t.Helper()
	w = newWorld(t)
	files, names := restoreFleet()
	w.commit("A fleet", files)
	s = w.serve()
	s.awaitSynced(names...)
	return w, s, names
}

// The repository is moved: a mirror of it takes its place under another URL. Nothing
// is written for that, nothing is pruned, and what the mirror says next is done.
func TestRepositoryMoved(t *testing.T) {
	t.Parallel()
	w, s, names := restorable(t)
	uid := w.uid(w.ns("app-00"), "config")

	mirror := filepath.Join(t.TempDir(), "elsewhere.git")
	w.repo.Git("clone", "-q", "--mirror", w.repo.Dir, mirror)
	w.repo.Git("--git-dir", w.repo.Dir, "branch", "-m", "main", "gone") // nobody is to look there any more
	w.repo = gittest.OpenRepo(t, mirror)
	w.repo.Git("config", "uploadpack.allowAnySHA1InWant", "true")
	w.url = w.repo.URL()
	for _, disk := range []string{"kept", "lost"} {
		s.stop()
		if disk == "lost" {
			w.loseDisk()
		}
		mark := w.cp.Mark(t)
		s = w.serve()
		s.awaitSynced(names...)
		secrets := 0
		for _, r := range w.writes(mark) {
			if r.Resource == "secrets" && r.Verb == "patch" && disk == "lost" { // their digests have a new key
				secrets++
				continue
			}
			t.Errorf("with the disk %s: %s", disk, r)
		}
		if secrets > 2 {
			t.Errorf("%d Secrets were written, there are 2", secrets)
		}
	}
	if now := w.uid(w.ns("app-00"), "config"); now != uid {
		t.Errorf("the object is another one: %s, was %s", now, uid)
	}
	s.push("Change one and remove one", map[string]string{"apps/app-00/config.yaml": configMap("config", "two") + "---\n" + configMap("other", "one"),
		"belay/app-03.yaml": ""})
	w.awaitValue(w.ns("app-00"), "config", "two")
	s.awaitGone("app-03")
	w.awaitValue(w.ns("app-03"), "config", "")
}

// A namespace is deleted with everything in it: it comes back as Git declares it.
func TestNamespaceDeletedByHand(t *testing.T) {
	t.Parallel()
	w, s, names := restorable(t)
	var before map[string]string
	devtest.Await(t, "what there is", func() (err error) { // a group of another test may be going
		before, err = w.inventory()
		return err
	})
	uid := w.uid(w.ns("app-00"), "config")
	w.make(w.ns("app-00"), "stays", "", nil, nil) // or the namespace may be there again before anybody saw it go
	w.patch(w.ns("app-00"), "stays", "kubectl-edit", `{"metadata":{"finalizers":["example.com/stays"]}}`)
	for _, app := range []string{"app-00", "app-01"} {
		if err := w.kube.CoreV1().Namespaces().Delete(t.Context(), w.ns(app), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitMessage("app-00", "namespace", "is being deleted")
	w.patch(w.ns("app-00"), "stays", "kubectl-edit", `{"metadata":{"finalizers":null}}`)
	s.awaitInventory(names, before)
	if w.uid(w.ns("app-00"), "config") == uid {
		t.Error("nothing was deleted")
	}
}

// backUp copies what a backup has to have while the server runs, as the guide says:
// the ledger with git, keys and the log of hooks as files.
func (w *world) backUp() (dir string) {
	w.t.Helper()
	dir = filepath.Join(w.t.TempDir(), "backup")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.repo.Git("clone", "-q", "--mirror", filepath.Join(w.data, ledgerDir), filepath.Join(dir, ledgerDir))
	for _, file := range []string{ledgerKey, "secret-digest.key", "runs"} {
		b, err := os.ReadFile(filepath.Join(w.data, file))
		if err != nil {
			w.t.Fatal(err)
		}
		write(w.t, filepath.Join(dir, file), string(b))
	}
	return dir
}

// ledgerTip counts the records of a ledger, and names the latest.
func (w *world) ledgerTip(data string) (n int, tip string) {
	w.t.Helper()
	r := gittest.OpenRepo(w.t, filepath.Join(data, ledgerDir))
	branch := strings.TrimSpace(r.Git("for-each-ref", "--format=%(refname)", "refs/heads/ledger/"))
	n, err := strconv.Atoi(strings.TrimSpace(r.Git("rev-list", "--count", branch)))
	if err != nil {
		w.t.Fatal(err)
	}
	return n, r.Resolve(branch)
}

// A backup that is older than the fleet is put onto a new disk: the fleet is found
// as it is, nothing is written for that, no hook runs again, and the ledger goes on
// where the backup ends.
func TestRestoreFromBackup(t *testing.T) {
	t.Parallel()
	w, s, names := restorable(t)
	backup := w.backUp()
	kept, tip := w.ledgerTip(backup)
	if kept < len(names) {
		t.Fatalf("%d records in the backup", kept)
	}
	s.push("After the backup", map[string]string{"apps/app-03/config.yaml": configMap("config", "two") + "---\n" + configMap("other", "one")})
	w.awaitValue(w.ns("app-03"), "config", "two")
	s.awaitSynced(names...)
	s.kill()
	w.loseDisk()
	if err := os.Rename(backup, w.data); err != nil {
		t.Fatal(err)
	}

	mark := w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced(names...)
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("after the restore requests are%s", listing(r))
	}
	s.push("After the restore", map[string]string{"apps/app-03/config.yaml": configMap("config", "three") + "---\n" + configMap("other", "one")})
	w.awaitValue(w.ns("app-03"), "config", "three")
	s.awaitSynced(names...)
	s.stop()
	n, _ := w.ledgerTip(w.data)
	ledger := gittest.OpenRepo(t, filepath.Join(w.data, ledgerDir))
	branch := strings.TrimSpace(ledger.Git("for-each-ref", "--format=%(refname)", "refs/heads/ledger/"))
	ledger.Git("merge-base", "--is-ancestor", tip, branch) // fails the test if it is not
	if n <= kept {
		t.Errorf("%d records, the backup had %d", n, kept)
	}
}

// With a remote no record is lost: where the ledger is gone, where the whole disk is,
// and where a backup is older than the remote, the ledger goes on where the remote
// ends, and what was done before is answered.
func TestLedgerFetchedBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := gittest.NewRepo(t)
	files, names := restoreFleet()
	w.commit("A fleet", files)
	args := []string{"--ledger-remote", hub.URL(), "--ledger-writer", "main"}
	s := w.serve(args...)
	s.awaitSynced(names...)
	pushed := func() string {
		t.Helper()
		var tip string
		devtest.Await(t, "the ledger to be pushed", func() error {
			_, tip = w.ledgerTip(w.data)
			if there, _ := w.ledgerTipOf(hub); there != tip {
				return fmt.Errorf("the remote is at %s, the ledger at %s", there, tip)
			}
			return nil
		})
		return tip
	}
	pushed()
	backup := w.backUp()
	_, old := w.ledgerTip(backup)
	s.push("After the backup", map[string]string{"apps/app-03/config.yaml": configMap("config", "two") + "---\n" + configMap("other", "one")})
	w.awaitValue(w.ns("app-03"), "config", "two")
	s.awaitSynced(names...)
	first := w.repo.Resolve("main")
	for _, loss := range []struct {
		name string
		lose func()
	}{
		{"the ledger is gone", func() {
			if err := os.RemoveAll(filepath.Join(w.data, ledgerDir)); err != nil {
				t.Fatal(err)
			}
		}},
		{"a backup is older than the remote", func() {
			w.loseDisk()
			if err := os.Rename(backup, w.data); err != nil {
				t.Fatal(err)
			}
		}},
		{"the disk is gone", w.loseDisk},
	} {
		tip := pushed()
		s.kill()
		loss.lose()
		if tip == old {
			t.Errorf("%s: the backup is not older", loss.name)
		}
		mark := w.cp.Mark(t)
		s = w.serve(args...)
		s.awaitSynced(names...)
		for _, r := range w.writes(mark) {
			if r.Resource != "secrets" {
				t.Errorf("%s: %s", loss.name, r)
			}
		}
		ledger := gittest.OpenRepo(t, filepath.Join(w.data, ledgerDir))
		ledger.Git("merge-base", "--is-ancestor", tip, "ledger/main") // fails the test if it is not
		// The end of the newest may be told anew.
		devtest.Await(t, loss.name+": the deployments of app-03 to be known", func() error {
			all, _, err := s.Deployments(t.Context(), belay.RecordQuery{Applications: []string{"app-03"}})
			if err != nil {
				return err
			}
			if len(all) < 2 {
				return fmt.Errorf("%d are", len(all))
			}
			if all[0].Revision != first || all[0].Result != belay.Succeeded {
				return fmt.Errorf("the newest is %+v", all[0])
			}
			return nil
		})
	}
}

// ledgerTipOf is where the branch of a ledger is.
func (w *world) ledgerTipOf(r *gittest.Repo) (tip string, ok bool) {
	w.t.Helper()
	out := strings.Fields(r.Git("for-each-ref", "--format=%(objectname)", "refs/heads/ledger/main"))
	if len(out) != 1 {
		return "", false
	}
	return out[0], true
}
