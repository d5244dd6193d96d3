package reconcile

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// heads are sources of which each ref has a commit of its own.
type heads struct {
	Sources
	at map[string]string
}

func (h heads) Revision(url, ref string) (belay.Revision, error) {
	return belay.Revision{Repo: url, Ref: ref, Commit: h.at[url]}, nil
}

// dependent knows "web", which depends on "db", which is Synced and Healthy at
// the newest commits.
func dependent(t *testing.T, dep belay.Dependency) (e *Engine, db *app, sources heads) {
	t.Helper()
	e, target := movedEngine(t, onShelf(), onShelf())
	sources = heads{at: map[string]string{"config": "c1", "apps": "a1"}}
	e.Repo, e.Ref, e.Sources = "config", "main", sources
	dep.Name = "db"
	target.def.Spec.DependsOn = []belay.Dependency{dep}
	db = newApp("db")
	db.def = &belay.Application{Name: "db", Spec: belay.DefaultApplicationSpec()}
	db.ref, db.read, db.dirty = refKey{url: "apps", ref: "main"}, true, false
	db.desired = &desired{digest: "1"}
	db.judged = db.desired
	db.status = belay.ApplicationStatus{Name: "db", Project: "default", Cluster: "new", Sync: belay.Synced, Health: belay.Healthy}
	e.apps["db"] = db
	e.refs[db.ref] = &followed{commit: "a1"}
	e.catalog.Applications = map[string]belay.Application{"web": *target.def, "db": *db.def}
	e.link(e.catalog)
	return e, db, sources
}

// A dependency is ready only where it was compared with the newest commit.
func TestADependencyIsNotTakenForWhatItWas(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *Engine, db *app, s heads)
		want   string // "" for ready
	}{
		"as it is":                   {func(*Engine, *app, heads) {}, ""},
		"new definitions":            {func(_ *Engine, _ *app, s heads) { s.at["config"] = "c2" }, "definitions are being read"},
		"definitions cannot be read": {func(e *Engine, _ *app, s heads) { s.at["config"] = "c2"; e.problem = &belay.Error{} }, "definitions cannot be read"},
		"a new commit":               {func(_ *Engine, _ *app, s heads) { s.at["apps"] = "a2" }, "a new commit is being read"},
		"a commit that concerns it":  {func(_ *Engine, db *app, _ heads) { db.mark() }, "is being compared"},
		"rendering":                  {func(_ *Engine, db *app, _ heads) { db.rendering = true }, "is being compared"},
		"rendered, but not compared": {func(_ *Engine, db *app, _ heads) { db.desired = &desired{digest: "1"} }, "is being compared"},
		"not read since the start":   {func(_ *Engine, db *app, _ heads) { db.read = false }, "is being compared"},
		"a source that cannot be read": {func(_ *Engine, db *app, _ heads) {
			db.cannot = true
			db.status.Sync = belay.SyncUnknown
			db.status.Message = "no route"
		}, "which cannot be read: no route"},
		"an error in its definition": {func(e *Engine, db *app, _ heads) {
			e.catalog.ApplicationErrors = map[string]error{"db": errors.New("no such project")}
			db.mark()
		}, "which has an error: no such project"},
		"a cluster that does not answer": {func(_ *Engine, db *app, _ heads) {
			db.judged = nil
			db.status.Sync, db.status.Health, db.status.Message = belay.SyncUnknown, belay.Unknown, "connecting"
		}, "which is Unknown: connecting"},
		"left Git":           {func(_ *Engine, db *app, _ heads) { db.def = nil }, "is not there"},
		"of another cluster": {func(e *Engine, _ *app, _ heads) { delete(e.apps, "db"); e.OnlyCluster = "new" }, "by another server"},
		"unhealthy": {func(_ *Engine, db *app, _ heads) {
			db.status.Health, db.status.Message = belay.Progressing, "rolling out"
		}, "waits for db, which is Progressing: rolling out"},
		"out of sync": {func(_ *Engine, db *app, _ heads) {
			db.status.Sync, db.status.Message = belay.OutOfSync, "suspended: because"
		},
			"waits for db, which is OutOfSync: suspended: because"},
		"suspended, but all is there": {func(_ *Engine, db *app, _ heads) { db.status.Message = "suspended: because" }, ""},
	} {
		e, db, s := dependent(t, belay.Dependency{})
		c.change(e, db, s)
		got := e.waitsFor(belay.Dependency{Name: "db"})
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestReadyExpressions(t *testing.T) {
	for source, want := range map[string]string{
		"app.health == 'Healthy'":                           "",
		"app.sync == 'OutOfSync'":                           "waits for db until app.sync == 'OutOfSync'; it is Healthy",
		"app.name == 'db' && app.cluster == 'new'":          "",
		"app.tree.all(o, o.health == 'Healthy')":            "fails: there is no field \"tree\"",
		"app.?tree.orValue([]).all(o, o.health=='Healthy')": "",
		"app.labels.tier == 'x'":                            "fails: there is no field \"labels\"",
		"app.message":                                       "fails: the result is string, want bool",
	} {
		e, _, _ := dependent(t, belay.Dependency{Ready: source})
		got := e.waitsFor(belay.Dependency{Name: "db", Ready: source})
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", source, got, want)
		}
	}
	// It, too, is not asked about what was before the newest commit.
	e, db, _ := dependent(t, belay.Dependency{Ready: "true"})
	db.mark()
	if got := e.waitsFor(belay.Dependency{Name: "db", Ready: "true"}); !strings.Contains(got, "is being compared") {
		t.Errorf("got %q", got)
	}
}

