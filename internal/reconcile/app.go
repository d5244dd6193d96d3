package reconcile

import (
	"container/list"
	"maps"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// app is what the engine knows of one application. The first group of fields is
// guarded by Engine.mu; the rest belongs to the worker that holds the key.
type app struct {
	name  string
	def   *belay.Application // nil when Git does not declare it (any more)
	last  *belay.Application // what it meant before it left Git, if known
	lived bool               // it was declared in this life of the process
	ref   refKey             // of its first source
	also  []refKey           // of its other sources, and of what files name
	// sources are the refs of its sources, in order; found are those that files name.
	sources, found []refKey
	dirty          bool // files it was rendered from may have changed
	read           bool // desired state was worked out, or failed to be, since start
	// rendering is true while that is under way, cannot while it cannot even begin.
	rendering, cannot bool
	manual            bool   // somebody asked for a sync; ends when it is Synced
	retry             bool   // backoffs end with the next pass
	afresh            bool   // its definition changed: what failed is tried anew
	asked             *asked // who, as long as manual is true
	// granted is the digest of the desired state that was reached because somebody asked,
	// as long as objects of hooks that are to go with it are left.
	granted  string
	override *override // of windows, for one sync
	status   belay.ApplicationStatus
	health   belay.Health              // the last that could be seen
	pending  map[belay.ObjectID]string // objects that are not right, and why
	// hookStates is how far the hooks are, as far as the run at hand needs them.
	hookStates map[belay.ObjectID]belay.HookState
	left       *left // what it was when it left Git
	// limits is the project that it was in when it left Git, if known.
	limits *belay.Project
	// desired is replaced as a whole, never changed; commit is the newest commit
	// that it is known to hold for.
	desired   *desired
	commit    string
	at        map[refKey]belay.Revision // the same for every ref; replaced as a whole
	renderErr error                     // of the last render; desired is then older
	tried     string                    // definition and cluster facts of the last render
	// notBefore is when a render that failed is tried again with the same, where nobody
	// tells that it may succeed.
	notBefore time.Time
	indexed   bool // what the last render read is in the index
	// judged is the desired state that status is about; nil if it could not be compared.
	judged *desired
	// awaits are the dependencies that were not ready when they were looked at last.
	awaits map[string]bool
	// kept is what it is held at, insisted the digest of what somebody wants in spite
	// of an automatic rollback.
	kept     []declared
	insisted string
	// unknown is true if Git's history never declared it.
	unknown bool
	// commits concern it and belong to no deployment yet, newest first; lost counts
	// how often it was found that there may be others. deployed is the revision that was reached last.
	// definedFrom is the commit of the definitions since which it is not known what
	// changed its own; "" if that is known.
	commits     []belay.Commit
	moreCommits int
	lost        int
	deployed    string
	definedFrom string
	// doubted is true while others keep what they would delete, because it cannot be read.
	doubted bool
	// added is true where this process saw the commit that declared it.
	added bool
	// released is the token in Git because of which it goes with many others.
	released string

	fails     map[belay.ObjectID]*attempt
	heals     map[belay.ObjectID]*attempt
	drifted   map[belay.ObjectID]string // fingerprint of drift already told
	running   map[string]*deployment    // by cluster
	owing     map[string]bool           // clusters of which the record has not what they have
	told      string                    // last failure told
	effort    effort                    // of the sync under way
	tries     attempt                   // of things that are not about one object
	synced    string                    // digest of the desired state reached last
	syncedIDs map[belay.ObjectID]string // objects that were written or found right, and their digests
	syncedAt  time.Time
	recorded  map[belay.ObjectID]recorded // manifests on the record; nil if nobody knows
	cluster   string                      // that all of this is about
	clusterID string                      // and which of that name, if known
	// unrecorded counts in a row what could not be written because it could not be recorded.
	unrecorded attempt
	hooks      hookMemory

	watch   *watch // of the deployment under way, where it may be rolled back by itself
	well    *well  // what it was when it was well last
	resumed bool   // the watch of an earlier life was looked for
}

// meant is the definition of an application, or of one that left Git what it was
// last; nil where nobody knows. Called with Engine.mu.
func (a *app) meant() *belay.Application {
	if a.def != nil {
		return a.def
	}
	return a.last
}

// deliverTo forgets what was done in another cluster. Called with Engine.mu.
func (a *app) deliverTo(cluster string) {
	if a.cluster == cluster {
		return
	}
	a.cluster, a.clusterID = cluster, ""
	a.recorded, a.deployed = nil, ""
	a.forgetDone()
}

// forgetDone forgets what was done in the cluster. Called with Engine.mu.
func (a *app) forgetDone() {
	a.synced, a.syncedIDs, a.recorded, a.deployed, a.granted = "", nil, nil, "", ""
	clear(a.fails)
	clear(a.heals)
	clear(a.drifted)
}

// forgetUndeclared drops what is known of objects that are not declared any more.
func (a *app) forgetUndeclared(d *desired) {
	declared := make(map[belay.ObjectID]bool, len(d.objects))
	for i := range d.objects {
		declared[d.objects[i].id] = true
	}
	for _, o := range slices.Concat(d.hooks, d.also) {
		declared[o.id] = true
	}
	maps.DeleteFunc(a.heals, func(id belay.ObjectID, _ *attempt) bool { return !declared[id] })
	maps.DeleteFunc(a.drifted, func(id belay.ObjectID, _ string) bool { return !declared[id] })
	maps.DeleteFunc(a.syncedIDs, func(id belay.ObjectID, _ string) bool { return !declared[id] })
	maps.DeleteFunc(a.fails, func(id belay.ObjectID, f *attempt) bool { return !declared[id] && f.digest != string(belay.VerbDelete) })
}

func newApp(name string) *app {
	return &app{name: name, dirty: true, lost: 1, fails: map[belay.ObjectID]*attempt{}, heals: map[belay.ObjectID]*attempt{},
		drifted: map[belay.ObjectID]string{},
		status:  belay.ApplicationStatus{Name: name, Sync: belay.SyncUnknown, Health: belay.Unknown}}
}

// desired is what Git declares for an application, without the manifests.
type desired struct {
	rendered   string                    // the commit it was rendered from
	at         map[refKey]belay.Revision // and those of every ref
	spec       string                    // digest of everything else the render depended on
	facts      string                    // cluster facts it was resolved with
	usesFacts  bool
	objects    []declared
	unresolved []plan.Unresolved
	kinds      []belay.VersionKind
	digest     string // of all objects
	warnings   []string
	// hooks are no part of objects; unplaced are those that could not be resolved.
	hooks    []declared
	unplaced []plan.Unresolved
	run      string // what hooks run for, see belay.HookRunOf
	// also are objects that are claimed beside those, while a hold keeps them.
	also []declared
	// def is the definition that it was made of, where that is another than the one in
	// force; nil for that one. Guarded by Engine.mu.
	def *belay.Application
}

// declared is one desired object without its manifest.
type declared struct {
	id         belay.ObjectID
	apiVersion string
	digest     string
	wave       int
	hook       *belay.Hook
	origin     belay.Origin
}

// hot keeps the manifests of recently used applications, bounded in bytes.
type hot struct {
	limit, size int
	order       *list.List // of *hotEntry, newest first
	byName      map[string]*list.Element
}

type hotEntry struct {
	name, digest string
	objects      []belay.Object
	size         int
}

func newHot(limit int) *hot {
	return &hot{limit: limit, order: list.New(), byName: map[string]*list.Element{}}
}

func (h *hot) get(name, digest string) ([]belay.Object, bool) {
	el, ok := h.byName[name]
	if !ok || el.Value.(*hotEntry).digest != digest {
		return nil, false
	}
	h.order.MoveToFront(el)
	return el.Value.(*hotEntry).objects, true
}

func (h *hot) put(name, digest string, objects []belay.Object) {
	h.remove(name)
	en := &hotEntry{name: name, digest: digest, objects: objects}
	for i := range objects {
		en.size += len(objects[i].Raw) + 256
	}
	h.byName[name] = h.order.PushFront(en)
	h.size += en.size
	for h.size > h.limit && h.order.Len() > 1 {
		h.remove(h.order.Back().Value.(*hotEntry).name)
	}
}

func (h *hot) remove(name string) {
	if el, ok := h.byName[name]; ok {
		h.size -= el.Value.(*hotEntry).size
		h.order.Remove(el)
		delete(h.byName, name)
	}
}
