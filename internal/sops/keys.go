package sops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"filippo.io/age"
	agearmor "filippo.io/age/armor"
	"github.com/ProtonMail/go-crypto/openpgp"
	pgparmor "github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/getsops/sops/v3/keyservice"

	"github.com/belaydev/belay"
)

// Keys are what may be decrypted with.
type Keys struct {
	// Age are age identities, one a line; comments are allowed.
	Age [][]byte
	// PGP are armored private keys without a passphrase.
	PGP [][]byte
	// KMS allows to ask cloud key services as whoever the process is there.
	KMS bool
}

// maxDataKey bounds what a key may unwrap: a data key has 32 bytes, a share of one
// a byte more.
const maxDataKey = 4096

// keyring answers as a SOPS key service, with the given keys and no others.
type keyring struct {
	ctx        context.Context
	identities []age.Identity
	entities   openpgp.EntityList
	kms        bool
	// refused says what stands in the way of a key that could fit.
	refused []string
}

// ring reads the keys. The error says which one is wrong and repeats none.
func (k Keys) ring(ctx context.Context) (*keyring, error) {
	r := &keyring{ctx: ctx, kms: k.KMS}
	for i, text := range k.Age {
		ids, err := age.ParseIdentities(bytes.NewReader(text))
		if err != nil {
			return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("spec.decryption.age[%d] is not an age private key", i),
				Hint: "it must hold lines that begin with AGE-SECRET-KEY-1"}
		}
		r.identities = append(r.identities, ids...)
	}
	for i, text := range k.PGP {
		list, err := openpgp.ReadArmoredKeyRing(bytes.NewReader(text))
		if err != nil || len(list) == 0 {
			return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("spec.decryption.pgp[%d] is not an armored PGP private key", i),
				Hint: "export it with gpg --export-secret-keys --armor"}
		}
		for _, e := range list {
			if e.PrivateKey == nil {
				return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("spec.decryption.pgp[%d] is a public key", i),
					Hint: "export the private one with gpg --export-secret-keys --armor"}
			}
			if e.PrivateKey.Encrypted {
				return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("spec.decryption.pgp[%d] has a passphrase", i),
					Hint: "export the key without one; where it is kept protects it"}
			}
		}
		r.entities = append(r.entities, list...)
	}
	return r, nil
}

var errNoKey = errors.New("no such key here")

// Encrypt implements keyservice.KeyServiceServer. Nothing is encrypted here.
func (r *keyring) Encrypt(context.Context, *keyservice.EncryptRequest) (*keyservice.EncryptResponse, error) {
	return nil, errors.New("not supported")
}

// Decrypt implements keyservice.KeyServiceServer.
func (r *keyring) Decrypt(_ context.Context, req *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	var plain []byte
	err := errNoKey
	switch k := req.GetKey().GetKeyType().(type) {
	case *keyservice.Key_AgeKey:
		if len(r.identities) > 0 {
			plain, err = r.age(req.GetCiphertext())
		}
	case *keyservice.Key_PgpKey:
		if len(r.entities) > 0 {
			plain, err = r.pgp(req.GetCiphertext())
		}
	case *keyservice.Key_KmsKey, *keyservice.Key_GcpKmsKey, *keyservice.Key_AzureKeyvaultKey:
		return r.cloud(req, fmt.Sprintf("%T", k))
	}
	if err != nil {
		return nil, err
	}
	return &keyservice.DecryptResponse{Plaintext: plain}, nil
}

func (r *keyring) age(ciphertext []byte) ([]byte, error) {
	plain, err := age.Decrypt(agearmor.NewReader(bytes.NewReader(ciphertext)), r.identities...)
	if err != nil {
		return nil, err
	}
	return readKey(plain)
}

func (r *keyring) pgp(ciphertext []byte) ([]byte, error) {
	block, err := pgparmor.Decode(bytes.NewReader(ciphertext))
	if err != nil {
		return nil, err
	}
	m, err := openpgp.ReadMessage(block.Body, r.entities, nil, nil)
	if err != nil {
		return nil, err
	}
	return readKey(m.UnverifiedBody)
}

func readKey(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDataKey+1))
	if err == nil && len(b) > maxDataKey {
		err = errors.New("too long for a key")
	}
	return b, err
}

// cloud asks a key service. What it says is told: it is about rights, not values.
func (r *keyring) cloud(req *keyservice.DecryptRequest, kind string) (*keyservice.DecryptResponse, error) {
	if !r.kms {
		r.refuse("keys of cloud key services are not allowed (spec.decryption.kms)")
		return nil, errNoKey
	}
	resp, err := keyservice.Server{}.Decrypt(r.ctx, req)
	if err != nil {
		kind = strings.TrimSuffix(strings.TrimPrefix(kind, "*keyservice.Key_"), "Key")
		r.refuse(fmt.Sprintf("%s: %s", kind, short(err.Error())))
	}
	return resp, err
}

func (r *keyring) refuse(why string) {
	if !slices.Contains(r.refused, why) {
		r.refused = append(r.refused, why)
	}
}

func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	const long = 200
	if len(s) > long {
		s = strings.ToValidUTF8(s[:long], "") + " …"
	}
	return s
}
