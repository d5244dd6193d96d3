// Package signature says who signed a Git commit or tag: whether the signature,
// of SSH or OpenPGP, fits what it signs, and whether the key is one of those
// that were named as good at that time. It checks what `git verify-commit`
// checks, without the programs that git starts for it.
//
// It must not know what is signed, nor what follows from the answer: bytes, keys
// and a time go in, and a name or what is wrong comes out.
package signature

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Namespace is what Git signs for with SSH: a signature made for anything else
// is none of a commit.
const Namespace = "git"

// Reason is why a signature does not count.
type Reason string

// The reasons.
const (
	Missing     Reason = "missing"     // there is no signature
	Unknown     Reason = "unknown"     // by a key that nobody named
	Expired     Reason = "expired"     // by a key that was not good at that time
	Bad         Reason = "bad"         // it does not fit what it should sign
	Unsupported Reason = "unsupported" // of a form that is not read here
)

// Error is a signature that does not count.
type Error struct {
	Reason Reason
	// Key is the fingerprint of the key that signed, as far as known, and Name
	// whom it was named for.
	Key, Name string
	// Detail says more, for people.
	Detail string
}

// Error says what is wrong in a line, without the object that was signed.
func (e *Error) Error() string {
	by := ""
	if e.Key != "" {
		by = " by the key " + e.Key
	}
	if e.Name != "" {
		by += " of " + e.Name
	}
	text := map[Reason]string{
		Missing: "no signature", Unknown: "signed" + by + ", which is none of the trusted keys",
		Expired: "signed" + by + ", which was not valid at that time", Bad: "the signature" + by + " does not fit",
		Unsupported: "the signature" + by + " cannot be checked",
	}[e.Reason]
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// ReasonOf is the reason of an error of this package; "" for any other.
func ReasonOf(err error) Reason {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// Signer is who made a signature that counts.
type Signer struct {
	// Name is what the key was named for: principals or a user ID.
	Name string
	// Key is the fingerprint, as ssh-keygen(1) or gpg(1) print it.
	Key string
}

// String is "NAME (FINGERPRINT)".
func (s Signer) String() string { return s.Name + " (" + s.Key + ")" }

// Keys are the keys that count, and when. The zero value is none. They do not
// change once they are in use.
type Keys struct {
	ssh []sshKey
	pgp []pgpKey
}

// validity is when a key is good; zero times are open ends.
type validity struct{ after, before time.Time }

func (v validity) check(at time.Time) (detail string) {
	switch {
	case !v.after.IsZero() && at.Before(v.after):
		return "valid after " + v.after.UTC().Format(time.RFC3339)
	// The end itself is still within, as ssh-keygen has it.
	case !v.before.IsZero() && at.After(v.before):
		return "valid before " + v.before.UTC().Format(time.RFC3339)
	}
	return ""
}

// Len is how many keys there are.
func (k *Keys) Len() int {
	if k == nil {
		return 0
	}
	return len(k.ssh) + len(k.pgp)
}

// Merge adds the keys of another.
func (k *Keys) Merge(other *Keys) {
	if other != nil {
		k.ssh, k.pgp = append(k.ssh, other.ssh...), append(k.pgp, other.pgp...)
	}
}

// Signers lists them all.
func (k *Keys) Signers() []Signer {
	if k == nil {
		return nil
	}
	var out []Signer
	for i := range k.ssh {
		out = append(out, k.ssh[i].signer())
	}
	for i := range k.pgp {
		out = append(out, k.pgp[i].signer())
	}
	return out
}

// Verify checks an armored signature of payload. at is when it was made, as far
// as anybody knows. With as, only a key that was named for that principal counts.
// The error is an [*Error].
func (k *Keys) Verify(payload, armored []byte, at time.Time, as string) (Signer, error) {
	if k == nil {
		k = &Keys{}
	}
	text := strings.TrimSpace(string(armored))
	switch {
	case text == "":
		return Signer{}, &Error{Reason: Missing}
	case strings.HasPrefix(text, sshBegin):
		return k.verifySSH(payload, text, at, as)
	case strings.HasPrefix(text, pgpBegin):
		return k.verifyPGP(payload, text, at, as)
	case strings.HasPrefix(text, x509Begin):
		return Signer{}, &Error{Reason: Unsupported, Detail: "X.509 signatures are not supported; sign with SSH or OpenPGP"}
	}
	return Signer{}, &Error{Reason: Unsupported, Detail: "neither of SSH nor of OpenPGP"}
}

// Commit checks the signature of a raw commit object.
func (k *Keys) Commit(raw []byte, as string) (Signer, error) {
	payload, sig, err := SplitCommit(raw)
	if err != nil {
		return Signer{}, err
	}
	return k.Verify(payload, sig, When(payload), as)
}

// Tag checks the signature of a raw tag object.
func (k *Keys) Tag(raw []byte, as string) (Signer, error) {
	payload, sig := SplitTag(raw)
	return k.Verify(payload, sig, When(payload), as)
}

// Parse reads a file of keys: allowed signers as ssh-keygen(1) reads them, or
// OpenPGP public keys, armored or not.
func Parse(b []byte) (*Keys, error) {
	if looksLikePGP(b) {
		return ParseKeyring(b)
	}
	return ParseAllowedSigners(b)
}

// AddKey adds a public key, of SSH ("ssh-ed25519 AAAA…") or OpenPGP (armored),
// under a name.
func (k *Keys) AddKey(name, key string, after, before time.Time) error {
	if looksLikePGP([]byte(key)) {
		more, err := ParseKeyring([]byte(key))
		if err != nil {
			return err
		}
		for i := range more.pgp {
			more.pgp[i].name, more.pgp[i].valid = name, validity{after, before}
		}
		k.Merge(more)
		return nil
	}
	pub, err := parseSSHKey(key)
	if err != nil {
		return fmt.Errorf("not a public key of SSH or OpenPGP: %w", err)
	}
	k.ssh = append(k.ssh, sshKey{key: pub, name: name, principals: []string{name}, valid: validity{after, before}})
	return nil
}
