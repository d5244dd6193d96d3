package source

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/belaydev/belay/internal/git"
)

// state is what a restart knows without asking the remote: what each ref last
// meant. It stands beside the mirror. A ref that went away at the remote is
// gone from the mirror, and still here.
type state struct {
	URL   string           `json:"url"`
	Found map[string]saved `json:"found"`
}

type saved struct {
	target
	// Used is when the ref was last followed.
	Used time.Time `json:"used"`
}

// keepUnused is how long a ref that is not followed any more is remembered: a
// restart follows them one after the other.
const keepUnused = 24 * time.Hour

func (r *repo) stateFile() string { return r.h.dir(r.key) + ".json" }

// save writes the state. Called with r.mu.
func (r *repo) save() error {
	now := r.h.o.Clock.Now()
	found := map[string]saved{}
	for ref, s := range r.saved {
		if now.Sub(s.Used) < keepUnused {
			found[ref] = s
		}
	}
	for ref, f := range r.found {
		if f.Commit != "" {
			found[ref] = saved{f.target, now}
		}
	}
	r.saved = found
	b, err := json.Marshal(state{URL: r.key, Found: found})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(r.stateFile()), ".state-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), r.stateFile())
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// open opens the mirror and takes up what was known when it was last used. It
// does not talk to the remote.
func (r *repo) open(ctx context.Context) (*git.Mirror, error) {
	r.opening.Lock()
	defer r.opening.Unlock()
	r.mu.Lock()
	m, url := r.mirror, r.url
	r.mu.Unlock()
	if m != nil {
		return m, nil
	}
	m, err := git.Open(ctx, r.h.dir(r.key), url, git.Options{
		Cache: r.h.cache, Logger: r.h.o.Logger, ListTimeout: r.h.o.ListTimeout,
		Auth: func(ctx context.Context) (git.Auth, error) {
			r.mu.Lock()
			auth, stranger := r.auth, r.stranger
			r.mu.Unlock()
			if stranger {
				return r.h.strangerAuth(ctx, url)
			}
			if auth == nil {
				return git.Auth{}, nil
			}
			return auth(ctx)
		}})
	if err != nil {
		return nil, err
	}
	var s state
	if b, err := os.ReadFile(r.stateFile()); err == nil {
		if err := json.Unmarshal(b, &s); err != nil {
			r.h.o.Logger.Warn("what was found in a repository is not legible", "repo", m.URL(), "error", err)
		}
	}
	// A mirror that is damaged has none; the next look makes it anew.
	local, _ := m.LocalRefs(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mirror, r.local = m, local
	if r.saved == nil {
		r.saved = s.Found
	}
	return m, nil
}

// recall fills in a followed ref that is not known from the state, and failing
// that from the mirror. What cannot be had is asked of the remote before long.
func (r *repo) recall(ctx context.Context, m *git.Mirror, ref string) {
	if r.h.o.Fresh {
		return
	}
	r.mu.Lock()
	f, s, followed, local := r.found[ref], r.saved[ref], r.refs[ref], r.local
	r.mu.Unlock()
	if !followed || f != nil && f.Commit != "" {
		return
	}
	t := s.target
	if t.Commit == "" {
		var err error
		if t, err = resolveRef(m.URL(), local, ref, commitsIn(ctx, m)); err != nil {
			return
		}
	}
	info, err := m.Commit(ctx, t.Commit)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.found[ref]; f == nil {
		r.found[ref] = &finding{target: t, info: info}
	} else if f.Commit == "" {
		f.target, f.info = t, info
	}
}
