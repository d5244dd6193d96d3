package reconcile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/belaydev/belay"
)

const ada, bob = "Ada <ada@example.com>", "Bob <bob@example.com>"

// fleet has two applications.
func fleet(t *testing.T) *fakeWorld {
	w := newFakeWorld(t)
	w.commit(ada, "first", map[string]string{"belay/web.yaml": fakeApp("web"), "belay/api.yaml": fakeApp("api"),
		"apps/web/a": "1", "apps/web/b": "1", "apps/web/secret": "s3cr3t-value", "apps/api/c": "1"})
	return w
}

// of are the events about an application.
func of(events []belay.Event, name string) []belay.Event {
	return slices.DeleteFunc(events, func(ev belay.Event) bool { return ev.Application != name })
}

func only(t *testing.T, events []belay.Event) belay.Event {
	t.Helper()
	if len(events) != 1 {
		t.Fatalf("there are %d events, not one: %+v", len(events), events)
	}
	return events[0]
}

func results(d *belay.Detail) string {
	var out []string
	for _, o := range d.Objects {
		s := string(o.Verb) + " " + o.ID.Name
		if o.Result != "" {
			s += " " + string(o.Result)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

func subjectsOf(commits []belay.Commit) string {
	var out []string
	for _, c := range commits {
		out = append(out, c.Subject)
	}
	return strings.Join(out, ", ")
}

func TestADeploymentIsRecordedBeforeItsFirstWrite(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	first := w.commits[0].id
	start := only(t, of(w.l.events(belay.EventSyncStarted), "web"))
	if start.Project != "default" || start.Change != first || start.Revision != first || start.Plan == "" || start.Actor != ada || start.Repo != fakeRepo || start.Cluster != "local" {
		t.Errorf("it starts as %+v", start)
	}
	if d := start.Detail; results(d) != "create a, create b, create secret" || d.Previous != "" || subjectsOf(d.Commits) != "first" || len(d.Sources) != 1 || d.Objects[0].Digest == "" {
		t.Errorf("with %+v", d)
	}
	end := only(t, of(w.l.events(belay.EventSynced), "web"))
	if end.Result != belay.Succeeded || end.Seconds <= 0 || end.Deployment == "" || end.Project != "default" || end.Change != first {
		t.Errorf("it ends as %+v", end)
	}
	if d := end.Detail; results(d) != "create a succeeded, create b succeeded, create secret succeeded" || !d.Complete || len(d.Manifests) != 3 || d.Objects[0].Seconds <= 0 {
		t.Errorf("with %+v", d)
	}
	for _, ev := range slices.Concat(w.l.safe, w.l.pending) {
		b, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, m := range ev.Detail.Applied() {
			text += string(m.Raw)
		}
		if strings.Contains(text, "s3cr3t") || strings.Contains(text, "czNjcjN0") {
			t.Errorf("the value of a Secret is on the record: %s", text)
		}
	}
}

// anew makes sure that an application that came back was deployed as if it was
// never there, but for what is left of it.
func (w *fakeWorld) anew(starts int, want string) {
	w.t.Helper()
	w.settled("web")
	for _, ev := range of(w.l.events(belay.EventDrift, belay.EventHealed), "web") {
		w.t.Errorf("Belay's own deletion is told as %s: %s %s", ev.Type, ev.Object, ev.Message)
	}
	begun := of(w.l.events(belay.EventSyncStarted), "web")
	if len(begun) != starts {
		w.t.Fatalf("%d deployments began, want %d", len(begun), starts)
	}
	if got := results(begun[starts-1].Detail); got != want {
		w.t.Errorf("the last one began with %q, want %q", got, want)
	}
}

// An application that Git takes back while the last of it goes is deployed from
// nothing: no drift, and every manifest on the record.
func TestTakenBackWhenItIsGone(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	var once sync.Once
	gone := make(chan struct{})
	back := func(name string) {
		if name == "ended" && w.have() == "c" {
			once.Do(func() {
				w.commit(bob, "back", map[string]string{"belay/web.yaml": fakeApp("web")})
				w.await("web to be declared", func() bool {
					w.e.mu.Lock()
					defer w.e.mu.Unlock()
					return w.e.apps["web"].def != nil
				})
				close(gone)
			})
		}
	}
	w.last.Store(&back)
	w.commit(bob, "away", map[string]string{"belay/web.yaml": ""})
	<-gone
	w.anew(3, "create a, create b, create secret")
	w.commit(ada, "later", map[string]string{"apps/web/a": "2"})
	w.settled("web")
	if end := w.l.events(belay.EventSynced); len(end[len(end)-1].Detail.Manifests) != 3 {
		t.Errorf("the last deployment lists %+v", end[len(end)-1].Detail.Manifests)
	}
}

// What Belay deleted when an application left Git is made again when it is back:
// that is a deployment, not the undoing of somebody's deletion.
func TestTakenBackWhenHalfIsGone(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	w.mu.Lock()
	w.refuse["b"] = true
	w.mu.Unlock()
	w.commit(bob, "away", map[string]string{"belay/web.yaml": ""})
	w.await("half of it to go", func() bool { return w.have() == "b c" })
	w.mu.Lock()
	delete(w.refuse, "b")
	w.mu.Unlock()
	w.commit(bob, "back", map[string]string{"belay/web.yaml": fakeApp("web")})
	w.anew(3, "create a, create secret")
}

// A state that is reached without a write is a deployment where the record would
// else be wrong: after one that wrote something and did not end well, and where an
// object went to another application.
func TestDeploymentsWithoutAWrite(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.refuse["d"] = true
	w.start()
	w.settled("web", "api")
	w.commit(ada, "too much", map[string]string{"apps/web/a": "2", "apps/web/d": "1"})
	w.says("web", "refused")
	w.commit(bob, "less", map[string]string{"apps/web/d": ""})
	w.settled("web")
	begun, ended := of(w.l.events(belay.EventSyncStarted), "web"), of(w.l.events(belay.EventSynced), "web")
	if len(begun) != 3 || len(ended) != 2 || len(begun[2].Detail.Objects) != 0 || !strings.Contains(begun[2].Message, "nothing is left to write") || begun[2].Actor != bob {
		t.Fatalf("after the superseded one: %+v", begun)
	}
	if m := ended[1].Detail.Manifests; len(m) != 3 {
		t.Errorf("it lists %+v", m)
	}
	w.commit(ada, "hand over", map[string]string{"apps/web/b": "", "apps/api/b": "1"})
	w.settled("web", "api")
	w.await("rest", w.e.Settled)
	if held := checkManifests(t, w.l.events(belay.EventSynced)); len(held[owner{"local", "web"}]) != 2 || len(held[owner{"local", "api"}]) != 2 {
		t.Errorf("the record has %v", held)
	}
	if begun = of(w.l.events(belay.EventSyncStarted), "web"); len(begun) != 4 {
		t.Errorf("%d deployments began", len(begun))
	}
	w.commit(ada, "no change", map[string]string{"README": "x"})
	w.settled("web")
	if now := of(w.l.events(belay.EventSyncStarted), "web"); len(now) != 4 {
		t.Errorf("a commit that changes nothing is a deployment: %s", now[4].Message)
	}
}

// Each deployment lists what the cluster was made equal to; what is on the record
// is there by its digest.
func TestManifestsOnTheRecord(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web")
	manifests := func() string {
		ends := of(w.l.events(belay.EventSynced), "web")
		d := ends[len(ends)-1].Detail
		out := []string{}
		for _, m := range d.Manifests {
			how := "gone"
			if m.Raw != nil {
				how = "in full"
			} else if m.SHA256 != "" {
				how = "as it was"
			}
			out = append(out, m.ID.Name+" "+how)
		}
		slices.Sort(out)
		return fmt.Sprint(d.Complete, " ", strings.Join(out, ", "))
	}
	if got, want := manifests(), "true a in full, b in full, secret in full"; got != want {
		t.Errorf("the first: %s", got)
	}
	w.commit(ada, "second", map[string]string{"apps/web/a": "2", "apps/web/b": ""})
	w.settled("web")
	if got, want := manifests(), "false a in full, b gone, secret as it was"; got != want {
		t.Errorf("the second: %s, want %s", got, want)
	}
	w.restart(true)
	w.settled("web")
	w.commit(ada, "third", map[string]string{"apps/web/a": "3"})
	w.settled("web")
	if got, want := manifests(), "true a in full, secret in full"; got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
}

// What cannot be recorded is not written, and everything recovers by itself.
func TestNothingIsWrittenUnrecorded(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.l.err = errFull
	w.start()
	w.says("web", "nothing is written before it is on the record: the disk is full")
	if st, _ := w.e.Application("web"); st.Sync != belay.OutOfSync {
		t.Errorf("it is %s", st.Sync)
	}
	if w.have() != "" {
		t.Fatalf("written are %s", w.have())
	}
	w.l.mu.Lock()
	w.l.err = nil
	w.l.mu.Unlock()
	w.settled("web", "api")
	if n := len(w.l.events(belay.EventSyncStarted)); n != 2 {
		t.Errorf("%d deployments began", n)
	}
	// A drift is not set back either.
	w.l.mu.Lock()
	w.l.err = errFull
	w.l.mu.Unlock()
	w.lose("a")
	w.says("web", "the disk is full")
	if w.have() != "b c secret" {
		t.Errorf("there are %s", w.have())
	}
	// And an application that left Git stays.
	w.commit(bob, "remove api", map[string]string{"belay/api.yaml": ""})
	w.says("api", "the disk is full")
	w.l.mu.Lock()
	w.l.err = nil
	w.l.mu.Unlock()
	w.settled("web")
	w.await("api to go", func() bool { return w.have() == "a b secret" })
	if drift := only(t, w.l.events(belay.EventDrift)); !strings.Contains(drift.Object, "a") || drift.Project != "default" {
		t.Errorf("the drift is %+v", drift)
	}
	only(t, w.l.events(belay.EventHealed))
}

// Others go on while the record of one takes its time.
func TestASlowRecordHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.l.release = make(chan struct{})
	w.l.delayed = func(ev belay.Event) bool { return ev.Application == "web" }
	w.start()
	w.settled("api")
	if w.have() != "c" {
		t.Errorf("there are %s", w.have())
	}
	close(w.l.release)
	w.settled("web")
}

func TestAnApplicationThatLeavesGitIsADeployment(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	w.commit(bob, "remove api", map[string]string{"belay/api.yaml": ""})
	w.await("api to go", func() bool { return len(of(w.l.events(belay.EventSynced), "api")) == 2 })
	starts, ends := of(w.l.events(belay.EventSyncStarted), "api"), of(w.l.events(belay.EventSynced), "api")
	start, end := starts[1], ends[1]
	if start.Actor != bob || results(start.Detail) != "delete c" || subjectsOf(start.Detail.Commits) != "remove api" || start.Revision != "" || start.Change != w.commits[1].id {
		t.Errorf("it starts as %+v with %+v", start, start.Detail)
	}
	if !end.Detail.Cleared || results(end.Detail) != "delete c succeeded" || end.Result != belay.Succeeded || end.Project != "default" {
		t.Errorf("it ends as %+v with %+v", end, end.Detail)
	}
	only(t, of(w.l.events(belay.EventPruned), "api"))
}

func TestFailedAndSuperseded(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.refuse["b"] = true
	w.start()
	w.says("web", "refused")
	failed := only(t, w.l.events(belay.EventSyncFailed))
	if failed.Result != belay.Failed || failed.Deployment == "" || results(failed.Detail) != "create a succeeded, create b failed, create secret succeeded" {
		t.Errorf("it fails as %+v with %+v", failed, failed.Detail)
	}
	w.mu.Lock()
	w.refuse["b"] = false
	w.mu.Unlock()
	w.settled("web") // a retry brings it home
	if end := only(t, of(w.l.events(belay.EventSynced), "web")); end.Deployment != failed.Deployment || end.Result != belay.Succeeded {
		t.Errorf("it ends as %+v", end)
	}
	w.mu.Lock()
	w.refuse["a"] = true
	w.mu.Unlock()
	w.commit(ada, "bad", map[string]string{"apps/web/a": "2"})
	w.says("web", "refused")
	w.commit(bob, "good", map[string]string{"apps/web/a": "3"}) // before a retry of the bad one can succeed
	w.mu.Lock()
	w.refuse["a"] = false
	w.mu.Unlock()
	w.settled("web")
	starts := of(w.l.events(belay.EventSyncStarted), "web")
	if end := only(t, w.l.events(belay.EventSuperseded)); end.Result != belay.Superseded || end.Revision != w.commits[1].id || len(starts) != 3 {
		t.Errorf("it ends as %+v, of %d", end, len(starts))
	}
}

// Commits that a process saw, and died before it could deploy what they declare, are
// brought by the first deployment of the next one, whatever came between.
func TestCommitsOfAFirstDeploymentAfterADeath(t *testing.T) {
	t.Parallel()
	for what, before := range map[string]func(w *fakeWorld){
		"new": func(*fakeWorld) {},
		"back": func(w *fakeWorld) {
			w.commit(ada, "before", map[string]string{"belay/new.yaml": fakeApp("new"), "apps/new/n": "0"})
			w.settled("new")
			w.commit(ada, "away", map[string]string{"belay/new.yaml": "", "apps/new/n": ""})
			w.await("new to go", func() bool { return w.have() == "a b c secret" && w.e.Settled() })
		},
	} {
		w := fleet(t)
		w.start()
		w.settled("web", "api")
		before(w)
		w.l.mu.Lock()
		w.l.err = errFull
		w.l.mu.Unlock()
		w.commit(ada, "add", map[string]string{"belay/new.yaml": fakeApp("new"), "apps/new/n": "1"})
		w.says("new", "the disk is full")
		w.commit(bob, "change", map[string]string{"apps/new/n": "2"})
		w.commit(bob, "other", map[string]string{"README": "2"})
		w.await("rest", func() bool {
			moved := w.l.events(belay.EventRevision)
			return w.e.Settled() && moved[len(moved)-1].Revision == w.commits[len(w.commits)-1].id
		})
		w.restart(true)
		w.settled("new")
		starts := of(w.l.events(belay.EventSyncStarted), "new")
		if d := starts[len(starts)-1].Detail; subjectsOf(d.Commits) != "change, add" || d.Previous != "" {
			t.Errorf("%s: it brings %q, after %q", what, subjectsOf(d.Commits), d.Previous)
		}
	}
}

// The commits of a deployment are those that concern its application, of every
// batch since the one before; over a restart too.
func TestCommitsOfADeployment(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	w.await("rest", w.e.Settled) // a pass that is late would deploy the next commit to api, too
	last := func(name string) *belay.Detail {
		starts := of(w.l.events(belay.EventSyncStarted), name)
		return starts[len(starts)-1].Detail
	}
	check := func(what, app, want, previous string) {
		t.Helper()
		if d := last(app); subjectsOf(d.Commits) != want || d.Previous != previous {
			t.Errorf("%s: %q, want %q; previous is %q, want %q", what, subjectsOf(d.Commits), want, d.Previous, previous)
		}
	}
	first := w.commits[0].id
	w.commit(ada, "web only", map[string]string{"apps/web/a": "2"})
	w.settled("web")
	w.await("rest", w.e.Settled)
	check("one commit", "web", "web only", first)
	// Several at once.
	e := w.e
	w.e = nil
	w.commit(ada, "other", map[string]string{"x": "1"})
	w.commit(ada, "api one", map[string]string{"apps/api/c": "2"})
	w.commit(bob, "web again", map[string]string{"apps/web/a": "3"})
	w.e = e
	w.commit(ada, "api two", map[string]string{"apps/api/c": "3"})
	w.settled("web", "api")
	check("several", "api", "api two, api one", first)
	check("several", "web", "web again", w.commits[1].id)
	moved := w.l.events(belay.EventRevision)
	if ev := moved[len(moved)-1]; subjectsOf(ev.Detail.Commits) != "api two, web again, api one, other" || ev.Ref != "main" || ev.Detail.Previous != w.commits[1].id {
		t.Errorf("the ref moved: %+v with %+v", ev, ev.Detail)
	}
	if len(moved) != 3 || !strings.Contains(moved[0].Message, "is at") {
		t.Errorf("%d times a ref moved", len(moved))
	}
	// A definition is changed by the config repository.
	w.commit(bob, "Orphan", map[string]string{"belay/web.yaml": fakeApp("web", "  project: default\n"), "apps/web/d": "1"})
	w.settled("web")
	w.await("rest", w.e.Settled)
	check("a definition", "web", "Orphan", w.commits[5].id)
	// What came while nobody looked.
	w.restart(true)
	w.settled("web", "api")
	w.await("rest", w.e.Settled)
	n := len(w.l.events(belay.EventRevision))
	w.end()
	e = w.e
	w.e = nil
	w.commit(ada, "night one", map[string]string{"apps/api/c": "4"})
	w.commit(ada, "night two", map[string]string{"apps/web/a": "4"})
	w.e = e
	w.restart(true)
	w.settled("web", "api")
	check("after a restart", "web", "night two", w.commits[6].id)
	check("after a restart", "api", "night one", w.commits[6].id)
	moved = w.l.events(belay.EventRevision)
	if ev := moved[len(moved)-1]; len(moved) != n+1 || subjectsOf(ev.Detail.Commits) != "night two, night one" {
		t.Errorf("%d times a ref moved, last %+v", len(moved), ev)
	}
}

// A process ends after it told that the branch moved, and before it deployed: the
// next one finds out from the record that this was not done.
func TestCommitsOfAProcessThatEnded(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	before := w.commits[0].id
	w.l.mu.Lock()
	w.l.release = make(chan struct{})
	w.l.delayed = func(ev belay.Event) bool { return ev.Type == belay.EventSyncStarted }
	w.l.mu.Unlock()
	tell := func(subject string, files map[string]string) {
		t.Helper()
		n := len(w.l.events(belay.EventRevision))
		w.commit(ada, subject, files)
		w.await("the record of "+subject, func() bool { return len(w.l.events(belay.EventRevision)) > n })
	}
	tell("seen, not deployed", map[string]string{"apps/web/a": "2"})
	tell("defined, not deployed", map[string]string{"belay/api.yaml": fakeApp("api", "  project: default\n"), "apps/api/d": "1"})
	w.restart(true)
	w.settled("web", "api")
	for app, want := range map[string]string{"web": "seen, not deployed", "api": "defined, not deployed"} {
		starts := of(w.l.events(belay.EventSyncStarted), app)
		if d := starts[len(starts)-1].Detail; subjectsOf(d.Commits) != want || d.Previous != before {
			t.Errorf("%s: %q after %q, want %q after %q", app, subjectsOf(d.Commits), d.Previous, want, before)
		}
	}
}

func TestWhoAskedIsOnTheRecord(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	w.commit(ada, "first", map[string]string{"belay/web.yaml": fakeApp("web", "  sync: {automatic: false}\n"), "apps/web/a": "1"})
	w.start()
	w.says("web", "automatic sync is off")
	if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}, Reason: "the database is back"}, bob); err != nil {
		t.Fatal(err)
	}
	w.settled("web")
	if start := only(t, w.l.events(belay.EventSyncStarted)); start.Actor != bob || start.Reason != "the database is back" || start.Detail.Commits[0].Author != ada {
		t.Errorf("it starts as %+v", start)
	}
	if ev := only(t, w.l.events(belay.EventApplication)); ev.Actor != bob || ev.Reason != "the database is back" || ev.Project != "default" || ev.Cluster != "local" {
		t.Errorf("asked as %+v", ev)
	}
	// An override that cannot be recorded does not take effect.
	w.l.mu.Lock()
	w.l.err = errFull
	w.l.mu.Unlock()
	if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}, OverrideWindow: true, Reason: "x"}, bob); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("overridden: %v", err)
	}
	w.e.mu.Lock()
	if a := w.e.apps["web"]; a.override != nil || a.manual {
		t.Error("it takes effect without being on the record")
	}
	w.e.mu.Unlock()
}

