package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay"
)

// picture is a Cluster beside the server that it looks at.
type picture struct {
	*Cluster
	t      *testing.T
	server *modelServer
	r      *rand.Rand
	writes sync.WaitGroup

	mu sync.Mutex
	// told is what each application had when it was last told of it, or wrote itself.
	told map[string]string
	// shown are objects that were seen in the picture.
	shown map[belay.ObjectID]sight
	// written are the versions that writes of our own came to.
	written map[belay.ObjectID]uint64
	// ended are the objects that were deleted by ourselves, by their uid.
	ended map[string]bool
	steps []string

	judged belay.HealthCheck // how the health of custom kinds is told now
}

// sight is an object as it was seen: the one that is ours since that change.
type sight struct {
	uid   string
	since uint64
}

var (
	pictureApps  = []string{"blog", "shop"}
	pictureKinds = []string{"configmaps", "gadgets", "widgets"}
)

// newPicture starts a Cluster.
func newPicture(t *testing.T, seed uint64) *picture {
	p := &picture{t: t, server: newModelServer(), r: rand.New(rand.NewPCG(seed, 7)), told: map[string]string{}, shown: map[belay.ObjectID]sight{},
		written: map[belay.ObjectID]uint64{}, ended: map[string]bool{}}
	inner := rand.New(rand.NewPCG(seed, 11)) // of the server, which is asked in no fixed order
	p.server.pick = inner.IntN
	p.server.stale = func(most uint64) uint64 { return inner.Uint64N(most + 1) }
	p.server.plainLists = p.r.IntN(3) == 0
	var err error
	p.Cluster, err = New(Options{Name: "test", Config: &rest.Config{Host: "http://cluster.test", Transport: p.server}, Notify: p.notify,
		Interactive: []string{"kubectl-edit"}, SweepInterval: time.Hour, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run has the Cluster run until the end.
func (p *picture) run() (end func()) {
	ctx, cancel := context.WithCancel(p.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		time.Sleep(time.Hour) // reflectors that are between two attempts end late
	}
}

func (p *picture) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps = append(p.steps, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (p *picture) errorf(format string, args ...any) {
	p.note("WRONG: "+format, args...)
	p.t.Errorf(format, args...)
}

func (p *picture) notify(apps []string, all bool) {
	if all {
		apps = pictureApps
	}
	p.note("told %v, all %t", apps, all)
	p.check()
	for _, a := range apps {
		p.look(a)
	}
}

// look notes what an application has.
func (p *picture) look(app string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.told[app] = p.of(app)
}

// of is what an application wants to know of its objects.
func (p *picture) of(app string) string {
	var out strings.Builder
	for _, l := range p.Live(app) {
		fmt.Fprintln(&out, l.ID, l.UID, l.Application, l.Digest, l.Fingerprint, l.Deleting, l.Health, l.HealthMessage)
	}
	return out.String()
}

// check looks for what may not be, at any time.
func (p *picture) check() {
	p.server.mu.Lock() // nothing happens meanwhile
	defer p.server.mu.Unlock()
	p.mu.Lock()
	var wrong []string
	for _, plural := range pictureKinds {
		k := p.server.kind(plural)
		for _, ns := range []string{"a", "b"} {
			for _, name := range []string{"x", "y", "z"} {
				id, o := k.objectID(ns, name), k.objects[key(ns, name)]
				live, found := p.Lookup(id)
				if why := p.may(id, o, live, found); why != "" {
					wrong = append(wrong, fmt.Sprintf("%s: %s", id, why))
				}
				if found && o != nil && o.since > 0 && live.UID == o.uid && versionOf(live) >= o.since {
					p.shown[id] = sight{o.uid, o.since}
				}
			}
		}
	}
	p.mu.Unlock()
	for _, w := range wrong {
		p.errorf("%s", w)
	}
}

func versionOf(l belay.Live) uint64 {
	v, _ := strconv.ParseUint(l.ResourceVersion, 10, 64)
	return v
}

// may says what is wrong with how an object is seen.
func (p *picture) may(id belay.ObjectID, o *modelObject, live belay.Live, found bool) string {
	s := p.shown[id]
	switch {
	case !found && o != nil && o.since > 0 && s == sight{o.uid, o.since}:
		return "it is shown as gone, and was there all the while"
	case found && versionOf(live) < p.written[id]:
		return fmt.Sprintf("it is shown at version %d, after a write that came to %d", versionOf(live), p.written[id])
	case found && p.ended[live.UID]:
		return "it is shown after its deletion"
	}
	return ""
}

// wait lets time go by, and looks now and then.
func (p *picture) wait(d time.Duration) {
	for end := time.Now().Add(d); ; time.Sleep(min(time.Until(end), d/4+time.Millisecond)) {
		synctest.Wait()
		p.check()
		if !time.Now().Before(end) || p.t.Failed() {
			return
		}
	}
}

// some picks one of several.
func some[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (p *picture) kind() *modelKind { return p.server.kind(some(p.r, pictureKinds...)) }

// edit is a change by somebody else.
func (p *picture) edit() {
	k, ns, name := p.kind(), some(p.r, "a", "b"), some(p.r, "x", "y", "z")
	if !k.served {
		return
	}
	what, app := some(p.r, "edit", "edit", "status", "label", "label", "delete", "hold", "release", "again", "app", "copy"), some(p.r, pictureApps...)
	o := p.server.change(k, ns, name, func(o *modelObject) *modelObject {
		if o == nil { // as from a backup
			return &modelObject{labelled: p.r.IntN(4) > 0, app: app, digest: "backup"}
		}
		switch what {
		case "edit":
			o.edits++
		case "status":
			o.ready = !o.ready
		case "label":
			o.labelled = !o.labelled
		case "delete":
			o.deleting = true
		case "hold":
			o.held = true
		case "release":
			o.held = false
		case "again":
			if !o.held {
				return nil
			}
		case "app":
			o.app = app
		case "copy":
			o.copied = !o.copied
		}
		return o
	})
	if what == "again" && o == nil {
		o = p.server.change(k, ns, name, func(*modelObject) *modelObject {
			return &modelObject{labelled: true, app: app, digest: "again"}
		})
	}
	p.note("%s %s %s/%s: %+v", what, k.plural, ns, name, o)
}

// write is a write of our own.
func (p *picture) write() {
	k, app, digest := p.kind(), some(p.r, pictureApps...), fmt.Sprintf("d%d", p.r.IntN(1000))
	id := k.objectID(some(p.r, "a", "b"), some(p.r, "x", "y", "z"))
	remove := p.r.IntN(3) == 0
	live, found := p.Lookup(id)
	if remove && found {
		app = live.Application
	}
	project := belay.OpenProject()
	permit, err := project.Permit(&belay.Application{Name: app}, "test", id, true)
	if err != nil {
		p.t.Fatal(err)
	}
	if remove && found {
		p.writes.Go(func() { p.delete(permit, live) })
		return
	}
	a := belay.Action{Verb: belay.VerbCreate, ID: id, Desired: desired(p.t, k, app, digest, id)}
	if found {
		a.Verb, a.Live = belay.VerbUpdate, &live
	}
	p.writes.Go(func() {
		live, err := p.Apply(p.t.Context(), permit, a)
		p.note("apply %s of %s as %s: version %s, %v", id, app, digest, live.ResourceVersion, err)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.written[id] = max(p.written[id], versionOf(live))
		p.mu.Unlock()
		p.look(app)
	})
}

func (p *picture) delete(permit belay.Permit, live belay.Live) {
	err := p.Delete(p.t.Context(), permit, live)
	p.note("delete %s %s: %v", live.ID, live.UID, err)
	if err != nil {
		return
	}
	p.server.mu.Lock()
	o := p.server.kind(strings.ToLower(live.ID.Kind) + "s").objects[key(live.ID.Namespace, live.ID.Name)]
	there := o != nil && o.uid == live.UID
	p.server.mu.Unlock()
	if !there {
		p.mu.Lock()
		p.ended[live.UID] = true
		p.mu.Unlock()
	}
	p.look(permit.Application())
}

// desired is an object as an application declares it.
func desired(t *testing.T, k *modelKind, app, digest string, id belay.ObjectID) *belay.Object {
	raw, err := json.Marshal(map[string]any{"apiVersion": k.apiVersion(), "kind": k.id.Kind, "metadata": map[string]any{"namespace": id.Namespace, "name": id.Name,
		"labels":      map[string]any{belay.LabelManaged: "true"},
		"annotations": map[string]any{belay.AnnotationID: belay.FormatID(app, id), belay.AnnotationDigest: digest}}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := belay.NewObject(raw, belay.Origin{File: "test.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	o.Raw, o.Digest = raw, digest
	return &o
}

// trouble has something go wrong.
func (p *picture) trouble() {
	resource := some(p.r, append([]string{"", "customresourcedefinitions"}, pictureKinds...)...)
	switch p.r.IntN(6) {
	case 0:
		p.note("cut %q", resource)
		p.server.cut(resource, p.r.IntN(2) == 0)
	case 1:
		p.note("expire %q", resource)
		p.server.end(resource, errExpired)
	case 2:
		p.note("compact, and cut %q", resource)
		p.server.compact()
		p.server.cut(resource, false)
	case 3:
		p.note("freeze %q", resource)
		p.server.freeze(resource, time.Duration(p.r.IntN(60_000))*time.Millisecond)
	default:
		f := modelFault{what: some(p.r, "internal", "away", "busy", "forbidden", "gone", "refused", "reset", "timeout", "slow", "late", "cut"), resource: resource,
			watches: p.r.IntN(2) == 0, lists: p.r.IntN(2) == 0, others: p.r.IntN(2) == 0,
			until: time.Now().Add(time.Duration(1+p.r.IntN(240)) * time.Second), pause: time.Duration(p.r.IntN(40_000)) * time.Millisecond}
		if p.r.IntN(8) == 0 {
			f.until = f.until.Add(time.Hour)
		}
		if p.r.IntN(2) == 0 {
			f.pause /= 100
		}
		p.note("fault %+v", f)
		p.server.fail(f)
	}
}

// pictures is how many random histories are tried; BELAY_PICTURES asks for more.
func pictures() (first, count uint64) {
	count = 12
	from, many, _ := strings.Cut(os.Getenv("BELAY_PICTURES"), "+")
	if n, err := strconv.ParseUint(from, 10, 64); err == nil {
		first, count = n, 1
	}
	if n, err := strconv.ParseUint(many, 10, 64); err == nil {
		count = n
	}
	return first, count
}

// Whatever happens to the connection: once that is over, what is known of the
// cluster is what is there, and who was concerned has heard; and at no time was
// anything taken for gone that was there.
func TestPictureOfACluster(t *testing.T) {
	first, count := pictures()
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPicture(t, seed)
				defer func() {
					if t.Failed() {
						t.Log(strings.Join(p.steps, "\n"))
					}
				}()
				defer p.run()()
				p.history()
			})
		})
	}
}

func (p *picture) history() {
	p.wait(time.Duration(p.r.IntN(3)) * time.Second)
	p.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}, {APIVersion: "new.example.org/v1", Kind: "Widget"}})
	var defined time.Time
	for range 60 + p.r.IntN(60) {
		switch p.r.IntN(20) {
		case 0, 1, 2:
			p.trouble()
		case 3:
			if time.Since(defined) < 15*time.Second {
				continue // discovery has to come after
			}
			defined = time.Now()
			k := p.server.kind("widgets")
			served, lag := !k.served, time.Duration(p.r.IntN(4000))*time.Millisecond
			p.note("widgets served: %t, after %v", served, lag)
			p.server.define(k, served, lag)
		case 4, 5, 6, 7, 8:
			p.write()
		case 9:
			some(p.r, p.verify, p.judge, p.flicker)()
		default:
			p.edit()
		}
		p.wait(some(p.r, 0, time.Millisecond, 300*time.Millisecond, 10*time.Second) * time.Duration(1+p.r.IntN(4)))
		if p.t.Failed() {
			return
		}
	}
	p.note("the faults end")
	p.server.heal()
	p.writes.Wait()
	p.wait(4 * time.Hour)
	p.same()
	if !p.t.Failed() {
		p.rest()
	}
}

// verify says of something that its fingerprint was found right.
func (p *picture) verify() {
	for _, app := range pictureApps {
		for _, l := range p.Live(app) {
			if p.r.IntN(2) == 0 {
				p.Verified(l.ID, l.Fingerprint)
			}
		}
	}
}

// judge has the health of custom kinds told in another way.
func (p *picture) judge() {
	p.judged = belay.HealthCheck{}
	if digest := some(p.r, "", "first", "second"); digest != "" {
		p.judged = belay.HealthCheck{Digest: digest, Judge: func(map[string]any) (belay.Health, string) { return belay.Suspended, digest }}
	}
	check := p.judged
	p.note("judge %q", check.Digest)
	p.SetHealthRules(func(belay.Kind) (belay.HealthCheck, bool) { return check, check.Judge != nil })
}

// flicker has discovery leave out a kind that is defined, for a while. Who may watch
// neither the kind nor what defines it can but believe that.
func (p *picture) flicker() {
	if p.anyRefused() {
		return
	}
	k := p.server.kind("gadgets")
	p.note("%s not named", k.plural)
	p.server.show(k, false)
	time.AfterFunc(time.Duration(p.r.IntN(20))*time.Second, func() {
		p.server.mu.Lock()
		defer p.server.mu.Unlock()
		k.shown = k.served
	})
	crds := p.server.kind("customresourcedefinitions")
	p.server.change(crds, "", "gadgets.example.org", func(o *modelObject) *modelObject { o.edits++; return o }) // so that it is read
}

func (p *picture) anyRefused() bool {
	c := p.Cluster
	c.mu.Lock()
	defer c.mu.Unlock()
	refused := func(w *watch) bool { return w.refused }
	return slices.ContainsFunc(slices.Collect(maps.Values(c.watches)), refused) || slices.ContainsFunc(slices.Collect(maps.Values(c.control)), refused)
}

// same compares the picture with what there is.
func (p *picture) same() {
	if err := p.Ready(); err != nil {
		p.errorf("not ready: %v", err)
	}
	if s := p.Status(); s.Message != "" {
		p.errorf("a complaint is left: %s", s.Message)
	}
	want := map[belay.ObjectID]*trimmed{}
	for _, plural := range pictureKinds {
		k := p.server.kind(plural)
		for _, o := range p.server.snapshot(k) {
			if o.ours() {
				t := expected(p.t, k, o, p.judged)
				want[t.live.ID] = t
			}
		}
	}
	got := map[belay.ObjectID]*record{}
	for _, of := range p.objects.kinds {
		maps.Copy(got, of)
	}
	for id, w := range want {
		g := got[id]
		if g == nil {
			p.errorf("%s is there, and not known", id)
			continue
		}
		if differs(&g.live, &w.live) || g.version != w.version || g.live.APIVersion != w.live.APIVersion {
			p.errorf("%s is known as\n%+v, and is\n%+v", id, g.live, w.live)
		}
		if (g.live.Managers == nil) != (g.verified == g.live.Fingerprint) {
			p.errorf("%s: verified %q, fingerprint %q, managers %v", id, g.verified, g.live.Fingerprint, g.live.Managers)
		}
		byApp, _ := p.objects.apps[w.live.Application][id]
		if byApp != g {
			p.errorf("%s is not among those of %s", id, w.live.Application)
		}
	}
	for id := range got {
		if want[id] == nil {
			p.errorf("%s is known, and not there", id)
		}
	}
	if len(p.objects.writing) > 0 {
		p.errorf("writes that never ended: %v", p.objects.writing)
	}
	for _, app := range pictureApps {
		if now := p.of(app); now != p.told[app] {
			p.errorf("%s was last told when it had\n%sand has\n%s", app, p.told[app], now)
		}
	}
	if got, want := p.Applications(), slices.Sorted(maps.Keys(p.objects.apps)); !slices.Equal(got, want) {
		p.errorf("applications %v, want %v", got, want)
	}
}

// expected is an object as it is to be seen.
func expected(t *testing.T, k *modelKind, o *modelObject, check belay.HealthCheck) *trimmed {
	t.Helper()
	tr := trimmer{resource: resource{kind: k.id, namespaced: true}, interactive: []string{"kubectl-edit"}}
	tr.resource.gvr.Group, tr.resource.gvr.Version, tr.resource.gvr.Resource = k.id.Group, k.version, k.plural
	if !closed[k.id] {
		tr.check = check
	}
	var arrived any
	if metadataOnly[k.id] {
		var m metav1.PartialObjectMetadata
		if err := json.Unmarshal(encoded(o.body(k, o.rev, true)), &m); err != nil {
			t.Fatal(err)
		}
		arrived = &m
	} else {
		var u unstructured.Unstructured
		if err := u.UnmarshalJSON(encoded(o.body(k, o.rev, false))); err != nil {
			t.Fatal(err)
		}
		arrived = &u
	}
	out, err := tr.trim(arrived)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rest looks at what is sent while nothing happens: watches, and what the sweeps of
// so many hours list.
func (p *picture) rest() {
	const hours = 3
	since := time.Now()
	p.wait(hours * time.Hour)
	counts := map[string]int{}
	for _, r := range p.server.requests(since) {
		counts[r.verb+" "+r.resource]++
	}
	for what, n := range counts {
		most := 2 * (hours + 1)
		if strings.HasPrefix(what, "watch ") {
			most = hours*12 + 2
		}
		if n > most || strings.HasPrefix(what, "discovery") || strings.HasPrefix(what, "get") {
			p.errorf("at rest, %d times in %d hours: %s", n, hours, what)
		}
	}
}
