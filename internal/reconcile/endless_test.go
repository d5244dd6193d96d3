package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// States that last: what is tried again in them, how often, and what ends them.

// dueIn is the time until a key is looked at again by itself; 0 for never.
func dueIn(e *Engine, k key) time.Duration {
	e.queue.mu.Lock()
	defer e.queue.mu.Unlock()
	if t := e.queue.due[k]; t != nil {
		return time.Until(t.at).Round(time.Second)
	}
	return 0
}

// Who waits for a dependency and then cannot be read itself would be woken by what
// it tells others.
func TestWhoCannotBeReadIsNotWokenByItself(t *testing.T) {
	for name, tell := range map[string]func(*Engine){
		"unreadable": func(e *Engine) { e.unreadable(e.apps["web"]) },
		"a defect":   func(e *Engine) { e.fail("web", &belay.Error{Code: belay.CodeInternal}) },
	} {
		e, db, _ := dependent(t, belay.Dependency{})
		db.status.Health = belay.Progressing
		if why := e.unready(&target{app: e.apps["web"], def: e.apps["web"].def}); why == "" {
			t.Fatal("it does not wait")
		}
		tell(e)
		if e.queue.queued[key{keyApp, "web"}] {
			t.Errorf("%s: it woke itself", name)
		}
	}
}

// The same on a running engine: in a bubble no time passes while anything goes round.
func TestAnApplicationThatWaitsAndBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "one", map[string]string{"belay/db.yaml": fakeApp("db"), "belay/web.yaml": fakeApp("web", "  dependsOn: [{name: db}]\n"),
			"apps/db/broken": "broken", "apps/web/a": "1"})
		w.start()
		w.says("web", "waits for db")
		w.commit(ada, "two", map[string]string{"belay/web.yaml": fakeApp("web", "  dependsOn: [{name: db}]\n  project: nowhere\n")})
		w.says("web", "nowhere")
		w.commit(ada, "three", map[string]string{"belay/web.yaml": fakeApp("web", "  dependsOn: [{name: db}]\n")})
		w.says("web", "waits for db")
		w.commit(ada, "four", map[string]string{"apps/db/broken": "", "apps/db/b": "1"})
		w.settled("db", "web")
	})
}

// costly is an error of work that took a minute.
type costly struct{}

func (costly) Error() string        { return "it takes too long" }
func (costly) Spent() time.Duration { return time.Minute }

// unwell is a renderer that fails as long as it is to.
type unwell struct {
	fakeRenderer
	mu      sync.Mutex
	err     error
	renders int
}

func (f *unwell) Render(ctx context.Context, files Files, req RenderRequest) (Rendered, error) {
	f.mu.Lock()
	err := f.err
	if err != nil {
		f.renders++
	}
	f.mu.Unlock()
	if err != nil {
		return Rendered{Reads: []belay.Read{{Path: req.Source.Path}}}, err
	}
	return f.fakeRenderer.Render(ctx, files, req)
}

func (f *unwell) fails(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.renders = err, 0
}

func (f *unwell) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.renders
}

// run is start for an engine that was made.
func (w *fakeWorld) run() {
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.e.Run(ctx) })
	w.stop = func() { cancel(); running.Wait() }
}

// newUnwellWorld has one application, and a renderer that fails when it is told to.
func newUnwellWorld(t *testing.T) (*fakeWorld, *unwell) {
	w := newFakeWorld(t)
	w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1"})
	w.make()
	r := &unwell{}
	w.e.Renderer = r
	return w, r
}

// A render that takes all the time it may, each time, must not keep a processor
// busy: not by itself, and not where its application is woken all the time.
func TestARenderThatTakesTooLongIsRare(t *testing.T) {
	late := &belay.Error{Code: belay.CodeUnavailable, Message: "rendering took longer than 1m", Err: costly{}}
	for name, woken := range map[string]bool{"left alone": false, "woken every second": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newUnwellWorld(t)
				w.run()
				w.settled("web")
				r.fails(late)
				w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
				day := func() {
					for end := time.Now().Add(24 * time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
						if woken {
							w.e.wake("web")
							synctest.Wait()
						}
					}
				}
				day()
				if n := r.count(); n < 8 || n > 25 {
					t.Errorf("%d renders on the first day, each of which takes a minute for nothing", n)
				}
				// A commit and a request begin anew.
				r.fails(late)
				w.commit(ada, "three", map[string]string{"apps/web/a": "3"})
				synctest.Wait()
				if n := r.count(); n != 1 {
					t.Errorf("%d renders of a new commit", n)
				}
				if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}}, ada); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := r.count(); n != 2 {
					t.Errorf("%d renders after a request", n)
				}
				r.fails(nil)
				if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}}, ada); err != nil {
					t.Fatal(err)
				}
				w.settled("web")
			})
		})
	}
}

