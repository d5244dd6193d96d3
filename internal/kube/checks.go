package kube

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
)

// closed are kinds of which only metadata is ever asked for, whatever rules say:
// their values are not for this process.
var closed = map[belay.Kind]bool{{Kind: "Secret"}: true, {Kind: "ConfigMap"}: true}

// SetHealthRules says how the health of objects is told where the package's own
// rules are not to decide; nil takes that back. Kinds whose check differs from
// before are listed again, each with one request, and applications hear of what
// changes. All other watches go on untouched.
func (c *Cluster) SetHealthRules(checks belay.HealthChecks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks = checks
	for at, w := range c.watches {
		check := c.checkFor(at.kind)
		if check.Digest == w.check.Digest {
			continue
		}
		w.cancel()
		delete(c.watches, at)
		nw := c.ensureWatch(at)
		if nw == nil {
			continue
		}
		// The objects stay known with the health that they had; there is nothing that
		// anybody would have to wait for.
		nw.wanted, nw.delivered, nw.refused, nw.late = w.wanted, w.delivered, w.refused, w.late
		c.log.Info("health is told anew", "kind", at.String())
	}
}

// checkFor is the check of a kind; its Judge is nil where there is none. The
// caller holds c.mu.
func (c *Cluster) checkFor(k belay.Kind) belay.HealthCheck {
	if c.checks == nil || closed[k] {
		return belay.HealthCheck{}
	}
	check, _ := c.checks(k)
	return check
}

// watchedWhole reports whether status arrives for a kind, so that its health is
// not known from an answer to a write.
func (c *Cluster) watchedWhole(k belay.Kind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at, w := range c.watches {
		if at.kind == k {
			return w.whole
		}
	}
	return !metadataOnly[k]
}

// judged returns what was found of an object if it was at this version, and by
// this check: an object that arrives again, after a broken connection say, is not
// judged again.
func (s *store) judged(id belay.ObjectID, uid, resourceVersion, check string) (h belay.Health, message string, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := s.kinds[id.GroupKind()][id]
	if r == nil || check == "" || r.judgedBy != check || r.live.UID != uid || r.live.ResourceVersion != resourceVersion {
		return "", "", false
	}
	return r.live.Health, r.live.HealthMessage, true
}

// HealthOf tells the health of an object as a [Cluster] would that saw it, given
// as the API server shows it. check may be the zero value.
func HealthOf(object []byte, check belay.HealthCheck) (belay.Health, string, error) {
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON(object); err != nil {
		return belay.Unknown, "", err
	}
	group, _ := belay.SplitAPIVersion(u.GetAPIVersion())
	kind := belay.Kind{Group: group, Kind: u.GetKind()}
	t := trimmer{check: check}
	if closed[kind] {
		t.check = belay.HealthCheck{}
	}
	out := &trimmed{}
	out.live.Deleting = u.GetDeletionTimestamp() != nil
	switch {
	case t.check.Judge == nil && metadataOnly[kind] && out.live.Deleting:
		return belay.Progressing, terminating, nil
	case t.check.Judge == nil && metadataOnly[kind]:
		return belay.Healthy, "", nil
	}
	t.judge(out, &u)
	return out.live.Health, out.live.HealthMessage, nil
}
