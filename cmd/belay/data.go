package main

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/belaydev/belay"
)

// dataDir is everything a server keeps on disk. Losing it loses the ledger, unless
// that has a remote; caches; the key of Secret digests (that costs one apply for each
// Secret); and the knowledge of hooks whose objects are gone.
type dataDir struct {
	path string
	lock *os.File
	key  []byte
}

// defaultDataDir follows the XDG base directory specification.
func defaultDataDir() string {
	if d := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "belay")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "belay")
	}
	return filepath.Join(os.TempDir(), "belay")
}

// openData makes the directory if need be and takes it for this process alone.
func openData(path string) (*dataDir, error) {
	wrap := func(err error) error {
		return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the data directory %s cannot be used: %v", path, err),
			Hint: "name another one with --data", Err: err}
	}
	at, err := filepath.Abs(path) // git runs elsewhere
	if err != nil {
		return nil, wrap(err)
	}
	path = at
	for _, d := range []string{path, filepath.Join(path, "repos"), filepath.Join(path, "renders")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, wrap(err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, wrap(err)
	}
	if err := lockFile(lock); err != nil {
		_ = lock.Close() // nothing was written
		return nil, &belay.Error{Code: belay.CodeConflict, Message: fmt.Sprintf("another belay uses the data directory %s", path),
			Hint: "stop it, or give this one its own with --data"}
	}
	d := &dataDir{path: path, lock: lock}
	if d.key, err = secretKey(filepath.Join(path, "secret-digest.key")); err != nil {
		_ = lock.Close()
		return nil, wrap(err)
	}
	return d, nil
}

// Close lets another process have the directory.
func (d *dataDir) Close() error { return d.lock.Close() }

// secretKey reads the key of Secret digests, or makes one.
func secretKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if err == nil && len(key) == 32 {
		return key, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key = make([]byte, 32)
	rand.Read(key)
	return key, replaceFile(path, key)
}

// replaceFile writes a file that nobody else reads, whole and on the disk or not at all.
func replaceFile(path string, b []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// shortestKey is the least length of a key that people make.
const shortestKey = 32

// sharedKey reads a key of Secret digests that people made. With one of its own, a
// process that takes over from another would apply each Secret once.
func sharedKey(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the key of Secret digests %s cannot be read: %v", path, unwrapPath(err)),
			Hint: "check --digest-key-file", Err: err}
	}
	text := bytes.TrimSpace(b)
	if len(text) < shortestKey {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("the key of Secret digests %s is shorter than %d characters", path, shortestKey),
			Hint: "make one with: openssl rand -hex 32"}
	}
	sum := sha256.Sum256(append([]byte("belay secret digests\n"), text...))
	return sum[:], nil
}
