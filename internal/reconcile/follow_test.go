package reconcile

import (
	"slices"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// counting is an index that remembers what was put into it.
type counting struct {
	noIndex
	reads map[string]int
}

func (c *counting) Set(app string, reads []belay.Read) { c.reads[app] = len(reads) }

// configured notes what is followed.
type configured struct {
	still
	refs      map[string][]string
	strangers []string
}

func (c *configured) Configure(_ []belay.Repository, refs map[string][]string) { c.refs = refs }
func (c *configured) Strangers(urls []string)                                  { c.strangers = urls }

func TestWhatFilesNameIsFollowed(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	src := &configured{}
	e.Sources, e.Repo, e.Ref = src, "https://git.inner/fleet", "main"
	indexes := []*counting{}
	e.NewIndex = func() Index {
		c := &counting{reads: map[string]int{}}
		indexes = append(indexes, c)
		return c
	}
	e.catalog = &catalog.Catalog{}
	def := *target.def
	def.Spec.Source = belay.Source{Repo: "https://git.inner/apps", Ref: "main"}
	a := target.app
	a.def, target.def = &def, &def
	e.follow(a, e.catalog)
	target.ref = a.ref
	base := belay.Mount{Repo: "https://git.example.com/base", Ref: "v1"}
	near := belay.Mount{Repo: "https://git.inner/near", Ref: "v1"}
	denied := belay.Mount{Repo: "https://git.example.com/denied", Ref: "v1"}
	reads := func(mounts ...belay.Mount) []belay.Read {
		out := []belay.Read{{Path: "own"}}
		for _, m := range mounts {
			out = append(out, belay.Read{Path: m.Path() + "/a"}, belay.Read{Path: m.Path() + "/b"})
		}
		return out
	}
	render := func(failed bool, mounts ...belay.Mount) {
		target.reads, target.found = nil, nil
		target.at = map[refKey]belay.Revision{a.ref: {Commit: "c1"}}
		target.refuse(keyOf(denied.Repo, "", denied.Ref, "", e.catalog))
		target.read(a.ref, reads(mounts...), nil, e.catalog)
		e.noteReads(target, failed, nil)
	}
	urls := func() []string {
		var out []string
		for u := range src.refs {
			out = append(out, u)
		}
		slices.Sort(out)
		return out
	}

	render(false, base, near, denied)
	if want := []string{base.Repo, "https://git.inner/apps", "https://git.inner/fleet", near.Repo}; !slices.Equal(urls(), want) {
		t.Errorf("followed are %v", urls())
	}
	if !slices.Equal(src.strangers, []string{base.Repo}) {
		t.Errorf("strangers are %v", src.strangers)
	}
	if indexes[0].reads["web"] != 1 || indexes[1].reads["web"] != 2 {
		t.Errorf("the indexes have %v and %v", indexes[0].reads, indexes[1].reads)
	}
	for range 3 { // a render that fails early names less
		render(true, near)
	}
	if len(a.found) != 2 || len(a.refs()) != 3 || !slices.Contains(urls(), base.Repo) {
		t.Errorf("found are %v", a.found)
	}
	render(false, near)
	if len(a.found) != 1 || slices.Contains(urls(), base.Repo) || len(src.strangers) != 0 {
		t.Errorf("found are %v, followed %v, strangers %v", a.found, urls(), src.strangers)
	}
	e.unfollow(a)
	if len(e.refs) != 0 {
		t.Errorf("refs are %v", e.refs)
	}
}

// Nothing that was read changed: what was made holds at the new commit of any ref.
func TestADesiredStateHoldsAtNewCommits(t *testing.T) {
	first, second := refKey{url: "a", ref: "main"}, refKey{url: "b", ref: "main"}
	a := newApp("web")
	a.ref, a.also, a.commit = first, []refKey{second}, "a1"
	a.at = map[refKey]belay.Revision{first: {Commit: "a1"}, second: {Commit: "b1"}}
	a.status.Revision, a.status.SyncedRevision = "a1", "a1"
	before := a.at
	a.holdsAt(second, belay.Revision{Commit: "b2", Name: "main"}, nil)
	if a.holds(second) != "b2" || a.commit != "a1" || before[second].Commit != "b1" {
		t.Errorf("it is at %v, was at %v", a.at, before)
	}
	a.holdsAt(first, belay.Revision{Commit: "a2"}, nil)
	want := []belay.SourceRevision{{Repo: "a", Ref: "main", Revision: "a2"}, {Repo: "b", Ref: "main", Name: "main", Revision: "b2"}}
	if a.commit != "a2" || a.status.SyncedRevision != "a2" || !slices.Equal(a.status.Revisions, want) {
		t.Errorf("its status is %+v", a.status)
	}
}

// Every commit comes by every application of its ref: one that it does not touch
// must cost nothing that the collector of garbage has to see.
func TestACommitThatComesByAllocatesNothing(t *testing.T) {
	k := refKey{url: "a", ref: "main"}
	a := newApp("web")
	a.ref, a.commit, a.at = k, "a0", map[refKey]belay.Revision{k: {Commit: "a0"}}
	a.status.Revision, a.status.SyncedRevision = "a0", "a0"
	n := 0
	revs := []belay.Revision{{Commit: "a1"}, {Commit: "a2"}}
	alone := []map[refKey]belay.Revision{{k: revs[0]}, {k: revs[1]}}
	if allocs := testing.AllocsPerRun(100, func() {
		n++
		a.holdsAt(k, revs[n%2], alone[n%2])
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if want := revs[n%2].Commit; a.holds(k) != want || a.status.SyncedRevision != want || a.status.Revisions != nil {
		t.Errorf("it is at %v, its status %+v", a.at, a.status)
	}
}
