package git

import (
	"strings"
	"testing"
)

func TestKey(t *testing.T) {
	same := [][]string{
		{"https://github.com/org/repo", "https://GitHub.com/org/repo.git", "HTTPS://github.com:443/org/repo/", "https://user@github.com/org/repo"},
		{"git@github.com:org/repo.git", "ssh://git@github.com/org/repo", "ssh://github.com:22/org/repo.git/", "github.com:org/repo", "git+ssh://git@github.com/org/repo"},
		{"/srv/git/a", "file:///srv/git/a", "/srv/git/a/", "/srv/git/../git/a"},
		{"/srv/git/a.git", "file:///srv/git/a.git"},
		{"ssh://git@[::1]:2222/a", "ssh://git@[::1]:2222/a.git"},
		{"http://host:8080/a"},
	}
	seen := map[string]int{}
	for i, group := range same {
		for _, u := range group {
			if Key(u) != Key(group[0]) {
				t.Errorf("Key(%q) = %q, Key(%q) = %q, want them equal", u, Key(u), group[0], Key(group[0]))
			}
		}
		if j, ok := seen[Key(group[0])]; ok {
			t.Errorf("%q and %q have the same key", group[0], same[j][0])
		}
		seen[Key(group[0])] = i
	}
	for _, group := range same {
		if d := DirName(group[0]); strings.ContainsAny(d, "/:@") || d != DirName(group[len(group)-1]) {
			t.Errorf("DirName(%q) = %q", group[0], d)
		}
	}
	if !Alike("https://github.com/org/repo", "git@github.com:org/repo.git") || Alike("https://github.com/org/repo", "https://github.com/org/other") {
		t.Error("Alike is wrong")
	}
}

func TestURLErrors(t *testing.T) {
	for _, u := range []string{
		"", "-oProxyCommand=x", "ext::sh -c 'touch /tmp/x'", "fd::17", "relative/path", "ftp://host/a", "https://user:sesame99@host/a",
		"ssh://-oProxyCommand=x/a", "-x@host:a", "https:///a", "a b", "https://host/a\nb", "https://user:sesame99@host/%zz",
		"https://user:a/sesame99@host/a", "https://user:a@sesame99@host/a", "foo://user:a@sesame99@host/a", "ssh://user:a@sesame99@host/a",
	} {
		_, err := CleanURL(u)
		if err == nil {
			t.Errorf("CleanURL(%q) is nil", u)
		} else if strings.Contains(err.Error(), "sesame99") {
			t.Errorf("CleanURL(%q) = %v, which repeats the password", u, err)
		}
	}
	for in, want := range map[string]string{
		"https://ghp_token@github.com/a/b": "https://github.com/a/b",
		"https://ghp@token@github.com/a/b": "https://github.com/a/b",
		"https://token@host/a?b@c":         "https://host/a?b@c",
		"ssh://git@host/a":                 "ssh://git@host/a",
		"git@host:a/b":                     "git@host:a/b",
		"/srv/a":                           "/srv/a",
	} {
		if got, err := CleanURL(in); got != want || err != nil {
			t.Errorf("CleanURL(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
}
