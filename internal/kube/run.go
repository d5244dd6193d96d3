package kube

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// settling are the times after a change of what is served at which discovery is
// read: the API server's own view of it trails the definitions by some seconds.
var settling = []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second}

// patience are further times, while a definition is there and its resource is
// not served.
var patience = []time.Duration{15 * time.Second, 30 * time.Second, time.Minute, 3 * time.Minute}

// Run connects, and keeps observing until ctx ends, however often the
// connection is lost. It returns ctx's error, or a [belay.Error] with
// [belay.CodeUnavailable] when the credentials name another server now, or another
// cluster answers, which takes another Cluster.
func (c *Cluster) Run(ctx context.Context) error {
	run, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-c.moved:
			cancel()
		case <-run.Done():
		}
	})
	wg.Go(func() { c.notes.run(run) })
	c.mu.Lock()
	c.running = run
	c.mu.Unlock()
	c.work(run)
	c.mu.Lock()
	c.running, c.offline = nil, "disconnected"
	c.mu.Unlock()
	cancel()
	wg.Wait()
	c.awaitWatchers()
	c.http.CloseIdleConnections()
	if ctx.Err() == nil {
		return c.errMoved()
	}
	return ctx.Err()
}

// awaitWatchers waits for the reflectors to end. One that is between two
// attempts does not look at its context for some seconds, and is not waited for.
func (c *Cluster) awaitWatchers() {
	ended := make(chan struct{})
	go func() {
		c.watchers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(time.Second):
	}
}

func (c *Cluster) work(ctx context.Context) {
	c.connect(ctx)
	if ctx.Err() != nil {
		return
	}
	c.startControl()
	var sweeps sync.WaitGroup
	defer sweeps.Wait()
	sweeps.Go(func() { c.sweepForever(ctx) })
	c.followDiscovery(ctx)
}

// connect reads discovery until that succeeds.
func (c *Cluster) connect(ctx context.Context) {
	for delay := firstBackoff; ctx.Err() == nil; delay = min(2*delay, maxBackoff) {
		k, err := c.discover(ctx, nil)
		if err == nil {
			c.mu.Lock()
			c.offline = ""
			c.mu.Unlock()
			c.log.Info("connected", "host", c.host, "version", k.facts.Version)
			c.learn(k)
			return
		}
		if ctx.Err() != nil {
			return
		}
		c.mu.Lock()
		why := c.host + " does not answer: " + plainCause(err)
		if !unanswered(err) {
			why = c.host + " refuses: " + plainCause(err)
		}
		news := why != c.offline
		c.offline = why
		c.mu.Unlock()
		if news {
			c.log.Warn("cannot connect", "host", c.host, "error", plainCause(err))
			c.notes.everything()
		}
		select {
		case <-ctx.Done():
		case <-time.After(jittered(delay)):
		}
	}
}

// learn takes in what the cluster serves now.
func (c *Cluster) learn(k *catalogue) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := c.known == nil || c.known.facts.Digest != k.facts.Digest || !maps.Equal(c.known.served, k.served)
	troubles := c.known == nil || !maps.Equal(c.known.failed, k.failed)
	if !changed {
		k.facts = c.known.facts // what was handed out stays
	}
	c.known = k
	if !changed && !troubles {
		return
	}
	for at, w := range c.watches {
		r, served := k.preferred[at.kind]
		switch {
		case !served || !slices.Contains(c.namespacesOf(r), at.namespace):
			w.cancel()
			delete(c.watches, at)
			c.notes.application(c.objects.forget(at.kind)...)
		case r.gvr != w.resource.gvr || r.namespaced != w.resource.namespaced:
			w.cancel()
			delete(c.watches, at)
			if nw := c.ensureWatch(at); nw != nil {
				nw.wanted = w.wanted
			}
		}
	}
	maps.DeleteFunc(c.unlisted, func(at place, _ unlisted) bool { _, served := k.preferred[at.kind]; return !served })
	for vk := range c.wanted {
		if r, ok := k.served[vk]; ok {
			for _, w := range c.ensureWatches(r.kind) {
				w.wanted = true
			}
		}
	}
	if changed {
		c.notes.everything()
		c.askSweep()
	}
	c.checkComplete()
}

// askSweep asks for a look at kinds that are new.
func (c *Cluster) askSweep() {
	select {
	case c.resweep <- struct{}{}:
	default:
	}
}

// askDiscovery asks for a fresh look at what the cluster serves.
func (c *Cluster) askDiscovery() {
	c.looking.Store(true)
	select {
	case c.rediscover <- struct{}{}:
	default:
	}
}

// followDiscovery reads discovery again after each change of a definition, and
// for a while after it. Between changes it sends nothing.
func (c *Cluster) followDiscovery(ctx context.Context) {
	schedule := append(slices.Clone(settling), patience...)
	step := len(schedule)
	var began time.Time
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.rediscover:
			// Changes come in bursts; those that come while the first look is due
			// share it.
			c.looking.Store(true)
			if step != 0 {
				began, step = time.Now(), 0
				timer.Reset(schedule[0])
			}
			continue
		case <-timer.C:
		}
		c.mu.Lock()
		before := c.known
		c.mu.Unlock()
		k, err := c.discover(ctx, before)
		if err == nil && c.identity.doubted.Swap(false) {
			if err = c.sameAsBefore(ctx); err != nil {
				c.identity.doubted.Store(true)
			}
			if c.hasMoved() {
				return
			}
		}
		if err == nil {
			c.learn(k)
		} else if ctx.Err() == nil {
			c.log.Debug("read discovery", "error", err)
			k = before
		}
		step++
		if step < len(settling) || (step < len(schedule) && (err != nil || c.doubtful(k))) {
			timer.Reset(max(0, time.Until(began.Add(schedule[step]))))
			continue
		}
		step = len(schedule)
		if err != nil { // what was to be found out is not known yet
			timer.Reset(schedule[step-1])
			continue
		}
		if len(c.rediscover) == 0 && c.looking.Swap(false) && c.anyUnserved(k) {
			c.notes.everything() // who waits for a kind that does not come has to say so
		}
		c.mu.Lock()
		if c.guessing() {
			timer.Reset(c.guess)
		}
		c.mu.Unlock()
	}
}