func TestAConfirmedDeletionIsOnTheRecord(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	w.commit(ada, "all gone", map[string]string{"apps/api/c": "", "apps/api/.keep": ""})
	w.says("api", "would delete its only object")
	st, err := w.e.Application("api")
	if err != nil {
		t.Fatal(err)
	}
	_, token, _ := strings.Cut(st.Hint, `"`)
	token, _, _ = strings.Cut(token, `"`)
	only(t, w.l.events(belay.EventHeld))
	w.commit(bob, "yes", map[string]string{"belay/api.yaml": fakeApp("api", "  sync: {confirm: "+token+"}\n")})
	w.await("c to go", func() bool { return w.have() == "a b secret" })
	w.settled("api")
	ev := only(t, w.l.events(belay.EventConfirmed))
	if ev.Actor != bob || ev.Revision != w.commits[2].id || ev.Deployment == "" || !strings.Contains(ev.Message, "ConfigMap x/c") {
		t.Errorf("confirmed as %+v", ev)
	}
}

// kill has the process die at the n-th time that it passes a checkpoint: nothing
// that it does from there on has any effect.
func (w *fakeWorld) kill(point string, n int) (died func() bool) {
	var mu sync.Mutex
	l, dead := w.l, false
	last := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		if name == point {
			if n--; n == 0 {
				l.mu.Lock()
				l.dead, dead = true, true
				l.mu.Unlock()
			}
		}
	}
	w.last.Store(&last)
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return dead
	}
}