// Whoever waits is woken by what it waits for, and nobody else is.
func TestDependentsAreWoken(t *testing.T) {
	e, db, _ := dependent(t, belay.Dependency{})
	web := e.apps["web"]
	dbTarget := &target{app: db, def: db.def, cluster: "new", conn: onShelf(), desired: db.desired}
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	if e.queue.queued[key{keyApp, "web"}] {
		t.Error("woken without waiting")
	}
	db.status.Health = belay.Progressing
	webTarget := &target{app: web, def: web.def}
	if why := e.unready(webTarget); why == "" {
		t.Fatal("it does not wait")
	}
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("not woken by its dependency")
	}
	e.queue = newQueue()
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	if e.queue.queued[key{keyApp, "web"}] {
		t.Error("woken by a dependency that is as it was")
	}
	web.def.Spec.DependsOn[0].Ready = "app.tree.size() > 3"
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("not woken to look at the objects of its dependency")
	}
	web.def.Spec.DependsOn[0].Ready = ""
	e.queue = newQueue()
	db.desired = &desired{digest: "1"}
	dbTarget.desired = db.desired
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("not woken by a comparison with another commit")
	}
	e.queue = newQueue()
	e.wereRead()
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("not woken by a commit that was read")
	}
	e.queue = newQueue()
	db.status.Health = belay.Healthy
	webTarget.newPlan()
	if why := e.unready(webTarget); why != "" {
		t.Fatalf("it waits: %s", why)
	}
	e.settle(dbTarget, map[belay.ObjectID]string{}, nil)
	e.wereRead()
	if e.queue.queued[key{keyApp, "web"}] {
		t.Error("woken when it waits no more")
	}
}

// departing has applications that left Git, each depending on others.
func departing(t *testing.T, deps map[string][]string) *Engine {
	t.Helper()
	e, _ := movedEngine(t, onShelf(), onShelf())
	e.apps, e.catalog = map[string]*app{}, &catalog.Catalog{}
	for name, on := range deps {
		a := newApp(name)
		spec := belay.DefaultApplicationSpec()
		for _, d := range on {
			spec.DependsOn = append(spec.DependsOn, belay.Dependency{Name: d})
		}
		a.last = &belay.Application{Name: name, Spec: spec}
		e.apps[name] = a
	}
	return e
}

