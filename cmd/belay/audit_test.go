package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger/verify"
)

// runAudit runs a command line of audit.
func runAudit(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errs, getenv: func(string) string { return "" }}
	code = e.execute(t.Context(), append([]string{"audit"}, args...))
	return code, out.String(), errs.String()
}

func TestAuditVerify(t *testing.T) {
	data := &dataDir{path: t.TempDir()}
	l, err := (&ledgerOptions{writer: "main"}).open(t.Context(), data, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range []string{"one", "two", "\x1b[31mthree"} {
		if _, err := l.Record(t.Context(), belay.Event{Type: belay.EventDenied, Actor: "eve", Message: message}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	repo := gittest.OpenRepo(t, filepath.Join(data.path, ledgerDir))
	copied := filepath.Join(t.TempDir(), "copy.git")
	repo.Git("clone", "-q", "--mirror", "--", repo.Dir, copied)
	signers := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(signers, []byte(repo.Git("show", "ledger/main:allowed_signers")), 0o600); err != nil {
		t.Fatal(err)
	}

	code, out, errs := runAudit(t, "verify", "--data", data.path)
	if code != exitOK || !strings.Contains(out, "verified: nothing wrong in 4 records") || !strings.Contains(out, "not where it comes from") || errs != "" {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs = runAudit(t, "verify", copied, "--signers", signers, "--against", repo.Dir, "-o", "json"); code != exitOK {
		t.Fatalf("%d\n%s%s", code, out, errs)
	}
	var r verify.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Records != 4 || r.OwnKeys || r.Branches[0].Remote != "the same" || r.Branches[0].Unsigned != 0 {
		t.Fatalf("%v\n%s", err, out)
	}

	// Somebody puts a record on top that no writer wrote.
	repo.Commit("ledger/main", "\x1b[31mforged", map[string]string{"event.json": "{}"})
	if code, out, _ = runAudit(t, "verify", repo.Dir, "--signers", signers, "--against", copied); code != exitError ||
		!strings.HasPrefix(out, "first thing wrong: main/5 (commit ") || !strings.Contains(out, "WRONG") || strings.Contains(out, "\x1b") {
		t.Fatalf("%d\n%s", code, out)
	}
	for _, args := range [][]string{{"verify", "/nowhere"}, {"verify", repo.Dir, "--signers", "/nowhere"}, {"verify", repo.Dir, "--against", "/nowhere"}, {"verify", repo.Dir, "--signers", os.DevNull}} {
		if code, _, errs := runAudit(t, args...); code != exitUsage || !strings.Contains(errs, "hint: nothing is proved") {
			t.Errorf("%v: %d\n%s", args, code, errs)
		}
	}
}
