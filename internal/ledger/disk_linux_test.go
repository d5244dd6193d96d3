package ledger_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/ledger"
)

// await waits for a condition of something that goes on beside the test.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(devtest.Patience); !ok(); {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// On a full disk nothing new begins, and what happened is written into the room
// that was kept for it. With more room everything goes on by itself.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := devtest.Disk(t, "16m")
	dir, ballast := filepath.Join(disk, "ledger.git"), filepath.Join(disk, "ballast")
	k := key(t, "key")
	l := open(t, ledger.Options{Dir: dir, Key: k})
	record(t, l, belay.Event{Type: belay.EventStarted, Message: "event 0"})
	devtest.FillDisk(t, ballast)
	start := func() (string, error) {
		return l.Record(t.Context(), belay.Event{Type: belay.EventSyncStarted, Application: "a", Cluster: "c", Message: "deploying"})
	}
	_, err := start()
	if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "the disk is full") || !strings.Contains(err.Error(), disk) {
		t.Fatalf("a deployment on a full disk: %v", err)
	}
	if len(l.Running()) != 0 {
		t.Error("it is said to run")
	}
	for i := 1; i <= 5; i++ {
		l.Publish(belay.Event{Type: belay.EventHealth, Message: fmt.Sprintf("event %d", i)})
	}
	await(t, "what happened to be written into the reserve", func() bool { return l.Stats().Queue == 0 && l.Stats().Seq == 6 })
	if _, err := start(); err == nil || l.Stats().Problem == nil {
		t.Errorf("a deployment began in the reserve: %v, %+v", err, l.Stats())
	}
	// Now there is not even that.
	devtest.FillDisk(t, ballast+"2")
	for i := 6; i <= 300; i++ {
		l.Publish(belay.Event{Type: belay.EventHealth, Message: fmt.Sprintf("event %d", i), Reason: strings.Repeat("x", 1000)})
	}
	if _, err := start(); err == nil {
		t.Error("a deployment began on a disk without any room")
	}
	if err := errors.Join(os.Remove(ballast), os.Remove(ballast+"2")); err != nil {
		t.Fatal(err)
	}
	var id string
	await(t, "a deployment to begin", func() bool { id, err = start(); return err == nil })
	if id != "main/302" {
		t.Errorf("the deployment is %s", id)
	}
	if st := l.Stats(); st.Problem != nil || st.Queue != 0 {
		t.Errorf("after that: %+v", st)
	}
	closeLedger(t, l)
	git(t, dir, "fsck", "--strict", "--no-dangling")
	for n, line := range strings.Split(git(t, dir, "log", "--reverse", "--format=%s", "ledger/main", "--", "event.json"), "\n") {
		if want := fmt.Sprintf("event %d", n); n <= 300 && line != want {
			t.Fatalf("%q stands at the place of %q", line, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", "tmp_*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	// It opens on a full disk, and knows what it knew.
	devtest.FillDisk(t, ballast)
	if err := os.Remove(filepath.Join(disk, "ledger.reserve")); err != nil {
		t.Fatal(err)
	}
	devtest.FillDisk(t, ballast+"2")
	l = open(t, ledger.Options{Dir: dir, Key: k})
	if r := l.Running(); len(r) != 1 || r[0].ID != id {
		t.Errorf("running: %+v", r)
	}
	if _, err := start(); err == nil || !strings.Contains(err.Error(), "the disk is full") {
		t.Errorf("a deployment on a disk that was full from the start: %v", err)
	}
	closeLedger(t, l)
}
