package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/reconcile"
)

// podNamespace is where a pod finds the name of its namespace.
const podNamespace = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// electionOptions are the flags of leader election.
type electionOptions struct {
	elect           bool
	namespace, name string
	duration        time.Duration
}

func (o *electionOptions) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&o.elect, "leader-elect", false, "write only while holding a lease, so that several processes can stand by for one another")
	f.StringVar(&o.namespace, "lease-namespace", "", "namespace of the lease in the server's own cluster (default: that of the pod)")
	f.StringVar(&o.name, "lease-name", "", "name of the lease (default: belay, or belay-INSTANCE)")
	f.DurationVar(&o.duration, "lease-duration", 15*time.Second, "time after which another process takes over from one that is silent")
}

// lease makes the lease, or nil without leader election. hook is where this
// process takes hooks, and may be nil.
func (o *electionOptions) lease(s *serveOptions, hook net.Listener) (*kube.Lease, error) {
	if !o.elect {
		return nil, nil
	}
	if o.duration < time.Second {
		return nil, usageError("--lease-duration must be a second at least")
	}
	ns := o.namespace
	if ns == "" {
		b, err := os.ReadFile(podNamespace)
		if err != nil {
			return nil, usageError("--leader-elect needs --lease-namespace, as this is not a pod")
		}
		ns = strings.TrimSpace(string(b))
	}
	name := "belay"
	if s.instance != "" {
		name += "-" + s.instance
	}
	cfg, err := kube.OwnConfig(s.kubeconfig, "")
	if err != nil {
		return nil, err
	}
	return kube.NewLease(kube.LeaseOptions{Config: cfg, Namespace: ns, Name: cmp.Or(o.name, name), Identity: identity(hook), Duration: o.duration, Logger: s.log})
}

// identity names this process to the others: its host, something that no other
// has, and where it takes hooks if that is an address of its own.
func identity(hook net.Listener) string {
	host, err := os.Hostname()
	if err != nil {
		host = "belay"
	}
	id := host + "_" + strings.ToLower(rand.Text()[:8])
	if hook != nil {
		if at, err := netip.ParseAddrPort(hook.Addr().String()); err == nil && !at.Addr().IsUnspecified() {
			id += "@" + at.String()
		}
	}
	return id
}

// lead runs the engine, with leader election once this process holds the lease.
func (s *serving) lead(ctx context.Context) error {
	if s.lease == nil {
		return s.engine.Run(ctx)
	}
	// What a start fetches first is there when this process takes over.
	s.parts.sources.Configure(nil, map[string][]string{s.engine.Repo: {s.engine.Ref}})
	began := false
	err := s.lease.Lead(ctx, func(ctx context.Context) error {
		began = true
		s.takeOver(ctx)
		close(s.elected)
		select {
		case <-s.ready:
			return s.engine.Run(ctx)
		case <-ctx.Done():
			return nil
		}
	})
	if began {
		what := " leads no more: it ends"
		if err != nil {
			what = " lost the lease"
		}
		s.recorder.Publish(belay.Event{Type: belay.EventLeader, Message: s.lease.Identity() + what})
	}
	return err
}

// fetch follows the repositories. When this process begins to lead, what it found
// before that may be older than what the last leader delivered, and would be a step
// back: so it begins anew, with what it fetched.
func (s *serving) fetch(ctx context.Context) error {
	if s.lease == nil {
		return s.parts.hub.Run(ctx)
	}
	standby, end := context.WithCancel(ctx)
	defer end()
	go func() {
		select {
		case <-s.elected:
			end()
		case <-standby.Done():
		}
	}()
	if err := s.parts.hub.Run(standby); err != nil || ctx.Err() != nil {
		return err
	}
	s.parts.hub.Forget()
	close(s.ready)
	return s.parts.hub.Run(ctx)
}

// leader tells where hooks are answered by the process that leads.
func (s *serving) leader() (itself bool, addr string) {
	if s.lease == nil || s.lease.Held() == nil {
		return true, ""
	}
	_, addr, _ = strings.Cut(s.lease.Holder(), "@")
	return false, addr
}

// electing is an engine that says who leads while it does not itself. Without a
// lease it is the engine.
type electing struct {
	*reconcile.Engine
	lease  *kube.Lease
	ledger *ledger.Ledger
}

// standingBy is nil while the engine works.
func (e electing) standingBy() *belay.Error {
	if e.lease == nil || e.lease.Held() == nil {
		return nil
	}
	holder, _, _ := strings.Cut(e.lease.Holder(), "@")
	if holder == "" {
		return &belay.Error{Code: belay.CodeUnavailable, Message: "this server stands by, and nobody leads yet"}
	}
	if strings.HasPrefix(e.lease.Identity(), holder) {
		return &belay.Error{Code: belay.CodeUnavailable, Message: "this server led, and lost the lease; it is ending"}
	}
	pod, _, _ := strings.Cut(holder, "_")
	return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("this server stands by; %s leads", holder),
		Hint: fmt.Sprintf("ask that one, in a cluster with: kubectl port-forward pod/%s 8180", pod)}
}

// Status implements server.Engine.
func (e electing) Status() belay.Status {
	if err := e.standingBy(); err != nil {
		return belay.Status{Applications: []belay.ApplicationStatus{}, Repositories: e.Sources.Status(), Problems: append([]belay.Error{*err}, ledgerProblems(e.ledger)...)}
	}
	st := e.Engine.Status()
	st.Problems = append(st.Problems, ledgerProblems(e.ledger)...)
	return st
}

// Application implements server.Engine.
func (e electing) Application(name string) (belay.ApplicationStatus, error) {
	if err := e.standingBy(); err != nil {
		return belay.ApplicationStatus{}, err
	}
	return e.Engine.Application(name)
}

// Inventory implements server.Engine.
func (e electing) Inventory() (belay.Inventory, error) {
	if err := e.standingBy(); err != nil {
		return belay.Inventory{}, err
	}
	return e.Engine.Inventory()
}

// Facts implements server.Engine.
func (e electing) Facts(ctx context.Context, cluster string) (belay.ClusterFacts, error) {
	if err := e.standingBy(); err != nil {
		return belay.ClusterFacts{}, err
	}
	return e.Engine.Facts(ctx, cluster)
}

// Ready implements server.Engine. Who stands by while another leads is ready: it
// does what it is there for, and a rollout must not wait for it to lead.
func (e electing) Ready() error {
	if err := e.standingBy(); err != nil {
		if h := e.lease.Holder(); h == "" || h == e.lease.Identity() {
			return err
		}
		return nil
	}
	return e.Engine.Ready()
}

// Sync implements server.Engine.
func (e electing) Sync(ctx context.Context, req belay.SyncRequest, actor string) ([]string, []belay.Error, error) {
	if err := e.standingBy(); err != nil {
		return nil, nil, err
	}
	return e.Engine.Sync(ctx, req, actor)
}

// Plan implements server.Engine.
func (e electing) Plan(ctx context.Context, req belay.PlanRequest) ([]belay.Preview, error) {
	if err := e.standingBy(); err != nil {
		return nil, err
	}
	return e.Engine.Plan(ctx, req)
}

// Poke implements server.Engine.
func (e electing) Poke(repo string) (int, error) {
	if err := e.standingBy(); err != nil {
		return 0, err
	}
	return e.Engine.Poke(repo)
}
