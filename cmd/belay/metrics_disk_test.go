package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int{
		"ledger.git/objects/pack/a.pack": 100, "ledger.git/HEAD": 10, "ledger.sqlite": 1000, "ledger.sqlite-wal": 1,
		"repos/x/objects/y": 7, "renders/aa/bb/c.zst": 5, "renders/aa/bb/d.zst": 6, "lock": 0, "runs/log": 3,
	} {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m := &diskMetrics{dir: dir}
	// look waits for a look that is under way for as long as the disk takes.
	look := func() map[string]diskUse {
		m.sizes()
		m.mu.Lock()
		looking := m.looking
		m.mu.Unlock()
		if looking != nil {
			<-looking
		}
		return m.sizes()
	}
	got := look()
	want := map[string]diskUse{"ledger": {110, 2}, "index": {1001, 2}, "mirrors": {7, 1}, "renders": {11, 2}, "other": {3, 2}}
	for part, w := range want {
		if got[part] != w {
			t.Errorf("%s: %+v, want %+v", part, got[part], w)
		}
	}
	if len(got) != len(want) {
		t.Errorf("parts are %+v", got)
	}
	// It is not looked at again within the minute, which begins anew here.
	m.mu.Lock()
	m.at = time.Now()
	m.mu.Unlock()
	if err := os.WriteFile(filepath.Join(dir, "repos", "more"), make([]byte, 50), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := look(); again["mirrors"] != want["mirrors"] {
		t.Errorf("it was looked at twice within a minute: %+v", again["mirrors"])
	}
	m.mu.Lock()
	m.at = m.at.Add(-diskInterval)
	m.mu.Unlock()
	if later := look(); later["mirrors"].files != 2 {
		t.Errorf("after a minute it was not looked at: %+v", later["mirrors"])
	}
}
