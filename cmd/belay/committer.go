package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/signature"
)

// commitKey is the key in the data directory that signs commits where none is given.
const commitKey = "commit-signing.key"

// defaultCommitter is who makes commits where nobody is named.
const defaultCommitter = "Belay <belay@localhost>"

// commitOptions are the flags for the commits that a server makes in the
// repositories of its sources.
type commitOptions struct{ key, committer string }

func (o *commitOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.key, "commit-signing-key", "", "file with the SSH private key that signs the commits of rollbacks; read for each of them (default: made in --data)")
	f.StringVar(&o.committer, "committer", defaultCommitter, "committer of the commits of rollbacks, as Name <address>; a forge shows them as verified where the address is that of the account which has the key")
}

// signing is what the flags say. A key that was given has to be there at the start.
func (o *commitOptions) signing(data string, log *slog.Logger) (*commitSigning, error) {
	committer := cmp.Or(o.committer, defaultCommitter)
	name, address, ok := strings.Cut(committer, "<")
	name, address = strings.TrimSpace(name), strings.TrimSuffix(address, ">")
	if !ok || name == "" || belay.AuthorText(name) != name || address == "" || !strings.HasSuffix(committer, ">") || strings.ContainsAny(address, " \t\r\n<>,\"*?!#") {
		return nil, usageError(fmt.Sprintf("--committer is a name and an address, such as \"Belay <belay@example.com>\", not %q", committer))
	}
	s := &commitSigning{path: filepath.Join(data, commitKey), own: o.key == "", committer: name + " <" + address + ">", principal: address}
	if !s.own {
		var err error
		if s.path, err = filepath.Abs(o.key); err != nil {
			return nil, fmt.Errorf("find --commit-signing-key: %w", err)
		}
	}
	key, err := s.key()
	switch {
	case err == nil:
		log.Info("commits of rollbacks are signed", "committer", s.committer, "key", key.Fingerprint())
	case !s.own:
		return nil, err
	default: // everything else goes on
		log.Warn("commits of rollbacks are not signed", "error", err)
	}
	return s, nil
}

// commitSigning signs commits. The key is read for each, so that one that was
// changed or mended counts at once.
type commitSigning struct {
	path                 string
	own                  bool // made where it is missing
	committer, principal string
	mu                   sync.Mutex // one makes it
}

// public is what others need to know of the key.
func (s *commitSigning) public(k *signature.Key) belay.CommitSigner {
	return belay.CommitSigner{Committer: s.committer, Key: k.Public(), Fingerprint: k.Fingerprint(), AllowedSigner: k.AllowedSigner(s.principal)}
}

func (s *commitSigning) key() (*signature.Key, error) {
	if s.path == "" {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: "this process has no key to sign commits with"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) && s.own {
		b, err = s.make()
	}
	if err != nil {
		e := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the key that signs commits, %s, cannot be read: %v", s.path, unwrapPath(err)), Hint: "check --commit-signing-key", Err: err}
		if s.own {
			e.Hint = "check the data directory, or give a key with --commit-signing-key"
		}
		return nil, e
	}
	key, err := signature.ParseKey(b)
	if err != nil {
		e := &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%s cannot sign commits: %v", s.path, err), Hint: "make a key with: ssh-keygen -t ed25519 -N '' -f FILE"}
		if errors.Is(err, signature.ErrPassphrase) {
			e.Message += ", and nobody is there to type it"
			e.Hint = "remove it with: ssh-keygen -p -N '' -f " + s.path
		}
		return nil, e
	}
	return key, nil
}

// make makes a key in the data directory.
func (s *commitSigning) make() ([]byte, error) {
	b, err := signature.GenerateKey("belay commits")
	if err != nil {
		return nil, err
	}
	return b, replaceFile(s.path, b)
}