// Wherever the process dies, and whether or not the last events got to the disk: no
// write is unrecorded, each deployment ends once, none stays, and nothing is told
// again by a restart.
func TestTheRecordOutlivesTheProcess(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"loaded", "rendered", "begin", "write", "written", "group", "delete", "deleted", "ended", "arrived"} {
		for n := 1; n <= 3; n++ {
			for _, flushed := range []bool{false, true} {
				t.Run(fmt.Sprint(point, n, flushed), func(t *testing.T) {
					t.Parallel()
					w := fleet(t)
					w.start()
					w.settled("web", "api")
					died := w.kill(point, n)
					w.commit(ada, "second", map[string]string{"apps/web/a": "2", "apps/web/b": "", "apps/web/d": "1", "apps/web/secret": "other",
						"belay/api.yaml": "", "belay/new.yaml": fakeApp("new"), "apps/new/n": "1"})
					w.await("the end", func() bool { return died() || w.have() == "a d n secret" && w.e.Settled() })
					if n == 3 { // moved on meanwhile
						w.commit(bob, "third", map[string]string{"apps/web/a": "3", "apps/new/n": "2"})
					}
					w.last.Store(nil)
					w.restart(flushed)
					w.settled("web", "new")
					w.await("api to go", func() bool { return w.have() == "a d n secret" && w.e.Settled() })
					w.restart(true)
					w.settled("web", "new")
					w.await("rest", w.e.Settled)
					if running := w.l.crash(true).Running(); len(running) > 0 {
						t.Errorf("under way are %+v", running)
					}
					w.l.mu.Lock()
					w.l.dead = false
					w.l.mu.Unlock()
					before := len(w.l.safe)
					w.restart(true)
					w.settled("web", "new")
					w.await("rest", w.e.Settled)
					if more := slices.Concat(w.l.safe[before:], w.l.pending); len(more) > 0 {
						t.Errorf("a restart told %+v", more)
					}
				})
			}
		}
	}
}

