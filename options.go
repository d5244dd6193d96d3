package belay

import (
	"fmt"
	"slices"
	"strings"
)

// Names that other tools gave to the same wishes. They are understood, so that
// manifests need not be changed on the day of a move; Belay's own names win.
const (
	// AnnotationArgoOptions is Argo CD's comma-separated list of Name=value.
	AnnotationArgoOptions = "argocd.argoproj.io/sync-options"
	// AnnotationHelmPolicy, set to "keep", keeps an object from being deleted.
	AnnotationHelmPolicy = "helm.sh/resource-policy"
)

// Choice is a yes, a no, or nothing said.
type Choice string

// The values of a [Choice].
const (
	Enabled  Choice = "enabled"
	Disabled Choice = "disabled"
)

// Or is the choice, or otherwise if nothing was said.
func (c Choice) Or(otherwise bool) bool {
	switch c {
	case Enabled:
		return true
	case Disabled:
		return false
	}
	return otherwise
}

// ObjectOptions is what an object says in its annotations about how it is written
// and deleted.
type ObjectOptions struct {
	// Adopt, Recreate and Replace win over the application's sync policy.
	Adopt, Recreate, Replace Choice
	// KeepOnPrune keeps the object when Git no longer declares it, KeepOnTeardown
	// when its application is removed.
	KeepOnPrune, KeepOnTeardown bool
	// ConfirmPrune and ConfirmTeardown hold the deletion until it is confirmed.
	ConfirmPrune, ConfirmTeardown bool
}

// OptionsOf reads annotations. What is malformed says nothing; [NewObject] has
// refused it in what Git declares.
func OptionsOf(annotations map[string]string) ObjectOptions {
	var o ObjectOptions
	for option := range strings.SplitSeq(annotations[AnnotationArgoOptions], ",") {
		switch strings.TrimSpace(option) {
		case "Prune=false":
			o.KeepOnPrune = true
		case "Delete=false":
			o.KeepOnTeardown = true
		case "Prune=confirm":
			o.ConfirmPrune = true
		case "Delete=confirm":
			o.ConfirmTeardown = true
		case "Replace=true":
			o.Replace = Enabled
		case "Force=true":
			o.Recreate = Enabled
		}
	}
	if strings.TrimSpace(annotations[AnnotationHelmPolicy]) == "keep" {
		o.KeepOnPrune, o.KeepOnTeardown = true, true
	}
	switch Choice(annotations[AnnotationPrune]) {
	case Disabled:
		o.KeepOnPrune, o.KeepOnTeardown = true, true
	case Enabled:
		o.KeepOnPrune, o.KeepOnTeardown, o.ConfirmPrune, o.ConfirmTeardown = false, false, false, false
	}
	if annotations[AnnotationDelete] == "confirm" {
		o.ConfirmPrune, o.ConfirmTeardown = true, true
	}
	for name, choice := range map[string]*Choice{AnnotationAdopt: &o.Adopt, AnnotationRecreate: &o.Recreate, AnnotationReplace: &o.Replace} {
		if c := Choice(annotations[name]); c == Enabled || c == Disabled {
			*choice = c
		}
	}
	return o
}

// chosen are the annotations by which people say what is to be done with an object.
var chosen = []string{AnnotationAdopt, AnnotationDelete, AnnotationHook, AnnotationHookDelete, AnnotationPrune, AnnotationRecreate,
	AnnotationReplace, AnnotationVariables, AnnotationWave}

// stamped are those that Belay writes: they are in what was copied from a cluster.
var stamped = []string{AnnotationID, AnnotationDigest, AnnotationSet, AnnotationDeletion, AnnotationCreatedFor, AnnotationHookRun}

// checkOptions refuses names and values that mean nothing: somebody who wrote "prunne",
// or "true" for "disabled", would find out when the object is gone.
func checkOptions(annotations map[string]string, id ObjectID) error {
	unknown := ""
	for name := range annotations {
		if strings.HasPrefix(name, OwnPrefix) && !slices.Contains(chosen, name) && !slices.Contains(stamped, name) && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	if unknown != "" {
		return fmt.Errorf("annotation %s of %s means nothing; there are %s", unknown, id, strings.Join(chosen, ", "))
	}
	for _, name := range []string{AnnotationPrune, AnnotationAdopt, AnnotationRecreate, AnnotationReplace} {
		if v, ok := annotations[name]; ok && Choice(v) != Enabled && Choice(v) != Disabled {
			return fmt.Errorf("annotation %s of %s must be %q or %q, not %q", name, id, Enabled, Disabled, v)
		}
	}
	if v, ok := annotations[AnnotationDelete]; ok && v != "confirm" {
		return fmt.Errorf("annotation %s of %s must be %q, not %q", AnnotationDelete, id, "confirm", v)
	}
	return nil
}

// Manner says how one object may be written: what the application's sync policy
// and the object's own annotations come to.
type Manner struct {
	// Adopt allows to take over an object that is there and was not applied by Belay.
	Adopt bool
	// Recreate allows to delete the object and make it anew where a change in place
	// is refused. If not, NoRecreate says what would allow it.
	Recreate   bool
	NoRecreate string
	// Replace removes what others own, too.
	Replace bool
	// Ignore are the rules that fit the object.
	Ignore []IgnoreRule
}
