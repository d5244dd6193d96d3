package belay

// SignatureMode says what becomes of a revision whose signature does not count.
type SignatureMode string

// The modes.
const (
	SignaturesOff     SignatureMode = "off"     // nobody looks
	SignaturesWarn    SignatureMode = "warn"    // it is deployed, and told
	SignaturesRequire SignatureMode = "require" // it is not deployed
)

// Which commits have to be signed.
const (
	SignedHead = "head" // the commit that is deployed
	SignedAll  = "all"  // and every one that it brings
)

// Signatures says what has to be signed before a project deploys it, and by whom.
type Signatures struct {
	// Mode is "off", "warn" or "require". Default "require": who declares signatures wants them.
	Mode SignatureMode `json:"mode,omitempty" doc:"What becomes of a revision that is not signed by one of them: \"require\" does not deploy it, \"warn\" deploys it and tells, \"off\" does not look."`
	// Commits is "head" or "all". Default "head".
	Commits string `json:"commits,omitempty" doc:"Which commits have to be signed: \"head\", the one that is deployed; or \"all\", every one since the revision that was accepted before."`
	// Since is the commit after which all have to be signed, with "all".
	Since string `json:"since,omitempty" doc:"With \"all\": the commit after which every one has to be signed, whatever was accepted before."`
	// Signers are the people and programs whose signatures of commits and tags count.
	Signers []Signer `json:"signers,omitempty" doc:"Whose signatures of commits and tags count."`
	// Keys are files of them: allowed signers of SSH, or OpenPGP keyrings.
	Keys []Reference `json:"keys,omitempty" doc:"Files of more of them: allowed signers as ssh-keygen(1) reads them, or an OpenPGP keyring."`
	// Artifacts are the keys whose cosign signatures of charts and artifacts in OCI
	// registries count.
	Artifacts []ArtifactKey `json:"artifacts,omitempty" doc:"Whose cosign signatures of charts and artifacts in OCI registries count."`
}

// Signer is a key and whose it is.
type Signer struct {
	Name string `json:"name" doc:"Whose key it is."`
	Key  string `json:"key" doc:"Public key: of SSH (\"ssh-ed25519 AAAA…\"), or of OpenPGP, armored."`
	// ValidAfter and ValidBefore bound the dates of what it signs.
	ValidAfter  string `json:"validAfter,omitempty" doc:"What it signed before this time does not count."`
	ValidBefore string `json:"validBefore,omitempty" doc:"What it signed after this time does not count."`
}

// ArtifactKey is a public key of cosign.
type ArtifactKey struct {
	Key  string     `json:"key,omitempty" doc:"Public key in PEM, as cosign generate-key-pair writes it."`
	From *Reference `json:"from,omitempty" doc:"Where the public key stands."`
}

// DefaultSignatures is what declared Signatures mean where they say nothing.
func DefaultSignatures() Signatures { return Signatures{Mode: SignaturesRequire, Commits: SignedHead} }

// Wanted says whether anybody looks at signatures.
func (s *Signatures) Wanted() bool {
	return s != nil && (s.Mode == SignaturesWarn || s.Mode == SignaturesRequire)
}
