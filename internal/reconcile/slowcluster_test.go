package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay"
)

// slowness is how long things take in the clusters of a world.
type slowness struct {
	pause    func(most time.Duration) time.Duration // up to most
	chance   func(of int) bool                      // one of so many
	lossy    atomic.Bool                            // answers get lost
	version  int                                    // of the newest change; guarded by the world's mu
	watching []*slowCluster                         // the same
	offline  map[string]bool                        // the same
}

// How long things take at most. A write takes two requests' time.
const (
	mostRequest  = 15 * time.Millisecond
	mostLag      = 400 * time.Millisecond
	mostDeletion = 20 * time.Second
	mostBecoming = 8 * time.Second
)

// slowCluster shows what happens in it only some time later, as watches do, and in
// the order in which it happened. The answers to its own writes it takes in at once.
// Which of the two counts, and who is told, is as in the store of internal/kube.
type slowCluster struct {
	*fakeCluster
	mu      sync.Mutex
	listed  bool
	away    bool // the connection is lost
	seen    map[belay.ObjectID]belay.Live
	writing map[belay.ObjectID]*underWrite
	coming  []change  // what happened and is not seen yet
	due     time.Time // when the newest of that arrives
	epoch   int       // of the connection; what an earlier one would have shown is lost
	life    context.Context
}

// underWrite is an object with writes whose answers are not there yet.
type underWrite struct {
	writers int
	held    []string // applications that would have been told
	gone    int      // the version as of which it was found to be gone
}

func newSlowCluster(c *fakeCluster) *slowCluster {
	return &slowCluster{fakeCluster: c, seen: map[belay.ObjectID]belay.Live{}, writing: map[belay.ObjectID]*underWrite{}}
}

func (c *slowCluster) Run(ctx context.Context) error {
	c.mu.Lock()
	c.life = ctx
	c.mu.Unlock()
	time.Sleep(c.w.slow.pause(2 * time.Second))
	c.w.mu.Lock()
	c.w.slow.watching = append(c.w.slow.watching, c)
	off := c.w.slow.offline[c.name]
	c.w.mu.Unlock()
	if off {
		c.leave()
	} else {
		c.list()
	}
	<-ctx.Done()
	c.w.mu.Lock()
	c.w.slow.watching = slices.DeleteFunc(c.w.slow.watching, func(o *slowCluster) bool { return o == c })
	c.w.mu.Unlock()
	return nil
}

// list takes in everything that there is.
func (c *slowCluster) list() {
	c.w.mu.Lock()
	c.mu.Lock()
	c.away, c.listed = false, true
	c.epoch++
	maps.DeleteFunc(c.seen, func(id belay.ObjectID, _ belay.Live) bool {
		_, there := c.w.objects[standing{c.name, id}]
		return !there
	})
	for at, l := range c.w.objects {
		if at.cluster == c.name {
			c.seen[at.ObjectID] = l
		}
	}
	for id, p := range c.writing {
		if _, there := c.seen[id]; !there {
			p.gone = c.w.slow.version
		}
	}
	c.mu.Unlock()
	c.w.mu.Unlock()
	c.tell(nil, true)
}

// leave loses the connection.
func (c *slowCluster) leave() {
	c.mu.Lock()
	c.away = true
	c.epoch++
	c.mu.Unlock()
	c.tell(nil, true)
}

func (c *slowCluster) tell(names []string, all bool) {
	c.mu.Lock()
	life := c.life
	c.mu.Unlock()
	if life != nil && life.Err() == nil && (all || len(names) > 0) {
		c.notify(names, all)
	}
}

func (c *slowCluster) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.away || !c.listed {
		return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q: does not answer", c.name)}
	}
	return nil
}

func (c *slowCluster) Status() belay.ClusterStatus {
	return belay.ClusterStatus{Name: c.name, Ready: c.Ready() == nil}
}

func (c *slowCluster) Tried() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away || c.listed
}

func (c *slowCluster) Lookup(id belay.ObjectID) (belay.Live, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.seen[id]
	return l, ok
}

func (c *slowCluster) Live(application string) []belay.Live {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []belay.Live
	for _, l := range c.seen {
		if l.Application == application {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b belay.Live) int { return a.ID.Compare(b.ID) })
	return out
}

