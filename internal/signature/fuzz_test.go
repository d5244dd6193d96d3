package signature

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"testing"
	"time"
)

const fuzzKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE2KDDgLdoZdTUqYoXo3xpYyaVKhsG3MLKZmN7fhEeDS"

// Commits come from strangers. Whatever the bytes are, nothing counts that no
// trusted key signed, and what is signed holds every byte but the signature.
func FuzzCommit(f *testing.F) {
	f.Add([]byte("tree a\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\ngpgsig " + sshBegin + "\n U1NIU0lH\n " + sshEnd + "\n\nx\n"))
	f.Add([]byte("tree a\ngpgsig " + pgpBegin + "\n \n iHUEABYKAB0\n -----END PGP SIGNATURE-----\n\nx\n"))
	f.Add([]byte("gpgsig\n\n"))
	f.Add([]byte("\n\ngpgsig x"))
	keys, err := ParseAllowedSigners([]byte("* " + fuzzKey))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if s, err := keys.Commit(raw, ""); err == nil {
			t.Fatalf("%q is signed by %s", raw, s)
		}
		if s, err := keys.Tag(raw, ""); err == nil {
			t.Fatalf("the tag %q is signed by %s", raw, s)
		}
		payload, sig := SplitTag(raw)
		if !bytes.Equal(append(bytes.Clone(payload), sig...), raw) {
			t.Fatalf("taken apart, %q is %q and %q", raw, payload, sig)
		}
		if payload, sig, err := SplitCommit(raw); err == nil && sig == nil && !bytes.Equal(payload, raw) {
			t.Fatalf("without a signature, %q is %q", raw, payload)
		}
	})
}

// Files of signers are read strictly: what is taken has keys, and a name for each.
func FuzzAllowedSigners(f *testing.F) {
	for _, s := range []string{"ada " + fuzzKey, `"a b" namespaces="git",valid-after="20200101Z" ` + fuzzKey + " comment", "# x\n\n", "a cert-authority " + fuzzKey, `a valid-before="` + fuzzKey} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseAllowedSigners(b)
		if err != nil {
			return
		}
		for _, s := range k.ssh {
			_ = matchList(s.principals, "ada@example.org")
			_ = s.valid.check(time.Unix(1<<31, 0))
			if s.key == nil {
				t.Fatal("a line without a key")
			}
		}
	})
}

// Signatures of artifacts come from registries. Whatever the bytes are, nothing
// counts that no trusted key signed, and what is no key or keyring is refused.
func FuzzArtifact(f *testing.F) {
	f.Add([]byte(`{"dsseEnvelope":{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEQ="}]}}`), "MEQ=")
	f.Add([]byte(`{"critical":{"type":"cosign container image signature","image":{"docker-manifest-digest":"sha256:a"}}}`), "")
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"), "=")
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n"), "x")
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, sig string) {
		found := []Artifact{{Payload: b, Signature: sig}}
		if a, err := ParseBundle(b); err == nil {
			found = append(found, a)
		}
		if s, err := VerifyArtifact("sha256:a", found, []crypto.PublicKey{public}); err == nil {
			t.Fatalf("%q is signed by %s", b, s)
		}
		if key, err := ParsePublicKey(b); err == nil && PublicKeyID(key) == "" {
			t.Fatalf("%q is a key without a name", b)
		}
		if keys, err := ParseKeyring(b); err == nil && keys == nil {
			t.Fatalf("%q is a keyring of nothing", b)
		}
	})
}
