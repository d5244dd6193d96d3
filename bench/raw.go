package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// rawWorkers is how many requests of the raw loop are under way at once.
const rawWorkers = 32

// ofPrefix tells whether a namespace is of this run.
func ofPrefix(namespace, prefix string) bool { return strings.HasPrefix(namespace, prefix+"-") }

// rawLoop applies objects, and that is all: no rendering, no watch, no
// comparison, no limit to the rate, answers as metadata alone.
type rawLoop struct{ client metadata.Interface }

func newRawLoop(cfg *rest.Config) (*rawLoop, error) {
	c, err := metadata.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("make the raw loop: %w", err)
	}
	return &rawLoop{c}, nil
}

// write is one apply, encoded before the time counts.
type write struct {
	resource  schema.GroupVersionResource
	namespace string
	body      []byte
}

// writesOf are those of the first n resources of an application.
func writesOf(namespace, value, shared string, n int) []write {
	out := make([]write, 0, n)
	for j, object := range objectsOf(fleetRaw, value, shared)[:n] {
		r := resources[j]
		out = append(out, write{schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: r.plural}, namespace, mustJSON(object)})
	}
	return out
}

func (l *rawLoop) apply(ctx context.Context, w write) error {
	force := true
	_, err := l.client.Resource(w.resource).Namespace(w.namespace).Patch(ctx, "web", types.ApplyPatchType, w.body,
		metav1.PatchOptions{FieldManager: "raw", Force: &force})
	if err != nil {
		return fmt.Errorf("apply %s in %s: %w", w.resource.Resource, w.namespace, err)
	}
	return nil
}

// run applies all, and returns when the last was answered.
func (l *rawLoop) run(ctx context.Context, writes []write) error {
	return inParallel(ctx, len(writes), func(ctx context.Context, i int) error { return l.apply(ctx, writes[i]) })
}

// inParallel calls do for 0 to n-1, and stops at the first error.
func inParallel(ctx context.Context, n int, do func(context.Context, int) error) error {
	return inParallelBy(ctx, rawWorkers, n, do)
}

// inParallelBy is inParallel with so many at once.
func inParallelBy(ctx context.Context, workers, n int, do func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range next {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return context.Cause(ctx)
}

// makeNamespaces makes those of both fleets. That is no part of any measurement:
// what the control plane itself puts into a namespace takes it longer than all
// that is measured.
func makeNamespaces(ctx context.Context, cfg *rest.Config, names []string) error {
	c, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	return inParallel(ctx, len(names), func(ctx context.Context, i int) error {
		_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: names[i]}}, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("make namespace %s: %w", names[i], err)
		}
		return nil
	})
}
