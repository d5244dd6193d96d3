package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/belaydev/belay"
)

// secrets reads one key of a Secret in the server's own cluster.
type secrets func(ctx context.Context, ref belay.SecretReference) ([]byte, error)

// resolve reads the value a reference points at. The error names the place and
// never the value.
func resolve(ctx context.Context, ref *belay.Reference, own secrets) ([]byte, error) {
	switch {
	case ref == nil:
		return nil, nil
	case ref.File != "":
		b, err := os.ReadFile(ref.File)
		if err != nil {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the file %s cannot be read: %v", ref.File, unwrapPath(err)),
				Hint: "it is a path on the machine the server runs on", Err: err}
		}
		return b, nil
	case ref.Env != "":
		v, ok := os.LookupEnv(ref.Env)
		if !ok {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the environment variable %s is not set", ref.Env),
				Hint: "set it where the server is started"}
		}
		return []byte(v), nil
	case ref.Secret != nil:
		return own(ctx, *ref.Secret)
	}
	return nil, &belay.Error{Code: belay.CodeInvalid, Message: "a reference needs one of file, env, secret"}
}

func unwrapPath(err error) error {
	if pe, ok := errors.AsType[*os.PathError](err); ok {
		return pe.Err
	}
	return err
}
