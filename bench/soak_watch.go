package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// sights are what the ConfigMaps of the fleet hold, as the API server tells.
type sights struct {
	prefix  string
	mu      sync.Mutex
	seen    map[string]sight // by namespace
	waiting []*waiter
	stop    context.CancelFunc
	running sync.WaitGroup
}

// sight is one ConfigMap; -1 is what is no number.
type sight struct{ value, shared int }

func watchSights(ctx context.Context, client kubernetes.Interface, prefix string, say func(string, ...any)) *sights {
	ctx, stop := context.WithCancel(ctx)
	s := &sights{prefix: prefix, seen: map[string]sight{}, stop: stop}
	s.running.Go(func() {
		for ctx.Err() == nil {
			if err := s.follow(ctx, client); err != nil && ctx.Err() == nil {
				say("the watch of the soak begins anew: %v", err)
				_ = pause(ctx, time.Second) // the loop ends with the context
			}
		}
	})
	return s
}

// follow lists and then watches, until something is wrong.
func (s *sights) follow(ctx context.Context, client kubernetes.Interface) error {
	selected := metav1.ListOptions{LabelSelector: labelFleet + "=" + fleetBelay}
	list, err := client.CoreV1().ConfigMaps("").List(ctx, selected)
	if err != nil {
		return fmt.Errorf("list ConfigMaps: %w", err)
	}
	now := map[string]sight{}
	for i := range list.Items {
		if ofPrefix(list.Items[i].Namespace, s.prefix) {
			now[list.Items[i].Namespace] = sightOf(&list.Items[i])
		}
	}
	s.update(func() { s.seen = now })
	selected.ResourceVersion, selected.AllowWatchBookmarks = list.ResourceVersion, true
	for ctx.Err() == nil {
		w, err := client.CoreV1().ConfigMaps("").Watch(ctx, selected)
		if err != nil {
			return fmt.Errorf("watch ConfigMaps: %w", err)
		}
		for ev := range w.ResultChan() {
			cm, ok := ev.Object.(*corev1.ConfigMap)
			if !ok {
				w.Stop()
				return apierrors.FromObject(ev.Object)
			}
			selected.ResourceVersion = cm.ResourceVersion
			if ev.Type == watch.Bookmark || !ofPrefix(cm.Namespace, s.prefix) {
				continue
			}
			s.update(func() {
				if ev.Type == watch.Deleted {
					delete(s.seen, cm.Namespace)
				} else {
					s.seen[cm.Namespace] = sightOf(cm)
				}
			})
		}
		w.Stop()
	}
	return nil
}

func sightOf(cm *corev1.ConfigMap) sight {
	number := func(text string) int {
		n, err := strconv.Atoi(strings.TrimSpace(text))
		if err != nil {
			return -1
		}
		return n
	}
	return sight{number(cm.Data["value"]), number(cm.Data["shared"])}
}

func (s *sights) update(change func()) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	left := s.waiting[:0]
	for _, w := range s.waiting {
		if w.holds() {
			w.at <- now
		} else {
			left = append(left, w)
		}
	}
	clear(s.waiting[len(left):])
	s.waiting = left
}

// expect prepares to wait for a condition on what is seen.
func (s *sights) expect(holds func() bool) *waiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &waiter{holds, make(chan time.Time, 1)}
	if holds() {
		w.at <- time.Now()
	} else {
		s.waiting = append(s.waiting, w)
	}
	return w
}

// forget gives a condition up.
func (s *sights) forget(w *waiter) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.waiting {
		if o == w {
			s.waiting = append(s.waiting[:i], s.waiting[i+1:]...)
			return
		}
	}
}

// effect is the condition that a change has arrived.
func (s *sights) effect(c change, namespace string) *waiter {
	switch c.kind {
	case changeAll:
		return s.expect(func() bool {
			lacking := 0
			for _, have := range s.seen {
				if have.shared < c.number {
					lacking++
				}
			}
			return lacking <= c.broken
		})
	case changeRemove:
		return s.expect(func() bool { _, there := s.seen[namespace]; return !there })
	default:
		return s.expect(func() bool { have, there := s.seen[namespace]; return there && have.value >= c.number })
	}
}

// healed is the condition that a value was edited by hand and is back.
func (s *sights) healed(namespace string, value int) *waiter {
	edited := false
	return s.expect(func() bool {
		have, there := s.seen[namespace]
		edited = edited || !there || have.value < 0
		return edited && there && have.value >= value
	})
}

// wait returns when a condition began to hold; late is true if it was given up.
func (s *sights) wait(ctx context.Context, w *waiter, patience time.Duration) (at time.Time, late bool) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case at := <-w.at:
		return at, false
	case <-ctx.Done():
		s.forget(w)
		return time.Time{}, true
	}
}

func (s *sights) end() {
	s.stop()
	s.running.Wait()
}
