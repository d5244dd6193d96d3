package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// observer sees through watches what becomes of the objects of one fleet. Belay
// and the raw loop are looked at in the same way.
type observer struct {
	mu      sync.Mutex
	there   map[string]bool // resource and namespace
	values  map[string]config
	shared  map[string]int // how many ConfigMaps have a shared value
	waiting []*waiter
	last    time.Time // something happened
	say     func(format string, a ...any)
	stop    context.CancelFunc
	running sync.WaitGroup
	failed  chan error // why it sees no more
}

// config is what a ConfigMap holds.
type config struct{ value, shared string }

// waiter is told when a condition holds first. It is asked at every event, so it
// has to be cheap.
type waiter struct {
	holds func() bool
	at    chan time.Time
}

func observe(ctx context.Context, cfg *rest.Config, fleet, prefix string, say func(string, ...any)) (*observer, error) {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("observe: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	o := &observer{there: map[string]bool{}, values: map[string]config{}, shared: map[string]int{}, say: say, stop: stop, failed: make(chan error, len(resources))}
	for _, r := range resources {
		c := client.Resource(schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: r.plural})
		list, err := c.List(ctx, metav1.ListOptions{LabelSelector: labelFleet + "=" + fleet})
		if err != nil {
			stop()
			return nil, fmt.Errorf("observe %s: %w", r.plural, err)
		}
		o.running.Go(func() {
			err := o.watch(ctx, c, r.plural, fleet, prefix, list.GetResourceVersion())
			if ctx.Err() == nil {
				o.failed <- fmt.Errorf("observe %s: %w", r.plural, err)
			}
		})
	}
	return o, nil
}

// watch watches one resource until ctx ends. An API server that has too much to
// do ends watches that do not keep up; such a one goes on where it was, at once.
func (o *observer) watch(ctx context.Context, c dynamic.ResourceInterface, resource, fleet, prefix, version string) error {
	for {
		w, err := c.Watch(ctx, metav1.ListOptions{LabelSelector: labelFleet + "=" + fleet, ResourceVersion: version, AllowWatchBookmarks: true})
		if err != nil {
			return err
		}
		for ev := range w.ResultChan() {
			u, ok := ev.Object.(*unstructured.Unstructured)
			if !ok || ev.Type == watch.Error {
				w.Stop()
				return apierrors.FromObject(ev.Object)
			}
			version = u.GetResourceVersion()
			if ev.Type != watch.Bookmark && ofPrefix(u.GetNamespace(), prefix) {
				o.event(resource, ev.Type, u)
			}
		}
		w.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (o *observer) event(resource string, typ watch.EventType, u *unstructured.Unstructured) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = now
	ns := u.GetNamespace()
	if typ == watch.Deleted {
		delete(o.there, resource+"/"+ns)
		return
	}
	o.there[resource+"/"+ns] = true
	if resource == resources[0].plural {
		data, _, _ := unstructured.NestedStringMap(u.Object, "data") // strings alone in a ConfigMap
		if old, ok := o.values[ns]; ok {
			o.shared[old.shared]--
		}
		o.values[ns] = config{data["value"], data["shared"]}
		o.shared[data["shared"]]++
	}
	left := o.waiting[:0]
	for _, w := range o.waiting {
		if w.holds() {
			w.at <- now
		} else {
			left = append(left, w)
		}
	}
	o.waiting = left
}

// expect prepares to wait for a condition, which is called with the lock held.
func (o *observer) expect(holds func() bool) *waiter {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := &waiter{holds, make(chan time.Time, 1)}
	if holds() {
		w.at <- time.Now()
	} else {
		o.waiting = append(o.waiting, w)
	}
	return w
}

// all holds when so many objects are there.
func (o *observer) all(objects int) *waiter {
	return o.expect(func() bool { return len(o.there) >= objects })
}

// everywhere holds when so many ConfigMaps have a shared value.
func (o *observer) everywhere(shared string, apps int) *waiter {
	return o.expect(func() bool { return o.shared[shared] >= apps })
}

// value holds when the ConfigMap of a namespace has a value of its own.
func (o *observer) value(namespace, value string) *waiter {
	return o.expect(func() bool { return o.values[namespace].value == value })
}

// wait returns when a condition began to hold. It gives up when nothing at all has
// happened for a while: how long a large fleet takes is nobody's to say.
func (o *observer) wait(ctx context.Context, w *waiter, what string) (time.Time, error) {
	const patience = 5 * time.Minute
	began := time.Now()
	said := began
	for {
		select {
		case at := <-w.at:
			return at, nil
		case err := <-o.failed:
			return time.Time{}, fmt.Errorf("waiting for %s: %w", what, err)
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-time.After(10 * time.Second):
		}
		o.mu.Lock()
		last, there := o.last, len(o.there)
		o.mu.Unlock()
		if time.Since(said) > time.Minute {
			said = time.Now()
			o.say("    after %v, waiting for %s: %d objects are there", time.Since(began).Round(time.Second), what, there)
		}
		if time.Since(began) > patience && time.Since(last) > patience {
			return time.Time{}, fmt.Errorf("waiting for %s: nothing has happened for %v (%d objects are there)", what, patience, there)
		}
	}
}

func (o *observer) end() {
	o.stop()
	o.running.Wait()
}
