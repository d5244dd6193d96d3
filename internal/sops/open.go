package sops

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/keyservice"

	"github.com/belaydev/belay"
)

// Opened is what a file holds. It must not be stored.
type Opened struct {
	// Values are what the marks stand for, as texts.
	Values map[string]string
	// Whole is the decrypted file.
	Whole string
}

// Open decrypts the file and verifies that nobody changed it. The error repeats no
// value. It is CodeUnavailable when no key fits: one may be added.
func (f *File) Open(ctx context.Context, keys Keys) (o *Opened, err error) {
	defer func() {
		if r := recover(); r != nil { // its text may repeat values
			o, err = nil, f.wrong(belay.CodeInvalid, fmt.Sprintf("it cannot be decrypted: the library gave up on it (%T)", r), "")
		}
	}()
	tree, err := f.format.load(f.data) // decryption changes it
	if err != nil {
		return nil, f.wrong(belay.CodeInvalid, "it cannot be read as a SOPS file", "")
	}
	ring, err := keys.ring(ctx)
	if err != nil {
		return nil, err
	}
	dataKey, err := tree.Metadata.GetDataKeyWithKeyServices([]keyservice.KeyServiceClient{keyservice.NewCustomLocalClient(ring)}, nil)
	if err != nil {
		// The library's text goes on for a page, and says where it did not look.
		message := "no key fits: it is encrypted for " + strings.Join(f.Recipients(), ", ")
		if len(ring.refused) > 0 {
			message += "; " + strings.Join(ring.refused, "; ")
		}
		return nil, f.wrong(belay.CodeUnavailable, message, "add the private key of one of them to spec.decryption of the Project")
	}
	cipher := aes.NewCipher()
	mac, err := tree.Decrypt(dataKey, cipher)
	if err != nil {
		return nil, f.tampered("a value in it does not belong to it")
	}
	stated, err := cipher.Decrypt(tree.Metadata.MessageAuthenticationCode, dataKey, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil {
		return nil, f.tampered("its MAC cannot be read")
	}
	if s, ok := stated.(string); !ok || subtle.ConstantTimeCompare([]byte(s), []byte(mac)) != 1 {
		return nil, f.tampered("its MAC does not match its content")
	}
	return f.opened(tree)
}

func (f *File) opened(tree sops.Tree) (*Opened, error) {
	whole, err := f.format.store().EmitPlainFile(tree.Branches)
	if err != nil {
		return nil, f.wrong(belay.CodeInvalid, "it is decrypted, but cannot be written as what it was", "")
	}
	o := &Opened{Values: map[string]string{}, Whole: string(whole)}
	if f.format == formatBinary || f.format == formatINI {
		o.Values[f.marks[0]] = o.Whole
		return o, nil
	}
	plain := leaves(tree.Branches)
	if len(plain) != len(f.leaves) {
		return nil, f.wrong(belay.CodeInternal, "it has another number of values decrypted than encrypted", "")
	}
	for i, m := range f.leaves {
		if m == "" {
			continue
		}
		text, err := f.textOf(plain[i])
		if err != nil {
			return nil, f.wrong(belay.CodeInternal, "a value in it is of a kind that cannot be written as a text", "")
		}
		o.Values[m] = text
	}
	return o, nil
}

// textOf is a value as the decrypted file would spell it.
func (f *File) textOf(v any) (string, error) {
	switch v := v.(type) {
	case bool:
		return strconv.FormatBool(v), nil
	case sops.Comment:
		return "", nil
	case string:
		if f.format == formatDotenv { // where a value is one line
			return strings.ReplaceAll(v, "\n", `\n`), nil
		}
		return v, nil
	case nil:
		return "", errors.New("no value")
	}
	b, err := sops.ToBytes(v)
	return string(b), err
}

func (f *File) tampered(why string) error {
	return f.wrong(belay.CodeInvalid, fmt.Sprintf("it was changed after SOPS encrypted it: %s", why),
		"change it with the sops command; if nobody here did, find out who did")
}

func (f *File) wrong(code belay.Code, message, hint string) error {
	return &belay.Error{Code: code, Message: message, Hint: hint, Origin: belay.Origin{File: f.path}}
}
