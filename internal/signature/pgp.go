package signature

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// pgpKey is an OpenPGP key and for whom it stands.
type pgpKey struct {
	entity *openpgp.Entity
	name   string
	valid  validity
}

func (p *pgpKey) signer() Signer {
	return Signer{Name: p.name, Key: fingerprint(p.entity.PrimaryKey)}
}

func fingerprint(key *packet.PublicKey) string { return fmt.Sprintf("%X", key.Fingerprint) }

// largest is the size from which a signature is none: they have some hundred bytes.
const largest = 64 << 10

func looksLikePGP(b []byte) bool {
	b = bytes.TrimSpace(b)
	// Packets of OpenPGP begin with a byte that no text begins with.
	return bytes.HasPrefix(b, []byte("-----BEGIN PGP ")) || len(b) > 0 && b[0]&0x80 != 0 && (b[0] == 0x98 || b[0] == 0x99 || b[0] == 0xC6)
}

// ParseKeyring reads OpenPGP public keys, armored (any number of blocks) or not.
func ParseKeyring(b []byte) (*Keys, error) {
	k := &Keys{}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN")) {
		list, err := openpgp.ReadKeyRing(bytes.NewReader(b))
		if err != nil {
			return nil, fmt.Errorf("not a keyring of OpenPGP: %w", err)
		}
		return k, k.addEntities(list)
	}
	const begin = "-----BEGIN PGP "
	for i, block := range strings.Split(string(b), begin) {
		if i == 0 {
			continue // what stands before the first
		}
		list, err := openpgp.ReadArmoredKeyRing(strings.NewReader(begin + block))
		if err != nil {
			return nil, fmt.Errorf("block %d is not a public key of OpenPGP: %w", i, err)
		}
		if err := k.addEntities(list); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Keys) addEntities(list openpgp.EntityList) error {
	for _, e := range list {
		if e.PrivateKey != nil {
			return errors.New("this is a private key of OpenPGP: give the public one, and keep that one to yourself")
		}
		name := "unnamed"
		if id := e.PrimaryIdentity(); id != nil {
			name = strings.ToValidUTF8(id.Name, "?")
		}
		k.pgp = append(k.pgp, pgpKey{entity: e, name: name})
	}
	return nil
}

// verifyPGP checks a signature against the keys. Whether a key had expired or was
// revoked is asked for the time that the signature gives: what a key signed while
// it was good stays good, except for one that was revoked as compromised.
func (k *Keys) verifyPGP(payload []byte, armored string, at time.Time, as string) (Signer, error) {
	sig, body, err := readPGP(armored)
	if err != nil {
		return Signer{}, err
	}
	by := "of unknown number"
	if sig.IssuerKeyId != nil {
		by = fmt.Sprintf("%016X", *sig.IssuerKeyId)
	}
	switch sig.Hash {
	case crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512:
	default:
		return Signer{}, &Error{Reason: Unsupported, Key: by, Detail: "it is made with a hash that can be forged"}
	}
	worst := &Error{Reason: Unknown, Key: by}
	config := &packet.Config{Time: func() time.Time { return sig.CreationTime }}
	for i := range k.pgp {
		p := &k.pgp[i]
		_, signer, err := openpgp.VerifyDetachedSignature(openpgp.EntityList{p.entity}, bytes.NewReader(payload), bytes.NewReader(body), config)
		switch {
		case errors.Is(err, pgperrors.ErrUnknownIssuer):
			continue
		case errors.Is(err, pgperrors.ErrKeyExpired), errors.Is(err, pgperrors.ErrSignatureExpired), errors.Is(err, pgperrors.ErrKeyRevoked):
			worst = &Error{Reason: Expired, Key: p.signer().Key, Name: p.name, Detail: strings.TrimPrefix(err.Error(), "openpgp: ")}
			continue
		case err != nil || signer == nil:
			return Signer{}, &Error{Reason: Bad, Key: p.signer().Key, Name: p.name, Detail: "what it signed is not this"}
		}
		if as != "" && !strings.Contains(p.name, "<"+as+">") && p.name != as {
			worst = &Error{Reason: Unknown, Key: p.signer().Key, Name: p.name, Detail: "it is not the key of " + as}
			continue
		}
		detail := p.valid.check(at)
		if detail == "" { // both times are the signer's word, so both have to fit
			detail = p.valid.check(sig.CreationTime)
		}
		if detail != "" {
			worst = &Error{Reason: Expired, Key: p.signer().Key, Name: p.name, Detail: detail}
			continue
		}
		return p.signer(), nil
	}
	return Signer{}, worst
}

// readPGP takes the armor off and reads the one signature in it.
func readPGP(armored string) (*packet.Signature, []byte, error) {
	bad := func(detail string) error { return &Error{Reason: Bad, Detail: detail} }
	block, err := armor.Decode(strings.NewReader(armored))
	if err != nil || block.Type != openpgp.SignatureType {
		return nil, nil, bad("the OpenPGP signature is garbled")
	}
	body, err := io.ReadAll(io.LimitReader(block.Body, largest))
	if err != nil {
		return nil, nil, bad("the OpenPGP signature is garbled")
	}
	packets := packet.NewReader(bytes.NewReader(body))
	p, err := packets.Next()
	if err != nil {
		return nil, nil, bad("the OpenPGP signature is garbled")
	}
	sig, ok := p.(*packet.Signature)
	if !ok {
		return nil, nil, bad("it holds something other than a signature")
	}
	if sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText {
		return nil, nil, bad("it is no signature of a document")
	}
	if _, err := packets.Next(); !errors.Is(err, io.EOF) {
		return nil, nil, &Error{Reason: Unsupported, Detail: "it is more than one signature"}
	}
	return sig, body, nil
}
