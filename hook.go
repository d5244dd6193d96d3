package belay

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Hook makes an object something that runs at moments of a sync, in place of
// something that is kept equal to Git.
type Hook struct {
	// Phases are the moments, in the order of a sync.
	Phases []HookPhase `json:"phases"`
	// Delete says when its object is deleted. Empty is the default, which is
	// HookBeforeCreation for what runs and none for what is only there (a
	// ServiceAccount): that is applied in place.
	Delete []HookDelete `json:"delete,omitempty"`
}

// HookPhase is a moment of a sync.
type HookPhase string

// The phases, in order.
const (
	PreSync    HookPhase = "PreSync"    // before the first write
	SyncPhase  HookPhase = "Sync"       // among the objects, by wave
	PostSync   HookPhase = "PostSync"   // when everything is applied and healthy
	SyncFail   HookPhase = "SyncFail"   // when the sync failed
	PreDelete  HookPhase = "PreDelete"  // before an application that left Git is deleted
	PostDelete HookPhase = "PostDelete" // after that
)

// HookPhases lists every phase, in order.
func HookPhases() []HookPhase {
	return []HookPhase{PreSync, SyncPhase, PostSync, SyncFail, PreDelete, PostDelete}
}

// HookDelete says when the object of a hook is deleted.
type HookDelete string

// The delete policies.
const (
	HookBeforeCreation HookDelete = "BeforeHookCreation"
	HookOnSuccess      HookDelete = "HookSucceeded"
	HookOnFailure      HookDelete = "HookFailed"
)

// HookState is how far a hook is in a run.
type HookState string

// The states, as users and the API see them.
const (
	HookWaiting   HookState = "Waiting" // not started in this run
	HookRunning   HookState = "Running"
	HookSucceeded HookState = "Succeeded"
	HookFailed    HookState = "Failed"
)

// HookStatus is what is shown of a hook beside the state of its object.
type HookStatus struct {
	Phases []HookPhase `json:"phases" doc:"Moments of a sync at which it runs: PreSync, Sync, PostSync, SyncFail, PreDelete, PostDelete."`
	// State is empty where the hook has no part in the present run.
	State HookState `json:"state,omitempty" doc:"How far it is in the present run: Waiting, Running, Succeeded or Failed; empty if it has no part in it."`
}

// In reports whether the hook runs in a phase.
func (h *Hook) In(p HookPhase) bool { return slices.Contains(h.Phases, p) }

// Deletes reports whether a policy was asked for.
func (h *Hook) Deletes(d HookDelete) bool { return slices.Contains(h.Delete, d) }

// AnnotationHookRun is on the object of a hook and names the run that it was made for
// and the phase: "RUN/PreSync". See [FormatHookRun].
const AnnotationHookRun = "belay.dev/hook-run"

// FormatHookRun is the value of [AnnotationHookRun].
func FormatHookRun(run string, phase HookPhase) string { return run + "/" + string(phase) }

// ParseHookRun splits a value written by [FormatHookRun].
func ParseHookRun(s string) (run string, phase HookPhase) {
	run, p, _ := strings.Cut(s, "/")
	return run, HookPhase(p)
}

// Other names of the same annotations. Belay's own win, then Argo CD's.
const (
	argoHook       = "argocd.argoproj.io/hook"
	argoHookDelete = "argocd.argoproj.io/hook-delete-policy"
	helmHook       = "helm.sh/hook"
	helmHookDelete = "helm.sh/hook-delete-policy"
	helmHookWeight = "helm.sh/hook-weight"
)

// hookNames are how one tool calls what a hook is.
type hookNames struct {
	phase, deletion string // the annotations
	phases          map[string]HookPhase
	policies        map[string]HookDelete
	// ignored are phases that exist and are not for a sync.
	ignored []string
	// plain are values that stand for no hook at all.
	plain []string
}

var ownPolicies = map[string]HookDelete{
	string(HookBeforeCreation): HookBeforeCreation, string(HookOnSuccess): HookOnSuccess, string(HookOnFailure): HookOnFailure,
}

var hookDialects = []hookNames{
	{phase: AnnotationHook, deletion: AnnotationHookDelete, phases: ownPhases(), policies: ownPolicies},
	{phase: argoHook, deletion: argoHookDelete, phases: ownPhases(), policies: ownPolicies, ignored: []string{"Skip"}},
	{phase: helmHook, deletion: helmHookDelete,
		phases: map[string]HookPhase{"pre-install": PreSync, "pre-upgrade": PreSync, "post-install": PostSync, "post-upgrade": PostSync,
			"pre-delete": PreDelete, "post-delete": PostDelete},
		policies: map[string]HookDelete{"before-hook-creation": HookBeforeCreation, "hook-succeeded": HookOnSuccess, "hook-failed": HookOnFailure},
		ignored:  []string{"test", "test-success", "test-failure", "pre-rollback", "post-rollback"},
		plain:    []string{"crd-install"}},
}

func ownPhases() map[string]HookPhase {
	out := map[string]HookPhase{}
	for _, p := range HookPhases() {
		out[string(p)] = p
	}
	return out
}

