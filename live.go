package belay

import (
	"encoding/json"
	"time"
)

// Live is what a cluster shows of one object that Belay applied. It holds no
// values of the object, only whose its fields are.
type Live struct {
	ID              ObjectID
	APIVersion      string // as the watch delivered it
	UID             string
	ResourceVersion string
	// Application is the one named in [AnnotationID].
	Application string
	// Digest is the value of [AnnotationDigest].
	Digest string
	// Fingerprint identifies the set of fields that Belay and interactive tools
	// own. It changes when somebody takes or adds a field.
	Fingerprint string
	// Managers are the managedFields. They are dropped (nil) once Fingerprint
	// was found right, and come back with any other fingerprint.
	Managers []FieldEntry
	// PruneDisabled is true when the object says that it stays when Git no longer
	// declares it, TeardownDisabled when its application is removed. See [OptionsOf].
	PruneDisabled, TeardownDisabled bool
	// ConfirmPrune and ConfirmTeardown are true when the object says that such a
	// deletion has to be confirmed.
	ConfirmPrune, ConfirmTeardown bool
	// Wave is the object's place in the order; deletions go the other way round.
	Wave int
	// Hook is set for an object that was made as a hook. Its Health is then that of
	// something that is to end: Healthy is done, Degraded is failed.
	Hook *LiveHook
	// Namespaced is false for cluster-scoped objects.
	Namespaced bool
	// Deleting is true from the moment a deletion was accepted.
	Deleting bool
	// Established is true for a CustomResourceDefinition that is served, and for
	// every other kind.
	Established bool
	Health      Health
	// HealthMessage says why, when Health is not Healthy.
	HealthMessage string
}

// LiveHook is what tells the object of a hook from others.
type LiveHook struct {
	// Run and Phase are those it was made for. See [AnnotationHookRun].
	Run   string
	Phase HookPhase
	// Since is when it was made.
	Since time.Time
}

// FieldEntry is one entry of metadata.managedFields.
type FieldEntry struct {
	Manager     string          `json:"manager"`
	Operation   string          `json:"operation"`
	Subresource string          `json:"subresource,omitempty"`
	APIVersion  string          `json:"apiVersion,omitempty"`
	Time        time.Time       `json:"time,omitzero"`
	Fields      json.RawMessage `json:"fieldsV1,omitempty"`
}

// KindFacts is what a cluster says of one kind at one version.
type KindFacts struct {
	Resource   string // plural, as in URLs
	Namespaced bool
}

// ClusterFacts is what rendering and planning need to know of a cluster.
type ClusterFacts struct {
	// ID is the same as long as it is the same cluster; empty where that may not be known.
	ID string
	// Version is the Kubernetes version, "v1.36.2".
	Version string
	// APIVersions are "apps/v1" and "apps/v1/Deployment", sorted.
	APIVersions []string
	// Kinds by apiVersion and kind.
	Kinds map[VersionKind]KindFacts
	// Digest identifies Version and APIVersions.
	Digest string
}

// VersionKind is an apiVersion and a kind: "apps/v1", "Deployment".
type VersionKind struct{ APIVersion, Kind string }
