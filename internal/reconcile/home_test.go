package reconcile

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// homes is a cluster where one namespace was made for an application.
type homes struct {
	*fakeCluster
	mu     sync.Mutex
	labels map[string]string
	err    error
}

func (c *homes) Connect(_ context.Context, def belay.Cluster, _ []string, notify func([]string, bool)) (Cluster, error) {
	c.name, c.notify = def.Name, notify
	return c, nil
}

func (c *homes) NamespaceDiffers(application, _ string, meta belay.NamespaceMetadata) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return application == "web" && !maps.Equal(c.labels, meta.Labels)
}

func (c *homes) EnsureNamespace(_ context.Context, _ belay.Permit, meta belay.NamespaceMetadata) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.labels = meta.Labels
	}
	return c.err
}

func (c *homes) refuse(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *homes) label() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.labels["a"]
}

// homeOf is the application web with a label of its namespace.
func homeOf(label, sync string) string {
	return fakeApp("web", "  dependsOn: [{name: db}]\n  sync: {createNamespace: true, namespaceMetadata: {labels: {a: "+label+"}}"+sync+"}\n")
}

// The labels of a namespace are no object of a plan. They are written in the end all
// the same: after a failure, also where somebody had to ask, and after a wait.
func TestTheLabelsOfANamespaceAreWrittenInTheEnd(t *testing.T) {
	begin := func(t *testing.T, sync string) (*fakeWorld, *homes) {
		w := newFakeWorld(t)
		w.commit(ada, "one", map[string]string{"belay/web.yaml": homeOf("one", sync), "apps/web/a": "1", "belay/db.yaml": fakeApp("db"), "apps/db/b": "1"})
		w.make()
		c := &homes{fakeCluster: &fakeCluster{shelf: &shelf{}, w: w, l: w.l}, labels: map[string]string{"a": "one"}}
		w.e.Connector = c
		w.run()
		w.settled("db")
		if sync != "" {
			w.says("web", "automatic sync is off")
			w.ask("web")
		}
		w.settled("web")
		return w, c
	}
	for _, manual := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			sync := ""
			if manual {
				sync = ", automatic: false"
			}
			w, c := begin(t, sync)
			c.refuse(errRefused)
			w.commit(ada, "two", map[string]string{"belay/web.yaml": homeOf("two", sync)})
			if manual {
				w.says("web", "automatic sync is off")
				w.ask("web")
			}
			w.says("web", "refused")
			c.refuse(nil)
			time.Sleep(10 * time.Second)
			if got := c.label(); got != "two" {
				t.Errorf("manual %v: after a failure the label is %s", manual, got)
			}
			w.settled("web")
		})
	}
	synctest.Test(t, func(t *testing.T) {
		w, c := begin(t, "")
		w.mu.Lock()
		w.refuse["b"] = true
		w.mu.Unlock()
		w.commit(ada, "two", map[string]string{"belay/web.yaml": homeOf("two", ""), "apps/db/b": "2"})
		w.says("db", "refused")
		w.says("web", "waits for db")
		if got := c.label(); got != "one" {
			t.Errorf("before what it depends on is ready the label is %s", got)
		}
		w.mu.Lock()
		w.refuse["b"] = false
		w.mu.Unlock()
		w.settled("db", "web")
		w.await("the label", func() bool { return c.label() == "two" })
	})
}
