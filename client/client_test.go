package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/server/servertest"
)

const repo = "https://git.example.com/fleet.git"

func connect(t *testing.T, url string) *Client {
	t.Helper()
	c, err := New(url)
	if err != nil {
		t.Fatal(err)
	}
	c.retryMin, c.retryMax = time.Millisecond, time.Millisecond
	return c
}

func start(t *testing.T) (*Client, *servertest.Engine, *events.Bus) {
	t.Helper()
	e, bus := &servertest.Engine{}, events.New(64)
	e.Set(func(s *servertest.State) {
		s.Fleet = belay.Status{
			Applications: []belay.ApplicationStatus{
				{Name: "guestbook", Project: "default", Cluster: "local", Repo: repo, Ref: "main", Revision: "aaaa", Sync: belay.Synced, Health: belay.Healthy},
				{Name: "web", Project: "shop", Cluster: "local", Repo: repo, Ref: "main", Revision: "aaaa", Sync: belay.Synced, Health: belay.Healthy},
			},
			Repositories: []belay.RepositoryStatus{{URL: repo, Refs: map[string]string{"main": "aaaa"}}},
		}
	})
	return connect(t, servertest.Start(t, servertest.Config(e, bus))), e, bus
}

func TestAddresses(t *testing.T) {
	for in, want := range map[string]string{
		"": DefaultServer, "localhost:1": "http://localhost:1", "http://[::1]:8180/": "http://[::1]:8180", "https://belay.example.com/x/": "https://belay.example.com/x",
	} {
		c, err := New(in)
		if err != nil || c.Server() != want {
			t.Errorf("New(%q) = %v, %v, want %s", in, c, err, want)
		}
	}
	for _, in := range []string{"http://", "ftp://x", "http://u:hunter2@x", "http://x?y=1", "http://x:y:z"} {
		_, err := New(in)
		if belay.CodeOf(err) != belay.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("New(%q) gives %v", in, err)
		}
	}
}

func TestMethods(t *testing.T) {
	c, e, bus := start(t)
	c.Actor = "ada"
	ctx := t.Context()
	st, err := c.Status(ctx, Filter{Project: "shop"})
	if err != nil || len(st.Applications) != 1 || st.Applications[0].Name != "web" || len(st.Repositories) != 1 {
		t.Errorf("Status: %+v, %v", st, err)
	}
	apps, err := c.Applications(ctx, Filter{Applications: []string{"web", "guestbook"}, Cluster: "local"})
	if err != nil || len(apps) != 2 {
		t.Errorf("Applications: %+v, %v", apps, err)
	}
	app, err := c.Application(ctx, "web")
	if err != nil || app.Name != "web" {
		t.Errorf("Application: %+v, %v", app, err)
	}
	accepted, err := c.Sync(ctx, belay.SyncRequest{Applications: []string{"web"}})
	if err != nil || !reflect.DeepEqual(accepted.Applications, []string{"web"}) || accepted.Since != bus.Epoch()+"-0" {
		t.Errorf("Sync: %+v, %v", accepted, err)
	}
	n, err := c.Push(ctx, "")
	if err != nil || n != 1 {
		t.Errorf("Push: %d, %v", n, err)
	}
	if _, err := c.Push(ctx, "https://other.example.com"); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("Push of an unknown repository: %v", err)
	}
	b, err := c.Version(ctx)
	if err != nil || b.Version != "v0.0.0-test" {
		t.Errorf("Version: %+v, %v", b, err)
	}
	signer := belay.CommitSigner{Committer: "Belay <belay@localhost>", Key: "ssh-ed25519 AAAA", Fingerprint: "SHA256:x", AllowedSigner: "belay@localhost ssh-ed25519 AAAA"}
	e.Set(func(s *servertest.State) { s.Signer = signer })
	if got, err := c.CommitSigner(ctx); err != nil || got != signer {
		t.Errorf("CommitSigner: %+v, %v", got, err)
	}
	facts := belay.ClusterFacts{Version: "v1", APIVersions: []string{"v1"}, Digest: "d",
		Kinds: map[belay.VersionKind]belay.KindFacts{{APIVersion: "v1", Kind: "Secret"}: {Resource: "secrets", Namespaced: true}}}
	preview := []belay.Preview{{Application: "web", Changes: []belay.PreviewChange{}}}
	e.Set(func(s *servertest.State) {
		s.Clusters = map[string]belay.ClusterFacts{"local": facts}
		s.Previews = preview
		if want := []servertest.SyncCall{{Names: []string{"web"}, Actor: "ada"}}; !reflect.DeepEqual(s.Syncs, want) {
			t.Errorf("asked %+v", s.Syncs)
		}
	})
	if f, err := c.Facts(ctx, "local"); err != nil || !reflect.DeepEqual(f, facts) {
		t.Errorf("Facts: %+v, %v", f, err)
	}
	req := belay.PlanRequest{Rendered: []belay.RenderedApplication{{
		Application: belay.Application{Name: "web", Spec: belay.DefaultApplicationSpec()},
		Objects:     []belay.Object{{ID: belay.ObjectID{Kind: "Secret", Name: "s"}, Raw: json.RawMessage(`{"a":1}`)}},
	}}}
	if p, err := c.Plan(ctx, req); err != nil || !reflect.DeepEqual(p, preview) {
		t.Errorf("Plan: %+v, %v", p, err)
	}
	e.Get(func(s servertest.State) {
		if !reflect.DeepEqual(s.Plans, []belay.PlanRequest{req}) {
			t.Errorf("planned %+v", s.Plans)
		}
	})
}

