package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/belaydev/belay"
)

// watch keeps one kind observed. Its fields but cancel and resource belong to
// the Cluster's mutex.
type watch struct {
	resource  resource
	namespace string // the only one it covers; "" for all
	cancel    context.CancelFunc
	// wanted is true when an application declares the kind, so that it is watched
	// even while nothing of it is there.
	wanted    bool
	delivered bool
	// refused is true while the API server will not have it (access rules, no
	// watch), refusals how often in a row.
	refused  bool
	refusals int
	// gone is true while the API server does not know the kind. Discovery says
	// whether that stays so.
	gone bool
	// err is why the last request failed; empty after a success.
	err string
	// offline is true when that was no answer at all, or one of a server in trouble.
	offline bool
	// answered is true once any request succeeded or failed.
	answered bool
	// late is true when the list did not come in time although the API server
	// answers other requests.
	late bool
	// arrived is when the list last brought an object, in Unix nanoseconds.
	arrived atomic.Int64
	// whole is true where objects arrive with their status, check is what tells
	// their health from it.
	whole bool
	check belay.HealthCheck
	// newest is the newest version that arrived.
	newest atomic.Uint64
	// definitions is set where the kind is one that defines others.
	definitions *definitions
}

// settled reports whether there is nothing to wait for. A kind that cannot be
// listed, because the webhook that converts it is broken, say, must not hold up
// all others for ever.
func (w *watch) settled() bool {
	return w.delivered || w.refused || w.gone || w.late
}

const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 10 * time.Second

	// listPatience is how long a list may bring nothing.
	listPatience = 30 * time.Second
)

// ensureWatch has a kind watched in one place, and returns nil if it cannot be.
// The caller holds c.mu.
func (c *Cluster) ensureWatch(at place) *watch {
	k := at.kind
	if w := c.watches[at]; w != nil {
		return w
	}
	if c.running == nil || c.known == nil {
		return nil
	}
	r, ok := c.known.preferred[k]
	if !ok || !r.watchable {
		return nil
	}
	w := &watch{resource: r, namespace: at.namespace, check: c.checkFor(k)}
	w.whole = !metadataOnly[k] || w.check.Judge != nil
	c.watches[at] = w
	t := trimmer{resource: r, instance: c.instance, interactive: c.interactive, check: w.check, known: c.objects}
	sink := &sink{trimmer: t, cluster: c, watch: w}
	c.start(w, sink, c.selector, w.whole)
	return w
}

// start runs a reflector until the watch is cancelled. The caller holds c.mu.
func (c *Cluster) start(w *watch, store cache.ReflectorStore, selector string, whole bool) {
	ctx, cancel := context.WithCancel(c.running)
	w.cancel = cancel
	// client-go's own reports repeat what the requests below already tell.
	quiet := logr.FromSlogHandler(c.log.Handler()).V(-int(slog.LevelDebug))
	ctx = klog.NewContext(ctx, quiet)
	lw := &source{cluster: c, watch: w, selector: selector, whole: whole}
	var expected any = &metav1.PartialObjectMetadata{}
	if whole {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(w.resource.gvr.GroupVersion().WithKind(w.resource.kind.Kind))
		expected = u
	}
	reflector := cache.NewReflectorWithOptions(lw, expected, store, cache.ReflectorOptions{
		Logger: &quiet, Name: w.resource.kind.String(), TypeDescription: w.resource.kind.String(),
		Backoff: &wait.Backoff{Duration: firstBackoff, Cap: maxBackoff, Factor: 2, Jitter: 0.5, Steps: math.MaxInt32},
	})
	c.watchers.Go(func() { c.keep(ctx, w, reflector) })
	c.watchers.Go(func() { c.giveUp(ctx, w) })
}

// keep lists and watches again and again until ctx ends.
func (c *Cluster) keep(ctx context.Context, w *watch, r *cache.Reflector) {
	delay := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := r.ListAndWatchWithContext(ctx)
		if ctx.Err() != nil {
			return
		}
		c.log.Debug("watch ended", "kind", w.resource.kind.String(), "error", err)
		if time.Since(began) > time.Minute {
			delay = firstBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(jittered(c.pause(w, delay))):
		}
		delay = min(2*delay, maxBackoff)
	}
}

// pause before the next attempt at a watch. One that is refused is tried ever
// more seldom, but not given up: access rules change, and an API server that has
// just started does not know them yet.
func (c *Cluster) pause(w *watch, delay time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !w.refused {
		w.refusals = 0
		return delay
	}
	for range w.refusals {
		delay = min(4*delay, max(c.sweeping, delay))
	}
	w.refusals = min(w.refusals+1, 20)
	return delay
}

