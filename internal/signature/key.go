package signature

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Key is a private SSH key that signs commits.
type Key struct{ signer ssh.Signer }

// ErrPassphrase is the error of [ParseKey] for a key that is encrypted.
var ErrPassphrase = errors.New("the key has a passphrase")

// ParseKey reads a private key in the format of OpenSSH or in PEM. Its errors do
// not quote it.
func ParseKey(b []byte) (*Key, error) {
	signer, err := ssh.ParsePrivateKey(b)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, errors.New("not a private key of SSH that can be used")
	}
	return &Key{signer}, nil
}

// GenerateKey makes a private key, as ssh-keygen writes it.
func GenerateKey(comment string) ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}

// Fingerprint names the key to people, as ssh-keygen(1) does.
func (k *Key) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// Public is the public half: its type and the key.
func (k *Key) Public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// AllowedSigner is the line by which a file of allowed signers trusts the key, for
// commits alone.
func (k *Key) AllowedSigner(principal string) string {
	return principal + ` namespaces="` + Namespace + `" ` + k.Public()
}

// Commit signs a raw commit that has no signature, and returns it with one.
func (k *Key) Commit(raw []byte) ([]byte, error) {
	if !bytes.Contains(raw, []byte("\n\n")) {
		return nil, errors.New("not a commit: no end of its headers")
	}
	sig, err := Sign(rand.Reader, k.signer, raw)
	if err != nil {
		return nil, err
	}
	return Attach(raw, sig), nil
}
