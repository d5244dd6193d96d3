// Package sopstest makes keys, and files that are encrypted for them as the sops
// command would, for tests.
package sopstest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	sopsage "github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/pgp"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
)

// Key is a key pair.
type Key struct {
	// Public is an age recipient or a PGP fingerprint.
	Public string
	// Private is what a Project's decryption refers to.
	Private []byte

	entity *openpgp.Entity
}

// Age makes an age key.
func Age(t testing.TB) Key {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return Key{Public: id.Recipient().String(), Private: []byte("# a key\n" + id.String() + "\n")}
}

// PGP makes a PGP key without a passphrase.
func PGP(t testing.TB) Key {
	t.Helper()
	e, err := openpgp.NewEntity("test", "", "test@example.com", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := armor.Encode(&b, openpgp.PrivateKeyType, nil)
	if err == nil {
		err = errors.Join(e.SerializePrivate(w, nil), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return Key{Public: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint), Private: b.Bytes(), entity: e}
}

// Encrypt encrypts the content of a file as its name says: .yaml, .json, .env,
// .ini, anything else as a whole. regex says which keys are encrypted; "" is all.
func Encrypt(t testing.TB, file, content, regex string, recipients ...Key) string {
	t.Helper()
	store := storeOf(file)
	branches, err := store.LoadPlainFile([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	ring := encrypter{}
	var group sops.KeyGroup
	for _, k := range recipients {
		var mk keys.MasterKey
		if k.entity == nil {
			if mk, err = sopsage.MasterKeyFromRecipient(k.Public); err != nil {
				t.Fatal(err)
			}
		} else {
			mk = pgp.NewMasterKeyFromFingerprint(k.Public)
			ring[k.Public] = k.entity
		}
		group = append(group, mk)
	}
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{KeyGroups: []sops.KeyGroup{group}, EncryptedRegex: regex,
		Version: "3.13.3", LastModified: time.Now().UTC()}}
	if regex == "" {
		tree.Metadata.UnencryptedSuffix = sops.DefaultUnencryptedSuffix
	}
	dataKey, errs := tree.GenerateDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewCustomLocalClient(ring)})
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(dataKey, cipher)
	if err == nil {
		tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, dataKey, tree.Metadata.LastModified.Format(time.RFC3339))
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := store.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func storeOf(file string) sops.Store {
	switch path.Ext(file) {
	case ".yaml":
		return yaml.NewStore(&config.YAMLStoreConfig{})
	case ".json":
		return json.NewStore(&config.JSONStoreConfig{Indent: 2})
	case ".env":
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case ".ini":
		return ini.NewStore(&config.INIStoreConfig{})
	}
	return json.NewBinaryStore(&config.JSONBinaryStoreConfig{Indent: 2})
}

// encrypter wraps data keys: for age as the library does, for PGP without gpg.
type encrypter map[string]*openpgp.Entity

// Encrypt implements keyservice.KeyServiceServer.
func (r encrypter) Encrypt(ctx context.Context, req *keyservice.EncryptRequest) (*keyservice.EncryptResponse, error) {
	k := req.GetKey().GetPgpKey()
	if k == nil {
		return keyservice.Server{}.Encrypt(ctx, req)
	}
	var b bytes.Buffer
	a, err := armor.Encode(&b, "PGP MESSAGE", nil)
	if err != nil {
		return nil, err
	}
	w, err := openpgp.Encrypt(a, []*openpgp.Entity{r[k.GetFingerprint()]}, nil, &openpgp.FileHints{IsBinary: true}, nil)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(req.GetPlaintext())
	err = errors.Join(err, w.Close(), a.Close())
	return &keyservice.EncryptResponse{Ciphertext: b.Bytes()}, err
}

// Decrypt implements keyservice.KeyServiceServer.
func (r encrypter) Decrypt(context.Context, *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	return nil, errors.New("not supported")
}
