package kube

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Only a stream that ended before its time is a reason to ask which cluster it is: at
// rest nothing is asked.
func TestAStreamThatBroke(t *testing.T) {
	long, short := int64(600), int64(1)
	var s streaming
	if s.again(); s.broke {
		t.Error("the first one broke")
	}
	s.begin(&long)
	if s.again(); !s.broke {
		t.Error("one that ended at once did not break")
	}
	if s.again(); !s.broke {
		t.Error("it is forgotten before another one is open")
	}
	s.begin(&short)
	if s.again(); s.broke {
		t.Error("one that lasted as long as it was to broke")
	}
	s.began, s.lasts = time.Now().Add(-time.Hour), time.Minute
	if s.again(); s.broke {
		t.Error("one that lasted longer broke")
	}
}

func TestAHistoryThatWasSetBack(t *testing.T) {
	for _, step := range []struct {
		newest, version uint64
		want            bool
	}{{0, 5, false}, {5, 5, false}, {5, 9, false}, {9, 5, true}, {9, 0, false}} { // 0 is no version
		c, err := New(Options{Name: "prod", Config: &Config{Host: "https://127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.setBack(step.newest, step.version); (got != nil) != step.want {
			t.Errorf("from %d to %d it is set back: %v", step.newest, step.version, got)
		}
		select {
		case <-c.moved:
			if !step.want {
				t.Errorf("from %d to %d the connection ends", step.newest, step.version)
			}
		default:
			if step.want {
				t.Errorf("from %d to %d the connection goes on", step.newest, step.version)
			}
		}
	}
}

// Where it is known which cluster it was, nothing is taken in before it is known that
// it still is: one that was just made answers lists before it has what names it.
func TestWhichClusterAnswers(t *testing.T) {
	for _, tt := range []struct {
		name, before, uid string
		status            int
		namespaces        []string
		after             string
		untold, moved     bool
	}{
		{name: "the same", before: "a", uid: "a", after: "a"},
		{name: "another", before: "a", uid: "b", after: "a", moved: true},
		{name: "one that is being made", before: "a", status: http.StatusNotFound, after: "a", untold: true},
		{name: "one that fails", before: "a", status: http.StatusInternalServerError, after: "a", untold: true},
		{name: "one that may not be asked", before: "a", status: http.StatusForbidden, after: "a"},
		{name: "one whose own namespace is gone", before: "a", status: http.StatusNotFound, namespaces: []string{"team"}, after: "a"},
		{name: "one that becomes known", uid: "a", after: "a"},
		{name: "one without a name", status: http.StatusNotFound},
		{name: "one that fails and never was known", status: http.StatusInternalServerError},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if tt.status != 0 {
					reasons := map[int]metav1.StatusReason{http.StatusNotFound: metav1.StatusReasonNotFound, http.StatusForbidden: metav1.StatusReasonForbidden,
						http.StatusInternalServerError: metav1.StatusReasonInternalError}
					w.WriteHeader(tt.status)
					_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
						Code: int32(tt.status), Reason: reasons[tt.status], Message: "no"})
					return
				}
				_ = json.NewEncoder(w).Encode(metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "PartialObjectMetadata"},
					ObjectMeta: metav1.ObjectMeta{Name: path.Base(r.URL.Path), UID: types.UID(tt.uid)}})
			}))
			defer server.Close()
			c, err := New(Options{Name: "prod", Config: &Config{Host: server.URL}, Namespaces: tt.namespaces})
			if err != nil {
				t.Fatal(err)
			}
			c.id = tt.before
			err = c.sameAsBefore(t.Context())
			if (err != nil) != (tt.untold || tt.moved) || c.hasMoved() != tt.moved || c.id != tt.after {
				t.Errorf("%v; the connection ends: %t, it is %q", err, c.hasMoved(), c.id)
			}
			if tt.untold && !strings.Contains(err.Error(), `cluster "prod": cannot be told to be the one that it was`) {
				t.Error(err)
			}
			w := &watch{delivered: true}
			c.running = t.Context()
			if got := c.continues(w, 7); (got != nil) != (tt.untold || tt.moved) {
				t.Errorf("a list is taken in: %v", got)
			}
		})
	}
}
