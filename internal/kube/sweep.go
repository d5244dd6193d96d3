package kube

import (
	"context"
	"maps"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

const (
	sweepWorkers = 4
	sweepPage    = 500
	sweepTimeout = 20 * time.Second
)

// sweepForever looks for kinds that are in use and not watched: at once, and at
// each interval. What could not be looked at for a passing reason is looked at
// again sooner, but ever less often. Neither that nor kinds that come and go put
// off the look at all of them.
func (c *Cluster) sweepForever(ctx context.Context) {
	const first = 5 * time.Second
	retry, due := first, time.Now()
	for ctx.Err() == nil {
		full := !time.Now().Before(due)
		if full {
			due = time.Now().Add(c.sweeping)
		}
		wait := c.sweeping
		if c.sweep(ctx, full) {
			wait = jittered(retry)
			retry = min(3*retry, c.sweeping)
		} else {
			retry = first
		}
		select {
		case <-ctx.Done():
			return
		case <-c.resweep:
		case <-time.After(min(wait, max(0, time.Until(due)))):
		}
	}
}

// spot is a resource in one namespace, or with "" in the whole cluster.
type spot struct {
	resource
	namespace string
}

// outcome is what a sweep found of one kind in one place.
type outcome struct {
	spot spot
	used bool
	err  error
}

// unlisted is why something could not be looked at.
type unlisted struct {
	why       string
	forbidden bool
}

// sweep lists metadata of every kind that can be listed and deleted, and is not
// watched, until it meets an object that is ours. It reports whether
// something could not be looked at for a reason that may pass. If not full, it
// leaves out what was looked at before.
func (c *Cluster) sweep(ctx context.Context, full bool) (passing bool) {
	c.mu.Lock()
	if full {
		clear(c.looked)
	}
	var todo []spot
	for _, r := range c.known.preferred {
		if !r.deletable || isEvent(r.kind) {
			continue
		}
		for _, ns := range c.namespacesOf(r) {
			at := place{r.kind, ns}
			if w := c.watches[at]; !c.looked[at] && (w == nil || w.refused) {
				todo = append(todo, spot{r, ns})
			}
		}
	}
	c.mu.Unlock()

	queue := make(chan spot)
	results := make(chan outcome)
	var wg sync.WaitGroup
	for range sweepWorkers {
		wg.Go(func() {
			for r := range queue {
				used, err := c.inUse(ctx, r)
				results <- outcome{r, used, err}
			}
		})
	}
	go func() {
		for _, r := range todo {
			queue <- r
		}
		close(queue)
		wg.Wait()
		close(results)
	}()
	var found []outcome
	for o := range results {
		found = append(found, o)
	}
	if ctx.Err() != nil {
		return true
	}
	if full {
		c.lookForNamespaces(ctx)
	}
	c.learnIdentity(ctx) // now that the rights are known to be there
	return c.finishSweep(found)
}

// finishSweep watches the kinds found in use, and leaves those that no longer are.
func (c *Cluster) finishSweep(found []outcome) (passing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	failed, forbidden := 0, 0
	for _, o := range found {
		at := place{o.spot.kind, o.spot.namespace}
		old := c.watches[at]
		delete(c.unlisted, at)
		c.looked[at] = o.err == nil || lasting(o.err)
		switch {
		case o.err != nil && lasting(o.err):
			if apierrors.IsForbidden(o.err) {
				forbidden++
			}
			if !apierrors.IsNotFound(o.err) && !apierrors.IsMethodNotSupported(o.err) {
				c.unlisted[at] = unlisted{plainCause(o.err), apierrors.IsForbidden(o.err)}
			}
		case o.err != nil:
			c.unlisted[at] = unlisted{why: plainCause(o.err)}
			failed++
		case old != nil && old.refused: // it was refused, and no longer is
			old.cancel()
			delete(c.watches, at)
			if w := c.ensureWatch(at); w != nil {
				w.wanted = old.wanted
			}
		case o.used:
			c.ensureWatch(at)
		}
	}
	maps.DeleteFunc(c.watches, func(at place, w *watch) bool {
		idle := w.delivered && !w.wanted && c.objects.count(at.kind) == 0
		if idle {
			w.cancel()
		}
		return idle
	})
	// With nothing found out, nothing is known: the connection was lost meanwhile,
	// or an API server that has just started does not know our rights yet. If it
	// forbids everything a second time, that is how it is.
	c.seen = c.seen || failed+forbidden < len(found)
	blind := len(found) > 0 && failed+forbidden == len(found)
	if again := blind && failed == 0 && c.blind; !blind || again {
		c.swept, blind = true, false
	}
	c.blind = blind
	if blind {
		clear(c.looked)
	}
	c.checkComplete()
	return failed > 0 || blind
}

// lasting reports whether asking again soon is no use.
func lasting(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err)
}

// isEvent reports whether a kind is Kubernetes' own record of events: numerous,
// short-lived, and nothing to declare.
func isEvent(k belay.Kind) bool {
	return k.Kind == "Event" && (k.Group == "" || k.Group == "events.k8s.io")
}

// inUse reports whether anything of a kind is ours. Copies of our label on
// objects of others, such as the EndpointSlices of a Service, do not count.
func (c *Cluster) inUse(ctx context.Context, r spot) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	t := trimmer{resource: r.resource, instance: c.instance}
	o := metav1.ListOptions{LabelSelector: c.selector, Limit: sweepPage}
	for {
		list, err := c.metadata.Resource(r.gvr).Namespace(r.namespace).List(ctx, o)
		if err != nil {
			return false, err
		}
		for i := range list.Items {
			if t.meta(&list.Items[i].ObjectMeta).ours {
				return true, nil
			}
		}
		if o.Continue = list.Continue; o.Continue == "" {
			return false, nil
		}
	}
}