// What was under way and is not wanted any more is ended as superseded.
func TestFoundAfterARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		meanwhile map[string]string
		result    belay.Result
		events    int // starts, in all
	}{
		"the same":       {nil, belay.Succeeded, 1},
		"another commit": {map[string]string{"x": "1"}, belay.Succeeded, 1},
		"more":           {map[string]string{"apps/web/d": "1"}, belay.Superseded, 2},
		"other":          {map[string]string{"apps/web/a": "2"}, belay.Superseded, 2},
		"left Git":       {map[string]string{"belay/web.yaml": ""}, belay.Superseded, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFakeWorld(t)
			w.commit(ada, "first", map[string]string{"belay/web.yaml": fakeApp("web"), "belay/x.yaml": fakeApp("x", "  sync: {automatic: false}\n"), "apps/x/x": "1", "apps/web/a": "1", "apps/web/b": "1"})
			died := w.kill("written", 1)
			w.start()
			w.await("the end", died)
			w.end()
			w.e = nil
			w.last.Store(nil)
			if c.meanwhile != nil {
				w.commit(bob, "meanwhile", c.meanwhile)
			}
			w.restartKept()
			w.await("the end of the deployment", func() bool {
				return len(of(w.l.events(belay.EventSynced, belay.EventSuperseded), "web")) >= c.events
			})
			ends := of(w.l.events(belay.EventSynced, belay.EventSuperseded), "web")
			if ends[0].Result != c.result || ends[0].Deployment == "" || c.events != len(of(w.l.events(belay.EventSyncStarted), "web")) {
				t.Errorf("it ends as %+v", ends)
			}
			if c.result == belay.Succeeded && !strings.Contains(ends[0].Message, "after a restart") {
				t.Errorf("told as %q", ends[0].Message)
			}
		})
	}
}