func jittered(d time.Duration) time.Duration {
	return d/2 + rand.N(d)
}

// source lists and watches for a reflector, and sees how that goes.
type source struct {
	cluster  *Cluster
	watch    *watch
	selector string
	whole    bool
	stream   streaming
	pace     pace
}

// List is part of cache.ListerWatcher; reflectors use [source.ListWithContext].
func (s *source) List(o metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), o)
}

// Watch is part of cache.ListerWatcher; reflectors use [source.WatchWithContext].
func (s *source) Watch(o metav1.ListOptions) (apiwatch.Interface, error) {
	return s.WatchWithContext(context.Background(), o)
}

// ListWithContext lists one page.
func (s *source) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	o.LabelSelector = s.selector
	var list runtime.Object
	var err error
	if s.whole {
		list, err = s.cluster.dynamic.Resource(s.watch.resource.gvr).Namespace(s.watch.namespace).List(ctx, o)
	} else {
		list, err = s.cluster.metadata.Resource(s.watch.resource.gvr).Namespace(s.watch.namespace).List(ctx, o)
	}
	s.cluster.watchAnswered(ctx, s.watch, err)
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	return list, nil
}

// WatchWithContext opens a stream.
func (s *source) WatchWithContext(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
	o.LabelSelector = s.selector
	s.stream.again()
	if err := s.pace.wait(ctx); err != nil {
		return nil, err
	}
	ctx, tried := withAttempt(ctx)
	var stream apiwatch.Interface
	var err error
	if s.whole {
		stream, err = s.cluster.dynamic.Resource(s.watch.resource.gvr).Namespace(s.watch.namespace).Watch(ctx, o)
	} else {
		stream, err = s.cluster.metadata.Resource(s.watch.resource.gvr).Namespace(s.watch.namespace).Watch(ctx, o)
	}
	if why := tried.failed(); why != nil {
		if err == nil {
			stream.Stop()
		}
		err = why
	}
	// A server without streaming lists refuses the parameters; a list follows.
	streaming := o.SendInitialEvents != nil && apierrors.IsInvalid(err)
	if !streaming {
		s.cluster.watchAnswered(ctx, s.watch, err)
	}
	if err != nil {
		return nil, err // not a nil pointer in an interface
	}
	if s.stream.broke {
		if err := s.cluster.goesOn(ctx, s.watch, s.selector); err != nil {
			stream.Stop()
			return nil, err
		}
	}
	s.stream.begin(o.TimeoutSeconds)
	return stream, nil
}

// watchAnswered takes in how a request of a watch went.
func (c *Cluster) watchAnswered(ctx context.Context, w *watch, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	wasGone, wasSettled := w.gone, w.settled()
	w.offline, w.gone, w.answered = false, false, true
	if w.delivered {
		w.err = ""
		w.refused = w.refused && err != nil
	}
	switch {
	case err == nil, apierrors.IsResourceExpired(err), apierrors.IsGone(err), isTooLargeVersion(err):
	case apierrors.IsNotFound(err):
		w.gone = true
	case apierrors.IsForbidden(err), apierrors.IsMethodNotSupported(err):
		if w.err = plainCause(err); !w.refused {
			c.log.Warn("watch refused", "kind", w.resource.kind.String(), "error", w.err)
		}
		w.refused = true
		if w.definitions != nil && c.guessing() {
			c.askDiscovery()
		}
	default:
		w.err, w.offline = plainCause(err), unanswered(err)
	}
	if w.gone && !wasGone {
		c.askDiscovery()
	}
	c.checkOffline()
	if w.settled() && !wasSettled {
		c.checkComplete()
	}
}

// giveUp ends the waiting for a list that does not come. That the kind is unknown
// now does not end it: it may be served in the next moment, and not be listed.
func (c *Cluster) giveUp(ctx context.Context, w *watch) {
	for w.awaited(&c.mu) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.patience):
		}
		c.mu.Lock()
		if moves := time.Since(time.Unix(0, w.arrived.Load())) < c.patience; !moves && c.offline == "" && !w.settled() {
			w.late = true
			if w.err == "" {
				w.err = fmt.Sprintf("no list within %v", c.patience)
			}
			c.log.Warn("kind cannot be listed", "kind", w.resource.kind.String(), "error", w.err)
			c.checkComplete()
		}
		c.mu.Unlock()
	}
}

