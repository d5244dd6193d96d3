package reconcile

import (
	"maps"
	"sync"

	"github.com/belaydev/belay"
)

// sharedAt keeps the revisions that a desired state is of once for all of those that
// are of the same: a map of one entry takes over a kilobyte, and most applications
// of a fleet follow the same refs.
type sharedAt struct {
	mu   sync.Mutex
	last map[refKey]belay.Revision
}

// of returns a map that is equal to at and never changes.
func (s *sharedAt) of(at map[refKey]belay.Revision) map[refKey]belay.Revision {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || !maps.Equal(s.last, at) {
		s.last = maps.Clone(at)
	}
	return s.last
}