// A worker that dies is a defect, or somebody killed it. The next one may live.
func TestARenderThatFailedByADefectIsTriedAgain(t *testing.T) {
	for name, before := range map[string]bool{"it ran before": true, "it never ran": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, r := newUnwellWorld(t)
				dead := &belay.Error{Code: belay.CodeInternal, Message: "the render worker ended: exit status 2"}
				if !before {
					r.fails(dead)
				}
				w.run()
				if before {
					w.settled("web")
					r.fails(dead)
					w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
				}
				w.says("web", "exit status 2")
				time.Sleep(time.Hour)
				if n := r.count(); n < 5 || n > 25 {
					t.Errorf("%d renders in an hour", n)
				}
				r.fails(nil)
				time.Sleep(backoffMost)
				w.settled("web")
			})
		})
	}
}

// Definitions that cannot be read for a reason that nobody foresaw are read again.
func TestDefinitionsAreReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1"})
		w.make()
		s := &closed{fakeSources: fakeSources{w: w}, err: errors.New("fork: resource temporarily unavailable")}
		w.e.Sources = s
		w.run()
		time.Sleep(time.Hour)
		if n := s.count(); n < 5 || n > 30 {
			t.Errorf("opened %d times in an hour", n)
		}
		s.open()
		time.Sleep(backoffMost)
		w.settled("web")
	})
}

// closed are sources that cannot be opened.
type closed struct {
	fakeSources
	mu    sync.Mutex
	err   error
	tries int
}

func (c *closed) Open(ctx context.Context, url, commit string) (Files, error) {
	c.mu.Lock()
	err := c.err
	c.tries++
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.fakeSources.Open(ctx, url, commit)
}

func (c *closed) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tries
}

func (c *closed) open() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = nil
}

// Where Git's history cannot be read, an application that left Git is looked at again.
func TestWhatLeftIsLookedUpAgain(t *testing.T) {
	e, _ := movedEngine(t, onShelf(), onShelf())
	w := newFakeWorld(t)
	w.commit(ada, "one", nil)
	e.Sources = &closed{fakeSources: fakeSources{w: w}, err: errors.New("no answer")}
	a := newApp("gone")
	e.apps["gone"] = a
	for _, want := range []time.Duration{recallRetry, 2 * recallRetry} {
		e.queue.add(key{keyApp, "gone"}) // which drops the alarm
		if err := e.recall(t.Context(), a, belay.Revision{Commit: w.commits[0].id}); err == nil {
			t.Fatal("it was read")
		}
		if got := dueIn(e, key{keyApp, "gone"}); got != want {
			t.Errorf("looked at again in %s, want %s", got, want)
		}
	}
}

// A hold whose time is over and whose end cannot be recorded.
func TestAHoldThatCannotEndIsNotHurried(t *testing.T) {
	for name, gone := range map[string]bool{"declared": false, "left Git": true} {
		e, target := movedEngine(t, onShelf(), onShelf())
		e.Recorder = &ledger{err: errFull}
		h := &hold{Hold: belay.Hold{Application: "web", Since: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)}}
		e.holds["web"] = h
		for _, want := range []time.Duration{heldRetry, 2 * heldRetry} {
			if gone {
				want = heldRetry
				e.holdsOn(t.Context(), target.app)
			} else if _, handled, _ := e.underHold(t.Context(), target, target.desired, nil); !handled {
				t.Fatal("the hold is over")
			}
			if got := dueIn(e, key{keyApp, "web"}); got != want {
				t.Errorf("%s: tried again in %s, want %s", name, got, want)
			}
			e.queue.add(key{keyApp, "web"}) // which drops the alarm
		}
		h.Until = time.Now().Add(3 * time.Second) // what time brings is not slept through
		h.made = "something else"
		if !gone {
			e.underHold(t.Context(), target, target.desired, nil)
			if got := dueIn(e, key{keyApp, "web"}); got != 3*time.Second {
				t.Errorf("looked at again in %s, with an end in 3s", got)
			}
		}
	}
}

