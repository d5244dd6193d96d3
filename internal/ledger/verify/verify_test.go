package verify_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/ledger/verify"
)

func TestCleanLedger(t *testing.T) {
	l := newLedger(t)
	l.sample("main")
	other := sample(t, "eu", l.key)
	l2 := &forged{t: t, dir: l.dir, specs: other.specs, key: l.key}
	l2.build("eu")
	signers := keysOf(t, allowedLine("main", l.key)+allowedLine("eu", l.key))
	check := func(t *testing.T, o verify.Options) *verify.Report {
		t.Helper()
		r := run(t, o)
		if r.Total != 0 || r.Records != 2*len(l.specs) || len(r.Branches) != 2 || r.Branches[1].Checkpoints != 2 || r.Branches[1].Unsigned != 2 || r.Branches[1].LastCheckpoint != "main/19" {
			t.Fatal(show(r))
		}
		return r
	}
	t.Run("loose", func(t *testing.T) {
		if r := check(t, verify.Options{Ledger: l.dir}); !r.OwnKeys || r.Branches[0].Keys[0].Since != "eu/1" || r.Branches[0].Keys[0].Signed != 2 {
			t.Fatal(show(r))
		}
	})
	t.Run("signers", func(t *testing.T) {
		if r := check(t, verify.Options{Ledger: l.dir, Signers: signers}); r.OwnKeys || r.Branches[0].Keys[0].Since != "" {
			t.Fatal(show(r))
		}
	})
	t.Run("packed", func(t *testing.T) {
		l.git("repack", "-a", "-d", "-q")
		l.git("commit-graph", "write", "--reachable")
		check(t, verify.Options{Ledger: l.dir})
	})
	t.Run("URL", func(t *testing.T) { check(t, verify.Options{Ledger: "file://" + l.dir, Signers: signers}) })
	t.Run("clone", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "clone")
		l.git("symbolic-ref", "HEAD", "refs/heads/ledger/main")
		l.git("clone", "-q", "--", l.dir, dir)
		check(t, verify.Options{Ledger: dir, Against: l.dir})
		if r := check(t, verify.Options{Ledger: l.dir, Against: dir}); r.Branches[0].Remote != "the same" {
			t.Fatal(show(r))
		}
	})
	t.Run("remote", func(t *testing.T) {
		mirror := filepath.Join(t.TempDir(), "mirror.git")
		l.git("clone", "-q", "--mirror", "--", l.dir, mirror)
		r := check(t, verify.Options{Ledger: l.dir, Against: mirror})
		if r.Branches[0].Remote != "the same" {
			t.Fatal(show(r))
		}
		gittest.OpenRepo(t, mirror).Git("update-ref", record.Branch("main"), l.ids[10])
		if r = check(t, verify.Options{Ledger: l.dir, Against: mirror}); r.Branches[1].Remote != "10 records more here" {
			t.Fatal(show(r))
		}
	})
}

func TestUnsignedTail(t *testing.T) {
	l := newLedger(t)
	l.sample("main")
	for limit, found := range map[int]int{-1: 0, 1: 1, 2: 0} {
		if r := run(t, verify.Options{Ledger: l.dir, MaxUnsigned: limit}); r.Total != found {
			t.Errorf("with a limit of %d: %s", limit, show(r))
		}
	}
}

// A new key is trusted when an old one signed the commit that brings it.
func TestKeyRotation(t *testing.T) {
	l := newLedger(t)
	next := newKey(t)
	h := sample(t, "main", l.key)
	h.checkpoint(l.key)
	h.last().files = append(h.last().files, record.File{Path: record.SignersFile, Data: []byte(allowedLine("main", next))})
	h.add(belay.Event{Type: belay.EventDenied, Actor: "eve", Message: "denied"})
	h.checkpoint(next)
	l.specs = h.specs
	l.build("main")
	for _, o := range []verify.Options{{Ledger: l.dir}, {Ledger: l.dir, Signers: keysOf(t, allowedLine("main", l.key))}} {
		if r := run(t, o); r.Total != 0 || len(r.Branches[0].Keys) != 2 || r.Branches[0].Keys[1].Signed != 1 || r.Branches[0].Keys[1].Since != "main/22" {
			t.Fatal(show(r))
		}
	}
	// The old key signs no more.
	h.checkpoint(l.key)
	l.specs = h.specs
	l.build("main")
	wantFirst(t, run(t, verify.Options{Ledger: l.dir}), verify.CheckSignature, "main/25", "none of the trusted keys")
}

func wantFirst(t *testing.T, r *verify.Report, check, id, message string) {
	t.Helper()
	if r.Total == 0 {
		t.Fatalf("nothing found, want %s at %s", check, id)
	}
	f := r.Findings[0]
	if f.Check != check || f.Record != id || !strings.Contains(f.Message, message) || id != "" && f.Commit == "" {
		t.Fatalf("want first %s at %s with %q: %s", check, id, message, show(r))
	}
}

func TestSources(t *testing.T) {
	l := newLedger(t)
	source := gittest.NewRepo(t)
	there := source.Commit("main", "one", map[string]string{"a": "1"})
	h := newHistory(t, "main")
	for _, id := range []string{there, commitID(77), there, commitID(76)} {
		h.add(belay.Event{Type: belay.EventRevision, Repo: fleet, Ref: "main", Revision: id, Message: "main moved"})
	}
	l.specs = h.specs
	l.build("main")
	r := run(t, verify.Options{Ledger: l.dir, Sources: []string{fleet + "=" + source.Dir}})
	wantFirst(t, r, verify.CheckSource, "main/2", "does not exist")
	if r.Total != 2 || r.SourceCommits != 3 || r.Findings[1].Record != "main/4" {
		t.Fatal(show(r))
	}
	if _, err := verify.Run(t.Context(), verify.Options{Ledger: l.dir, Sources: []string{"https://elsewhere.example.org/x"}}); err == nil || !strings.Contains(err.Error(), fleet) {
		t.Fatal(err)
	}
}

func TestWhatCannotBeRead(t *testing.T) {
	empty := gittest.NewRepo(t).Dir
	l := newLedger(t)
	l.sample("main")
	for _, o := range []verify.Options{{Ledger: t.TempDir()}, {Ledger: "/nowhere"}, {Ledger: empty}, {Ledger: "file:///nowhere"}, {Ledger: l.dir, Against: "file:///nowhere"}} {
		if _, err := verify.Run(t.Context(), o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

func TestTolerance(t *testing.T) {
	l := newLedger(t)
	h := sample(t, "main", l.key)
	h.now = h.now.Add(-time.Minute)
	h.add(belay.Event{Type: belay.EventDenied, Actor: "eve", Message: "denied"})
	l.specs = h.specs
	l.build("main")
	if r := run(t, verify.Options{Ledger: l.dir}); r.Total != 0 {
		t.Fatal(show(r))
	}
	wantFirst(t, run(t, verify.Options{Ledger: l.dir, Tolerance: time.Second}), verify.CheckTime, "main/22", "before")
}
