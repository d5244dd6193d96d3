package kube

import (
	"context"
	"slices"
	"sync"
)

// notifier puts changes together for a receiver that may be slower than they come.
type notifier struct {
	f    func(applications []string, all bool)
	wake chan struct{}

	mu   sync.Mutex
	apps map[string]bool
	all  bool
}

func newNotifier(f func([]string, bool)) *notifier {
	if f == nil {
		f = func([]string, bool) {}
	}
	return &notifier{f: f, wake: make(chan struct{}, 1), apps: map[string]bool{}}
}

// application notes a change of one application; "" is nobody's.
func (n *notifier) application(names ...string) {
	n.mu.Lock()
	for _, name := range names {
		if name != "" {
			n.apps[name] = true
		}
	}
	due := len(n.apps) > 0
	n.mu.Unlock()
	if due {
		n.signal()
	}
}

// everything notes a change that concerns all applications.
func (n *notifier) everything() {
	n.mu.Lock()
	n.all = true
	n.mu.Unlock()
	n.signal()
}

func (n *notifier) signal() {
	select {
	case n.wake <- struct{}{}:
	default: // a delivery is due already
	}
}

// run delivers until ctx ends.
func (n *notifier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		}
		n.mu.Lock()
		names := make([]string, 0, len(n.apps))
		for a := range n.apps {
			names = append(names, a)
		}
		all := n.all
		clear(n.apps)
		n.all = false
		n.mu.Unlock()
		if len(names) == 0 && !all {
			continue
		}
		slices.Sort(names)
		n.f(names, all)
	}
}