func TestTeardownGoesTheOtherWay(t *testing.T) {
	e := departing(t, map[string][]string{"web": {"api"}, "api": {"db"}, "db": nil, "x": {"y"}, "y": {"x"}})
	for name, want := range map[string]string{"web": "", "api": "waits for web", "db": "waits for api", "x": "", "y": ""} {
		err := e.inTheWay(t.Context(), e.apps[name])
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	// Whoever goes wakes those it depended on.
	e.forget(e.apps["web"], nil)
	if !e.queue.queued[key{keyApp, "api"}] || e.queue.queued[key{keyApp, "db"}] {
		t.Errorf("woken: %v", e.queue.order)
	}
	if err := e.inTheWay(t.Context(), e.apps["api"]); err != nil {
		t.Errorf("api: %v", err)
	}
	// One that stays keeps what it depends on.
	def := *e.apps["api"].last
	def.Origin = belay.Origin{File: "belay/api.yaml", Line: 3}
	e.apps["api"].def = &def
	e.catalog.Applications = map[string]belay.Application{"api": def}
	e.link(e.catalog)
	if err := e.inTheWay(t.Context(), e.apps["db"]); belay.CodeOf(err) != belay.CodeHeld || !strings.Contains(err.Error(), "belay/api.yaml:3") {
		t.Errorf("db: %v", err)
	}
}

// Who asked for a sync is named for the desired state that it met first. What comes
// after it is its author's, unless nothing is applied without being asked.
func TestWhoAskedIsNamedForOneState(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	a, def := target.app, *target.def
	target.def = &def
	for _, step := range []struct {
		what, digest            string
		automatic, unread, held bool
		named                   bool
	}{
		{"what could not be rendered", "0", true, true, false, true},
		{"the first", "1", true, false, false, true},
		{"the same again", "1", true, false, false, true},
		{"what it is held at", "2", true, false, true, true},
		{"another that has to be asked for", "2", false, false, false, true},
		{"another", "2", true, false, false, false},
	} {
		if a.asked == nil {
			a.asked = &asked{actor: "bob"}
		}
		target.asked, target.desired, target.held = a.asked, &desired{digest: step.digest}, nil
		if def.Spec.Sync.Automatic = step.automatic; step.held {
			target.held = &hold{}
		}
		if e.bindAsked(target, step.unread); (a.asked != nil) != step.named {
			t.Errorf("%s: named %v", step.what, a.asked != nil)
		}
	}
	// Whoever asked meanwhile is not forgotten.
	target.asked, target.held, a.asked = &asked{actor: "bob", desired: "1"}, nil, &asked{actor: "ada"}
	if e.bindAsked(target, false); a.asked == nil || a.asked.actor != "ada" {
		t.Error("the next request was lost")
	}
}

// untried is a cluster that nobody has looked at yet.
type untried struct{ *shelf }

func (untried) Tried() bool { return false }

// After a restart whoever left Git waits for a look at all clusters, also where
// somebody has looked up what it meant.
func TestTeardownWaitsForALookAtAllClusters(t *testing.T) {
	e := departing(t, map[string][]string{"db": nil})
	e.clusters["old"].conn = untried{onShelf()}
	if err := e.inTheWay(t.Context(), e.apps["db"]); err == nil || !strings.Contains(err.Error(), `a look at cluster "old"`) {
		t.Errorf("looked up: %v", err)
	}
	e.apps["db"].lived = true
	if err := e.inTheWay(t.Context(), e.apps["db"]); err != nil {
		t.Errorf("declared before: %v", err)
	}
}

// An override is for one desired state: the first that it meets.
func TestAnOverrideIsForOneSync(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	a := target.app
	pass := func(digest string, unread bool) bool {
		target.override, target.desired = a.override, &desired{digest: digest}
		e.bindOverride(target, unread)
		return target.override != nil
	}
	a.override = &override{}
	for range 2 {
		if !pass("1", false) {
			t.Error("not in force for the state that it met first")
		}
	}
	if pass("2", false) || a.override != nil {
		t.Error("in force for the state after that")
	}
	a.override = &override{}
	if pass("2", true) || a.override != nil {
		t.Error("in force for what could not be rendered")
	}
	// The end of a sync leaves alone an override that was ordered meanwhile.
	a.override = &override{}
	if !pass("3", false) {
		t.Fatal("not in force")
	}
	a.override = &override{}
	e.arrived(t.Context(), target)
	if a.override == nil {
		t.Error("the next override was lost")
	}
	target.override = a.override
	e.arrived(t.Context(), target)
	if a.override != nil {
		t.Error("it outlives its sync")
	}
}

func TestRetryAsDeclared(t *testing.T) {
	t.Parallel()
	failed, silent := func() *belay.Error { return &belay.Error{Code: belay.CodeInvalid, Message: "refused"} }, &belay.Error{Code: belay.CodeUnavailable, Message: "no answer"}
	now := time.Now()
	retry := belay.Retry{Limit: 2, First: "2s", Most: "5s"}
	var a attempt
	for i, want := range []time.Duration{2 * time.Second, 4 * time.Second, 5 * time.Second} {
		a.note(failed(), now, retry)
		if got := a.retryAt(retry).Sub(now); got != want {
			t.Errorf("pause %d is %s, want %s", i+1, got, want)
		}
		if got := a.exhausted(retry); got != (i == 2) {
			t.Errorf("after %d tries it is exhausted: %v", i+1, got)
		}
	}
	if !strings.Contains(a.err.Error(), "tried 3 times") {
		t.Errorf("the last error is %v", a.err)
	}
	var b attempt
	for range 10 {
		b.note(silent, now, retry)
	}
	if b.exhausted(retry) || !errors.Is(b.err, silent) {
		t.Errorf("that nobody answered counts as a try: %v", b.err)
	}
	var c attempt
	for range 20 {
		c.note(failed(), now, belay.Retry{})
	}
	if got := c.retryAt(belay.Retry{}).Sub(now); c.exhausted(belay.Retry{}) || got != 5*time.Minute {
		t.Errorf("without a limit: %v, %s", c.exhausted(belay.Retry{}), got)
	}
	if got := (&attempt{count: 1, last: now}).retryAt(belay.Retry{First: "10m", Most: "5m"}).Sub(now); got != 10*time.Minute {
		t.Errorf("a first pause longer than the longest is %s", got)
	}
}