// ErrLeftOut is what [NewObject] returns for a manifest that is not for a sync: a
// test of a chart, or one that is told to be skipped.
var ErrLeftOut = errors.New("not part of a sync")

// parseHook reads the annotations of a manifest. It is nil for an object that is
// no hook; the error is ErrLeftOut for one that is left out.
func parseHook(annotations map[string]string) (*Hook, error) {
	for i := range hookDialects {
		d := &hookDialects[i]
		value, ok := annotations[d.phase]
		if !ok {
			continue
		}
		h, err := d.hook(value)
		if h == nil || err != nil {
			return nil, err
		}
		// A policy may be written in another tool's words than the phase.
		for j := range hookDialects {
			d := &hookDialects[j]
			value, ok := annotations[d.deletion]
			if !ok {
				continue
			}
			h.Delete, err = d.policy(value)
			return h, err
		}
		return h, nil
	}
	return nil, nil
}

// hook reads the value of a phase annotation.
func (d *hookNames) hook(value string) (*Hook, error) {
	h := &Hook{}
	named, plain := false, false
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		phase, ok := d.phases[word]
		switch {
		case word == "":
		case ok:
			named = true
			if !h.In(phase) {
				h.Phases = append(h.Phases, phase)
			}
		case slices.Contains(d.ignored, word):
			named = true
		case slices.Contains(d.plain, word):
			named, plain = true, true
		default:
			return nil, fmt.Errorf("annotation %s: %q is no phase; use %s", d.phase, word, choices(d.phases, d.ignored))
		}
	}
	switch {
	case !named:
		return nil, fmt.Errorf("annotation %s names no phase; use %s", d.phase, choices(d.phases, d.ignored))
	case len(h.Phases) > 0:
		order := HookPhases()
		slices.SortFunc(h.Phases, func(a, b HookPhase) int { return slices.Index(order, a) - slices.Index(order, b) })
		return h, nil
	case plain:
		return nil, nil
	}
	return nil, ErrLeftOut
}

// policy reads the value of a delete policy.
func (d *hookNames) policy(value string) ([]HookDelete, error) {
	var out []HookDelete
	for word := range strings.SplitSeq(value, ",") {
		word = strings.TrimSpace(word)
		p, ok := d.policies[word]
		switch {
		case word == "":
		case ok:
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		default:
			return nil, fmt.Errorf("annotation %s: %q is no delete policy; use %s", d.deletion, word, choices(d.policies, nil))
		}
	}
	return out, nil
}

// choices lists the words that would have been right.
func choices[V any](words map[string]V, more []string) string {
	all := slices.Clone(more)
	for w := range words {
		all = append(all, w)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// hookWeight is the wave of a Helm hook that names none.
func hookWeight(annotations map[string]string) (int, error) {
	w := strings.TrimSpace(annotations[helmHookWeight])
	if w == "" || annotations[helmHook] == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(w)
	if err != nil {
		return 0, fmt.Errorf("annotation %s must be a whole number, not %q", helmHookWeight, w)
	}
	return n, nil
}

// HookRecord is what is remembered of the hooks of an application in a cluster,
// beyond the life of a process. The objects of the hooks tell most of it; this is
// for what has no object any more.
type HookRecord struct {
	Cluster string `json:"cluster"`
	// ClusterID is the [ClusterFacts.ID] of the cluster that they ran in; empty if
	// that was not known.
	ClusterID   string `json:"clusterID,omitempty"`
	Application string `json:"application"`
	// Run is the last that began, or that was found to be over.
	Run  string `json:"run"`
	Over bool   `json:"over,omitempty"`
	// Done are hooks of a run under way that succeeded, each as phase and id.
	Done []string `json:"done,omitempty"`
	// AtEnd is true for an application with PreDelete or PostDelete hooks.
	AtEnd bool `json:"atEnd,omitempty"`
	// Leaving is true from the moment that the application, which left Git and has
	// PostDelete hooks, is torn down.
	Leaving bool `json:"leaving,omitempty"`
}

// HookRunOf identifies a desired state as hooks run for it: all rendered objects,
// in any order, and where those without a namespace go. The digests of Secrets
// depend on a key, which may get lost; they are a part of their own beside a mark
// of the key. See [SameHookRun].
func HookRunOf(objects []Object, namespace string, key []byte) string {
	plain, secret := []string{"namespace " + namespace}, []string(nil)
	for i := range objects {
		o := &objects[i]
		id := FormatID("", o.ID)
		if o.Sensitive() {
			secret = append(secret, id+" "+o.Digest)
			plain = append(plain, id)
			continue
		}
		plain = append(plain, id+" "+o.Digest)
	}
	slices.Sort(plain)
	slices.Sort(secret)
	run := Digest([]byte(strings.Join(plain, "\n")))[:20]
	if len(secret) > 0 {
		run += "." + Digest([]byte(strings.Join(secret, "\n")))[:12] + "." + Digest([]byte(KeyedDigest(key, []byte("hook runs"))))[:6]
	}
	return run
}

// SameHookRun compares two runs. Digests of Secrets made with different keys are
// taken for the same: what else there is decides.
func SameHookRun(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	if len(x) != 3 || len(y) != 3 || x[2] == y[2] {
		return a == b
	}
	return x[0] == y[0]
}
