package source

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/registry"
)

func TestContentsAreBounded(t *testing.T) {
	keep := map[string]bool{}
	c := newContents(t.TempDir(), 1000, func() map[string]bool { return keep })
	var digests []string
	for i := range 8 {
		b := bytes.Repeat([]byte{byte(i)}, 200)
		digests = append(digests, registry.Digest(b))
		if i == 0 {
			keep[digests[0]] = true
		}
		if err := c.put(b); err != nil {
			t.Fatal(err)
		}
		old := time.Now().Add(time.Duration(i-100) * time.Minute)
		if err := os.Chtimes(c.file(digests[i]), old, old); err != nil {
			t.Fatal(err)
		}
	}
	if c.get(digests[0]) == nil {
		t.Error("what is in use went")
	}
	if c.get(digests[1]) != nil {
		t.Error("the oldest is still there")
	}
	if c.get(digests[7]) == nil {
		t.Error("the newest went")
	}
	if c.size > c.max {
		t.Errorf("%d bytes are kept", c.size)
	}
	if c.get("../../etc/passwd") != nil {
		t.Error("a digest is no path")
	}
}

func TestTreesAreBounded(t *testing.T) {
	trees := newTrees(1000)
	for _, d := range []string{"a", "b", "c"} {
		trees.put(d, &archive{bytes: 600})
	}
	if trees.get("a") != nil || trees.get("c") == nil || trees.size > 1000 {
		t.Errorf("%d bytes are kept", trees.size)
	}
}
