package reconcile

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// reluctant is a cluster that never lists Secrets.
type reluctant struct{ fakeCluster }

func (c *reluctant) Observe(kinds []belay.VersionKind) bool {
	for _, k := range kinds {
		if k.Kind == "Secret" {
			return false
		}
	}
	return true
}

// A kind that a cluster cannot list holds up a preview once, however many
// applications have objects of it, and says so for each of them.
func TestPlanWaitsOnceForKindsThatCannotBeListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := New(Options{Repo: fakeRepo, Logger: slog.New(slog.DiscardHandler)})
		e.catalog = &catalog.Catalog{}
		e.clusters["local"] = &cluster{conn: &reluctant{fakeCluster{shelf: &shelf{}, w: &fakeWorld{t: t}}}}
		req := belay.PlanRequest{Rendered: []belay.RenderedApplication{}}
		for _, name := range []string{"a", "b", "c", "d"} {
			secret, err := belay.NewObject([]byte(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"`+name+`"}}`), belay.Origin{})
			if err != nil {
				t.Fatal(err)
			}
			def := belay.Application{Name: name, Spec: belay.DefaultApplicationSpec()}
			def.Spec.Destination = belay.Destination{Cluster: "local", Namespace: "x"}
			req.Rendered = append(req.Rendered, belay.RenderedApplication{Application: def, Objects: []belay.Object{secret}})
		}
		began := time.Now()
		previews, err := e.Plan(t.Context(), req)
		if err != nil || len(previews) != 4 {
			t.Fatalf("%+v, %v", previews, err)
		}
		for _, p := range previews {
			if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "looking at what the cluster has") {
				t.Errorf("%s: %+v", p.Application, p.Errors)
			}
		}
		if took := time.Since(began); took != listPatience {
			t.Errorf("it took %v, want %v", took, listPatience)
		}
	})
}
