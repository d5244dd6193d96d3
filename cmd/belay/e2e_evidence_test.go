package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/evidence"
)

// What a server did to a cluster is what its evidence says: who changed what, who
// reviewed it, how it ended, and what was done past Git.
func TestEvidenceOfWhatHappened(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	begin := time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	w.commit("One application", map[string]string{
		"belay/a.yaml":  application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": configMap("settings", "1"),
	})
	s := w.serve()
	s.awaitSynced("a")
	reviewed := w.commit("Set it to two\n\nReviewed-by: Kim <kim@example.com>", map[string]string{"apps/a/a.yaml": configMap("settings", "2")})
	s.hook()
	w.awaitValue(w.ns("a"), "settings", "2")
	s.awaitSynced("a")
	pushed := w.commit("Set it to three", map[string]string{"apps/a/a.yaml": configMap("settings", "3")})
	s.hook()
	w.awaitValue(w.ns("a"), "settings", "3")
	s.awaitSynced("a")
	w.patch(w.ns("a"), "settings", "kubectl-edit", `{"data":{"value":"4"}}`)
	w.awaitValue(w.ns("a"), "settings", "3")

	var r exported
	devtest.Await(t, "the change by hand in the evidence", func() error {
		out, stderr, code := s.cli("audit", "export", "--from", begin, "--format", "jsonl")
		if code != exitOK {
			return fmt.Errorf("exit code %d: %s", code, stderr)
		}
		r = readExported(t, out)
		if i := slices.IndexFunc(r.exceptions, func(e evidence.Exception) bool { return e.Kind == evidence.ExcManual && !e.Until.IsZero() }); i < 0 {
			return fmt.Errorf("no change by hand that was set back: %+v", r.exceptions)
		}
		return nil
	})
	if len(r.changes) != 3 {
		t.Fatalf("%d changes, want 3: %+v", len(r.changes), r.changes)
	}
	for i, want := range []struct {
		id     string
		review evidence.Review
	}{{"", evidence.Unreviewed}, {reviewed, evidence.Reviewed}, {pushed, evidence.Unreviewed}} {
		x := r.changes[i]
		if want.id != "" && x.ID != want.id || x.Review != want.review || len(x.Deliveries) != 1 || x.Deliveries[0].Result != belay.Succeeded || x.Deliveries[0].Kind != evidence.Deploys {
			t.Errorf("change %d is %+v, want %+v", i, x, want)
		}
	}
	if x := r.changes[1]; x.Subject != "Set it to two" || !slices.Equal(x.Reviewers, []string{"Kim <kim@example.com>"}) {
		t.Errorf("what was reviewed is %+v", x)
	}
	for _, e := range r.exceptions {
		switch e.Kind {
		case evidence.ExcManual:
			if e.Who != "kubectl-edit" || e.Object != "ConfigMap "+w.ns("a")+"/settings" || len(e.Records) != 2 {
				t.Errorf("what was changed by hand is %+v", e)
			}
		case evidence.ExcUnreviewed:
			if e.Application != "a" || e.Who == "" {
				t.Errorf("what nobody reviewed is %+v", e)
			}
		default:
			t.Errorf("a surprise: %+v", e)
		}
	}
	checkDelivered(t, s)
}

// checkDelivered: the figures count each commit that went out, and no heal.
func checkDelivered(t *testing.T, s *serveProcess) {
	t.Helper()
	out, stderr, code := s.cli("metrics", "a", "--since", "1h", "-o", "json")
	var got metricsOutput
	if err := json.Unmarshal([]byte(out), &got); code != exitOK || err != nil || len(got.Metrics) == 0 {
		t.Fatalf("metrics: exit code %d, %v, %s%s", code, err, out, stderr)
	}
	if m := got.Metrics[0]; m.Frequency.Changes != 3 || m.Frequency.Deployments != 3 || m.LeadTime.Count < 2 || m.Failures.Failed != 0 || m.Failures.Total != 3 {
		t.Errorf("figures are %+v", m)
	}
}

// exported are the lines of an export that a test looks at.
type exported struct {
	exceptions []evidence.Exception
	changes    []evidence.Change
}

func readExported(t *testing.T, out string) exported {
	t.Helper()
	var r exported
	for line := range strings.Lines(out) {
		var head struct{ Type string }
		var err error
		if err = json.Unmarshal([]byte(line), &head); err == nil {
			switch head.Type {
			case "exception":
				r.exceptions = append(r.exceptions, evidence.Exception{})
				err = json.Unmarshal([]byte(line), &r.exceptions[len(r.exceptions)-1])
			case "change":
				r.changes = append(r.changes, evidence.Change{})
				err = json.Unmarshal([]byte(line), &r.changes[len(r.changes)-1])
			}
		}
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
	}
	return r
}
