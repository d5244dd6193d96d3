package source

import (
	"testing"

	"github.com/belaydev/belay/internal/gittest"
)

// Of processes that stand by for one another, one that begins must not take for new
// what it found long ago.
func TestForget(t *testing.T) {
	t.Parallel()
	remote := gittest.NewRepo(t)
	first := remote.Commit("main", "One", map[string]string{"a": "1"})
	dir := t.TempDir()
	h := newHub(t, dir, Options{Fresh: true})
	h.SetFollowed(map[string][]string{remote.URL(): {"main"}})
	if err := h.CheckNow(t.Context(), remote.URL()); err != nil {
		t.Fatal(err)
	}
	if rev, err := h.Revision(remote.URL(), "main"); err != nil || rev.Commit != first {
		t.Fatalf("%q, %v", rev.Commit, err)
	}
	second := remote.Commit("main", "Two", map[string]string{"a": "2"})
	h.Forget()
	if rev, _ := h.Revision(remote.URL(), "main"); rev.Commit != "" || h.Looked(remote.URL()) {
		t.Errorf("after it forgot: %q, looked %t", rev.Commit, h.Looked(remote.URL()))
	}
	stop := run(t, h)
	await(t, "the newest commit", at(h, remote.URL(), "main", second))
	stop()
	h.Close()

	remote.Commit("main", "Three", map[string]string{"a": "3"})
	for _, test := range []struct {
		fresh bool
		want  string
	}{{false, second}, {true, ""}} {
		h := newHub(t, dir, Options{Fresh: test.fresh})
		h.SetFollowed(map[string][]string{remote.URL(): {"main"}})
		if rev, _ := h.Revision(remote.URL(), "main"); rev.Commit != test.want {
			t.Errorf("another life, fresh %t, believes in %q, want %q", test.fresh, rev.Commit, test.want)
		}
		h.Close()
	}
}
