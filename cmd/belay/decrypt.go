package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/sops"
)

// openTimeout bounds the decryption of one file: keys may come from a cluster or a
// key service.
const openTimeout = 30 * time.Second

// sealer fits package sops to renders. Keys are resolved for each use, so that a
// rotated one is used at once and none is kept.
type sealer struct {
	own secrets
	// keyless shows belay.EncryptedValue in place of values: always, or where keys
	// cannot be had.
	keyless, lenient bool
}

// Seal implements render.Sealer.
func (s *sealer) Seal(path string, data []byte) (render.Sealed, error) {
	f, err := sops.Parse(path, data)
	if err != nil || f == nil {
		return nil, err // not a Sealed that is nil
	}
	return f, nil
}

// Encrypted implements render.Sealer.
func (s *sealer) Encrypted(text []byte) bool { return sops.Ciphertext(text) }

// Open implements render.Sealer.
func (s *sealer) Open(ctx context.Context, project string, keys *belay.Decryption, file render.Sealed) (render.Opened, error) {
	f, ok := file.(*sops.File)
	if !ok {
		return render.Opened{}, fmt.Errorf("not a SOPS file, but %T", file)
	}
	if keys == nil {
		return render.Opened{}, &belay.Error{Code: belay.CodeInvalid, Origin: belay.Origin{File: f.Path()},
			Message: fmt.Sprintf("it is encrypted with SOPS, and project %q has no keys", project),
			Hint:    "name them in spec.decryption of the Project"}
	}
	if s.keyless {
		return keylessly(f), nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	ring, err := s.keys(ctx, project, keys)
	var o *sops.Opened
	if err == nil {
		o, err = f.Open(ctx, ring)
	}
	if err != nil && s.lenient && belay.CodeOf(err) == belay.CodeUnavailable {
		return keylessly(f), nil
	}
	if err != nil {
		return render.Opened{}, at(err, f.Path())
	}
	return render.Opened{Values: o.Values, Whole: o.Whole}, nil
}

// keylessly is what a file holds as far as it can be known without keys.
func keylessly(f *sops.File) render.Opened {
	o := render.Opened{Values: map[string]string{}, Whole: belay.EncryptedValue}
	for _, m := range f.Marks() {
		o.Values[m] = belay.EncryptedValue
	}
	return o
}

// at places an error in the file that could not be decrypted.
func at(err error, file string) error {
	if be, ok := errors.AsType[*belay.Error](err); ok && be.Origin.File == "" {
		c := *be
		c.Message, c.Origin = "it cannot be decrypted: "+be.Message, belay.Origin{File: file}
		return &c
	}
	return err
}

// keys resolves the references of a project. One that is missing now may be there
// at the next try.
func (s *sealer) keys(ctx context.Context, project string, d *belay.Decryption) (sops.Keys, error) {
	k := sops.Keys{KMS: d.KMS}
	for _, f := range []struct {
		name string
		refs []belay.Reference
		to   *[][]byte
	}{{"age", d.Age, &k.Age}, {"pgp", d.PGP, &k.PGP}} {
		for i := range f.refs {
			value, err := resolve(ctx, &f.refs[i], s.own)
			if err != nil {
				e := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("spec.decryption.%s[%d] of project %q: %v", f.name, i, project, err), Err: err}
				if be, ok := errors.AsType[*belay.Error](err); ok {
					e.Message = fmt.Sprintf("spec.decryption.%s[%d] of project %q: %s", f.name, i, project, be.Message)
					e.Hint = be.Hint
				}
				return sops.Keys{}, e
			}
			*f.to = append(*f.to, value)
		}
	}
	return k, nil
}