func TestErrorsComeBackAsTheyWere(t *testing.T) {
	c, e, _ := start(t)
	want := &belay.Error{Code: belay.CodeHeld, Message: "m", Hint: "h", Object: "o", Application: "a", Origin: belay.Origin{File: "f", Line: 1}}
	e.Set(func(s *servertest.State) { s.Failure = want })
	_, err := c.Plan(t.Context(), belay.PlanRequest{})
	if got, ok := errors.AsType[*belay.Error](err); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v", err)
	}
	// A name that would be another path without its escaping.
	if _, err := c.Application(t.Context(), "a/../b"); belay.CodeOf(err) != belay.CodeNotFound || !strings.Contains(err.Error(), `"a/../b"`) {
		t.Errorf("got %v", err)
	}
}

func TestNoServer(t *testing.T) {
	e := httptest.NewServer(http.NotFoundHandler())
	url := e.URL
	e.Close()
	_, err := connect(t, url).Status(t.Context(), Filter{})
	got, ok := errors.AsType[*belay.Error](err)
	if !ok || got.Code != belay.CodeUnavailable || got.Message != "no server answers at "+url+": connect: connection refused" ||
		!strings.Contains(got.Hint, "belay serve") || !strings.Contains(got.Hint, "--server") || !strings.Contains(got.Hint, "BELAY_SERVER") {
		t.Errorf("got %+v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := connect(t, url).Status(ctx, Filter{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a cancelled context: %v", err)
	}
}

func TestAnotherServer(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"text":      func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"not found": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"other JSON": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(`{"kind":"Status"}`))
		},
	} {
		s := httptest.NewServer(h)
		defer s.Close()
		c := connect(t, s.URL)
		_, err := c.Status(t.Context(), Filter{})
		var streamed error
		for _, streamed = range c.Events(t.Context(), EventQuery{Follow: true}) {
		}
		for _, err := range []error{err, streamed} {
			if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "not a Belay server") || !strings.Contains(err.Error(), s.URL) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

func TestEvents(t *testing.T) {
	c, _, bus := start(t)
	for _, app := range []string{"web", "guestbook", "web"} {
		bus.Publish(belay.Event{Application: app, Type: belay.EventSynced, Message: "line\nbreak"})
	}
	var got []uint64
	for e, err := range c.Events(t.Context(), EventQuery{Applications: []string{"web"}, Types: []belay.EventType{belay.EventSynced, belay.EventDrift}}) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Message != "line\nbreak" {
			t.Errorf("message %q", e.Message)
		}
		got = append(got, e.Seq)
	}
	if !reflect.DeepEqual(got, []uint64{1, 3}) {
		t.Errorf("got %v", got)
	}
	for _, err := range c.Events(t.Context(), EventQuery{Since: "nonsense", Follow: true}) {
		if belay.CodeOf(err) != belay.CodeInvalid {
			t.Errorf("a bad resume point gives %v", err)
		}
	}
}

