// Package belay holds the domain of Belay: what is declared in Git
// (Application, Project, Cluster, Repository), what a commit means (Revision,
// Object, Plan), what a cluster shows (Live, Health) and what happened (Event).
//
// It is values and pure functions over them, on the standard library alone. It
// must not know how any of it is fetched, rendered, applied, stored or served:
// no Git, no Kubernetes library, no HTTP, no clock.
package belay

// OwnPrefix is that of the names of all labels and annotations that are Belay's.
const OwnPrefix = "belay.dev/"

// Names that Belay writes on the objects it applies. They are the inventory:
// there is no other record of what was applied.
const (
	// FieldManager is the server-side apply field manager of every write.
	FieldManager = "belay"

	// LabelManaged, set to "true", is the label by which objects are watched.
	LabelManaged = "belay.dev/managed"
	// LabelInstance separates several Belays that deliver to one cluster. The
	// unnamed instance sets no such label and ignores objects that carry one.
	LabelInstance = "belay.dev/instance"
	// AnnotationID names the application and the object itself, so that a copy
	// of the annotation on another object (a ReplicaSet made from a Deployment)
	// makes nothing ours. See [FormatID].
	AnnotationID = "belay.dev/id"
	// AnnotationDigest holds the digest of the manifest as it was applied.
	AnnotationDigest = "belay.dev/digest"

	// AnnotationWave orders objects of an application: lower waves first, default 0.
	AnnotationWave = "belay.dev/wave"
	// AnnotationArgoWave is Argo CD's name for the same; AnnotationWave wins.
	AnnotationArgoWave = "argocd.argoproj.io/sync-wave"
	// AnnotationVariables, set to "disabled", keeps the variables of the application
	// out of an object, for texts that have a ${NAME} of their own.
	AnnotationVariables = "belay.dev/variables"
	// AnnotationPrune, set to "disabled", keeps an object from being deleted by Belay;
	// "enabled" wins over what other tools' annotations say about deletion.
	AnnotationPrune = "belay.dev/prune"
	// AnnotationHook makes an object a hook: a comma-separated list of phases.
	AnnotationHook = "belay.dev/hook"
	// AnnotationHookDelete says when a hook's object is deleted: a comma-separated
	// list of BeforeHookCreation (the default), HookSucceeded, HookFailed.
	AnnotationHookDelete = "belay.dev/hook-delete-policy"
	// AnnotationAdopt, AnnotationRecreate and AnnotationReplace, set to "enabled" or
	// "disabled", win over the application's sync.adopt, sync.recreate and sync.replace.
	AnnotationAdopt    = "belay.dev/adopt"
	AnnotationRecreate = "belay.dev/recreate"
	AnnotationReplace  = "belay.dev/replace"
	// AnnotationDelete, set to "confirm", holds every deletion of the object until it
	// is confirmed as a held prune is.
	AnnotationDelete = "belay.dev/delete"
)

// Names that Belay writes on applications that an ApplicationSet makes.
const (
	// AnnotationSet names the ApplicationSet.
	AnnotationSet = "belay.dev/applicationset"
	// AnnotationDeletion is the set's spec.deletion where that is not the default.
	AnnotationDeletion = "belay.dev/deletion"
)

// Names on the namespaces that Belay makes. They carry no [LabelManaged]: nothing
// deletes them.
const (
	// AnnotationCreatedFor names the application whose destination it was made for.
	AnnotationCreatedFor = "belay.dev/created-for"
	// NamespaceManager is the field manager of what sync.namespaceMetadata declares.
	NamespaceManager = "belay-namespace"
)

// APIVersion is the version of the definitions this build understands.
const APIVersion = "belay.dev/v1alpha1"
