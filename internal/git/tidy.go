package git

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tidyPacks is the number of packs from which reading gets slower.
const tidyPacks = 20

// Untidy says whether Tidy would be of use. It costs one directory listing.
func (m *Mirror) Untidy() bool {
	return countPacks(m.dir) > tidyPacks
}

func countPacks(dir string) int {
	entries, _ := os.ReadDir(filepath.Join(dir, "objects", "pack"))
	n := 0
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pack") {
			n++
		}
	}
	return n
}

// Tidy combines the small packs, packs the refs and writes the graph that makes
// questions about history fast. It removes no object, not even one that no
// branch has any more, and readers go on meanwhile.
func (m *Mirror) Tidy(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	removeStale(m.dir)
	for _, args := range [][]string{
		{"pack-refs", "--all"},
		// Geometric: the cost follows what is new, not what is there.
		{"repack", "--quiet", "-d", "--geometric=2", "--threads=1"},
		{"commit-graph", "write", "--reachable", "--changed-paths", "--split", "--no-progress"},
	} {
		c := m.local(args...)
		if err := c.Run(ctx); err != nil {
			return fmt.Errorf("tidy the mirror of %s: %w", m.display, err)
		}
	}
	return nil
}
