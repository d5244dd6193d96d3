package git

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUser(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	t.Setenv("GIT_CONFIG_GLOBAL", file)
	t.Setenv("GIT_CONFIG_NOSYSTEM", "1")
	t.Chdir(t.TempDir())
	for config, want := range map[string]string{
		"": "", "[user]\nname = Ada L.\nemail = ada@example.com\n": "Ada L. <ada@example.com>", "[user]\nname = Ada\n": "Ada",
		"[user]\nemail = ada@example.com\nemail = l@example.com\n": "l@example.com", "[user]\nsigningkey = x\n": "",
	} {
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := User(t.Context()); got != want {
			t.Errorf("%q: %q, want %q", config, got, want)
		}
	}
}
