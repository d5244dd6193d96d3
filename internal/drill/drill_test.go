package drill_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/drill"
	"github.com/belaydev/belay/internal/term"
)

var start = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func at(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }

func status(apps ...belay.ApplicationStatus) *belay.Status { return &belay.Status{Applications: apps} }

func app(name string, sync belay.SyncState, health belay.Health, message string) belay.ApplicationStatus {
	return belay.ApplicationStatus{Name: name, Cluster: "prod", Sync: sync, Health: health, Message: message, Objects: 3}
}

func TestFollowingADrill(t *testing.T) {
	tr := drill.NewTracker(start, 20*time.Second)
	base, shop, broken := app("base", belay.Synced, belay.Healthy, ""), app("shop", belay.OutOfSync, belay.Missing, "waits for base"), app("broken", belay.OutOfSync, belay.Missing, "refused")
	st := status(base, broken, shop)
	if got := tr.Look(at(1), st, false); !slices.Equal(got, []string{"base"}) {
		t.Errorf("arrived are %q", got)
	}
	tr.Event(&belay.Event{Time: at(1.5), Type: belay.EventSyncStarted, Application: "shop"})
	for _, message := range []string{"first", "second"} {
		tr.Event(&belay.Event{Time: at(2), Type: belay.EventSyncFailed, Application: "broken", Message: message})
	}
	st.Applications[2] = app("shop", belay.Synced, belay.Progressing, "0 of 1")
	if tr.Look(at(10), st, true); tr.Over(at(29.9), st, true) {
		t.Error("it is over before nothing moved for the time of patience")
	}
	// A failure that only repeats is no move; an object that is written is one.
	tr.Event(&belay.Event{Time: at(29), Type: belay.EventSyncFailed, Application: "broken", Message: "second"})
	tr.Event(&belay.Event{Time: at(25), Type: belay.EventApplied, Application: "shop"})
	if tr.Over(at(40), st, true) {
		t.Error("it is over although something was written")
	}
	if tr.Over(at(60), st, false) {
		t.Error("it is over while there is something to do")
	}
	if !tr.Over(at(46), st, true) {
		t.Error("it is not over")
	}
	apps := tr.Applications(at(46), st)
	var results []string
	for _, a := range apps {
		results = append(results, a.Name+" "+string(a.Result))
	}
	if want := []string{"base passed", "broken failed", "shop waiting"}; !slices.Equal(results, want) {
		t.Errorf("results are %q, want %q", results, want)
	}
	if apps[1].Error != "first" || apps[2].Seconds != 46 || apps[2].Began != 1.5 || apps[0].Seconds != 1 {
		t.Errorf("%+v", apps)
	}
	// All are well: no patience is needed. Who leaves again has not arrived.
	for i := range st.Applications {
		st.Applications[i].Sync, st.Applications[i].Health = belay.Synced, belay.Healthy
	}
	if tr.Look(at(50), st, true); !tr.Over(at(50), st, true) || tr.Arrived() != 3 {
		t.Error("it is not over with everything there")
	}
	st.Applications[0].Health = belay.Degraded
	if tr.Look(at(51), st, true); tr.Over(at(51), st, true) || tr.Arrived() != 2 {
		t.Error("an application that broke down counts as back")
	}
	if a := tr.Applications(at(51), st); a[2].Name != "base" || a[2].Result != drill.Failed {
		t.Errorf("%+v", a[2])
	}
}

func facts() *belay.ClusterFacts {
	return &belay.ClusterFacts{Kinds: map[belay.VersionKind]belay.KindFacts{{APIVersion: "v1", Kind: "Pod"}: {}, {APIVersion: "apps/v1", Kind: "Deployment"}: {},
		{APIVersion: "apiregistration.k8s.io/v1", Kind: "APIService"}: {}}}
}

