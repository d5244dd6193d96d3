package catalog_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/catalog"
)

// FuzzLoad feeds whatever bytes: no panic, no loss, bounded time, and the same
// meaning with a memory of the same bytes as without.
func FuzzLoad(f *testing.F) {
	for _, dir := range []string{"testdata/valid/fleet", "testdata/invalid", "testdata/sets"} {
		for _, text := range readAll(f, dir) {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte("a: &a [*a, *a]\n"))
	f.Add(bytes.Repeat([]byte("[{"), 500))
	f.Add(bytes.Repeat([]byte("? "), 500))
	f.Add(bytes.Repeat([]byte("---\n"), 500))
	f.Fuzz(func(t *testing.T, text []byte) {
		before := load(t, nil, "c0", map[string]string{"x.yaml": app("before", ""), "y.yaml": app("other", "")})
		start := time.Now()
		tr := newTree(below(map[string]string{"x.yaml": string(text), "y.yaml": app("other", "")}))
		fresh := loadFiles(t, nil, "c1", tr)
		if d := time.Since(start); d > time.Minute {
			t.Fatalf("%d bytes took %s", len(text), d)
		}
		if _, ok := fresh.Applications["other"]; !ok {
			t.Fatal("the other file is gone")
		}
		after := loadFiles(t, before, "c1", tr)
		if _, ok := after.Applications["before"]; !ok && len(after.Broken()) > 0 {
			t.Fatalf("a broken file removed what it declared:\n%s", problems(after))
		}
		again := loadFiles(t, fresh, "c2", tr)
		if !again.Equal(fresh) {
			t.Fatalf("the same bytes mean something else:\n%s\n---\n%s", problems(fresh), problems(again))
		}
		catalog.CheckDocument(text)
	})
}
