package runlog_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/runlog"
)

// open opens a log as a process would that was killed before: what was open stays so.
func open(t *testing.T, path string) *runlog.Log {
	t.Helper()
	l, err := runlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestWhatIsRememberedOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs")
	l := open(t, path)
	a := belay.HookRecord{Cluster: "c", Application: "a", Run: "1", Done: []string{"PreSync batch/Job/x/migrate"}}
	b := belay.HookRecord{Cluster: "d", Application: "a", Run: "2", Over: true, Leaving: true}
	for _, put := range []func() error{
		func() error { return l.Note(belay.HookRecord{Cluster: "c", Application: "a", Run: "0"}) },
		func() error { return l.Remember(a) }, func() error { return l.Note(b) },
	} {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	l = open(t, path)
	if got, ok := l.Known("c", "a"); !ok || !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v %v, want %+v", got, ok, a)
	}
	if got := l.All(); len(got) != 2 {
		t.Errorf("all are %+v", got)
	}
	for _, application := range []string{"a", "never"} {
		if err := l.Forget("c", application); err != nil {
			t.Error(err)
		}
	}
	if got := open(t, path).All(); len(got) != 1 || !reflect.DeepEqual(got[0], b) {
		t.Errorf("left are %+v", got)
	}
}

func TestALineCutShortCountsForNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs")
	l := open(t, path)
	for _, name := range []string{"a", "b"} {
		if err := l.Remember(belay.HookRecord{Cluster: "c", Application: name, Run: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := bytes.IndexByte(content, '\n') + 1
	for cut := first; cut < len(content)-1; cut++ { // without its end a line is still whole
		if err := os.WriteFile(path, content[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := open(t, path)
		if _, ok := l.Known("c", "a"); !ok || len(l.All()) != 1 {
			t.Fatalf("cut at %d: %+v", cut, l.All())
		}
		if err := l.Remember(belay.HookRecord{Cluster: "c", Application: "z", Run: "1"}); err != nil {
			t.Fatal(err)
		}
		if got := open(t, path).All(); len(got) != 2 {
			t.Fatalf("cut at %d, and written again: %+v", cut, got)
		}
	}
}

func TestTheFileStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "runs")
	l := open(t, path)
	for i := range 20000 {
		if err := l.Note(belay.HookRecord{Cluster: "c", Application: fmt.Sprint("app-", i%10), Run: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 1<<20 {
		t.Errorf("it has %d bytes for ten applications", info.Size())
	}
	l = open(t, path)
	if r, ok := l.Known("c", "app-9"); !ok || r.Run != "19999" || len(l.All()) != 10 {
		t.Errorf("known is %+v of %d", r, len(l.All()))
	}
}
