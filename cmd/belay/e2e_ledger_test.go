package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger"
)

// What a server did is in its ledger and on the remote, and comes back from there
// when the disk is lost.
func TestLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := gittest.NewRepo(t)
	key := filepath.Join(t.TempDir(), "ledger.key") // not lost with the disk
	if _, err := ledger.MakeKey(key); err != nil {
		t.Fatal(err)
	}
	args := []string{"--ledger-remote", hub.URL(), "--ledger-writer", "main", "--ledger-key", key}
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	s := w.serve(args...)
	s.awaitSynced("a")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/api/v1/sync?token=hunter2", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	s.awaitEvent(belay.EventDenied, "evil.example", "/api/v1/sync")
	if s.metric("belay_ledger_failing") != 0 || s.metric(`belay_ledger_record{state="written"}`) < 3 {
		t.Errorf("metrics:\n%s", s.get("/metrics"))
	}
	s.stop()

	repo := gittest.OpenRepo(t, filepath.Join(w.data, ledgerDir))
	tip := repo.Resolve("ledger/main")
	// The end of a server does not wait long for the last push.
	devtest.Await(t, "the end of a server to be on the remote", func() error {
		got := hub.Resolve("ledger/main")
		if got == tip {
			return nil
		}
		s = w.serve(args...)
		s.awaitSynced("a")
		s.stop()
		err := fmt.Errorf("the remote is at %q, the ledger was at %s", got, tip)
		tip = repo.Resolve("ledger/main")
		return err
	})
	log := repo.Git("log", "--reverse", "--format=%(trailers:key=Belay-Event,valueonly,separator=%x2C)", "ledger/main")
	all := strings.Fields(log)
	if len(all) < 6 || all[0] != "started" || all[len(all)-2] != "stopped" || all[len(all)-1] != "checkpoint" ||
		!strings.Contains(log, "\nsyncStarted\n") || !strings.Contains(log, "\nsynced\n") || strings.Contains(log, "\napplied\n") {
		t.Errorf("events:\n%s", log)
	}
	if text := repo.Git("log", "-p", "ledger/main"); strings.Contains(text, "hunter2") || !strings.Contains(text, "evil.example") {
		t.Error("a denied request is not on the record, or its query is")
	}
	repo.Git("fsck", "--strict")

	w.loseDisk()
	s = w.serve(args...)
	s.awaitSynced("a")
	devtest.Await(t, "records of after the loss", func() error {
		if hub.Git("rev-list", "--count", tip+"..ledger/main") == "0" {
			return fmt.Errorf("the remote is at %s still", tip)
		}
		return nil
	})
	s.stop()
	if hub.Git("merge-base", tip, "ledger/main") != tip {
		t.Error("after a lost disk the records do not follow those from before")
	}
}
