package git_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

// What a host's name means was looked at before: git talks to that address and no
// other, and follows no redirect away from it.
func TestAHostIsHeldToItsAddress(t *testing.T) {
	root := t.TempDir()
	gittest.InitRepo(t, filepath.Join(root, "repo.git")).Commit("main", "first", map[string]string{"a": "a\n"})
	s := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	at := netip.MustParseAddr("127.0.0.1")
	m := open(t, strings.Replace(s.URL, "127.0.0.1", "nowhere.invalid", 1)+"/repo.git", git.Auth{Address: at})
	if refs, err := m.LsRemote(t.Context(), false); err != nil || refs.Heads["main"] == "" {
		t.Errorf("at the address: %v, %v", refs, err)
	}
	redirecting := httptest.NewServer(http.RedirectHandler(s.URL+"/repo.git/info/refs?service=git-upload-pack", http.StatusFound))
	t.Cleanup(redirecting.Close)
	before := len(s.Requests())
	m = open(t, redirecting.URL+"/other.git", git.Auth{Address: at})
	if refs, err := m.LsRemote(t.Context(), false); err == nil || len(s.Requests()) != before {
		t.Errorf("through a redirect: %v, %v", refs, err)
	}
}
