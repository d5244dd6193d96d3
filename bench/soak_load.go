package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay"
)

// soakPatience is how long the effect of a commit is waited for. It is counted as
// not seen after that; the comparison at the end finds what never came.
const soakPatience = 2 * time.Minute

// soakEvents tell apart what was beside something else.
type soakEvents struct {
	mu sync.Mutex
	// crashes counts the kills, and the times that the server was ready again after
	// one; rolling counts commits to all that are under way, rolled those that there were.
	crashes, rolling, rolled int
	running                  sync.WaitGroup // of those who wait for an effect
}

// clean reads what would disturb a measurement.
func (e *soakEvents) clean() (crashes, rolled int, calm bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.crashes, e.rolled, e.rolling == 0
}

// live runs all that goes on in a fleet until its time is over. The first that goes
// wrong ends it.
func (s *soak) live(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	until := s.began.Add(s.length)
	loops := []func(context.Context) error{
		s.every(until, s.commit, s.commitLoop()),
		s.every(until, s.drift, s.driftLoop(rand.New(rand.NewPCG(s.seed, 2)))),
		s.every(until.Add(-s.calm), s.crash, s.crashLoop(rand.New(rand.NewPCG(s.seed, 3)))),
		s.every(until, s.sample, s.look),
		s.every(until, 10*time.Second, s.ask),
		s.every(until, 2*time.Minute, s.living.tidy),
	}
	var wg sync.WaitGroup
	for _, loop := range loops {
		wg.Go(func() {
			if err := loop(ctx); err != nil {
				stop(err)
			}
		})
	}
	wg.Wait()
	s.events.running.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return s.look(ctx) // at the very end, too
}