// A day with a full disk is worth a line or two.
func TestAFullDiskIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said lines
		w := newFakeWorld(t)
		w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1"})
		w.make()
		w.e.Logger = slog.New(slog.NewTextHandler(&said, nil))
		w.run()
		w.settled("web")
		full := func(err error) {
			w.l.mu.Lock()
			defer w.l.mu.Unlock()
			w.l.err = err
		}
		full(errFull)
		w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
		time.Sleep(24 * time.Hour)
		if n := said.count("not recorded"); n != 1 {
			t.Errorf("said %d times:\n%s", n, said.text())
		}
		full(nil)
		time.Sleep(backoffMost)
		w.settled("web")
		full(errFull)
		w.commit(ada, "three", map[string]string{"apps/web/a": "3"})
		time.Sleep(time.Hour)
		if n := said.count("not recorded"); n != 2 {
			t.Errorf("of two full disks, said %d times", n)
		}
		full(nil)
		time.Sleep(backoffMost)
		w.settled("web")
		// Nor is what somebody did by hand said before it is on the record.
		full(errFull)
		w.lose("a")
		time.Sleep(time.Hour)
		if n := said.count("msg=drift"); n != 0 {
			t.Errorf("a drift that is not on the record was said %d times", n)
		}
		full(nil)
		time.Sleep(backoffMost)
		w.settled("web")
		if n := said.count("msg=drift"); n != 1 {
			t.Errorf("a drift was said %d times", n)
		}
	})
}

// lines are those of a log.
type lines struct {
	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(b)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

func (l *lines) count(what string) int { return strings.Count(l.text(), what) }

// As long as nobody can tell whether a commit may be deployed, that is not asked by
// every pass, nobody waits for the question, and the commit before holds.
func TestASignatureThatCannotBeChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := belay.DefaultSignatures()
		p := &signedBy{good: map[string]bool{"a": true}}
		e, src, rec, k := signingEngine(&rules, "a", p)
		source := key{keySource, k.url}
		pass := func(commit, message string) {
			t.Helper()
			rev, err := e.revision(t.Context(), k)
			if rev.Commit != commit || (err == nil) != (message == "") || err != nil && !strings.Contains(err.Error(), message) {
				t.Fatalf("%q, %v; want %q, %q", rev.Commit, err, commit, message)
			}
		}
		asked := func(n int) {
			t.Helper()
			if p.checks != n {
				t.Fatalf("asked %d times, want %d", p.checks, n)
			}
		}
		pass("a", "")
		src.head, p.down = "b", true
		for range 100 {
			pass("a", "no answer")
		}
		asked(2)
		if taken, known := e.taken(k).Commit, e.known(k).Commit; taken != "a" || known != "b" {
			t.Errorf("a pass takes %q, and what is known is %q", taken, known)
		}
		for n, pause := 3, askAgain; n < 6; n, pause = n+1, 2*pause {
			e.queue.add(source) // which drops the alarm
			pass("a", "no answer")
			if got := dueIn(e, source); got != pause {
				t.Errorf("asked again in %s, want %s", got, pause)
			}
			time.Sleep(pause)
			pass("a", "no answer")
			asked(n)
		}
		// While somebody waits for the answer, nobody else does.
		v := e.verdicts.of(k)
		v.checking.Lock()
		time.Sleep(time.Hour)
		pass("a", "no answer")
		asked(5)
		v.checking.Unlock()
		// Another commit is asked about at once, and so is what somebody wants synced.
		src.head = "c"
		pass("a", "no answer")
		asked(6)
		e.askNow(k)
		pass("a", "no answer")
		asked(7)
		p.down = false
		e.askNow(k)
		pass("a", "c is refused")
		asked(8)
		if len(rec.events) != 1 || rec.events[0].Revision != "c" {
			t.Errorf("told: %+v", rec.events)
		}
		e.askNow(k) // it is known
		pass("a", "c is refused")
		asked(8)
	})
}

// What may be deployed in place of a refused commit is asked again, too.
func TestWhatCameBeforeCannotBeTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rules := belay.DefaultSignatures()
		p := &signedBy{earlier: "a", lost: errors.New("no answer")}
		e, _, rec, k := signingEngine(&rules, "b", p)
		for range 10 {
			if rev, err := e.revision(t.Context(), k); rev.Commit != "" || err == nil || !strings.Contains(err.Error(), "no answer") {
				t.Fatalf("%q, %v", rev.Commit, err)
			}
		}
		if got := dueIn(e, key{keySource, k.url}); got != askAgain || p.checks != 1 || len(rec.events) != 0 {
			t.Errorf("asked %d times, again in %s, told %v", p.checks, got, rec.events)
		}
		p.lost = nil
		time.Sleep(askAgain)
		if rev, err := e.revision(t.Context(), k); rev.Commit != "a" || err == nil || len(rec.events) != 1 {
			t.Errorf("%q, %v, told %v", rev.Commit, err, rec.events)
		}
	})
}

