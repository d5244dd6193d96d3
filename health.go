package belay

// Health says whether something works, as far as its status tells.
type Health string

// The healths, as users and the API see them.
const (
	Healthy     Health = "Healthy"
	Progressing Health = "Progressing"
	Degraded    Health = "Degraded"
	Suspended   Health = "Suspended"
	Missing     Health = "Missing"
	Unknown     Health = "Unknown"
)

// SyncState says whether the cluster equals Git.
type SyncState string

// The sync states, as users and the API see them.
const (
	Synced      SyncState = "Synced"
	OutOfSync   SyncState = "OutOfSync"
	SyncUnknown SyncState = "Unknown"
)