func (c *slowCluster) Applications() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, l := range c.seen {
		out = append(out, l.Application)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func versionOf(l belay.Live) int {
	n, err := strconv.Atoi(l.ResourceVersion)
	if err != nil {
		panic(err)
	}
	return n
}

// changed shows a change to whoever watches the cluster, after a while. Called with mu.
func (w *fakeWorld) changed(cluster string, l belay.Live, gone bool) {
	if w.slow == nil {
		return
	}
	w.slow.version++
	l.ResourceVersion = strconv.Itoa(w.slow.version)
	at := standing{cluster, l.ID}
	if !gone {
		w.objects[at] = l
	}
	for _, c := range w.slow.watching {
		if c.name != cluster {
			continue
		}
		c.mu.Lock()
		if next := time.Now().Add(w.slow.pause(mostLag)); next.After(c.due) {
			c.due = next
		}
		c.coming = append(c.coming, change{l, gone, c.epoch})
		time.AfterFunc(time.Until(c.due), c.arrives)
		c.mu.Unlock()
	}
}

// change is what a watch is to tell.
type change struct {
	belay.Live
	gone  bool
	epoch int // of the connection
}

// arrives is a watch that tells of the next change.
func (c *slowCluster) arrives() {
	c.mu.Lock()
	l, gone, epoch := c.coming[0].Live, c.coming[0].gone, c.coming[0].epoch
	c.coming = c.coming[1:]
	old, known := c.seen[l.ID]
	if epoch != c.epoch || known && versionOf(l) < versionOf(old) {
		c.mu.Unlock()
		return // of a connection that is lost, or the answer to a write was faster
	}
	var touched []string
	switch {
	case gone:
		if delete(c.seen, l.ID); known {
			touched = []string{old.Application}
		}
		if p := c.writing[l.ID]; p != nil {
			p.gone = versionOf(l)
		}
	default:
		c.seen[l.ID] = l
		if !known || old.UID != l.UID || old.Digest != l.Digest || old.Deleting != l.Deleting || old.Health != l.Health {
			touched = []string{l.Application}
		}
	}
	if p := c.writing[l.ID]; p != nil {
		p.held = append(p.held, touched...)
		touched = nil
	}
	c.mu.Unlock()
	c.tell(touched, false)
}

// during does a write: one that succeeds tells nobody, because whoever asked knows.
func (c *slowCluster) during(id belay.ObjectID, write func() error) error {
	c.mu.Lock()
	if c.writing[id] == nil {
		c.writing[id] = &underWrite{}
	}
	p := c.writing[id]
	p.writers++
	c.mu.Unlock()
	time.Sleep(c.w.slow.pause(mostRequest))
	err := c.reach()
	if err == nil {
		err = write()
	}
	c.mu.Lock()
	if err == nil {
		p.held = nil
	}
	var told []string
	if p.writers--; p.writers == 0 {
		delete(c.writing, id)
		told = p.held
	}
	c.mu.Unlock()
	c.tell(told, false)
	return err
}

// reach is nil if the cluster answers.
func (c *slowCluster) reach() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.slow.offline[c.name] {
		return &belay.Error{Code: belay.CodeUnavailable, Message: "no answer"}
	}
	return nil
}

// answer waits for the answer to a write that was done. It may get lost.
func (c *slowCluster) answer() error {
	time.Sleep(c.w.slow.pause(mostRequest))
	if c.w.slow.lossy.Load() && c.w.slow.chance(40) {
		return &belay.Error{Code: belay.CodeUnavailable, Message: "the answer got lost"}
	}
	return c.reach()
}

func (c *slowCluster) Apply(_ context.Context, _ belay.Permit, a belay.Action) (live belay.Live, err error) {
	err = c.during(a.ID, func() error {
		if live, err = c.apply(a); err != nil {
			return err
		}
		if err := c.answer(); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		old, known := c.seen[a.ID]
		switch {
		case known && versionOf(live) <= versionOf(old):
			live = old
		case versionOf(live) < c.writing[a.ID].gone:
			go c.tell([]string{live.Application}, false)
		default:
			c.seen[a.ID] = live
		}
		return nil
	})
	return live, err
}

