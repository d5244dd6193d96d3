package kube

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/belaydev/belay"
)

// store holds what is known of the objects that are ours. Its methods that
// change it return the applications for which something changed that they
// would want to know: not a new resourceVersion alone.
type store struct {
	mu    sync.RWMutex
	kinds map[belay.Kind]map[belay.ObjectID]*record
	apps  map[string]map[belay.ObjectID]*record
	// writing are the objects that are being written now. A watch is often faster
	// than the answer to the write that it tells of; what it tells is held until
	// the answer is there, so that a write of our own wakes nobody.
	writing map[belay.ObjectID]*pending
	// ended are objects that a deletion of our own ended, for a while: a watch that
	// trails may still tell what became of one before that.
	ended map[belay.ObjectID]ended
}

// ended is an object that is no more, and until when that is remembered. It is not
// remembered for ever: there are API servers that say so before it is true.
type ended struct {
	uid   string
	until time.Time
}

// endedFor is how far a watch may trail.
const endedFor = time.Minute

// pending is a write whose answer is not there yet.
type pending struct {
	writers int
	held    []string // applications that would have been told
	// gone is the version at which a watch last told that it is not there: the answer
	// to a write from before that comes too late.
	gone uint64
}

// noteGone remembers that an object that is being written is not there. The caller
// holds s.mu.
func (s *store) noteGone(id belay.ObjectID, version uint64) {
	if p := s.writing[id]; p != nil {
		p.gone = max(p.gone, version)
	}
}

// others are those of the names that are not one application.
func others(names []string, application string) []string {
	return slices.DeleteFunc(names, func(name string) bool { return name == application })
}

func newStore() *store {
	return &store{kinds: map[belay.Kind]map[belay.ObjectID]*record{}, apps: map[string]map[belay.ObjectID]*record{},
		writing: map[belay.ObjectID]*pending{}, ended: map[belay.ObjectID]ended{}}
}

// hold begins a write of an object.
func (s *store) hold(id belay.ObjectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing[id] == nil {
		s.writing[id] = &pending{}
	}
	s.writing[id].writers++
}

// release ends a write for an application. It returns whom to tell of what
// happened meanwhile: not that application if the write succeeded, because whoever
// asked for it knows the outcome.
func (s *store) release(id belay.ObjectID, application string, succeeded bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.writing[id]
	if succeeded {
		p.held = others(p.held, application)
	}
	if p.writers--; p.writers > 0 {
		return nil
	}
	delete(s.writing, id)
	return p.held
}

// tell passes on whom a change concerns, unless the object is being written.
func (s *store) tell(id belay.ObjectID, touched []string) []string {
	if p := s.writing[id]; p != nil {
		p.held = append(p.held, touched...)
		return nil
	}
	return touched
}

func (s *store) ownsReplicas(id belay.ObjectID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.kinds[id.GroupKind()][id]
	return r != nil && r.replicas
}

func (s *store) lookup(id belay.ObjectID) (belay.Live, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.kinds[id.GroupKind()][id]
	if r == nil {
		return belay.Live{}, false
	}
	return r.live, true
}

func (s *store) application(name string) []belay.Live {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]belay.Live, 0, len(s.apps[name]))
	for _, r := range s.apps[name] {
		out = append(out, r.live)
	}
	slices.SortFunc(out, func(a, b belay.Live) int { return a.ID.Compare(b.ID) })
	return out
}

func (s *store) applications() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.apps))
}

func (s *store) count(k belay.Kind) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.kinds[k])
}

func (s *store) verified(id belay.ObjectID, fingerprint string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.kinds[id.GroupKind()][id]
	if r == nil || r.live.Fingerprint != fingerprint {
		return // it changed meanwhile; whoever verified it hears of that
	}
	r.verified = fingerprint
	r.live.Managers = nil
}

// observed takes in what a watch delivered: added or changed.
func (s *store) observed(t *trimmed) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(t)
}

func (s *store) take(t *trimmed) []string {
	old := s.kinds[t.live.ID.GroupKind()][t.live.ID]
	if (old != nil && older(&t.record, old)) || s.hasEnded(t) {
		return nil // the answer to a write of our own was faster
	}
	if !t.ours {
		s.noteGone(t.live.ID, t.version)
		return s.tell(t.live.ID, s.remove(old))
	}
	return s.tell(t.live.ID, s.put(t.record, old))
}

// hasEnded reports whether an object is one that was deleted.
func (s *store) hasEnded(t *trimmed) bool {
	e, ok := s.ended[t.live.ID]
	return ok && e.uid == t.live.UID && time.Now().Before(e.until)
}

// older reports whether an arrived state was overtaken by what is known. The
// same version may still tell the health, which an answer to a write does not.
func older(arrived, known *record) bool {
	return arrived.version != 0 && arrived.version < known.version
}

// written takes in the answer to a write, and returns the state as it is now
// known. It was asked for, so its application needs not be told, except if somebody
// else was at the object in the same moment; another one that had the object does.
// Health is not part of the answer and is guessed: a changed generation has not been
// acted on yet.
func (s *store) written(t *trimmed, hasStatus bool) (live belay.Live, touched []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.kinds[t.live.ID.GroupKind()][t.live.ID]
	if old != nil && older(&t.record, old) {
		r, now := t.live, old.live
		r.Health, r.HealthMessage, r.Established = now.Health, now.HealthMessage, now.Established
		if differs(&r, &now) {
			touched = []string{r.Application, now.Application}
		}
		return now, touched
	}
	if p := s.writing[t.live.ID]; s.hasEnded(t) || (p != nil && p.gone > t.version) {
		return t.live, []string{t.live.Application}
	}
	r := t.record
	switch {
	case !hasStatus:
	case old != nil && old.version == r.version:
		// The watch was faster, and knows the health.
		r.live.Health, r.live.HealthMessage, r.live.Established = old.live.Health, old.live.HealthMessage, old.live.Established
	case old != nil && old.live.UID == r.live.UID && old.generation == r.generation:
		r.live.Health, r.live.HealthMessage, r.live.Established = old.live.Health, old.live.HealthMessage, old.live.Established
	default:
		crd := r.live.ID.Group == "apiextensions.k8s.io" && r.live.ID.Kind == "CustomResourceDefinition"
		known := old != nil && old.live.UID == r.live.UID && old.live.Established
		r.live.Health, r.live.HealthMessage, r.live.Established = belay.Progressing, "just applied", !crd || known
	}
	return r.live, others(s.put(r, old), r.live.Application)
}

