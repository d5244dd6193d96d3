// Package plane runs a Kubernetes control plane inside the calling process:
// etcd, kube-apiserver, kube-controller-manager, kube-scheduler and, in the
// place of kubelets, kwok. It is for development and tests on one machine; it
// knows nothing of the command line around it and nothing of Belay.
//
// The components share process-wide state (feature gates, metrics, logging),
// so a process can start one plane in its life. In exchange there is one
// process to end: whatever happens to it, nothing is left running.
package plane

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"
)

// Config says what to start.
type Config struct {
	// Dir keeps everything the plane writes. It is made when absent, and a
	// plane started on a directory used before continues with its data.
	Dir string
	// Port is the API server's port on 127.0.0.1. Zero means the port this
	// directory had last time if it is free, else any free one.
	Port int
	// Nodes is the number of fake nodes.
	Nodes int
	// Audit switches the API audit log on, at Dir/audit.log.
	Audit bool
	// Fsync makes etcd wait for the disk. Without it a crash of the machine,
	// though not of the process, can lose data.
	Fsync bool
	// Verbosity is the components' log level. Above zero the log goes to
	// standard error, else to Dir/devcluster.log.
	Verbosity int
	// Progress is told what is being waited for. May be nil.
	Progress func(step string)
	// Exit ends the process in the place of a component that wants to, as
	// some do when they find no way to go on. Nil means os.Exit.
	Exit func(code int)
}

// Plane is a running control plane.
type Plane struct {
	dir        *directory
	failed     chan error
	components []*component // in the order they were started
	started    time.Time
	stopping   atomic.Bool
}

// component is one part of the plane, running in a goroutine of its own.
type component struct {
	name   string
	cancel context.CancelFunc
	grace  time.Duration // how long Stop waits for it
	done   chan struct{}
}

var startedOnce atomic.Bool

// Start brings a control plane up and returns when it is usable: the API
// server ready, the nodes Ready, the default service account made. It gives up
// when ctx ends. After an error nothing is left running that matters, but the
// process should end, as a second Start in one process is refused.
func Start(ctx context.Context, cfg Config) (*Plane, error) {
	if startedOnce.Swap(true) {
		return nil, errors.New("a process can start one control plane only")
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.Exit == nil {
		cfg.Exit = os.Exit
	}
	dir, err := openDirectory(cfg.Dir)
	if err != nil {
		return nil, err
	}
	p := &Plane{dir: dir, failed: make(chan error, 8), started: time.Now()}
	klog.OsExit = func(code int) {
		if p.stopping.Load() {
			// Being stopped half-way through its start is no reason.
			select {}
		}
		klog.Flush()
		cfg.Exit(code)
	}
	if err := p.start(ctx, cfg); err != nil {
		p.stop(time.Second) // there is nothing to bring to an end yet
		return nil, err
	}
	return p, nil
}

func (p *Plane) start(ctx context.Context, cfg Config) error {
	if err := p.dir.redirectLogs(cfg.Verbosity); err != nil {
		return err
	}
	listener, err := p.dir.listen(cfg.Port)
	if err != nil {
		return err
	}
	keys, err := p.dir.issueKeys(listener.Addr().String())
	if err != nil {
		listener.Close()
		return err
	}

	cfg.Progress("etcd")
	if err := p.startEtcd(ctx, cfg); err != nil {
		listener.Close()
		return err
	}
	cfg.Progress("kube-apiserver")
	if err := p.startAPIServer(cfg, keys, listener); err != nil {
		listener.Close()
		return err
	}
	if err := p.awaitAPIServer(ctx, keys); err != nil {
		return err
	}
	cfg.Progress("kube-controller-manager, kube-scheduler, kwok")
	if err := p.startControllerManager(keys); err != nil {
		return err
	}
	if err := p.startScheduler(keys); err != nil {
		return err
	}
	if err := p.startKwok(keys, cfg.Nodes); err != nil {
		return err
	}
	cfg.Progress("nodes and service accounts")
	return p.awaitUsable(ctx, keys, cfg.Nodes)
}

// Kubeconfig is the path of a kubeconfig with an administrator's credentials.
func (p *Plane) Kubeconfig() string { return p.dir.kubeconfig() }

// AuditLog is the path of the audit log, written only if Config.Audit was set.
func (p *Plane) AuditLog() string { return p.dir.auditLog() }

// Failed gives the error of a component that ended by itself.
func (p *Plane) Failed() <-chan error { return p.failed }

// Stop ends the components in the reverse order of their start. Each gets a
// few seconds; etcd's log on disk is complete at any moment, so whatever takes
// longer is left to the end of the process.
func (p *Plane) Stop() { p.stop(time.Minute) }

// stop gives no component longer than a limit.
func (p *Plane) stop(limit time.Duration) {
	p.stopping.Store(true)
	// The controllers need nothing from each other while they end.
	for _, c := range p.components {
		if c.grace <= controllerGrace {
			c.cancel()
		}
	}
	for i := len(p.components) - 1; i >= 0; i-- {
		c := p.components[i]
		c.cancel()
		select {
		case <-c.done:
		case <-time.After(min(c.grace, limit)):
		}
	}
	p.dir.close()
}

const (
	controllerGrace = time.Second
	apiServerGrace  = 4 * time.Second
	etcdGrace       = 4 * time.Second
)

// run starts a component. It is expected to run until its context ends; if it
// ends before, that is a failure of the plane.
func (p *Plane) run(name string, grace time.Duration, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &component{name: name, cancel: cancel, grace: grace, done: make(chan struct{})}
	p.components = append(p.components, c)
	go func() {
		defer close(c.done)
		err := f(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended unexpectedly")
		}
		select {
		case p.failed <- fmt.Errorf("%s: %w", name, err):
		default:
		}
	}()
}

// poll calls f every few milliseconds until it returns nil. Its error is the
// last one of f when ctx ends or a component fails first.
func (p *Plane) poll(ctx context.Context, what string, f func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		last := f(ctx)
		if last == nil {
			return nil
		}
		select {
		case err := <-p.failed:
			return err
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("%s: not ready after %v: %w", what, time.Since(p.started).Round(time.Second), last)
			}
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// writeFile replaces a file at once, so that a reader sees the old or the new.
func writeFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := errors.Join(tmp.Chmod(mode), second(tmp.Write(data)), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

func second[T any](_ T, err error) error { return err }
