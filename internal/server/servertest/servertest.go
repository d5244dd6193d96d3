// Package servertest has an engine that does what a test tells it to, for tests
// of the server and of what talks to it. It must not imitate a real engine:
// nothing happens in it by itself.
package servertest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/server"
	"github.com/prometheus/client_golang/prometheus"
)

// SyncCall is one call of Engine.Sync.
type SyncCall struct {
	Names []string
	Actor string
	// Override is the reason for overriding windows; empty without that.
	Override string
}

// Engine is a scripted server.Engine. Set changes it at any time.
type Engine struct {
	mu sync.Mutex
	State
}

// State is what an Engine answers and what it was asked.
type State struct {
	Fleet belay.Status
	// Inventory is what Engine.Inventory answers.
	Inventory belay.Inventory
	// Clusters by name.
	Clusters map[string]belay.ClusterFacts
	NotReady error
	Previews []belay.Preview
	// Failure is returned by Sync and Plan.
	Failure error
	// OnSync is called without a lock.
	OnSync func(names []string)
	// Refused is what a sync of all leaves out.
	Refused []belay.Error

	// RolledBack and Targets answer questions about rollbacks.
	RolledBack belay.Rollback
	Targets    []belay.RollbackTarget
	Signer     belay.CommitSigner

	Syncs     []SyncCall
	Rollbacks []belay.RollbackRequest
	Released  []string
	Pokes     []string
	Plans     []belay.PlanRequest
}

// Set changes the state.
func (e *Engine) Set(f func(*State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.State)
}

// Get reads the state; what f keeps must not be changed.
func (e *Engine) Get(f func(State)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.State)
}

// Status implements server.Reader.
func (e *Engine) Status() belay.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := e.Fleet
	st.Applications = slices.Clone(st.Applications)
	st.Repositories = slices.Clone(st.Repositories)
	return st
}

// Application implements server.Reader.
func (e *Engine) Application(name string) (belay.ApplicationStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.find(name)
}

func (e *Engine) find(name string) (belay.ApplicationStatus, error) {
	i := slices.IndexFunc(e.Fleet.Applications, func(a belay.ApplicationStatus) bool { return a.Name == name })
	if i < 0 {
		var names []string
		for _, a := range e.Fleet.Applications {
			names = append(names, a.Name)
		}
		return belay.ApplicationStatus{}, belay.NoSuch("application", name, names, "belay get apps lists them")
	}
	return e.Fleet.Applications[i], nil
}

// Inventory implements server.Reader.
func (e *Engine) Inventory() (belay.Inventory, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.State.Inventory, e.NotReady
}

// Facts implements server.Reader.
func (e *Engine) Facts(_ context.Context, cluster string) (belay.ClusterFacts, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f, ok := e.Clusters[cluster]
	if !ok {
		return f, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no cluster %q", cluster)}
	}
	return f, nil
}

// Ready implements server.Reader.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.NotReady
}

// Sync implements server.Actor.
func (e *Engine) Sync(_ context.Context, req belay.SyncRequest, actor string) (names []string, refused []belay.Error, err error) {
	names = req.Applications
	e.mu.Lock()
	err, refused = e.Failure, e.Refused
	on := e.OnSync
	for _, n := range names {
		if _, missing := e.find(n); missing != nil {
			err = missing
		}
	}
	e.mu.Unlock()
	if err == nil && on != nil {
		on(names)
	}
	// Noted last: who sees it here may rely on what OnSync did.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Syncs = append(e.Syncs, SyncCall{slices.Clone(names), actor, req.Reason})
	if len(names) == 0 {
		for _, a := range e.Fleet.Applications {
			names = append(names, a.Name)
		}
	}
	return names, refused, err
}

// Plan implements server.Actor.
func (e *Engine) Plan(_ context.Context, req belay.PlanRequest) ([]belay.Preview, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Plans = append(e.Plans, req)
	return e.Previews, e.Failure
}

// Rollback implements server.Rollbacks.
func (e *Engine) Rollback(_ context.Context, name string, req belay.RollbackRequest, _ string) (belay.Rollback, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Rollbacks = append(e.Rollbacks, req)
	if name != "" {
		if _, err := e.find(name); err != nil {
			return belay.Rollback{}, err
		}
	}
	out := e.RolledBack
	if out.Commits = slices.Clone(out.Commits); !req.DryRun {
		for i := range out.Commits {
			out.Commits[i].Pushed = true
		}
	}
	return out, e.Failure
}

// RollbackTargets implements server.Rollbacks.
func (e *Engine) RollbackTargets(_ context.Context, name string) ([]belay.RollbackTarget, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.find(name); err != nil {
		return nil, err
	}
	return e.Targets, e.Failure
}

// Release implements server.Rollbacks.
func (e *Engine) Release(_ context.Context, name string, _ belay.ReleaseRequest, _ string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, err := e.find(name); err != nil {
		return err
	}
	e.Released = append(e.Released, name)
	return e.Failure
}

// CommitSigner implements server.Rollbacks.
func (e *Engine) CommitSigner() (belay.CommitSigner, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.Signer, e.Failure
}

// Poke implements server.Actor.
func (e *Engine) Poke(repo string) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Pokes = append(e.Pokes, repo)
	n := 0
	for _, r := range e.Fleet.Repositories {
		if repo == "" || r.URL == repo {
			n++
		}
	}
	return n, nil
}

// Config is what a server over e and bus is made of.
func Config(e *Engine, bus *events.Bus) server.Config {
	return server.Config{
		Engine: e, Events: bus, Metrics: prometheus.NewRegistry(),
		Build: belay.Build{Version: "v0.0.0-test", Go: "go1.0.0", Platform: "test/test"},
		Log:   slog.New(slog.DiscardHandler),
	}
}

// Start serves c on a free port until the test ends, and returns the URL.
func Start(t *testing.T, c server.Config) string {
	t.Helper()
	url, stop, err := Serve(c, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop the server: %v", err)
		}
	})
	return url
}

// Serve serves c on addr until stop is called.
func Serve(c server.Config, addr string) (url string, stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := server.Listen(ctx, addr)
	if err != nil {
		cancel()
		return "", nil, err
	}
	done := make(chan error, 1)
	go func() { done <- server.New(c).Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	return "http://" + l.Addr().String(), stop, nil
}

var (
	_ server.Engine = (*Engine)(nil)
	_ server.Events = (*events.Bus)(nil)
)
