package signature

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The newer form of cosign: a bundle with an in-toto statement that names the
// digest of the artifact, signed as DSSE has it.

// What a statement of a plain signature says it is; others state something else.
const (
	statementType  = "application/vnd.in-toto+json"
	signatureClaim = "https://sigstore.dev/cosign/sign/v1"
)

// ParseBundle reads a bundle that was made with a key. Nothing of it is believed
// before [VerifyArtifact] said so.
func ParseBundle(b []byte) (Artifact, error) {
	var bundle struct {
		Envelope struct {
			Payload     string `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig string `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(b, &bundle); err != nil {
		return Artifact{}, errors.New("the bundle cannot be read")
	}
	e := &bundle.Envelope
	if e.PayloadType != statementType || len(e.Signatures) != 1 {
		return Artifact{}, errors.New("the bundle holds no statement with one signature")
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return Artifact{}, errors.New("the bundle is garbled")
	}
	return Artifact{Payload: payload, Signature: e.Signatures[0].Sig, statement: true}, nil
}

// message is what is signed of a document.
func (a *Artifact) message() []byte {
	if !a.statement {
		return a.Payload
	}
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(statementType), statementType, len(a.Payload), a.Payload)
}

// states checks that a statement is a signature of the artifact with a digest.
func states(payload []byte, digest string) error {
	var s struct {
		Subject []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		PredicateType string `json:"predicateType"`
	}
	if err := json.Unmarshal(payload, &s); err != nil {
		return errors.New("what it signed cannot be read")
	}
	if s.PredicateType != signatureClaim {
		return fmt.Errorf("what it signed is of the type %q", s.PredicateType)
	}
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != strings.TrimPrefix(digest, "sha256:") {
		return errors.New("it is of another artifact")
	}
	return nil
}
