package drill

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// A throwaway control plane has an API server, controllers and a scheduler of
// Kubernetes, and something that plays kubelets: pods run as soon as they have a
// node. Nothing in them does. So nobody is there who would make a custom resource
// ready, serve an aggregated API, or answer an admission webhook.

// Cast knows what is rehearsed in one cluster, and what only stands in.
type Cast struct {
	// Strict waits for the health of custom resources, too.
	Strict bool

	mu      sync.Mutex
	groups  map[string]bool // that Kubernetes itself serves
	excused map[belay.ObjectID]bool
	silent  map[string]bool // webhook configurations
}

// Serves takes in what the control plane serves before anything is delivered.
func (c *Cast) Serves(facts *belay.ClusterFacts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.groups != nil || len(facts.Kinds) == 0 {
		return
	}
	c.groups = map[string]bool{}
	for vk := range facts.Kinds {
		group, _, named := strings.Cut(vk.APIVersion, "/")
		if !named {
			group = "" // v1
		}
		c.groups[group] = true
	}
}

// BuiltIn says whether a kind is part of Kubernetes itself.
func (c *Cast) BuiltIn(kind belay.Kind) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.groups == nil || c.groups[kind.Group]
}

// Show is an object as the engine is to see it: one whose controller does not run
// here is well once it is there.
func (c *Cast) Show(l belay.Live) belay.Live {
	if c.Strict || l.Deleting || l.Health == belay.Healthy || c.played(l.ID.GroupKind()) {
		return l
	}
	if l.Health != belay.Progressing && l.Health != belay.Unknown {
		return l
	}
	c.mu.Lock()
	if c.excused == nil {
		c.excused = map[belay.ObjectID]bool{}
	}
	c.excused[l.ID] = true
	c.mu.Unlock()
	l.Health, l.HealthMessage = belay.Healthy, ""
	return l
}

// played says whether somebody brings a kind to life here.
func (c *Cast) played(kind belay.Kind) bool {
	if kind.Group == "apiregistration.k8s.io" {
		return false // what serves the API is in a pod
	}
	return c.BuiltIn(kind)
}

// Excused lists the objects whose health was not rehearsed.
func (c *Cast) Excused() []belay.ObjectID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sortedIDs(c.excused)
}

// Silenced lists the webhook configurations that call nobody here.
func (c *Cast) Silenced() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sortedNames(c.silent)
}

// Prepare is an action as it is carried out here: a webhook that nobody serves
// would refuse every write that it is to look at, so none is called.
func (c *Cast) Prepare(act belay.Action) (belay.Action, error) {
	if act.Desired == nil || act.ID.Group != "admissionregistration.k8s.io" ||
		(act.ID.Kind != "ValidatingWebhookConfiguration" && act.ID.Kind != "MutatingWebhookConfiguration") {
		return act, nil
	}
	var o map[string]any
	if err := json.Unmarshal(act.Desired.Raw, &o); err != nil {
		return act, fmt.Errorf("read %s: %w", act.ID, err)
	}
	hooks := list(o, "webhooks")
	for _, h := range hooks {
		conditions, _ := h["matchConditions"].([]any)
		h["matchConditions"] = append(conditions, map[string]any{"name": "drill.belay.dev", "expression": "false"})
	}
	raw, err := json.Marshal(o)
	if err != nil {
		return act, fmt.Errorf("write %s: %w", act.ID, err)
	}
	c.mu.Lock()
	if c.silent == nil {
		c.silent = map[string]bool{}
	}
	c.silent[act.ID.String()] = len(hooks) > 0
	c.mu.Unlock()
	desired := *act.Desired
	desired.Raw = raw
	act.Desired = &desired
	return act, nil
}
