package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/signature"
	"github.com/belaydev/belay/internal/source"
)

// provenance fits a source.Hub to the engine as what checks signatures. Keys are
// read for each check, so that a changed file counts at once; a check is made
// once for each new commit.
type provenance struct {
	hub  *source.Hub
	own  secrets
	path string // of what was accepted
	log  *slog.Logger

	mu       sync.Mutex
	accepted map[string]string // nil before it was read
}

// keysTimeout bounds the reading of keys: a Secret may be asked for.
const keysTimeout = 30 * time.Second

// Check implements reconcile.Provenance.
func (p *provenance) Check(ctx context.Context, url, ref, revision, accepted string, rules *belay.Signatures) error {
	t, err := p.trust(ctx, rules)
	if err != nil {
		return err
	}
	t.After = accepted
	return p.hub.Vouch(ctx, url, ref, revision, t)
}

// Earlier implements reconcile.Provenance.
func (p *provenance) Earlier(ctx context.Context, url, ref, revision, accepted, deployed string, rules *belay.Signatures) (belay.Revision, bool, error) {
	if accepted != "" {
		rev, ok, err := p.hub.At(ctx, url, ref, accepted)
		if ok || err != nil {
			return rev, ok, err
		}
	}
	t, err := p.trust(ctx, rules)
	if err != nil {
		return belay.Revision{}, false, err
	}
	return p.hub.Vouched(ctx, url, ref, revision, deployed, t)
}

// trust resolves the keys of rules. One that cannot be read may be there later.
func (p *provenance) trust(ctx context.Context, rules *belay.Signatures) (source.Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	t := source.Trust{Keys: &signature.Keys{}, All: rules.Commits == belay.SignedAll, Since: rules.Since}
	for i := range rules.Signers {
		s := &rules.Signers[i]
		after, err := timeOf(s.ValidAfter)
		if err != nil {
			return t, err
		}
		before, err := timeOf(s.ValidBefore)
		if err != nil {
			return t, err
		}
		if err := t.Keys.AddKey(s.Name, s.Key, after, before); err != nil {
			return t, keyProblem(fmt.Sprintf("signers[%d]", i), err)
		}
	}
	for i := range rules.Keys {
		where := fmt.Sprintf("keys[%d]", i)
		b, err := resolve(ctx, &rules.Keys[i], p.own)
		if err != nil {
			return t, keyProblem(where, err)
		}
		more, err := signature.Parse(b)
		if err != nil {
			return t, keyProblem(where, err)
		}
		t.Keys.Merge(more)
	}
	for i := range rules.Artifacts {
		a := &rules.Artifacts[i]
		where := fmt.Sprintf("artifacts[%d]", i)
		pem := []byte(a.Key)
		if a.From != nil {
			var err error
			if pem, err = resolve(ctx, a.From, p.own); err != nil {
				return t, keyProblem(where, err)
			}
		}
		key, err := signature.ParsePublicKey(pem)
		if err != nil {
			return t, keyProblem(where, err)
		}
		t.Artifacts = append(t.Artifacts, key)
	}
	return t, nil
}

func timeOf(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("spec.signatures: %w", err)
	}
	return t, nil
}

// keyProblem says which key cannot be read. Nothing is accepted meanwhile.
func keyProblem(where string, err error) error {
	e := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("a key that signatures are checked with cannot be read: spec.signatures.%s: %v", where, err), Err: err,
		Hint: "newer commits are not deployed until it can"}
	if be, ok := errors.AsType[*belay.Error](err); ok {
		e.Message = fmt.Sprintf("a key that signatures are checked with cannot be read: spec.signatures.%s: %s", where, be.Message)
	}
	return e
}

// Accepted implements reconcile.Provenance.
func (p *provenance) Accepted(url, ref, project string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.load()
	return p.accepted[acceptedKey(url, ref, project)]
}

func acceptedKey(url, ref, project string) string {
	return project + "\n" + ref + "\n" + withoutToken(url)
}

// Accept implements reconcile.Provenance. What cannot be written is found again by
// looking for the newest commit that is signed.
func (p *provenance) Accept(url, ref, project, revision string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.load()
	p.accepted[acceptedKey(url, ref, project)] = revision
	if err := p.save(); err != nil {
		p.log.Warn("what was accepted could not be written", "path", p.path, "error", err)
	}
}

func (p *provenance) load() {
	if p.accepted != nil {
		return
	}
	p.accepted = map[string]string{}
	b, err := os.ReadFile(p.path)
	if err == nil {
		err = json.Unmarshal(b, &p.accepted)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("what was accepted before could not be read", "path", p.path, "error", err)
		p.accepted = map[string]string{}
	}
}

func (p *provenance) save() error {
	b, err := json.MarshalIndent(maps.Clone(p.accepted), "", "  ")
	if err != nil {
		return err
	}
	tmp := p.path + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, p.path)
}

// acceptedFile is what was accepted, in the data directory.
const acceptedFile = "accepted.json"

// configSigning are the flags for the signatures of the definitions themselves.
type configSigning struct {
	signers string
	require bool
}

func (c *configSigning) addFlags(f *pflag.FlagSet) {
	f.StringVar(&c.signers, "config-signers", "", "file of keys (allowed signers or an OpenPGP keyring) whose signatures of commits of --repo count; others are warned of")
	f.BoolVar(&c.require, "require-signed-config", false, "load definitions only from commits that a key of --config-signers signed")
}

// rules are what the definitions have to be signed with; nil where nobody asked.
func (c *configSigning) rules() (*belay.Signatures, error) {
	if c.signers == "" {
		if c.require {
			return nil, usageError("--require-signed-config needs --config-signers: whose signatures count?")
		}
		return nil, nil
	}
	path, err := filepath.Abs(c.signers)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err == nil {
		var keys *signature.Keys
		if keys, err = signature.Parse(b); err == nil && keys.Len() == 0 {
			err = errors.New("there is no key in it")
		}
	}
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("the keys of --config-signers cannot be read: %v", err),
			Hint: "lines such as: ada@example.org ssh-ed25519 AAAA…", Err: err}
	}
	r := belay.DefaultSignatures()
	if r.Keys = []belay.Reference{{File: path}}; !c.require {
		r.Mode = belay.SignaturesWarn
	}
	return &r, nil
}
