package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// What has just been applied is no drift, whatever the API server adds, drops or
// writes otherwise; nor is what the controllers make of it.
func TestCompareFindsNoDriftInWhatWasApplied(t *testing.T) {
	s := newServer(t)
	s.custom()
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	var objects []belay.Object
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, s.load(string(b))...)
	}
	check := func(when string) {
		for i := range objects {
			o := &objects[i]
			if v := s.compare(o); !v.OK {
				t.Errorf("%s, %s has drift: %s\nmanaged fields: %s", when, o.ID, describe(v.Drift), ours(s.live(o)))
			}
			if !o.Sensitive() {
				continue
			}
			redacted := *o
			if redacted.Raw, err = belay.RedactSecret(o.Raw, []byte("key")); err != nil {
				t.Fatal(err)
			}
			if v := s.compare(&redacted); !v.OK {
				t.Errorf("%s, %s has drift in its redacted form: %s", when, o.ID, describe(v.Drift))
			}
		}
	}
	for i := range objects {
		s.apply(&objects[i])
		if strings.Contains(string(objects[i].Raw), `"finalizers"`) {
			defer s.unblock(&objects[i])
		}
	}
	check("right after the apply")
	s.awaitControllers(objects)
	check("when the controllers have acted")
	for i := range objects {
		s.apply(&objects[i])
	}
	check("after a second apply")
}

func ours(l *belay.Live) string {
	var b strings.Builder
	for _, e := range l.Managers {
		fmt.Fprintf(&b, "\n\t%s %s %s %s %s", e.Manager, e.Operation, e.Subresource, e.APIVersion, e.Fields)
	}
	return b.String()
}

// awaitControllers waits for the writes of controllers that are sure to come.
func (s *server) awaitControllers(objects []belay.Object) {
	s.t.Helper()
	for i := range objects {
		o := &objects[i]
		devtest.Await(s.t, "a controller to act on "+o.ID.String(), func() error {
			u := s.get(o)
			missing := ""
			switch o.ID.Kind {
			case "Deployment", "StatefulSet", "DaemonSet":
				if n, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration"); n < u.GetGeneration() {
					missing = "observedGeneration"
				}
			case "Job", "CustomResourceDefinition":
				if c, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions"); len(c) == 0 {
					missing = "conditions"
				}
			case "ClusterRole":
				if _, sum := u.Object["aggregationRule"]; sum {
					if r, _, _ := unstructured.NestedSlice(u.Object, "rules"); len(r) == 0 {
						missing = "rules"
					}
				}
			case "Pod":
				if p, _, _ := unstructured.NestedString(u.Object, "status", "phase"); p != "Running" {
					missing = "phase Running"
				}
			}
			if missing != "" {
				return fmt.Errorf("no %s yet", missing)
			}
			return nil
		})
	}
}
