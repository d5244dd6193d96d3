package reconcile

import (
	"sync"

	"github.com/belaydev/belay"
)

// fakeRuns remembers the runs of hooks beyond the life of the engine.
type fakeRuns struct {
	mu  sync.Mutex
	all map[owner]belay.HookRecord
}

func (f *fakeRuns) Known(cluster, application string) (belay.HookRecord, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r, ok := f.all[owner{cluster, application}]
	return r, ok
}

func (f *fakeRuns) All() []belay.HookRecord {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []belay.HookRecord
	for _, r := range f.all {
		out = append(out, r)
	}
	return out
}

func (f *fakeRuns) Remember(r belay.HookRecord) error { return f.Note(r) }

func (f *fakeRuns) Note(r belay.HookRecord) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[owner{r.Cluster, r.Application}] = r
	return nil
}

func (f *fakeRuns) Forget(cluster, application string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, owner{cluster, application})
	return nil
}

// livingRuns are those of a life of the engine: what it wants to remember after its
// death is not remembered.
type livingRuns struct {
	*fakeRuns
	l *ledger
}

func (r livingRuns) Remember(rec belay.HookRecord) error { return r.Note(rec) }

func (r livingRuns) Note(rec belay.HookRecord) error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if r.l.dead {
		return nil
	}
	return r.fakeRuns.Note(rec)
}

func (r livingRuns) Forget(cluster, application string) error {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	if r.l.dead {
		return nil
	}
	return r.fakeRuns.Forget(cluster, application)
}