// A stream goes on where it was, over lost connections and over a new life of
// the server, and says what it cannot know.
func TestEventsGoOn(t *testing.T) {
	bus := events.New(64)
	config := servertest.Config(&servertest.Engine{}, bus)
	url, stop, err := servertest.Serve(config, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, url)
	restart := func() {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if _, stop, err = servertest.Serve(config, strings.TrimPrefix(url, "http://")); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}()
	var gaps []Gap
	breaks := 0
	step := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bus.Publish(belay.Event{Message: "past"})
	var seen []string
	// Nothing happens before the stream has begun: the first break tells.
	for e, err := range c.Events(ctx, EventQuery{Follow: true, OnGap: func(g Gap) { gaps = append(gaps, g) }, OnDisconnect: func(err error) {
		if err == nil {
			t.Error("a break without a reason")
		}
		breaks++
	}}) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, e.Message)
		switch step++; step {
		case 1: // the same process answers on a new connection
			restart()
			bus.Publish(belay.Event{Message: "after the break"})
		case 2: // another process, with numbers of its own
			bus = events.New(64)
			config.Events = bus
			bus.Publish(belay.Event{Message: "of a new life"})
			restart()
		case 3:
			cancel()
		}
	}
	if want := []string{"past", "after the break", "of a new life"}; !reflect.DeepEqual(seen, want) {
		t.Errorf("saw %q, want %q", seen, want)
	}
	if !reflect.DeepEqual(gaps, []Gap{{Restarted: true}}) || breaks < 2 {
		t.Errorf("gaps %+v after %d breaks", gaps, breaks)
	}
}

// A server that takes a connection and never answers: whoever follows its events
// asks again, and whoever asks for the first time is told.
func TestEventsSurviveAServerThatNeverAnswers(t *testing.T) {
	bus := events.New(64)
	h := server.New(servertest.Config(&servertest.Engine{}, bus)).Handler()
	var connections atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch connections.Add(1) {
		case 1: // ends after the first message
			q := r.URL.Query()
			q.Set("follow", "false")
			r.URL.RawQuery = q.Encode()
		case 2, 4:
			<-r.Context().Done()
			return
		case 3:
			bus.Publish(belay.Event{Message: "after that"})
		}
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := connect(t, s.URL)
	c.silence = time.Second
	var why []error
	got := ""
	for e, err := range c.Events(ctx, EventQuery{Since: SinceLatest, Follow: true, OnDisconnect: func(err error) { why = append(why, err) }}) {
		if err != nil {
			t.Fatal(err)
		}
		got = e.Message
		break
	}
	if got != "after that" || len(why) != 2 || !errors.Is(why[1], errSilent) {
		t.Errorf("got %q after %v", got, why)
	}
	for _, err := range c.Events(ctx, EventQuery{Follow: true}) {
		if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("the first time: %v", err)
		}
	}
	s.CloseClientConnections()
}

func TestEventsFromNowOnSurviveABreakBeforeTheFirst(t *testing.T) {
	bus := events.New(64)
	config := servertest.Config(&servertest.Engine{}, bus)
	bus.Publish(belay.Event{Message: "past"})
	h := server.New(config).Handler()
	connections := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connections++
		if connections == 1 { // ends after the first message, which has no event
			q := r.URL.Query()
			q.Set("follow", "false")
			r.URL.RawQuery = q.Encode()
			defer bus.Publish(belay.Event{Message: "during the break"})
		}
		h.ServeHTTP(w, r)
	}))
	defer s.Close()
	for e, err := range connect(t, s.URL).Events(t.Context(), EventQuery{Since: SinceLatest, Follow: true}) {
		if err != nil || e.Message != "during the break" {
			t.Fatalf("got %+v, %v", e, err)
		}
		break
	}
	s.CloseClientConnections()
}