// gone takes in that a watch reported an object deleted, or no longer selected.
func (s *store) gone(t *trimmed) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteGone(t.live.ID, t.version)
	old := s.kinds[t.live.ID.GroupKind()][t.live.ID]
	if old == nil || older(&t.record, old) {
		return nil
	}
	return s.tell(t.live.ID, s.remove(old))
}

// missing takes in that an object is not there any more.
func (s *store) missing(id belay.ObjectID, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.kinds[id.GroupKind()][id]; old != nil && old.live.UID == uid {
		s.remove(old)
	}
}

// deleted takes in that a deletion of our own succeeded.
func (s *store) deleted(id belay.ObjectID, uid string) {
	s.missing(id, uid)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(s.ended, func(_ belay.ObjectID, e ended) bool { return !now.Before(e.until) })
	s.ended[id] = ended{uid, now.Add(endedFor)}
}

// terminating takes in that a deletion of our own was accepted and takes time, and
// which version that made. What a watch still tells from before is then older.
func (s *store) terminating(id belay.ObjectID, uid, resourceVersion string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.kinds[id.GroupKind()][id]
	if old == nil || old.live.UID != uid {
		return
	}
	if version, _ := strconv.ParseUint(resourceVersion, 10, 64); version > old.version {
		old.version, old.live.ResourceVersion = version, resourceVersion
	}
	old.live.Deleting, old.live.Health, old.live.HealthMessage = true, belay.Progressing, terminating
}

// replace takes in a complete list of one place as of a version.
func (s *store) replace(of place, items []*trimmed, version uint64) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var touched []string
	listed := make(map[belay.ObjectID]bool, len(items))
	for _, t := range items {
		listed[t.live.ID] = true
		touched = append(touched, s.take(t)...)
	}
	covers := func(id belay.ObjectID) bool { return of.namespace == "" || of.namespace == id.Namespace }
	maps.DeleteFunc(s.ended, func(id belay.ObjectID, _ ended) bool { return id.GroupKind() == of.kind && covers(id) && !listed[id] })
	for id := range s.writing {
		if id.GroupKind() == of.kind && covers(id) && !listed[id] {
			s.noteGone(id, version)
		}
	}
	for id, r := range s.kinds[of.kind] {
		if covers(id) && !listed[id] && (version == 0 || r.version <= version) {
			touched = append(touched, s.tell(id, s.remove(r))...)
		}
	}
	return touched
}

// forget drops a kind that the cluster no longer serves.
func (s *store) forget(kind belay.Kind) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var touched []string
	for _, r := range s.kinds[kind] {
		touched = append(touched, s.remove(r)...)
	}
	maps.DeleteFunc(s.ended, func(id belay.ObjectID, _ ended) bool { return id.GroupKind() == kind })
	return touched
}

// put stores a record in the place of old, which may be nil.
func (s *store) put(r record, old *record) []string {
	id := r.live.ID
	var touched []string
	if old == nil {
		touched = []string{r.live.Application}
	} else {
		if old.live.UID == r.live.UID {
			r.verified = old.verified
		}
		if differs(&old.live, &r.live) {
			touched = []string{old.live.Application, r.live.Application}
		}
		if old.live.Application != r.live.Application {
			s.unlink(old)
		}
	}
	if r.verified == r.live.Fingerprint {
		r.live.Managers = nil
	} else {
		r.verified = ""
	}
	kind := id.GroupKind()
	if s.kinds[kind] == nil {
		s.kinds[kind] = map[belay.ObjectID]*record{}
	}
	s.kinds[kind][id] = &r
	if app := r.live.Application; app != "" {
		if s.apps[app] == nil {
			s.apps[app] = map[belay.ObjectID]*record{}
		}
		s.apps[app][id] = &r
	}
	return touched
}

// differs says whether a change is worth waking anybody for.
func differs(a, b *belay.Live) bool {
	return a.UID != b.UID || a.Application != b.Application || a.Digest != b.Digest || a.Fingerprint != b.Fingerprint ||
		a.PruneDisabled != b.PruneDisabled || a.TeardownDisabled != b.TeardownDisabled ||
		a.ConfirmPrune != b.ConfirmPrune || a.ConfirmTeardown != b.ConfirmTeardown || a.Wave != b.Wave || a.Deleting != b.Deleting || a.Established != b.Established || !sameHook(a.Hook, b.Hook) ||
		a.Health != b.Health || a.HealthMessage != b.HealthMessage
}

func (s *store) remove(r *record) []string {
	if r == nil {
		return nil
	}
	s.unlink(r)
	kind := r.live.ID.GroupKind()
	delete(s.kinds[kind], r.live.ID)
	if len(s.kinds[kind]) == 0 {
		delete(s.kinds, kind)
	}
	return []string{r.live.Application}
}

func (s *store) unlink(r *record) {
	app := r.live.Application
	delete(s.apps[app], r.live.ID)
	if len(s.apps[app]) == 0 {
		delete(s.apps, app)
	}
}
