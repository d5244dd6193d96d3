package ledger

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// Key signs checkpoints. It is an SSH key, so that plain git verifies what it signs.
type Key struct{ signer ssh.Signer }

// Fingerprint names the key to people, as ssh-keygen does.
func (k *Key) Fingerprint() string { return ssh.FingerprintSHA256(k.signer.PublicKey()) }

// public is the key as a file of allowed signers has it.
func (k *Key) public() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// ReadKey reads a private key in the format of OpenSSH or in PEM.
func ReadKey(path string) (*Key, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		e := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the key of the ledger cannot be read: %v", err), Hint: "check --ledger-key", Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			e.Code = belay.CodeNotFound
		}
		return nil, e
	}
	signer, err := ssh.ParsePrivateKey(b)
	if err != nil {
		e := &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%s holds no private key that can be used", path), Hint: "make one with: ssh-keygen -t ed25519 -N '' -f " + path}
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			e.Message = fmt.Sprintf("the key of the ledger %s has a passphrase, and nobody is there to type it", path)
			e.Hint = "remove it with: ssh-keygen -p -N '' -f " + path
		}
		return nil, e // the cause is left out: it may quote the file
	}
	return &Key{signer}, nil
}

// MakeKey reads the key at path, and makes one if there is no file.
func MakeKey(path string) (*Key, error) {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return ReadKey(path)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "belay ledger")
	if err != nil {
		return nil, err
	}
	// A key that signed must not be lost to a power cut.
	tmp := path + ".new"
	if err := writeSynced(tmp, pem.EncodeToMemory(block)); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Rename(tmp, path), syncPath(filepath.Dir(path))); err != nil {
		return nil, err
	}
	return ReadKey(path)
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// sign makes the armored signature of a commit, in the format that
// ssh-keygen -Y sign writes (PROTOCOL.sshsig of OpenSSH).
func (k *Key) sign(message []byte) (string, error) {
	const hash = "sha512"
	sum := sha512.Sum512(message)
	signed := append([]byte("SSHSIG"), ssh.Marshal(struct{ Namespace, Reserved, Hash, Digest string }{record.Namespace, "", hash, string(sum[:])})...)
	sig, err := k.signature(signed)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", k.Fingerprint(), err)
	}
	blob := append([]byte("SSHSIG"), ssh.Marshal(struct {
		Version                                         uint32
		PublicKey, Namespace, Reserved, Hash, Signature string
	}{1, string(k.signer.PublicKey().Marshal()), record.Namespace, "", hash, string(ssh.Marshal(sig))})...)
	var b strings.Builder
	b.WriteString("-----BEGIN SSH SIGNATURE-----\n")
	for text := base64.StdEncoding.EncodeToString(blob); text != ""; {
		n := min(len(text), 70)
		b.WriteString(text[:n] + "\n")
		text = text[n:]
	}
	b.WriteString("-----END SSH SIGNATURE-----")
	return b.String(), nil
}

func (k *Key) signature(b []byte) (*ssh.Signature, error) {
	// RSA with SHA-1, the default of this type, is refused by everybody.
	if s, ok := k.signer.(ssh.AlgorithmSigner); ok && k.signer.PublicKey().Type() == ssh.KeyAlgoRSA {
		return s.SignWithAlgorithm(rand.Reader, b, ssh.KeyAlgoRSASHA512)
	}
	return k.signer.Sign(rand.Reader, b)
}

// current is the key that a file of allowed signers says is in use: the last.
func current(signers []byte) string {
	lines := strings.Split(strings.TrimSpace(string(signers)), "\n")
	return record.SignerKey(lines[len(lines)-1])
}

// withKey adds a key as the one in use; those before it stay, so that plain git
// verifies what they signed.
func withKey(signers []byte, writer string, k *Key) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(signers)) {
		if record.SignerKey(line) != k.public() {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	b.WriteString(record.SignerLine(writer, k.public()))
	return b.Bytes()
}
