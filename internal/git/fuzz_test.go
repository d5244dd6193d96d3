package git

import (
	"strings"
	"testing"
)

// Trees come from strangers: no name may lead out of its directory, whatever
// the bytes are.
func FuzzParseTree(f *testing.F) {
	id := strings.Repeat("\x01", 20)
	f.Add([]byte("100644 a\x00" + id + "40000 b\x00" + id))
	f.Add([]byte("120000 ..\x00" + id))
	f.Add([]byte("100644 a/b\x00" + id))
	f.Add([]byte("100644 \x00" + id))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, _, err := parseTree(data, 20)
		if err != nil {
			return
		}
		for i, e := range tree.Entries {
			if e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") || len(e.ID) != 40 {
				t.Fatalf("entry %d is %+v", i, e)
			}
		}
	})
}

func FuzzParseCommit(f *testing.F) {
	f.Add([]byte("tree " + strings.Repeat("a", 40) + "\nparent " + strings.Repeat("b", 40) + "\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nSubject\n\nBody\n"))
	f.Add([]byte("tree x\n\n"))
	f.Add([]byte("author > < 99999999999999999999\n\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseCommit("id", data)
		if err == nil && (!validID(c.Tree) || strings.Contains(c.Subject, "\n")) {
			t.Fatalf("accepted %+v", c)
		}
	})
}

// What a remote says of its refs gives names and ids that are safe to use.
func FuzzParseRefs(f *testing.F) {
	id := strings.Repeat("a", 40)
	f.Add([]byte("ref: refs/heads/main\tHEAD\n" + id + "\tHEAD\n" + id + "\trefs/heads/main\n" + id + "\trefs/tags/v1\n" + id + "\trefs/tags/v1^{}\n"))
	f.Add([]byte("\t\n x\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		refs := parseRefs(out)
		for _, m := range []map[string]string{refs.Heads, refs.Tags} {
			for name := range m {
				if strings.ContainsAny(name, "\n\x00") {
					t.Fatalf("a ref is named %q", name)
				}
			}
		}
	})
}

// A URL is refused, or can be shown: it has no password in it.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"https://user:secret-pass@host/x.git", "git@host:path/x", "ssh://git@host:22/x", "file:///x", "/x", "ext::sh -c id", "-oProxyCommand=x", "http://[::1]:80/x", "http://a@b@c", "https://a@b?c@d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := parseURL(raw)
		if err != nil {
			return
		}
		if shown := l.display(); strings.HasPrefix(shown, "-") || strings.HasPrefix(shown, "ext::") {
			t.Fatalf("%q would be given to git as %q", raw, shown)
		}
		clean, err := CleanURL(raw)
		if err != nil {
			return
		}
		if again, err := CleanURL(clean); err != nil || again != clean {
			t.Fatalf("%q becomes %q, then %q, %v", raw, clean, again, err)
		}
		if Key(raw) != Key(clean) {
			t.Fatalf("%q and %q are taken for two repositories", raw, clean)
		}
	})
}
