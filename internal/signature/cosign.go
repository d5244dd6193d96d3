package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
)

// Signatures of OCI artifacts as cosign makes them with a key. In the older form the
// signature is of a small document, "simple signing", that names the digest of the
// artifact; the newer one stands in bundle.go.

// ParsePublicKey reads a public key in PEM, of the kinds that cosign makes.
func ParsePublicKey(b []byte) (crypto.PublicKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errors.New("not a public key in PEM")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a public key: %w", err)
	}
	switch key.(type) {
	case *ecdsa.PublicKey, *rsa.PublicKey, ed25519.PublicKey:
		return key, nil
	}
	return nil, fmt.Errorf("a public key of a kind that is not supported: %T", key)
}

// PublicKeyID names a public key to people: the SHA-256 of it.
func PublicKeyID(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256(der)
	return "SHA256:" + hex.EncodeToString(sum[:8])
}

// Artifact is one signature of an artifact: the document that was signed, and the
// signature in base64.
type Artifact struct {
	Payload   []byte
	Signature string
	statement bool // see bundle.go
}

// VerifyArtifact finds a signature by one of the keys that says that it is of the
// artifact with a digest. The error is an [*Error].
func VerifyArtifact(digest string, found []Artifact, keys []crypto.PublicKey) (Signer, error) {
	if len(found) == 0 {
		return Signer{}, &Error{Reason: Missing}
	}
	worst := &Error{Reason: Unknown}
	for _, a := range found {
		sig, err := base64.StdEncoding.DecodeString(a.Signature)
		if err != nil {
			worst = &Error{Reason: Bad, Detail: "it is garbled"}
			continue
		}
		for _, key := range keys {
			if !signedBy(key, a.message(), sig) {
				continue
			}
			check := names
			if a.statement {
				check = states
			}
			if err := check(a.Payload, digest); err != nil {
				worst = &Error{Reason: Bad, Key: PublicKeyID(key), Detail: err.Error()}
				continue
			}
			return Signer{Name: "cosign", Key: PublicKeyID(key)}, nil
		}
	}
	return Signer{}, worst
}

func signedBy(key crypto.PublicKey, payload, sig []byte) bool {
	sum := sha256.Sum256(payload)
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(key, payload, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil
	}
	return false
}

// names checks that a document is of the artifact with a digest.
func names(payload []byte, digest string) error {
	var doc struct {
		Critical struct {
			Type  string `json:"type"`
			Image struct {
				Digest string `json:"docker-manifest-digest"`
			} `json:"image"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &doc); err != nil {
		return errors.New("what it signed cannot be read")
	}
	if doc.Critical.Type != "cosign container image signature" {
		return fmt.Errorf("what it signed is of the type %q", doc.Critical.Type)
	}
	if doc.Critical.Image.Digest != digest {
		return fmt.Errorf("it is of another artifact, %q", doc.Critical.Image.Digest)
	}
	return nil
}
