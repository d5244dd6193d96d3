package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/belaydev/belay"
)

// LeaseOptions are what a [Lease] is made from.
type LeaseOptions struct {
	// Config says how the API server that keeps the lease is reached.
	Config *rest.Config
	// Namespace and Name of the Lease object. It is made if it is missing.
	Namespace, Name string
	// Identity names this process to the others; no two may have the same.
	Identity string
	// Duration is how long the others wait after the holder last renewed it.
	// Default 15s. Its holder stops writing after two thirds of that.
	Duration time.Duration
	// Logger defaults to none.
	Logger *slog.Logger
}

// Lease is the right to write, of one process among several. It is a fence too: a
// [Cluster] that is given one sends no write without holding it. The holder gives
// up well before anybody else may take over, counted from the moment at which it
// last asked for a renewal that it got, so it does not depend on clocks that agree.
type Lease struct {
	identity string
	describe string
	log      *slog.Logger
	duration time.Duration
	held     time.Duration // after a renewal
	lock     resourcelock.Interface

	mu      sync.Mutex
	holder  string    // as last seen
	renewed time.Time // zero until it was held
	timer   *time.Timer
	expired context.Context // ends when the lease is lost
	expire  context.CancelFunc
	idle    bool // nothing writes any more, so that others may have it
}

// errNotLeading is what a write without the lease fails with.
var errNotLeading = &belay.Error{Code: belay.CodeUnavailable, Message: "this process does not lead any more and may not write"}

// NewLease makes a Lease. It sends no request.
func NewLease(o LeaseOptions) (*Lease, error) {
	if o.Duration <= 0 {
		o.Duration = 15 * time.Second
	}
	l := &Lease{identity: o.Identity, log: o.Logger, duration: o.Duration, held: o.Duration * 2 / 3, describe: o.Namespace + "/" + o.Name}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.expired, l.expire = context.WithCancel(context.Background())
	cfg := prepared(o.Config)
	cfg.Timeout = l.held / 2 // a request that hangs leaves time for another one
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the credentials for the lease cannot be used: " + plainCause(err), Err: err}
	}
	l.lock = timedLock{lease: l, Interface: &resourcelock.LeaseLock{
		LeaseMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}, Client: client,
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Identity},
	}}
	return l, nil
}

// Identity is how the others know this process.
func (l *Lease) Identity() string { return l.identity }

// Name is NAMESPACE/NAME.
func (l *Lease) Name() string { return l.describe }

// Holder is who was last seen to hold the lease; "" if nobody was seen yet.
func (l *Lease) Holder() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.holder
}

// Held is nil while this process holds the lease and may write.
func (l *Lease) Held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewed.IsZero() || l.expired.Err() != nil {
		return errNotLeading
	}
	// The timer may be late: the process was stopped, or the machine slept. The one
	// clock counts the first, only the other the second.
	now := time.Now()
	if max(now.Sub(l.renewed), now.Round(0).Sub(l.renewed.Round(0))) >= l.held {
		l.expire()
		return errNotLeading
	}
	return nil
}

// Lead waits until this process holds the lease and calls lead, whose context ends
// with ctx or when the lease is lost. Once lead has returned the lease is given
// back, so that another process need not wait. A lease that was lost is an error,
// and the Lease cannot be used again.
func (l *Lease) Lead(ctx context.Context, lead func(context.Context) error) error {
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	t := &term{lease: l, ctx: ctx, stop: stop, lead: lead, ended: make(chan struct{})}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l.lock, Name: l.describe, ReleaseOnCancel: true,
		LeaseDuration: l.duration, RenewDeadline: l.held, RetryPeriod: min(l.duration*2/15, 2*time.Second),
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: t.begin, OnStoppedLeading: func() {}, OnNewLeader: l.saw},
	})
	if err != nil {
		return fmt.Errorf("set up the lease: %w", err)
	}
	defer context.AfterFunc(ctx, t.cancel)()
	l.log.Info("waiting for the lease", "lease", l.describe, "identity", l.identity)
	elector.Run(electing)
	return t.outcome()
}

// term is one time in office.
type term struct {
	lease *Lease
	ctx   context.Context
	stop  context.CancelFunc // ends the election
	lead  func(context.Context) error

	mu    sync.Mutex
	began bool
	over  bool
	err   error
	ended chan struct{}
}

// cancel ends the waiting for the lease. While leading, the lease is kept until
// the work is done.
func (t *term) cancel() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.began {
		t.over = true
		t.stop()
	}
}

// begin is called when the lease is held; elected ends when it is lost.
func (t *term) begin(elected context.Context) {
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return
	}
	t.began = true
	t.mu.Unlock()
	l := t.lease
	l.log.Info("leading", "lease", l.describe, "identity", l.identity)
	leading, cancel := context.WithCancel(t.ctx)
	defer cancel()
	defer context.AfterFunc(l.expired, cancel)()
	keep := context.AfterFunc(elected, l.expire)
	t.err = t.lead(leading)
	keep()
	l.mu.Lock()
	l.idle = true
	l.mu.Unlock()
	t.stop()
	close(t.ended)
}

func (t *term) outcome() error {
	t.mu.Lock()
	began := t.began
	t.over = true
	t.mu.Unlock()
	if !began {
		return nil // told to end
	}
	<-t.ended
	if t.lease.expired.Err() != nil {
		return errors.Join(&belay.Error{Code: belay.CodeUnavailable,
			Message: fmt.Sprintf("the lease %s could not be renewed in time; another process may lead now", t.lease.describe),
			Hint:    "start it again: it waits until it leads"}, t.err)
	}
	return t.err
}

func (l *Lease) saw(identity string) {
	l.mu.Lock()
	l.holder = identity
	l.mu.Unlock()
	if identity != l.identity && identity != "" {
		l.log.Info("another process leads", "lease", l.describe, "holder", identity)
	}
}

// extend takes in a renewal that was asked for at a moment, and granted.
func (l *Lease) extend(asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed, l.holder = asked, l.identity
	left := time.Until(asked.Add(l.held))
	if l.timer == nil {
		l.timer = time.AfterFunc(left, l.expire)
	} else if l.timer.Stop() { // else it is lost already
		l.timer.Reset(left)
	}
}

// guard is ctx for one write: it ends when the lease does.
func (l *Lease) guard(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if l == nil {
		return ctx, func() {}, nil
	}
	if err := l.Held(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.expired, func() { cancel(errNotLeading) })
	return ctx, func() { stop(); cancel(nil) }, nil
}

// timedLock notes when renewals were asked for, and keeps the lease from being
// given away while something may still be writing.
type timedLock struct {
	resourcelock.Interface
	lease *Lease
}

// Create makes the Lease object, with its first holder.
func (t timedLock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	asked := time.Now()
	err := t.Interface.Create(ctx, r)
	if err == nil {
		t.lease.extend(asked)
	}
	return err
}

// Update takes, renews or gives back the lease.
func (t timedLock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if r.HolderIdentity == "" {
		t.lease.mu.Lock()
		idle := t.lease.idle
		t.lease.mu.Unlock()
		if !idle {
			return errors.New("writes are still under way")
		}
		return t.Interface.Update(ctx, r)
	}
	asked := time.Now()
	err := t.Interface.Update(ctx, r)
	if err == nil {
		t.lease.extend(asked)
	}
	return err
}