func TestWhatStandsIn(t *testing.T) {
	custom := belay.ObjectID{Group: "cert-manager.io", Kind: "Certificate", Namespace: "shop", Name: "c"}
	deployment := belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "shop", Name: "web"}
	service := belay.ObjectID{Group: "apiregistration.k8s.io", Kind: "APIService", Name: "v1.metrics"}
	var c drill.Cast
	c.Serves(&belay.ClusterFacts{}) // not connected yet
	c.Serves(facts())
	later := facts()
	later.Kinds[belay.VersionKind{APIVersion: "cert-manager.io/v1", Kind: "Certificate"}] = belay.KindFacts{}
	c.Serves(later) // what an application brought is not built in
	for _, step := range []struct {
		id   belay.ObjectID
		is   belay.Health
		want belay.Health
	}{
		{custom, belay.Progressing, belay.Healthy}, {custom, belay.Unknown, belay.Healthy}, {custom, belay.Degraded, belay.Degraded},
		{deployment, belay.Progressing, belay.Progressing}, {service, belay.Progressing, belay.Healthy},
	} {
		if got := c.Show(belay.Live{ID: step.id, Health: step.is}).Health; got != step.want {
			t.Errorf("%s that is %s shows as %s, want %s", step.id, step.is, got, step.want)
		}
	}
	if got := c.Excused(); !slices.Equal(got, []belay.ObjectID{service, custom}) {
		t.Errorf("excused are %v", got)
	}
	strict := drill.Cast{Strict: true}
	strict.Serves(facts())
	if got := strict.Show(belay.Live{ID: custom, Health: belay.Progressing}).Health; got != belay.Progressing {
		t.Errorf("strict, it shows as %s", got)
	}
}