// every does something each interval until a time. What takes longer than that
// is followed by the next at once, and none is left out.
func (s *soak) every(until time.Time, interval time.Duration, do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for next := s.began.Add(interval); next.Before(until); next = next.Add(interval) {
			if pause(ctx, time.Until(next)) != nil {
				break // another loop says why
			}
			if err := do(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil //nolint:nilerr // another loop says why
	}
}

// patiently asks whether something is so; a patient soak does so until it is.
func (s *soak) patiently(ctx context.Context, so func() bool) error {
	for !so() && s.patient {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// commitLoop makes the next commit of the script, and has somebody wait for its
// effect beside the next one.
func (s *soak) commitLoop() func(context.Context) error {
	n := 0
	return func(ctx context.Context) error {
		kind := changeKind(s.script[n%len(s.script)])
		n++
		if !s.patient {
			return s.push(ctx, s.living.next(kind))
		}
		var c change
		if err := s.patiently(ctx, func() (ok bool) { c, ok = s.living.nextOf(kind); return ok }); err != nil {
			return err
		}
		return s.push(ctx, c)
	}
}

// push commits a change and sends the hook.
func (s *soak) push(ctx context.Context, c change) error {
	namespace := s.living.fleet.namespace(fleetBelay, c.app)
	if err := s.living.commit(ctx, c); err != nil {
		return err
	}
	crashes, rolled, calm := s.events.clean()
	if c.kind == changeAll {
		s.events.mu.Lock()
		s.events.rolling++
		s.events.rolled++
		s.events.mu.Unlock()
	}
	e := effect{At: time.Since(s.began).Seconds(), Kind: string(c.kind)}
	began := time.Now()
	hooked := s.hook(ctx) == nil
	if c.kind == changeBreak {
		s.res.effect(e)
		return nil
	}
	seen := s.sights.effect(c, namespace)
	s.events.running.Go(func() {
		at, late := s.sights.wait(ctx, seen, soakPatience)
		if c.kind == changeAll {
			s.events.mu.Lock()
			s.events.rolling--
			s.events.mu.Unlock()
		}
		crashesNow, rolledNow, _ := s.events.clean()
		e.Late, e.Milliseconds = late, 1000*at.Sub(began).Seconds()
		if late {
			e.Milliseconds = 1000 * soakPatience.Seconds()
			s.say("no effect of commit %q within %s", c.subject, soakPatience)
		}
		e.Disturbed = !hooked || !calm || crashes != crashesNow || rolled != rolledNow
		s.living.settled(c)
		s.res.effect(e)
	})
	return nil
}

// hook tells the server of a push. A forge whose hook is not answered tries no
// more; the next push, or the poll, brings what was missed.
func (s *soak) hook(ctx context.Context) error {
	l, err := s.server.now()
	if err == nil {
		_, err = l.Push(ctx, s.living.repo.url())
	}
	return err
}

// driftLoop edits an object by hand, in turn as people do: a value, a field of its
// own, another number, a deletion.
func (s *soak) driftLoop(rng *rand.Rand) func(context.Context) error {
	cfg := rest.CopyConfig(s.cfg)
	cfg.UserAgent = "kubectl-edit"
	hand, err := metadata.NewForConfig(cfg)
	n := 0
	return func(ctx context.Context) error {
		if err != nil {
			return fmt.Errorf("make a client: %w", err)
		}
		var app, value int
		var ok bool
		if err := s.patiently(ctx, func() bool { app, value, ok = s.living.victim(rng); return ok }); err != nil || !ok {
			return err
		}
		n++
		return s.edit(ctx, hand, n, app, value)
	}
}

// handEdits are the edits by hand; without a patch the object is deleted.
var handEdits = []struct {
	resource int // of resources
	patch    string
}{
	{0, `{"data":{"value":"by hand"}}`},
	{1, `{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"example.test/web:by-hand"}]}}}}`},
	{0, `{"data":{"extra":"by hand"}}`},
	{2, `{"spec":{"selector":{"app":"by-hand"}}}`},
	{0, `{"data":{"value":null}}`},
	{3, ""},
	{0, `{"metadata":{"labels":{"by":"hand"}}}`},
	{1, ""},
}

func (s *soak) edit(ctx context.Context, hand metadata.Interface, n, app, value int) error {
	measured := false
	defer func() {
		if !measured {
			s.living.letGo(app)
		}
	}()
	ns := s.living.fleet.namespace(fleetBelay, app)
	e := handEdits[n%len(handEdits)]
	r := resources[e.resource]
	objects := hand.Resource(schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: r.plural}).Namespace(ns)
	var healed *waiter
	if n%len(handEdits) == 0 { // of the first kind the time is measured
		healed = s.sights.healed(ns, value)
	}
	crashes, rolled, calm := s.events.clean()
	began := time.Now()
	var err error
	if e.patch == "" {
		err = objects.Delete(ctx, "web", metav1.DeleteOptions{})
	} else {
		kind := types.StrategicMergePatchType
		_, err = objects.Patch(ctx, "web", kind, []byte(e.patch), metav1.PatchOptions{FieldManager: "kubectl-edit"})
	}
	if err != nil {
		if healed != nil {
			s.sights.forget(healed)
		}
		if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // another edit deleted it, or Belay was quicker
			return nil
		}
		return fmt.Errorf("edit by hand: %w", err)
	}
	s.res.drifted()
	if measured = healed != nil; !measured {
		return nil
	}
	s.events.running.Go(func() {
		defer s.living.letGo(app)
		at, late := s.sights.wait(ctx, healed, soakPatience)
		crashesNow, rolledNow, _ := s.events.clean()
		m := effect{At: began.Sub(s.began).Seconds(), Kind: "drift", Late: late, Milliseconds: 1000 * at.Sub(began).Seconds(),
			Disturbed: !calm || crashes != crashesNow || rolled != rolledNow}
		if late {
			m.Milliseconds = 1000 * soakPatience.Seconds()
		}
		s.res.effect(m)
	})
	return nil
}

// crashLoop kills the server at some moment, and starts it again at once.
func (s *soak) crashLoop(rng *rand.Rand) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := pause(ctx, time.Duration(rng.Int64N(int64(s.crash/4)))); err != nil {
			return err
		}
		s.events.mu.Lock()
		s.events.crashes++
		s.events.mu.Unlock()
		c := crash{At: time.Since(s.began).Seconds()}
		began := time.Now()
		if err := s.server.kill(); err != nil {
			return err
		}
		if err := s.server.start(ctx, s); err != nil {
			return fmt.Errorf("start after a crash: %w", err)
		}
		c.Serving = time.Since(began).Seconds()
		l, err := s.server.now()
		if err != nil {
			return err
		}
		ready, err := l.awaitReady(ctx)
		if err != nil {
			return err
		}
		c.Ready = c.Serving + ready.Seconds()
		s.res.crashed(c)
		s.events.mu.Lock()
		s.events.crashes++ // what began meanwhile is disturbed, too
		s.events.mu.Unlock()
		return nil
	}
}

// ask asks the record something, as people do: the index is made by that.
func (s *soak) ask(ctx context.Context) error {
	l, err := s.server.now()
	if err != nil {
		return nil // it was just killed
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	began := time.Now()
	const page = 20
	switch _, _, err = l.Deployments(ctx, belay.RecordQuery{Limit: page}); {
	case err == nil:
		s.res.effect(effect{At: began.Sub(s.began).Seconds(), Kind: "question", Milliseconds: 1000 * time.Since(began).Seconds()})
	case s.server.is(l):
		s.say("the record did not answer: %v", err)
		s.res.unanswered()
	}
	return nil
}

// is tells whether a process still serves.
func (s *soakServer) is(l *life) bool {
	now, err := s.now()
	return err == nil && now == l
}