// apply is what the API server does.
func (c *slowCluster) apply(a belay.Action) (belay.Live, error) {
	if err := c.l.write(a.ID.String()); err != nil {
		return belay.Live{}, err
	}
	l, err := asApplied(a)
	if err != nil {
		return l, err
	}
	w, at := c.w, standing{c.name, a.ID}
	w.mu.Lock()
	defer w.mu.Unlock()
	there, ok := w.objects[at]
	same := a.Verb != belay.VerbCreate && a.Live != nil && a.Live.UID == there.UID
	switch {
	case w.refuse[a.ID.Name]:
		return l, errRefused
	case ok && there.Deleting && !same:
		return l, &belay.Error{Code: belay.CodeTerminating, Object: a.ID.String(), Message: "it is being deleted; it is applied again when it is gone"}
	}
	w.judge(at, l.Application, &a)
	if l.UID = fmt.Sprint(c.name, "/", a.ID.Name, "/", w.slow.version); ok {
		l.UID, l.Deleting, l.Health = there.UID, there.Deleting, there.Health
	}
	if !ok || there.Digest != l.Digest {
		l.Health = becoming(a, l)
		if l.Health == belay.Progressing {
			w.become(at, l, outcomeOf(valueOf(a.Desired.Raw)))
		}
	}
	w.put(at, l, a.Desired.Raw)
	w.changed(c.name, l, false)
	return w.objects[at], nil
}

// becoming is the health of an object that was just written: of the value 2 are
// those that take their time, and Jobs run.
func becoming(a belay.Action, l belay.Live) belay.Health {
	if l.Hook != nil || valueOf(a.Desired.Raw) == "2" {
		return belay.Progressing
	}
	return belay.Healthy
}

// outcomeOf is what an object of a value comes to; Unknown for what never ends.
func outcomeOf(value string) belay.Health {
	switch value {
	case "fails":
		return belay.Degraded
	case "endless":
		return belay.Unknown
	}
	return belay.Healthy
}

// become has an object be well, or not, after a while. Called with mu.
func (w *fakeWorld) become(at standing, l belay.Live, health belay.Health) {
	if health == belay.Unknown {
		return
	}
	time.AfterFunc(w.slow.pause(mostBecoming), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if now, ok := w.objects[at]; ok && now.UID == l.UID && now.Digest == l.Digest {
			now.Health = health
			w.changed(at.cluster, now, false)
			if w.ended != nil {
				w.ended(at, now)
			}
		}
	})
}

func (c *slowCluster) Delete(_ context.Context, _ belay.Permit, l belay.Live) error {
	return c.during(l.ID, func() error {
		terminating, err := c.remove(l)
		if err != nil {
			return err
		}
		if err := c.answer(); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		old, known := c.seen[l.ID]
		switch {
		case !known || old.UID != l.UID:
		case terminating:
			old.Deleting, old.Health = true, belay.Progressing
			c.seen[l.ID] = old
		default:
			delete(c.seen, l.ID)
		}
		return nil
	})
}

// remove is what the API server does. What is gone, or another by now, is success.
func (c *slowCluster) remove(l belay.Live) (terminating bool, err error) {
	if err := c.l.write(l.ID.String()); err != nil {
		return false, err
	}
	w, at := c.w, standing{c.name, l.ID}
	w.mu.Lock()
	defer w.mu.Unlock()
	there, ok := w.objects[at]
	switch {
	case w.refuse[l.ID.Name]:
		return false, errRefused
	case !ok || there.UID != l.UID:
		return false, nil
	case there.Deleting:
		return true, nil
	}
	w.judge(at, l.Application, nil)
	if !w.slow.chance(3) {
		w.remove(at)
		return false, nil
	}
	there.Deleting, there.Health = true, belay.Progressing
	w.changed(c.name, there, false)
	time.AfterFunc(w.slow.pause(mostDeletion), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if now, ok := w.objects[at]; ok && now.UID == l.UID {
			w.remove(at)
		}
	})
	return true, nil
}

// connect loses the connection to a cluster, or finds it again.
func (w *fakeWorld) connect(cluster string, on bool) {
	w.mu.Lock()
	w.slow.offline[cluster] = !on
	watching := slices.Clone(w.slow.watching)
	w.mu.Unlock()
	for _, c := range watching {
		switch {
		case c.name != cluster:
		case on:
			c.list()
		default:
			c.leave()
		}
	}
}