// awaited reports whether a list may still come for the first time.
func (w *watch) awaited(mu *sync.Mutex) bool {
	mu.Lock()
	defer mu.Unlock()
	return !w.delivered && !w.refused && !w.late
}

func isTooLargeVersion(err error) bool {
	return apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}

// unanswered reports whether the API server as a whole seems to be away.
func unanswered(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code == http.StatusUnauthorized || code >= 500
}

// checkOffline notices when no watch gets an answer any more, and when one does
// again. The caller holds c.mu.
func (c *Cluster) checkOffline() {
	why := ""
	for _, w := range slices.AppendSeq(slices.Collect(maps.Values(c.control)), maps.Values(c.watches)) {
		if !w.answered || (w.refused && !w.offline) {
			continue // nobody knows yet; or long ago, perhaps
		}
		if !w.offline {
			why = ""
			break
		}
		why = fmt.Sprintf("%s does not answer: %s", c.host, w.err)
	}
	before := c.offline
	c.offline = why
	switch {
	case (why == "") == (before == ""):
	case why == "":
		c.log.Info("cluster answers again")
		c.identity.doubted.Store(true)
		c.askDiscovery() // it may be another version now, or another cluster
		c.notes.everything()
	default:
		c.log.Warn("cluster does not answer", "error", why)
		c.notes.everything()
	}
}

// delivered takes in that a watch has its list.
func (c *Cluster) delivered(w *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.err, w.late, w.refused = "", false, false
	delete(c.unlisted, w.place())
	if !w.delivered {
		w.delivered = true
		c.checkComplete()
	}
}

// checkComplete tells everybody when there is nothing left to wait for. The
// caller holds c.mu.
func (c *Cluster) checkComplete() {
	if !c.swept || c.known == nil {
		return
	}
	for _, w := range c.watches {
		if !w.settled() {
			return
		}
	}
	if !c.complete {
		c.complete = true
		c.log.Info("cluster is ready", "version", c.known.facts.Version, "watches", len(c.watches))
		c.awaited = true
	}
	if c.awaited {
		c.awaited = false
		c.notes.everything()
	}
}

// sink is where a reflector puts what arrives of one kind.
type sink struct {
	trimmer
	cluster *Cluster
	watch   *watch
}

// Transformer has a reflector cut objects down as they arrive, not when the
// list is complete.
func (s *sink) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		s.watch.arrived.Store(time.Now().UnixNano())
		return s.trim(obj)
	}
}

// Add takes in a new object.
func (s *sink) Add(obj any) error {
	t, err := s.trim(obj)
	if err != nil {
		return err
	}
	s.saw(t.version)
	s.put(func(o *store) []string { return o.observed(t) })
	return nil
}

// saw notes a version that arrived. One goroutine delivers what a watch brings.
func (s *sink) saw(version uint64) {
	s.watch.newest.Store(max(s.watch.newest.Load(), version))
}

// put changes the store, unless the watch was replaced meanwhile: what it still
// delivers is of no more interest.
func (s *sink) put(change func(*store) []string) {
	s.cluster.mu.Lock()
	var touched []string
	if s.cluster.watches[s.watch.place()] == s.watch {
		touched = change(s.cluster.objects)
	}
	s.cluster.mu.Unlock()
	s.cluster.notes.application(touched...)
}

// Update takes in a changed object.
func (s *sink) Update(obj any) error { return s.Add(obj) }

// Delete takes in that an object is gone or lost its label.
func (s *sink) Delete(obj any) error {
	t, err := s.trim(obj)
	if err != nil {
		return err
	}
	s.saw(t.version)
	s.put(func(o *store) []string { return o.gone(t) })
	return nil
}

// Replace takes in a complete list.
func (s *sink) Replace(list []any, resourceVersion string) error {
	items := make([]*trimmed, 0, len(list))
	for _, obj := range list {
		t, err := s.trim(obj)
		if err != nil {
			return err
		}
		items = append(items, t)
	}
	version, _ := strconv.ParseUint(resourceVersion, 10, 64)
	if err := s.cluster.continues(s.watch, version); err != nil {
		return err
	}
	s.saw(version)
	s.put(func(o *store) []string { return o.replace(s.watch.place(), items, version) })
	s.cluster.delivered(s.watch)
	return nil
}

// Resync is part of cache.ReflectorStore; there is nothing to do.
func (s *sink) Resync() error { return nil }
