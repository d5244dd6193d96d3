package kustomize

import (
	"testing"

	"github.com/belaydev/belay"
)

func TestRemoteEntriesAreTakenApart(t *testing.T) {
	for entry, want := range map[string]struct {
		repo, ref, sub string
	}{
		"https://github.com/org/repo//deploy/base?ref=v1":        {"https://github.com/org/repo", "v1", "deploy/base"},
		"https://github.com/org/repo/deploy/base?ref=v1":         {"https://github.com/org/repo", "v1", "deploy/base"},
		"https://github.com/org/repo":                            {"https://github.com/org/repo", "HEAD", "."},
		"github.com/org/repo/deploy?version=main":                {"https://github.com/org/repo", "main", "deploy"},
		"github.com:org/repo//deploy":                            {"https://github.com/org/repo", "HEAD", "deploy"},
		"git::https://git.example.com/a/b/c.git//x?ref=1":        {"https://git.example.com/a/b/c.git", "1", "x"},
		"https://git.example.com/a/b/c.git/x/y":                  {"https://git.example.com/a/b/c.git", "HEAD", "x/y"},
		"https://git.example.com/a/b/c.git":                      {"https://git.example.com/a/b/c.git", "HEAD", "."},
		"https://dev.azure.com/org/project/_git/repo/x?ref=main": {"https://dev.azure.com/org/project/_git/repo", "main", "x"},
		"git@github.com:org/repo.git//base?ref=v2":               {"git@github.com:org/repo.git", "v2", "base"},
		"ssh://git@git.example.com:2222/org/repo//base?ref=v2":   {"ssh://git@git.example.com:2222/org/repo", "v2", "base"},
		"https://git.example.com/org/repo//a/file.yaml?ref=v1":   {"https://git.example.com/org/repo", "v1", "a/file.yaml"},
		"file:///srv/repo.git//base":                             {"file:///srv/repo.git", "HEAD", "base"},
	} {
		if !remote(entry) {
			t.Errorf("%s is not remote", entry)
		}
		m, sub, message, _ := locate(entry)
		if message != "" || m != (belay.Mount{Repo: want.repo, Ref: want.ref}) || sub != want.sub {
			t.Errorf("%s is %+v, %q: %s", entry, m, sub, message)
		}
	}
	for _, entry := range []string{
		"oci://registry.example.com/a/b", "https://user:token@git.example.com/a/b", "https://raw.githubusercontent.com/org/repo/main/x.yaml",
		"https://git.example.com", "https://git.example.com/a//../../b", "https:///a/b", "https://git.example.com/one",
	} {
		if m, sub, message, hint := locate(entry); message == "" || hint == "" {
			t.Errorf("%s is %+v, %q", entry, m, sub)
		}
	}
}
