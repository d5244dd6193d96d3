package main

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/reconcile"
)

// What a plan and a drill take for a revision is what a rollback takes.
func TestRevisionsAreSpelledAsForGit(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "First", map[string]string{"a": "1"})
	repo.Commit("main", "Second", map[string]string{"a": "2"})
	third := repo.Commit("main", "Third", map[string]string{"a": "3"})
	release := repo.Commit("release", "Release", map[string]string{"a": "4"})
	second := repo.Resolve("main~1")
	repo.AnnotatedTag("v1.0.0", second)
	// A name that some commit's id begins with is a name.
	repo.Tag(first[:5], third)

	data, err := openData(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = data.Close() }() // nothing is written any more
	p, err := newParts(partsOptions{repo: repo.URL(), interval: time.Hour, data: data, log: slog.New(slog.DiscardHandler), sourceChanged: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	p.sources.Configure(nil, map[string][]string{p.repo: {"main"}})
	at := func(ref, text string) (string, error) {
		rev, err := reconcile.RevisionOf(t.Context(), p.sources, p.committer, p.repo, ref, text)
		return rev.Commit, err
	}
	// Nothing is fetched yet, and the shortest id is known all the same.
	if got, err := at("main", second[:4]); got != second {
		t.Errorf("%s is %s: %v", second[:4], got, err)
	}
	for text, want := range map[string]string{
		"HEAD": third, "@": third, "HEAD~1": second, "HEAD^": second, "HEAD^^": first, "HEAD~1^": first, "HEAD~0": third,
		"main": third, "main~0": third, "main~2": first, "refs/heads/main~1": second, "release": release, "v1.0.0": second, "v1.0.0^": first, ">=1 <2": second, "~1.0": second,
		second: second, second[:9]: second, strings.ToUpper(second[:9]): second, third[:6] + "~1": second, first[:5]: third, first[:5] + "~1": second,
	} {
		if got, err := at("main", text); got != want {
			t.Errorf("%s is %q: %v; want %s", text, got, err, want)
		}
	}
	if got, err := at("release", "HEAD"); got != release {
		t.Errorf("HEAD of release is %s: %v", got, err)
	}
	for text, want := range map[string]string{
		"HEAD~3": "it would be before the first commit", "HEAD~99999999999999999999": "has no branch, tag or commit HEAD~", "HEAD^2": "has no branch, tag or commit HEAD^2",
		"main@{1}": "has no branch, tag or commit", "mian~1": "has no branch, tag or commit mian", "beef": "has no branch, tag or commit beef",
	} {
		if got, err := at("main", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is %q: %v; want an error with %q", text, got, err, want)
		}
	}
}