// holdRender is a checkpoint that holds up the first render that comes by: held is
// closed then, and release lets it go on.
func holdRender() (hold func(string), held <-chan bool, release func()) {
	came, goOn := make(chan bool), make(chan bool)
	var once sync.Once
	return func(point string) {
		if point == "rendered" {
			once.Do(func() { close(came); <-goOn })
		}
	}, came, sync.OnceFunc(func() { close(goOn) })
}

// restingWorld is one in which web was deployed and nothing is left to be done.
func restingWorld(t *testing.T) *fakeWorld {
	t.Helper()
	w := newFakeWorld(t)
	w.commit(ada, "first", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1"})
	w.start()
	w.settled("web")
	w.await("rest", w.e.Settled)
	return w
}

// subjects are those of the commits that deployments bring.
func subjects(started []belay.Event) (named []string) {
	for _, ev := range started {
		for _, c := range ev.Detail.Commits {
			named = append(named, c.Subject)
		}
	}
	return named
}

// awaitRef waits until the engine knows that the branch moved.
func (w *fakeWorld) awaitRef(commit string) {
	w.t.Helper()
	w.await("the ref to move on", func() bool {
		w.e.mu.Lock()
		defer w.e.mu.Unlock()
		for _, f := range w.e.refs {
			if f.commit != commit {
				return false
			}
		}
		return len(w.e.refs) > 0
	})
}

// A commit that comes while the state of an earlier one is being rendered belongs to
// the deployment after that one, whether or not it was known by then what is read.
func TestCommitsThatComeWhileItRenders(t *testing.T) {
	t.Parallel()
	elsewhere := strings.Replace(fakeApp("web"), "path: apps/web", "path: apps/other", 1)
	for name, c := range map[string]struct {
		restart          bool
		earlier, another map[string]string
	}{
		"first life":                  {false, map[string]string{"apps/web/a": "2"}, map[string]string{"apps/web/a": "3"}},
		"another file":                {false, map[string]string{"apps/web/b": "2"}, map[string]string{"apps/web/b": "3"}},
		"another path":                {false, map[string]string{"belay/web.yaml": elsewhere, "apps/other/a": "2"}, map[string]string{"apps/other/a": "3"}},
		"after a restart":             {true, map[string]string{"apps/web/a": "2"}, map[string]string{"apps/web/a": "3"}},
		"another after a restart":     {true, map[string]string{"apps/web/b": "2"}, map[string]string{"apps/web/b": "3"}},
		"nothing missed in a restart": {true, map[string]string{"x": "2"}, map[string]string{"apps/web/a": "3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := restingWorld(t)
			hold, held, release := holdRender()
			defer release()
			if c.restart {
				w.end()
				w.e = nil
				w.commit(bob, "earlier", c.earlier)
				w.last.Store(&hold)
				w.restart(true)
			} else {
				w.last.Store(&hold)
				w.commit(bob, "earlier", c.earlier)
			}
			<-held
			newest := w.commit(ada, "another", c.another)
			w.awaitRef(newest)
			release()
			w.settled("web")
			w.await("rest", w.e.Settled)
			named := subjects(w.l.events(belay.EventSyncStarted))
			for _, want := range []string{"first", "earlier", "another"} {
				if wanted := want != "earlier" || c.earlier["x"] == ""; wanted && !slices.Contains(named, want) {
					t.Errorf("the deployments name %q, and not %q", named, want)
				}
			}
		})
	}
}

// Of a file with several definitions, the first deployment after a restart names
// the commits that changed its own.
func TestCommitsOfADefinitionAmongOthers(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	both := func(web, api string) string { return fakeApp("web", web) + "---\n" + fakeApp("api", api) }
	w.commit(ada, "First", map[string]string{"belay/all.yaml": both("", ""), "apps/web/a": "1", "apps/api/c": "1"})
	w.start()
	w.settled("web", "api")
	w.await("rest", w.e.Settled)
	w.end()
	w.e = nil
	limit := "  sync: {pruneLimit: {percent: 90}}\n"
	w.commit(ada, "of web", map[string]string{"belay/all.yaml": both("  project: default\n", ""), "apps/web/a": "2"})
	w.commit(bob, "of api", map[string]string{"belay/all.yaml": both("  project: default\n", limit)})
	w.commit(ada, "a comment", map[string]string{"belay/all.yaml": "# All of them.\n" + both("  project: default\n", limit)})
	w.commit(bob, "files of api", map[string]string{"apps/api/c": "2"})
	w.restart(true)
	w.settled("web", "api")
	for app, want := range map[string]string{"web": "of web", "api": "files of api, of api"} {
		starts := of(w.l.events(belay.EventSyncStarted), app)
		if d := starts[len(starts)-1].Detail; subjectsOf(d.Commits) != want {
			t.Errorf("%s: %q, want %q", app, subjectsOf(d.Commits), want)
		}
	}
}

// What is declared, and changed before it was deployed for the first time, is
// deployed with both commits, also when a process ended in between.
func TestCommitsBeforeTheFirstDeployment(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		w := restingWorld(t)
		hold, held, release := holdRender()
		w.last.Store(&hold)
		if restart {
			w.end()
			w.e = nil
		}
		w.commit(ada, "declared", map[string]string{"belay/new.yaml": fakeApp("new"), "apps/new/n": "1"})
		if restart {
			w.commit(bob, "changed", map[string]string{"apps/new/n": "2"})
			w.commit(bob, "other", map[string]string{"x": "2"})
			w.restart(true)
			<-held
		} else {
			<-held
			w.commit(bob, "changed", map[string]string{"apps/new/n": "2"})
			newest := w.commit(bob, "other", map[string]string{"x": "2"})
			w.awaitRef(newest)
		}
		release()
		w.settled("web", "new")
		w.await("rest", w.e.Settled)
		named := subjects(of(w.l.events(belay.EventSyncStarted), "new"))
		if slices.Sort(named); !slices.Equal(slices.Compact(named), []string{"changed", "declared"}) {
			t.Errorf("restart %v: its deployments name %q", restart, named)
		}
	}
}