func TestWebhooksCallNobody(t *testing.T) {
	raw := `{"kind":"ValidatingWebhookConfiguration","metadata":{"name":"x"},"webhooks":[{"name":"a.example.com"},{"name":"b.example.com","matchConditions":[{"name":"c","expression":"true"}]}]}`
	o := &belay.Object{Raw: json.RawMessage(raw), Digest: "d"}
	var c drill.Cast
	act, err := c.Prepare(belay.Action{ID: belay.ObjectID{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration", Name: "x"}, Desired: o})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(act.Desired.Raw), `"expression":"false"`); n != 2 || !strings.Contains(string(act.Desired.Raw), `"expression":"true"`) {
		t.Errorf("it is applied as %s", act.Desired.Raw)
	}
	if string(o.Raw) != raw || act.Desired.Digest != "d" || len(c.Silenced()) != 1 {
		t.Errorf("what is declared was changed: %s", o.Raw)
	}
	same := belay.Action{ID: belay.ObjectID{Kind: "ConfigMap", Name: "x"}, Desired: o}
	if act, err := c.Prepare(same); err != nil || act.Desired != o {
		t.Error("another object was changed")
	}
}

func report() *drill.Report {
	r := &drill.Report{Repo: "https://git.example.com/fleet.git", Revision: "0123456789abcdef", Writes: 9, FetchSeconds: 1,
		Applications: []drill.Application{
			{Name: "base", Cluster: "prod", Result: drill.Passed, Seconds: 2, Objects: 1},
			{Name: "shop", Cluster: "prod", Result: drill.Failed, Seconds: 30, Objects: 2, Error: "apps/shop/a.yaml:3: Deployment.apps shop/web: refused | <b>", Hint: "mend it",
				Unfinished: []drill.Object{{Name: "Service shop/web", Message: "create", File: "apps/shop/s.yaml", Line: 2}}},
			{Name: "late", Cluster: "prod", Result: drill.Waiting, Seconds: 30, Message: "waits for shop"}},
		Problems: []belay.Error{{Code: belay.CodeInvalid, Message: "unknown field", Origin: belay.Origin{File: "belay/x.yaml", Line: 4}}},
		Missing:  []drill.Finding{{Kind: "Secret", Namespace: "shop", Name: "registry", Message: "nothing in Git declares it", Applications: []string{"shop"}, File: "apps/shop/a.yaml", Line: 9}},
	}
	var c drill.Cast
	c.Serves(facts())
	c.Show(belay.Live{ID: belay.ObjectID{Group: "x.io", Kind: "X", Name: "x"}, Health: belay.Progressing})
	r.Limits(map[string]*drill.Cast{"prod": &c}, func(string, belay.ObjectID) string { return "base" })
	r.Finish()
	return r
}

func TestReports(t *testing.T) {
	r := report()
	if r.Result != drill.Failed || r.Seconds != 2 || r.GivenUp != 30 || r.Applications[0].NotRehearsed != 1 {
		t.Errorf("%+v", r)
	}
	for _, format := range drill.Formats() {
		var b bytes.Buffer
		if err := r.Write(term.New(&b, func(string) string { return "" }), format); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"base", "shop", "late", "waits for shop", "apps/shop/a.yaml:3", "mend it", "belay/x.yaml", "unknown field"} {
			if !strings.Contains(b.String(), text) {
				t.Errorf("%s does not say %q:\n%s", format, text, b.String())
			}
		}
		if format != drill.JUnit && !strings.Contains(b.String(), "registry") {
			t.Errorf("%s does not say what is missing:\n%s", format, b.String())
		}
		switch format {
		case drill.JSON:
			var back drill.Report
			if err := json.Unmarshal(b.Bytes(), &back); err != nil || len(back.Applications) != 3 {
				t.Errorf("%v: %s", err, b.String())
			}
		case drill.JUnit:
			var suite struct {
				Tests    int `xml:"tests,attr"`
				Failures int `xml:"failures,attr"`
			}
			if err := xml.Unmarshal(b.Bytes(), &suite); err != nil || suite.Tests != 4 || suite.Failures != 3 {
				t.Errorf("%v %+v: %s", err, suite, b.String())
			}
		case drill.Markdown:
			if strings.Contains(b.String(), "<b>") || strings.Contains(b.String(), "refused | ") {
				t.Errorf("text from outside is not kept in its cell:\n%s", b.String())
			}
		}
	}
	good := &drill.Report{Applications: []drill.Application{{Name: "a", Result: drill.Passed}}, Missing: r.Missing}
	if good.Finish(); good.Result != drill.Passed {
		t.Error("what is not in Git alone fails a drill")
	}
}

// What is suspended in Git is left alone, keeps no drill from its end, and is no
// failure; who depends on it is one.
func TestSuspended(t *testing.T) {
	tr := drill.NewTracker(start, 20*time.Second)
	rest, web := app("rest", belay.OutOfSync, belay.Missing, "suspended: migration"), app("web", belay.Synced, belay.Healthy, "")
	rest.Suspended = "migration"
	st := status(rest, web)
	if tr.Look(at(1), st, true); !tr.Over(at(1), st, true) {
		t.Error("it waits for what is suspended")
	}
	r := &drill.Report{Applications: tr.Applications(at(1), st)}
	r.Finish()
	if r.Result != drill.Passed || r.GivenUp != 0 || len(r.ByHand) != 1 || !strings.Contains(r.ByHand[0], "rest is suspended (migration)") || r.Summary() != "1 of 2 applications came back, 1 suspended" {
		t.Errorf("%s: %+v", r.Summary(), r)
	}
	for format, text := range map[drill.Format]string{drill.Text: "Does not come back by itself\n  - rest is", drill.Markdown: "⏸️ | rest", drill.JSON: `"result": "suspended"`, drill.JUnit: `<skipped message="suspended: migration">`} {
		var b bytes.Buffer
		if err := r.Write(term.New(&b, func(string) string { return "" }), format); err != nil || !strings.Contains(b.String(), text) {
			t.Errorf("%s, %v:\n%s", format, err, b.String())
		}
	}
	web.Sync, web.Message = belay.OutOfSync, "waits for rest"
	st = status(rest, web)
	if tr.Look(at(2), st, true); tr.Over(at(3), st, true) {
		t.Error("it does not wait for the others")
	}
	r = &drill.Report{Applications: tr.Applications(at(30), st)}
	if r.Finish(); r.Result != drill.Failed || r.GivenUp != 30 {
		t.Errorf("%s: %+v", r.Summary(), r)
	}
}
