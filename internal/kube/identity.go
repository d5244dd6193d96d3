package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

// Behind one address there may be another cluster one day: a lost one was built
// anew with the same authority, a name was pointed elsewhere, etcd was restored
// from a backup. What was observed before is not true of it, and newer looking
// versions of what was observed must not hide what is there. So a list that a
// watch did not lead to is taken in only once it is known to be of the same
// cluster, and of no earlier time.

// identity is what is known of which cluster it is.
type identity struct {
	asking chan struct{} // held by who asks
	asked  time.Time     // when the last question that was answered began
	answer string

	doubted atomic.Bool
	// why is set before Cluster.moved is closed.
	why string
}

// identityTimeout bounds a question about which cluster it is.
const identityTimeout = 10 * time.Second

// home is the namespace whose uid stands for the cluster: kube-system is made
// with it and cannot be deleted.
func (c *Cluster) home() string {
	if len(c.namespaces) > 0 {
		return c.namespaces[0]
	}
	return metav1.NamespaceSystem
}

// errUnnamed is the answer of a cluster that is being made: it has no kube-system yet.
var errUnnamed = errors.New("it has no namespace " + metav1.NamespaceSystem + " yet")

// identify asks which cluster it is; "" where that may not be known.
func (c *Cluster) identify(ctx context.Context) (string, error) {
	arrived := time.Now()
	select {
	case c.identity.asking <- struct{}{}:
		defer func() { <-c.identity.asking }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if c.identity.asked.After(arrived) { // all watches may have come at once
		return c.identity.answer, nil
	}
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	began := time.Now()
	ns, err := c.metadata.Resource(namespaces.gvr).Get(ctx, c.home(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err) && c.home() == metav1.NamespaceSystem:
		return "", errUnnamed
	case apierrors.IsForbidden(err), apierrors.IsNotFound(err):
		c.identity.answer = ""
	case err != nil:
		return "", err
	default:
		c.identity.answer = string(ns.UID)
	}
	c.identity.asked = began
	return c.identity.answer, nil
}

// learnIdentity finds out for the first time which cluster it is.
func (c *Cluster) learnIdentity(ctx context.Context) {
	c.mu.Lock()
	known := c.id != ""
	c.mu.Unlock()
	if known {
		return
	}
	id, err := c.identify(ctx)
	if err != nil {
		c.log.Debug("ask which cluster it is", "error", plainCause(err))
		return
	}
	c.mu.Lock()
	c.id = id
	c.mu.Unlock()
}

// streaming tells a stream that ended when it was to end from one that broke.
// Behind the connection that comes next there may be anything: it is asked for what
// comes after a version that another cluster may not reach for days, and would say
// nothing until then.
type streaming struct {
	began time.Time
	lasts time.Duration
	broke bool
}

// begin notes that a stream is open.
func (s *streaming) begin(seconds *int64) {
	*s = streaming{began: time.Now()}
	if seconds != nil {
		s.lasts = time.Duration(*seconds) * time.Second
	}
}

// again notes that another one is to be opened.
func (s *streaming) again() {
	s.broke = s.broke || !s.began.IsZero() && time.Since(s.began) < s.lasts-2*time.Second
}

// goesOn is nil if a watch that broke goes on in the same cluster, at no earlier
// time.
func (c *Cluster) goesOn(ctx context.Context, w *watch, selector string) error {
	if err := c.sameAsBefore(ctx); err != nil {
		return err
	}
	newest := w.newest.Load()
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	list, err := c.metadata.Resource(w.resource.gvr).Namespace(w.namespace).List(ctx, metav1.ListOptions{LabelSelector: selector, Limit: 1})
	if err != nil {
		return nil // nothing is known to be different
	}
	version, _ := strconv.ParseUint(list.ResourceVersion, 10, 64)
	return c.setBack(newest, version)
}

// setBack ends the connection, and says so, if a version is older than one that was
// seen.
func (c *Cluster) setBack(newest, version uint64) error {
	if version == 0 || version >= newest {
		return nil
	}
	c.endAs(fmt.Sprintf("its history was set back, from %d to %d; looking at all of it anew", newest, version))
	return c.errMoved()
}

// continues is nil if a list of a watch goes on from what it brought before.
func (c *Cluster) continues(w *watch, version uint64) error {
	c.mu.Lock()
	first, ctx := !w.delivered, c.running
	c.mu.Unlock()
	if first || ctx == nil {
		return nil
	}
	if err := c.sameAsBefore(ctx); err != nil {
		return err
	}
	return c.setBack(w.newest.Load(), version)
}

// sameAsBefore ends the connection if another cluster answers now. Where it is known
// which one it was and cannot be told which one it is, that is an error, and whoever
// wants to know asks again: a cluster that was just made answers lists, with
// nothing in them, before it has what names it.
func (c *Cluster) sameAsBefore(ctx context.Context) error {
	id, err := c.identify(ctx)
	c.mu.Lock()
	before := c.id
	if before == "" {
		c.id = id
	}
	c.mu.Unlock()
	switch {
	case before == "", err == nil && (id == "" || id == before):
		return nil // nothing is known to be different
	case err != nil:
		return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q: cannot be told to be the one that it was: %s", c.name, plainCause(err)), Err: err}
	}
	c.log.Warn("another cluster answers at this address now, connecting anew", "host", c.host)
	c.endAs("another cluster answers at " + c.host + " now, connecting to it")
	return c.errMoved()
}

// endAs has the connection end, so that another takes its place.
func (c *Cluster) endAs(why string) {
	c.movedOnce.Do(func() {
		c.mu.Lock()
		c.identity.why = why
		c.mu.Unlock()
		close(c.moved)
	})
}

func (c *Cluster) hasMoved() bool {
	select {
	case <-c.moved:
		return true
	default:
		return false
	}
}

// errMoved is why a connection ends by itself.
func (c *Cluster) errMoved() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q: %s", c.name, c.identity.why)}
}
