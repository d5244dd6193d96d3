// Package server is the HTTP API: status, sync, plans, events and hooks as
// JSON, described by an OpenAPI document that it serves itself.
//
// It knows the domain types and the few interfaces below, which whoever wires
// the program fills in. It must not know how applications are reconciled, nor
// Git or Kubernetes, and it decides nothing about a fleet. Until there is
// access control it answers on loopback only, and only to what was meant for it.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/prometheus/client_golang/prometheus"
)

// Engine is what the API shows and steers.
type Engine interface {
	Reader
	Actor
	Rollbacks
}

// Reader tells the state of the fleet. Its methods are called often and answer from memory.
type Reader interface {
	// Status is the state of the whole fleet, without object trees. The caller
	// may change the slices but not what they share. An application's Revision
	// equals its repository's Refs[Ref] as soon as that commit was taken into
	// account, also when it changed nothing that the application reads: waiting
	// for a commit rests on it.
	Status() belay.Status
	// Application is the state of one application with its tree. The error's
	// code is CodeNotFound where there is none of that name.
	Application(name string) (belay.ApplicationStatus, error)
	// Inventory is what the fleet has beside its applications. The error says why
	// that is not known.
	Inventory() (belay.Inventory, error)
	// Facts are what a cluster serves. The error's code is CodeNotFound for a
	// cluster that is not declared and CodeUnavailable for one that does not answer.
	Facts(ctx context.Context, cluster string) (belay.ClusterFacts, error)
	// Ready is nil while the definitions are read and every declared cluster answers
	// and is known; otherwise it says what is missing, joined errors being one reason each.
	Ready() error
}

// Actor does what people ask for.
type Actor interface {
	// Sync looks for new commits of the definitions and of the applications'
	// repositories, and asks that the applications be compared with them and made
	// equal to them, whether they sync automatically or not; no names means all.
	// It returns the names when that is noted, not when it is done: a synced,
	// syncFailed, held or error event of each application tells. The error's code is
	// CodeNotFound for a name there is not, and CodeHeld for an application that is
	// suspended or outside of its windows; then nothing was noted. In a sync of all
	// those are left out and come back with their reasons. An error of a repository
	// leaves the rest noted.
	Sync(ctx context.Context, req belay.SyncRequest, actor string) (names []string, refused []belay.Error, err error)
	// Plan tells what would change, and changes nothing. Errors of single
	// applications are in their previews. Secret values are redacted.
	Plan(ctx context.Context, req belay.PlanRequest) ([]belay.Preview, error)
	// Poke asks that a repository, named by its URL or its name, be looked at
	// now, without waiting for that; "" means all of them. It returns how many
	// repositories were meant: none is no error.
	Poke(repo string) (int, error)
}

// Events is a sequence of events that is kept for a while.
type Events interface {
	// Epoch identifies the life of the process; sequence numbers of another epoch mean nothing.
	Epoch() string
	// Latest is the sequence number of the newest event, 0 before the first.
	Latest() uint64
	// After waits for events that follow seq and returns some, oldest first, and
	// how many after seq are no longer kept. The error is the context's.
	After(ctx context.Context, seq uint64) (events []belay.Event, missed uint64, err error)
}

// Config is what a Server is made of. All fields but Record, Schemas, Denied, Heartbeat, Patience and Drain are required.
type Config struct {
	Engine Engine
	Events Events
	// Record is asked about what happened; nil where there is no ledger.
	Record Record
	// Metrics are served at /metrics.
	Metrics prometheus.Gatherer
	// Schemas returns the JSON Schema of a kind of definition, nil where there
	// is no such kind. With a nil function nothing is served below /schemas/.
	Schemas func(kind string) []byte
	Build   belay.Build
	// Denied is told of requests that are turned away for what they are. It may be
	// nil, and must not block.
	Denied func(Denial)
	Log    *slog.Logger
	// Heartbeat is the time between comments on a silent event stream. Default 15s.
	Heartbeat time.Duration
	// Patience is how long the reader of an event stream may take nothing before it is
	// given up. Default 30s.
	Patience time.Duration
	// Drain is how long requests may go on when the server ends. Default 10s.
	Drain time.Duration
}

// Server answers the HTTP API.
type Server struct {
	Config
	handler http.Handler
	// draining ends event streams; it is closed when the server stops.
	draining chan struct{}
}

// Times of the HTTP server. Handlers bound themselves with handlerTimeout and
// planTimeout; event streams have no end.
const (
	readHeaderTimeout = 10 * time.Second
	bodyTimeout       = time.Minute
	idleTimeout       = 2 * time.Minute
	writeTimeout      = 30 * time.Second // of an answer
	defaultPatience   = 30 * time.Second
	handlerTimeout    = 30 * time.Second
	syncTimeout       = 2 * time.Minute // it fetches
	planTimeout       = 5 * time.Minute
	drainTimeout      = 10 * time.Second
	defaultHeartbeat  = 15 * time.Second
)

// Largest request bodies.
const (
	maxBody     = 64 << 10
	maxPlanBody = 64 << 20 // every object of a working directory
	maxHeader   = 32 << 10
)

// New makes a Server. It panics where the API's description is wrong, which a
// test would have found.
func New(c Config) *Server {
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.Patience, c.Drain = cmp.Or(c.Patience, defaultPatience), cmp.Or(c.Drain, drainTimeout)
	s := &Server{Config: c, draining: make(chan struct{})}
	mux := http.NewServeMux()
	s.register(mux)
	s.handler = s.guard(mux)
	return s
}

// Handler answers requests. It is what [Server.Serve] serves.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests on l until ctx ends, then lets requests finish for a
// few seconds and ends event streams. It closes l. It is called once; the error
// is nil after an orderly end.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var silent silentConns
	h := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		ConnState:         silent.note,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- h.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	close(s.draining)
	silent.closeAll()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.Drain)
	defer cancel()
	err := h.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		s.Log.Warn("requests did not end in time and were cut off", "timeout", s.Drain)
		err = h.Close()
	}
	if end := <-served; !errors.Is(end, http.ErrServerClosed) {
		err = errors.Join(err, end)
	}
	if err != nil {
		return fmt.Errorf("stop serving on %s: %w", l.Addr(), err)
	}
	return nil
}

// silentConns are connections that have not sent anything yet, such as those
// that browsers open in advance. [http.Server.Shutdown] would wait for them.
type silentConns struct {
	mu    sync.Mutex
	conns map[net.Conn]bool
	done  bool
}

// note is called by the server when the state of a connection changes.
func (c *silentConns) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(c.conns, conn)
	case c.done:
		_ = conn.Close() // nothing was said on it
	default:
		if c.conns == nil {
			c.conns = map[net.Conn]bool{}
		}
		c.conns[conn] = true
	}
}

func (c *silentConns) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	for conn := range c.conns {
		_ = conn.Close() // nothing was said on it
	}
}