// A pass must not take the accepted commit for outdated while nobody can tell of
// the newest: it would render it without end.
func TestAPassUnderAnUncheckedCommitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		project := "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: p}\nspec:\n  sources: [{repo: \"" + fakeRepo + "\"}]\n" +
			"  destinations: [{namespaces: [x]}]\n  signatures:\n    signers: [{name: ada, key: " +
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2KDDgLdoZdTUqYoXo3xpYyaVKhsG3MLKZmN7fhEeDS}]\n"
		w := newFakeWorld(t)
		one := w.commit(ada, "one", map[string]string{"belay/p.yaml": project, "belay/web.yaml": fakeApp("web", "  project: p\n"), "apps/web/a": "1"})
		w.make()
		p, r := &signedBy{good: map[string]bool{one: true}}, &unwell{}
		w.e.Provenance, w.e.Renderer = p, r
		w.run()
		w.settled("web")
		synctest.Wait()
		p.down = true
		two := w.commit(ada, "two", map[string]string{"belay/web.yaml": fakeApp("web", "  project: p\n", "  sync: {ignoreDifferences: [{kind: Pod, pointers: [/spec/x]}]}\n"), "apps/web/a": "2"})
		w.says("web", "no answer")
		time.Sleep(time.Hour)
		if st, err := w.e.Application("web"); err != nil || st.Revision != one {
			t.Errorf("%+v, %v", st, err)
		}
		if n := p.checks; n > 25 {
			t.Errorf("asked %d times in an hour", n)
		}
		synctest.Wait()
		p.down = false
		refused := func(want string) {
			t.Helper()
			if st, err := w.e.Application("web"); err != nil || st.Refused != want || st.Revision != one {
				t.Errorf("refused is %q, want %q, at %s: %v", st.Refused, want, st.Revision, err)
			}
		}
		refused("")
		time.Sleep(backoffMost)
		refused(two)
		if _, _, err := w.e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}}, ada); err != nil && belay.CodeOf(err) != belay.CodeDenied {
			t.Fatal(err)
		}
		synctest.Wait()
		refused(two)
		three := w.commit(ada, "three", map[string]string{"apps/web/a": "3"})
		synctest.Wait()
		refused(three)
		four := fmt.Sprintf("%040d", 4)
		p.good[four] = true
		w.commit(ada, "four", map[string]string{"apps/web/a": "4"})
		w.settled("web")
		if st, err := w.e.Application("web"); err != nil || st.Refused != "" {
			t.Errorf("%+v, %v", st, err)
		}
	})
}

// noHolds is a ledger that takes everything but holds, as long as it is full.
type noHolds struct {
	*ledger
	mu   sync.Mutex
	full bool
}

func (n *noHolds) Record(ctx context.Context, ev belay.Event) (string, error) {
	n.mu.Lock()
	full := n.full
	n.mu.Unlock()
	if full && ev.Type == belay.EventHold {
		return "", errFull
	}
	return n.ledger.Record(ctx, ev)
}

func (n *noHolds) fill(full bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.full = full
}

// An automatic rollback that cannot be recorded is tried again, and told once.
func TestARollbackThatCannotBeRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web", "  sync: {rollback: {window: 10m}}\n"), "apps/web/a": "1"})
		w.make()
		n := &noHolds{ledger: w.l}
		w.e.Recorder = n
		w.run()
		w.settled("web")
		n.fill(true)
		w.mu.Lock()
		w.refuse["a"] = true
		w.mu.Unlock()
		w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
		time.Sleep(24 * time.Hour)
		told := func(what belay.EventType) (events int) {
			w.l.mu.Lock()
			defer w.l.mu.Unlock()
			for _, ev := range slices.Concat(w.l.safe, w.l.pending) {
				if ev.Type == what {
					events++
				}
			}
			return events
		}
		if got := told(belay.EventRollback); got != 1 {
			t.Errorf("told %d times on a day", got)
		}
		n.fill(false)
		time.Sleep(backoffMost)
		synctest.Wait()
		if got := told(belay.EventHold); got != 1 {
			t.Errorf("%d holds", got)
		}
		w.says("web", "held at")
	})
}
