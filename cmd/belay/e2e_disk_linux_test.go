package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/belaydev/belay/internal/devtest"
)

// On a full disk nothing is written to a cluster, as it could not be put on the
// record. It is said, and everything goes on once there is room.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.data = filepath.Join(devtest.Disk(t, "48m"), "data")
	w.commit("Two applications", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"),
		"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/b/a.yaml": documents(configMap("b", "1"),
			"apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v1}\n"),
	})
	s := w.serve()
	s.awaitSynced("a", "b")
	ballast := filepath.Join(filepath.Dir(w.data), "ballast")
	devtest.FillDisk(t, ballast)
	// What the ledger keeps in reserve is room for a small commit.
	large := make([]byte, 8<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(large) // it always fills it
	w.commit("Change one", map[string]string{"apps/a/a.yaml": configMap("a", "2"), "large": string(large)})
	s.hook()
	// The new commit cannot be fetched. That is said.
	s.awaitProblem("the disk is full", "make room in the data directory")
	w.patch(w.ns("a"), "a", "kubectl-edit", `{"data":{"value":"x"}}`)
	// What cannot be recorded is not written, not even to set something back.
	s.awaitProblem("ledger.git cannot be written: the disk is full", "make room on the disk of "+w.data)
	s.awaitMessage("a", "nothing is written before it is on the record")
	w.awaitValue(w.ns("a"), "a", "x")
	if s.metric("belay_ledger_failing") != 1 {
		t.Error("the metrics do not say that the ledger fails")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	s.hook()
	s.awaitSynced("a", "b")
	w.awaitValue(w.ns("a"), "a", "2")
	// It starts on a full disk, too, from what it had.
	s.stop()
	devtest.FillDisk(t, ballast)
	mark := w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced("a", "b")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("it wrote%s", listing(r))
	}
}
