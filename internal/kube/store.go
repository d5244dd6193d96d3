package kube

import (
	"maps"
	"slices"
	"sync"

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
}

// pending is a write whose answer is not there yet.
type pending struct {
	writers int
	held    []string // applications that would have been told
	// gone is the version as of which it was found to be gone meanwhile, or not ours
	// any more; an answer that is older tells of what is no more.
	gone uint64
}

func newStore() *store {
	return &store{kinds: map[belay.Kind]map[belay.ObjectID]*record{}, apps: map[string]map[belay.ObjectID]*record{},
		writing: map[belay.ObjectID]*pending{}}
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

// release ends a write. It returns whom to tell of what happened meanwhile:
// nobody if the write succeeded, because whoever asked for it knows the outcome.
func (s *store) release(id belay.ObjectID, succeeded bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.writing[id]
	if succeeded {
		p.held = nil
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
	if old != nil && older(&t.record, old) {
		return nil // the answer to a write of our own was faster
	}
	if !t.ours {
		s.leaves(t.live.ID, t.version)
		return s.tell(t.live.ID, s.remove(old))
	}
	return s.tell(t.live.ID, s.put(t.record, old))
}

// leaves notes for a write under way that its object is gone as of a version.
func (s *store) leaves(id belay.ObjectID, version uint64) {
	if p := s.writing[id]; p != nil {
		p.gone = max(p.gone, version)
	}
}

// older reports whether an arrived state was overtaken by what is known. The
// same version may still tell the health, which an answer to a write does not.
func older(arrived, known *record) bool {
	return arrived.version != 0 && arrived.version < known.version
}

// written takes in the answer to a write, and returns the state as it is now
// known. It was asked for, so nobody needs to be told, except if somebody else
// was at the object in the same moment: one that the watch saw deleted since then
// does not come back. Health is not part of the answer and is
// guessed: a changed generation has not been acted on yet.
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
	if p := s.writing[t.live.ID]; p != nil && t.version != 0 && t.version < p.gone {
		s.remove(old)
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
	s.put(r, old)
	return r.live, nil
}

// gone takes in that a watch reported an object deleted, or no longer selected.
func (s *store) gone(t *trimmed) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.kinds[t.live.ID.GroupKind()][t.live.ID]
	if old != nil && older(&t.record, old) {
		return nil
	}
	s.leaves(t.live.ID, t.version)
	return s.tell(t.live.ID, s.remove(old))
}

// deleted takes in that a deletion of our own succeeded.
func (s *store) deleted(id belay.ObjectID, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.kinds[id.GroupKind()][id]; old != nil && old.live.UID == uid {
		s.remove(old)
	}
}

// terminating takes in that a deletion of our own was accepted and takes time.
func (s *store) terminating(id belay.ObjectID, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.kinds[id.GroupKind()][id]; old != nil && old.live.UID == uid {
		old.live.Deleting, old.live.Health, old.live.HealthMessage = true, belay.Progressing, terminating
	}
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
	for id := range s.writing {
		if id.GroupKind() == of.kind && (of.namespace == "" || of.namespace == id.Namespace) && !listed[id] {
			s.leaves(id, version)
		}
	}
	for id, r := range s.kinds[of.kind] {
		if (of.namespace == "" || of.namespace == id.Namespace) && !listed[id] && (version == 0 || r.version <= version) {
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