// The definitions that are watched to know when discovery changes.
var (
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
)

// startControl watches the definitions of everything that is not built in.
func (c *Cluster) startControl() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, gvr := range []schema.GroupVersionResource{crds, apiServices} {
		for _, r := range c.known.served {
			if r.gvr == gvr {
				w := &watch{resource: r}
				w.definitions = &definitions{cluster: c, watch: w, seen: map[string]definition{}}
				c.control[gvr.Resource] = w
				c.start(w, w.definitions, "", false)
			}
		}
	}
}

// definitions is where the reflectors of definitions put what arrives: its name
// and versions.
type definitions struct {
	cluster *Cluster
	watch   *watch
	mu      sync.Mutex
	seen    map[string]definition
}

type definition struct {
	resourceVersion string
	deleting        bool
}

// doubtful reports whether discovery may not be what is served: it says itself that
// it is not complete, a definition is there without its resource, or a kind that it
// names is unknown where it is served.
func (c *Cluster) doubtful(k *catalogue) bool {
	if len(k.failed) > 0 || len(k.kept) > 0 || c.anyUnserved(k) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.watches {
		if w.gone {
			return true
		}
	}
	return false
}

// defined reports whether a CustomResourceDefinition of a resource is there, as far
// as is known, and no watch has been told otherwise. Where definitions may not be
// watched, a watch of the kind itself is what tells.
func (c *Cluster) defined(r resource) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	watched := false
	for at, w := range c.watches {
		if at.kind == r.kind && w.gone {
			return false
		}
		watched = watched || (at.kind == r.kind && w.delivered && !w.refused)
	}
	w := c.control[crds.Resource]
	if w == nil || w.refused || w.gone {
		return watched
	}
	w.definitions.mu.Lock()
	defer w.definitions.mu.Unlock()
	d, ok := w.definitions.seen[r.gvr.GroupResource().String()]
	return ok && !d.deleting
}

// anyUnserved reports whether a CustomResourceDefinition is there whose
// resource is not in the catalogue.
func (c *Cluster) anyUnserved(k *catalogue) bool {
	c.mu.Lock()
	w := c.control[crds.Resource]
	c.mu.Unlock()
	if w == nil {
		return false
	}
	w.definitions.mu.Lock()
	defer w.definitions.mu.Unlock()
	for name, d := range w.definitions.seen {
		plural, group, ok := strings.Cut(name, ".")
		if ok && !d.deleting && !k.serves(group, plural) {
			return true
		}
	}
	return false
}

// Coming reports whether the cluster has a definition of a kind of the group that
// it does not serve yet, and may soon.
func (c *Cluster) Coming(group string) bool {
	if !c.looking.Load() {
		return false
	}
	c.mu.Lock()
	k, w := c.known, c.control[crds.Resource]
	c.mu.Unlock()
	if k == nil || w == nil {
		return false
	}
	w.definitions.mu.Lock()
	defer w.definitions.mu.Unlock()
	for name, d := range w.definitions.seen {
		plural, of, _ := strings.Cut(name, ".")
		if of == group && !d.deleting && !k.serves(group, plural) {
			return true
		}
	}
	return false
}

// expect takes in a definition that was just applied: who needs its kind may hear
// that it is there before the watch tells.
func (d *definitions) expect(name string) {
	d.mu.Lock()
	_, known := d.seen[name]
	if !known {
		d.seen[name] = definition{}
	}
	d.mu.Unlock()
	if !known {
		d.cluster.askDiscovery()
	}
}

func (d *definitions) take(obj any) (name string, changed bool) {
	m, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return "", false
	}
	now := definition{resourceVersion: m.ResourceVersion, deleting: m.DeletionTimestamp != nil}
	d.mu.Lock()
	defer d.mu.Unlock()
	changed = d.seen[m.Name] != now
	d.seen[m.Name] = now
	return m.Name, changed
}

// Add takes in a new definition.
func (d *definitions) Add(obj any) error {
	if _, changed := d.take(obj); changed {
		d.cluster.askDiscovery()
	}
	return nil
}

// Update takes in a changed definition.
func (d *definitions) Update(obj any) error { return d.Add(obj) }

// Delete takes in that a definition is gone.
func (d *definitions) Delete(obj any) error {
	name, _ := d.take(obj)
	d.mu.Lock()
	delete(d.seen, name)
	d.mu.Unlock()
	d.cluster.askDiscovery()
	return nil
}

// Replace takes in a complete list.
func (d *definitions) Replace(list []any, _ string) error {
	d.mu.Lock()
	before := len(d.seen)
	d.mu.Unlock()
	changed, names := false, map[string]bool{}
	for _, obj := range list {
		name, c := d.take(obj)
		names[name] = true
		changed = changed || c
	}
	d.mu.Lock()
	maps.DeleteFunc(d.seen, func(name string, _ definition) bool { return !names[name] })
	changed = changed || len(d.seen) != before
	d.mu.Unlock()
	if changed {
		d.cluster.askDiscovery()
	}
	d.cluster.mu.Lock()
	d.watch.delivered, d.watch.refused = true, false
	d.cluster.mu.Unlock()
	return nil
}

// Resync is part of cache.ReflectorStore; there is nothing to do.
func (d *definitions) Resync() error { return nil }
