package main

import (
	"context"
	"maps"
	"sync"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/reconcile"
)

// onDisk stands for the ref and the commit of a working directory.
const onDisk = "(on disk)"

// diskSources is a Sources in which one repository is what stands on disk.
type diskSources struct {
	reconcile.Sources
	repo  string
	files reconcile.Files

	mu      sync.Mutex
	repos   []belay.Repository
	refs    map[string][]string
	history bool // its commits are asked for, too
}

// Configure follows every repository but the one on disk.
func (s *diskSources) Configure(repos []belay.Repository, refs map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos, s.refs = repos, maps.Clone(refs)
	s.configure()
}

// configure tells what is followed. Called with mu.
func (s *diskSources) configure() {
	delete(s.refs, s.repo)
	if s.history {
		s.refs[s.repo] = []string{"HEAD"}
	}
	s.Sources.Configure(s.repos, s.refs)
}

// Revision of the directory has no commit but a name.
func (s *diskSources) Revision(url, ref string) (belay.Revision, error) {
	if url == s.repo && ref == onDisk {
		return belay.Revision{Repo: url, Ref: ref, Name: ref, Commit: onDisk}, nil
	}
	return s.Sources.Revision(url, ref)
}

// Removal of what the directory does not declare any more: the newest commit may
// still do.
func (s *diskSources) Removal(ctx context.Context, url, commit, path, expr string) (parent string, found bool, err error) {
	if commit, err = s.committed(ctx, url, commit); err != nil {
		return "", false, err
	}
	parent, found, err = s.Sources.Removal(ctx, url, commit, path, expr)
	if err == nil && !found && commit != "" {
		return commit, true, nil
	}
	return parent, found, err
}

// History of the directory is that of the newest commit.
func (s *diskSources) History(ctx context.Context, url, commit string, paths []string, most int) ([]string, error) {
	commit, err := s.committed(ctx, url, commit)
	if err != nil {
		return nil, err
	}
	return s.Sources.History(ctx, url, commit, paths, most)
}

// committed is the commit that the directory builds on.
func (s *diskSources) committed(ctx context.Context, url, commit string) (string, error) {
	if commit != onDisk {
		return commit, nil
	}
	s.mu.Lock()
	if !s.history {
		s.history = true
		s.configure()
	}
	s.mu.Unlock()
	rev, err := s.Resolve(ctx, url, "HEAD")
	return rev.Commit, err
}

// Open gives the directory for its name.
func (s *diskSources) Open(ctx context.Context, url, commit string) (reconcile.Files, error) {
	if commit == onDisk {
		return s.files, nil
	}
	return s.Sources.Open(ctx, url, commit)
}