// That commits may be missing is found while a deployment asks which it brings: the
// next one asks again.
func TestWhatIsLostMeanwhileIsAskedForAgain(t *testing.T) {
	e := New(Options{})
	a := newApp("web")
	a.lost, a.moreCommits, a.commits = 1, 2, []belay.Commit{{ID: "old"}}
	b := bringing{took: 1, lost: 1, left: 2, newest: true}
	a.lost, a.moreCommits = 2, 5
	a.bring([]belay.Commit{{ID: "new"}})
	e.brought(a, b)
	if a.lost == 0 || a.moreCommits != 3 || len(a.commits) != 1 || a.commits[0].ID != "new" {
		t.Errorf("lost %d, %d more, %v", a.lost, a.moreCommits, a.commits)
	}
	e.brought(a, bringing{lost: 2, left: 0})
	if a.lost != 2 {
		t.Errorf("a commit older than the newest leaves lost at %d", a.lost)
	}
	e.brought(a, bringing{took: 1, lost: 2, left: 3, newest: true})
	if a.lost != 0 || a.moreCommits != 0 || len(a.commits) != 0 {
		t.Errorf("then lost %d, %d more, %v", a.lost, a.moreCommits, a.commits)
	}
}

// A pass that did not render asks Git for what an earlier one read: of a chart, say,
// the values file that stands elsewhere.
func TestCommitsAreAskedForByWhatWasRead(t *testing.T) {
	e, k := New(Options{}), refKey{url: fakeRepo, ref: "main"}
	index := &fakeIndex{reads: map[string][]belay.Read{}}
	e.refs[k] = &followed{index: index}
	def := &belay.Application{Name: "web", Spec: belay.ApplicationSpec{Source: belay.Source{Path: "chart"}}}
	target := &target{app: newApp("web"), def: def, ref: k}
	if got := e.paths(target); !slices.Equal(got, []string{"chart"}) {
		t.Errorf("before anything was read: %v", got)
	}
	index.Set("web", []belay.Read{{Path: "chart"}, {Path: "values/web.yaml"}})
	if got := e.paths(target); !slices.Equal(got, []string{"chart", "values/web.yaml"}) {
		t.Errorf("in a pass that did not render: %v", got)
	}
	target.reads = map[refKey][]belay.Read{k: {{Path: "other"}}}
	if got := e.paths(target); !slices.Equal(got, []string{"other"}) {
		t.Errorf("in a pass that did: %v", got)
	}
}

// Somebody may ask for a sync before the engine runs.
func TestASyncBeforeTheBeginning(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.make()
	if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{}, "me"); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("it is answered with %v", err)
	}
	w.run()
	w.settled("web", "api")
}
