package signature

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// The form of signatures is PROTOCOL.sshsig of OpenSSH: small enough to stand
// here whole.
const (
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	sshsigType    = "SSH SIGNATURE"
)

// blob is the signature itself, after the magic.
type sshsigBlob struct {
	Version       uint32
	PublicKey     string
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Signature     string
}

// signed is what the key signs, after the magic.
type sshsigSigned struct {
	Namespace     string
	Reserved      string
	HashAlgorithm string
	Hash          string
}

// sshKey is a line of allowed signers.
type sshKey struct {
	key        ssh.PublicKey
	name       string
	principals []string // patterns
	namespaces []string // patterns; none means all
	valid      validity
}

func (s *sshKey) signer() Signer {
	return Signer{Name: s.name, Key: ssh.FingerprintSHA256(s.key)}
}

// verifySSH checks a signature against the keys.
func (k *Keys) verifySSH(payload []byte, armored string, at time.Time, as string) (Signer, error) {
	blob, key, err := parseSSHSIG(armored)
	if err != nil {
		return Signer{}, &Error{Reason: Bad, Detail: err.Error()}
	}
	fingerprint := ssh.FingerprintSHA256(key)
	if _, ok := key.(*ssh.Certificate); ok {
		return Signer{}, &Error{Reason: Unsupported, Key: fingerprint, Detail: "it is made with an SSH certificate; sign with a plain key"}
	}
	if blob.Namespace != Namespace {
		return Signer{}, &Error{Reason: Bad, Key: fingerprint, Detail: fmt.Sprintf("it is made for %q, not for %q", blob.Namespace, Namespace)}
	}
	if err := checkSSHSIG(payload, blob, key); err != nil {
		return Signer{}, &Error{Reason: Bad, Key: fingerprint, Detail: err.Error()}
	}
	worst := &Error{Reason: Unknown, Key: fingerprint}
	wire := key.Marshal()
	for i := range k.ssh {
		s := &k.ssh[i]
		if !bytes.Equal(s.key.Marshal(), wire) {
			continue
		}
		switch detail := s.valid.check(at); {
		case len(s.namespaces) > 0 && !matchList(s.namespaces, Namespace):
			worst = &Error{Reason: Unknown, Key: fingerprint, Name: s.name, Detail: "it is trusted for other namespaces than " + Namespace}
		case as != "" && !matchList(s.principals, as):
			worst = &Error{Reason: Unknown, Key: fingerprint, Name: s.name, Detail: "it is not the key of " + as}
		case detail != "":
			worst = &Error{Reason: Expired, Key: fingerprint, Name: s.name, Detail: detail}
		default:
			return s.signer(), nil
		}
	}
	return Signer{}, worst
}

func parseSSHSIG(armored string) (*sshsigBlob, ssh.PublicKey, error) {
	body, ok := strings.CutPrefix(strings.TrimSpace(armored), sshBegin)
	if !ok {
		return nil, nil, errors.New("not an SSH signature")
	}
	if body, ok = strings.CutSuffix(body, sshEnd); !ok {
		return nil, nil, errors.New("the SSH signature has no end")
	}
	b, err := base64.StdEncoding.DecodeString(strings.NewReplacer("\n", "", "\r", "", " ", "").Replace(body))
	if err != nil {
		return nil, nil, fmt.Errorf("the SSH signature is garbled: %w", err)
	}
	rest, ok := bytes.CutPrefix(b, []byte(sshsigMagic))
	if !ok {
		return nil, nil, errors.New("the SSH signature does not begin as one")
	}
	var blob sshsigBlob
	if err := ssh.Unmarshal(rest, &blob); err != nil {
		return nil, nil, fmt.Errorf("the SSH signature is garbled: %w", err)
	}
	if blob.Version != sshsigVersion {
		return nil, nil, fmt.Errorf("an SSH signature of version %d", blob.Version)
	}
	key, err := ssh.ParsePublicKey([]byte(blob.PublicKey))
	if err != nil {
		return nil, nil, fmt.Errorf("the key in the SSH signature: %w", err)
	}
	return &blob, key, nil
}

// checkSSHSIG checks that the key that a signature names made it of payload.
func checkSSHSIG(payload []byte, blob *sshsigBlob, key ssh.PublicKey) error {
	digest, err := sshsigHash(blob.HashAlgorithm, payload)
	if err != nil {
		return err
	}
	var sig ssh.Signature
	if err := ssh.Unmarshal([]byte(blob.Signature), &sig); err != nil {
		return fmt.Errorf("the SSH signature is garbled: %w", err)
	}
	if sig.Format == ssh.KeyAlgoRSA {
		return errors.New("it is made with SHA-1, which can be forged")
	}
	message := append([]byte(sshsigMagic), ssh.Marshal(sshsigSigned{blob.Namespace, blob.Reserved, blob.HashAlgorithm, string(digest)})...)
	if err := key.Verify(message, &sig); err != nil {
		return errors.New("what it signed is not this")
	}
	return nil
}

func sshsigHash(algorithm string, payload []byte) ([]byte, error) {
	switch algorithm {
	case "sha256":
		sum := sha256.Sum256(payload)
		return sum[:], nil
	case "sha512":
		sum := sha512.Sum512(payload)
		return sum[:], nil
	}
	return nil, fmt.Errorf("it is made with the hash %q", algorithm)
}

// Sign makes an armored SSH signature of payload, as ssh-keygen -Y sign does it
// for Git.
func Sign(random io.Reader, key ssh.Signer, payload []byte) ([]byte, error) {
	blob := sshsigBlob{Version: sshsigVersion, PublicKey: string(key.PublicKey().Marshal()), Namespace: Namespace, HashAlgorithm: "sha512"}
	digest, err := sshsigHash(blob.HashAlgorithm, payload)
	if err != nil {
		return nil, err
	}
	message := append([]byte(sshsigMagic), ssh.Marshal(sshsigSigned{blob.Namespace, blob.Reserved, blob.HashAlgorithm, string(digest)})...)
	var sig *ssh.Signature
	if rsa, ok := key.(ssh.AlgorithmSigner); ok && key.PublicKey().Type() == ssh.KeyAlgoRSA {
		sig, err = rsa.SignWithAlgorithm(random, message, ssh.KeyAlgoRSASHA512)
	} else {
		sig, err = key.Sign(random, message)
	}
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	blob.Signature = string(ssh.Marshal(sig))
	whole := append([]byte(sshsigMagic), ssh.Marshal(blob)...)
	return pem.EncodeToMemory(&pem.Block{Type: sshsigType, Bytes: whole}), nil
}

// Attach puts a signature into a raw commit, where Git has it: after the other
// headers.
func Attach(payload, armored []byte) []byte {
	i := bytes.Index(payload, []byte("\n\n")) + 1
	out := append([]byte(nil), payload[:i]...)
	text := strings.TrimSuffix(string(armored), "\n")
	out = append(out, "gpgsig "+strings.ReplaceAll(text, "\n", "\n ")+"\n"...)
	return append(out, payload[i:]...)
}
