package reconcile

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// A server that finds no definition says so once: a wrong --path looks as if all
// were well.
func TestThatNothingIsDeclaredIsSaid(t *testing.T) {
	var log bytes.Buffer
	e := New(Options{Repo: fakeRepo, Ref: "main", Path: "belay", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	none, some := &catalog.Catalog{}, &catalog.Catalog{Applications: map[string]belay.Application{"web": {}}}
	for i, step := range []struct {
		before, now *catalog.Catalog
		said        bool
	}{{nil, none, true}, {none, none, false}, {none, some, false}, {some, none, true}, {nil, some, false}} {
		log.Reset()
		e.tellProblems(step.before, step.now, belay.Revision{Repo: fakeRepo, Commit: "c1"})
		if said := strings.Contains(log.String(), "check --path and --ref"); said != step.said || said && !strings.Contains(log.String(), "path=belay") {
			t.Errorf("step %d: it says %q", i, log.String())
		}
	}
}
