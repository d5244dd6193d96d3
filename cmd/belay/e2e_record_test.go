package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// A commit is deployed, and the record tells who, what and when: over the API and
// from the ledger alone, which say the same.
func TestTheRecordTellsWhoChangedWhat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Open the shop", map[string]string{
		"belay/shop.yaml": application("shop", "apps/shop", "NS-shop"), "apps/shop/a.yaml": documents(configMap("settings", "1"), deployment("web", 0, "web:1")),
		"belay/mail.yaml": application("mail", "apps/mail", "NS-mail"), "apps/mail/a.yaml": configMap("settings", "1"),
	})
	s := w.serve()
	s.awaitSynced("mail", "shop")
	s.push("Change the settings of everything\n\nApproved-by: Grace Hopper <grace@example.org>", map[string]string{
		"apps/shop/a.yaml": documents(configMap("settings", "2"), deployment("web", 0, "web:1")), "apps/mail/a.yaml": configMap("settings", "2"),
	})
	s.awaitSynced("mail", "shop")
	commit := w.repo.Resolve("main")

	ask := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := s.cli(args...)
		if code != 0 {
			t.Fatalf("belay %s: exit code %d: %s%s", strings.Join(args, " "), code, stdout, stderr)
		}
		return stdout
	}
	var found deploymentList
	for _, app := range []string{"mail", "shop"} {
		devtest.Await(t, "the end of the deployments of "+app+" to be on record", func() error {
			found = deploymentList{}
			if err := json.Unmarshal([]byte(ask("history", app, "--changed", "value:", "--since", "1h", "-o", "json")), &found); err != nil {
				return err
			}
			if len(found.Deployments) != 2 || slices.ContainsFunc(found.Deployments, func(d belay.Deployment) bool { return d.Result != belay.Succeeded }) {
				return fmt.Errorf("it has %+v", found.Deployments)
			}
			return nil
		})
	}
	id := found.Deployments[0].ID
	show := ask("audit", "show", id)
	for _, want := range []string{"of shop on", "Ada Tester", "Grace Hopper", commit, w.expand("update    ConfigMap NS-shop/settings"), `-  value: "1"`, `+  value: "2"`, "Went out with the same Change", "mail"} {
		if !strings.Contains(show, want) {
			t.Errorf("audit show %s lacks %q:\n%s", id, want, show)
		}
	}
	if blame := ask("audit", "blame", "shop", "configmap/settings"); !strings.Contains(blame, id) || !strings.Contains(blame, found.Deployments[1].ID) {
		t.Errorf("blame names not both deployments:\n%s", blame)
	}
	answers := map[string][]string{}
	for name, args := range map[string][]string{
		"show": {"audit", "show", id}, "history": {"history", "shop"}, "blame": {"audit", "blame", "shop"}, "commit": {"audit", "show", commit[:10]},
		"diff": {"audit", "diff", "shop", found.Deployments[1].ID, commit[:8]}, "list": {"audit", "list", "--app", "shop", "-o", "json"},
	} {
		answers[name] = slices.Concat(args, []string{ask(args...)})
	}
	s.stop()
	for name, answer := range answers {
		args, want := answer[:len(answer)-1], answer[len(answer)-1]
		var out, errOut strings.Builder
		e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(k string) string {
			return map[string]string{"XDG_CACHE_HOME": filepath.Join(t.TempDir(), "cache")}[k]
		}}
		ctx, cancel := context.WithTimeout(t.Context(), devtest.Patience)
		code := e.execute(ctx, append(args, "--ledger", w.data))
		cancel()
		if code != 0 || out.String() != want {
			t.Errorf("%s from the ledger: exit code %d %s\n%s\nwant\n%s", name, code, &errOut, &out, want)
		}
	}
	// The index is a cache: without it the server says the same.
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(filepath.Join(w.data, indexFile+suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	s = w.serve()
	if again := ask("audit", "show", id); again != show {
		t.Errorf("after the loss of the index:\n%s\nbefore\n%s", again, show)
	}
}
