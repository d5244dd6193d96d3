package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/server/servertest"
	"github.com/prometheus/client_golang/prometheus"
)

const repo = "https://git.example.com/fleet.git"

// fleet is two applications, unsorted, one of them with a tree.
func fleet() belay.Status {
	return belay.Status{
		Applications: []belay.ApplicationStatus{
			{Name: "web", Project: "shop", Cluster: "prod", Namespace: "web", Repo: repo, Ref: "main", Revision: "1111111111aaaa",
				Sync: belay.OutOfSync, Health: belay.Degraded, Message: "the port is taken", Automatic: true},
			{Name: "guestbook", Project: "default", Cluster: "local", Namespace: "guestbook", Repo: repo, Path: "apps/guestbook", Ref: "main",
				Revision: "1111111111aaaa", Sync: belay.Synced, Health: belay.Healthy, Objects: 1, SyncedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
				Tree: []belay.ObjectStatus{{ObjectID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "guestbook", Name: "frontend"},
					APIVersion: "apps/v1", Sync: belay.Synced, Health: belay.Healthy, File: "apps/guestbook/d.yaml", Line: 1}}},
		},
		Clusters:     []belay.ClusterStatus{{Name: "prod", Message: "connection refused"}, {Name: "local", Version: "v1.36.2", Ready: true}},
		Repositories: []belay.RepositoryStatus{{URL: repo, Refs: map[string]string{"main": "1111111111aaaa"}}},
		Problems:     []belay.Error{{Code: belay.CodeInvalid, Message: "unknown field", Origin: belay.Origin{File: "belay/x.yaml", Line: 3}}},
	}
}

type fixture struct {
	*testing.T
	engine *servertest.Engine
	bus    *events.Bus
	url    string
}

func start(t *testing.T, change ...func(*server.Config)) *fixture {
	t.Helper()
	f := &fixture{T: t, engine: &servertest.Engine{}, bus: events.New(64)}
	f.engine.Set(func(s *servertest.State) {
		s.Fleet = fleet()
		declared := belay.Declared{File: "belay/x.yaml", Line: 3}
		s.Inventory = belay.Inventory{
			Clusters: []belay.ClusterEntry{{ClusterStatus: belay.ClusterStatus{Name: "local", Version: "v1.36.2", Ready: true}, Declared: declared, Applications: []string{"web"}}},
			Repositories: []belay.RepositoryEntry{{RepositoryStatus: belay.RepositoryStatus{URL: "https://git.example.com/fleet.git", Refs: map[string]string{"main": "c"}, Message: "down"},
				Names: []string{"fleet"}, Declared: []belay.Declared{declared}, Definitions: true, Applications: []string{}}},
			Projects: []belay.ProjectEntry{{Name: belay.DefaultProject, Spec: belay.OpenProject().Spec, Applications: []string{"web"}}},
		}
		s.Clusters = map[string]belay.ClusterFacts{"local": {Version: "v1.36.2", APIVersions: []string{"apps/v1", "apps/v1/Deployment"}, Digest: "d",
			Kinds: map[belay.VersionKind]belay.KindFacts{{APIVersion: "apps/v1", Kind: "Deployment"}: {Resource: "deployments", Namespaced: true}}}}
	})
	c := servertest.Config(f.engine, f.bus)
	for _, ch := range change {
		ch(&c)
	}
	f.url = servertest.Start(t, c)
	return f
}

// ask sends a request and returns the status and the body.
func (f *fixture) ask(method, path, body string, header ...string) (int, string, http.Header) {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), method, f.url+path, strings.NewReader(body))
	if err != nil {
		f.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirects
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp.StatusCode, string(raw), resp.Header
}

// problem is what the API promises of errors.
type problem struct {
	Status                      int
	Title, Detail               string
	Code, Message, Hint, Object string
	Origin                      belay.Origin
}

// refused asks for something that must be refused.
func (f *fixture) refused(status int, code belay.Code, method, path, body string, header ...string) problem {
	f.Helper()
	got, raw, h := f.ask(method, path, body, header...)
	var p problem
	if err := json.Unmarshal([]byte(raw), &p); err != nil {
		f.Fatalf("%s %s answered %d %q: %v", method, path, got, raw, err)
	}
	if got != status || p.Status != status || p.Code != string(code) || p.Message == "" || p.Detail == "" || p.Title != http.StatusText(status) {
		f.Errorf("%s %s answered %d %s, want %d with code %s", method, path, got, raw, status, code)
	}
	if ct := h.Get("Content-Type"); ct != "application/problem+json" {
		f.Errorf("%s %s answered with content type %q", method, path, ct)
	}
	return p
}

func decode[T any](f *fixture, status int, method, path, body string, header ...string) T {
	f.Helper()
	got, raw, _ := f.ask(method, path, body, header...)
	if got != status {
		f.Fatalf("%s %s answered %d %s, want %d", method, path, got, raw, status)
	}
	var v T
	if err := json.Unmarshal([]byte(raw), &v); err != nil {
		f.Fatalf("%s %s answered %q: %v", method, path, raw, err)
	}
	return v
}

func TestStatusIsSortedWholeAndWithoutTrees(t *testing.T) {
	f := start(t)
	_, raw, _ := f.ask("GET", "/api/v1/status", "")
	want := `{"applications":[` +
		`{"name":"guestbook","project":"default","cluster":"local","namespace":"guestbook","repo":"https://git.example.com/fleet.git","path":"apps/guestbook","ref":"main",` +
		`"revision":"1111111111aaaa","sync":"Synced","health":"Healthy","message":"","syncedAt":"2026-01-02T03:04:05Z","objects":1,"automatic":false},` +
		`{"name":"web","project":"shop","cluster":"prod","namespace":"web","repo":"https://git.example.com/fleet.git","ref":"main",` +
		`"revision":"1111111111aaaa","sync":"OutOfSync","health":"Degraded","message":"the port is taken","objects":0,"automatic":true}],` +
		`"clusters":[{"name":"local","version":"v1.36.2","ready":true},{"name":"prod","ready":false,"message":"connection refused"}],` +
		`"repositories":[{"url":"https://git.example.com/fleet.git","refs":{"main":"1111111111aaaa"}}],` +
		`"problems":[{"code":"invalid","message":"unknown field","origin":{"file":"belay/x.yaml","line":3}}]}` + "\n"
	if raw != want {
		t.Errorf("got\n%s\nwant\n%s", raw, want)
	}
}

func TestAnEmptyFleetIsAnEmptyList(t *testing.T) {
	f := start(t)
	f.engine.Set(func(s *servertest.State) { s.Fleet = belay.Status{} })
	for _, path := range []string{"/api/v1/status", "/api/v1/applications"} {
		if _, raw, _ := f.ask("GET", path, ""); raw != `{"applications":[]}`+"\n" {
			t.Errorf("%s answered %s", path, raw)
		}
	}
}

func TestFilters(t *testing.T) {
	f := start(t)
	for query, want := range map[string][]string{
		"":                                       {"guestbook", "web"},
		"?application=web":                       {"web"},
		"?application=web&application=guestbook": {"guestbook", "web"},
		"?project=shop":                          {"web"},
		"?cluster=local":                         {"guestbook"},
		"?cluster=local&project=shop":            {},
		"?application=nosuch":                    {},
	} {
		got := []string{}
		for _, a := range decode[belay.Status](f, 200, "GET", "/api/v1/applications"+query, "").Applications {
			got = append(got, a.Name)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q gives %v, want %v", query, got, want)
		}
	}
}

func TestApplication(t *testing.T) {
	f := start(t)
	a := decode[belay.ApplicationStatus](f, 200, "GET", "/api/v1/applications/guestbook", "")
	if len(a.Tree) != 1 || a.Tree[0].Name != "frontend" {
		t.Errorf("the tree is %+v", a.Tree)
	}
	p := f.refused(404, belay.CodeNotFound, "GET", "/api/v1/applications/nosuch", "")
	if p.Message != `there is no application "nosuch"` || p.Hint == "" {
		t.Errorf("got %+v", p)
	}
}

func TestFacts(t *testing.T) {
	f := start(t)
	_, raw, _ := f.ask("GET", "/api/v1/clusters/local/facts", "")
	want := `{"version":"v1.36.2","apiVersions":["apps/v1","apps/v1/Deployment"],` +
		`"kinds":[{"apiVersion":"apps/v1","kind":"Deployment","resource":"deployments","namespaced":true}],"digest":"d"}` + "\n"
	if raw != want {
		t.Errorf("got %s", raw)
	}
	f.refused(404, belay.CodeNotFound, "GET", "/api/v1/clusters/nosuch/facts", "")
}

func TestSync(t *testing.T) {
	f := start(t)
	f.bus.Publish(belay.Event{})
	got := decode[belay.SyncAccepted](f, 202, "POST", "/api/v1/sync", `{"applications":["web","guestbook","web"]}`, server.ActorHeader, "ada")
	if !reflect.DeepEqual(got.Applications, []string{"guestbook", "web"}) || got.Since != f.bus.Epoch()+"-1" || time.Since(got.RequestedAt) > time.Minute {
		t.Errorf("got %+v", got)
	}
	decode[belay.SyncAccepted](f, 202, "POST", "/api/v1/applications/web/sync", "")
	all := decode[belay.SyncAccepted](f, 202, "POST", "/api/v1/sync", `{"all":true}`)
	if !reflect.DeepEqual(all.Applications, []string{"guestbook", "web"}) {
		t.Errorf("all are %v", all.Applications)
	}
	f.engine.Get(func(s servertest.State) {
		want := []servertest.SyncCall{
			{Names: []string{"guestbook", "web"}, Actor: "ada"}, {Names: []string{"web"}, Actor: "api"}, {Actor: "api"}}
		if !reflect.DeepEqual(s.Syncs, want) {
			t.Errorf("the engine was asked %+v, want %+v", s.Syncs, want)
		}
	})
	f.engine.Set(func(s *servertest.State) { s.Syncs = nil })
	decode[belay.SyncAccepted](f, 202, "POST", "/api/v1/sync", `{"applications":["web"],"overrideWindow":true,"reason":"outage"}`)
	f.engine.Get(func(s servertest.State) {
		if want := []servertest.SyncCall{{Names: []string{"web"}, Actor: "api", Override: "outage"}}; !reflect.DeepEqual(s.Syncs, want) {
			t.Errorf("the engine was asked %+v, want %+v", s.Syncs, want)
		}
	})
	for _, body := range []string{`{"applications":["web"],"overrideWindow":true}`, `{"applications":["web"],"overrideWindow":true,"reason":" "}`,
		`{"all":true,"overrideWindow":true,"reason":"outage"}`} {
		f.refused(422, belay.CodeInvalid, "POST", "/api/v1/sync", body)
	}
	f.refused(404, belay.CodeNotFound, "POST", "/api/v1/sync", `{"applications":["web","nosuch"]}`)
	f.refused(404, belay.CodeNotFound, "POST", "/api/v1/applications/nosuch/sync", "")
	for _, body := range []string{`{}`, `{"all":true,"applications":["web"]}`, `{"everything":true}`, `{"applications":"web"}`} {
		f.refused(422, belay.CodeInvalid, "POST", "/api/v1/sync", body)
	}
	f.refused(400, belay.CodeInvalid, "POST", "/api/v1/sync", `{`)
	f.refused(400, belay.CodeInvalid, "POST", "/api/v1/sync", "")
	f.engine.Get(func(s servertest.State) {
		if len(s.Syncs) != 3 { // the unknown names were the engine's to refuse
			t.Errorf("a refused request reached the engine: %+v", s.Syncs)
		}
	})
}

func TestPlan(t *testing.T) {
	f := start(t)
	f.engine.Set(func(s *servertest.State) {
		s.Previews = []belay.Preview{{Application: "web", Changes: nil}, {Application: "guestbook", Changes: []belay.PreviewChange{{Verb: belay.VerbCreate, Diff: "+a"}}}}
	})
	req := belay.PlanRequest{Applications: []string{"guestbook"}, Rendered: []belay.RenderedApplication{{
		Application: belay.Application{Name: "guestbook", Spec: belay.DefaultApplicationSpec()},
		Objects:     []belay.Object{{ID: belay.ObjectID{Kind: "Secret", Name: "s"}, APIVersion: "v1", Raw: json.RawMessage(`{"apiVersion":"v1","data":{"p":"aHVudGVyMg=="},"kind":"Secret"}`)}},
	}}}
	body, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	_, raw, _ := f.ask("POST", "/api/v1/plan", string(body))
	want := `{"previews":[{"application":"guestbook","cluster":"","digest":"","changes":[{"verb":"create","id":{"kind":"","name":""},"diff":"+a"}],"unchanged":0},` +
		`{"application":"web","cluster":"","digest":"","changes":[],"unchanged":0}]}` + "\n"
	if raw != want {
		t.Errorf("got\n%s\nwant\n%s", raw, want)
	}
	f.engine.Get(func(s servertest.State) {
		if !reflect.DeepEqual(s.Plans, []belay.PlanRequest{req}) {
			t.Errorf("the engine was asked\n%+v\nwant\n%+v", s.Plans, req)
		}
	})
	f.refused(422, belay.CodeInvalid, "POST", "/api/v1/plan", `{"revision":"main","rendered":[`+string(mustJSON(t, req.Rendered[0]))+`]}`)
}

func mustJSON(t *testing.T, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestHook(t *testing.T) {
	f := start(t)
	for _, c := range []struct{ body, want string }{
		{"", `{"repositories":1}`}, {"{}", `{"repositories":1}`}, {`{"repo":""}`, `{"repositories":1}`}, {`{"repo":"` + repo + `"}`, `{"repositories":1}`},
	} {
		// As curl sends it: with the content type of a form.
		if code, raw, _ := f.ask("POST", "/hooks/push", c.body, "Content-Type", "application/x-www-form-urlencoded"); code != 202 || raw != c.want+"\n" {
			t.Errorf("%q answered %d %s", c.body, code, raw)
		}
	}
	p := f.refused(404, belay.CodeNotFound, "POST", "/hooks/push", `{"repo":"https://other.example.com/x"}`)
	if !strings.Contains(p.Message, "https://other.example.com/x") {
		t.Errorf("the unknown repository is not named: %+v", p)
	}
	for _, body := range []string{`{"repository":{}}`, `[]`, `{"repo":1}`, `nonsense`} {
		f.refused(422, belay.CodeInvalid, "POST", "/hooks/push", body)
	}
	f.engine.Get(func(s servertest.State) {
		if want := []string{"", "", "", repo, "https://other.example.com/x"}; !reflect.DeepEqual(s.Pokes, want) {
			t.Errorf("poked %q, want %q", s.Pokes, want)
		}
	})
}

func TestErrorsKeepCodeHintAndPlace(t *testing.T) {
	f := start(t)
	for code, status := range map[belay.Code]int{
		belay.CodeInvalid: 422, belay.CodeNotFound: 404, belay.CodeDenied: 403, belay.CodeForbidden: 403, belay.CodeConflict: 409, belay.CodeImmutable: 409,
		belay.CodeUnknownKind: 422, belay.CodeNoNamespace: 422, belay.CodeTerminating: 409, belay.CodeHeld: 409, belay.CodeUnavailable: 503, belay.CodeInternal: 500,
	} {
		f.engine.Set(func(s *servertest.State) {
			s.Failure = fmt.Errorf("wrapped: %w", &belay.Error{Code: code, Message: "m", Hint: "h", Object: "o", Origin: belay.Origin{File: "f.yaml", Line: 2}})
		})
		p := f.refused(status, code, "POST", "/api/v1/plan", "{}")
		if p.Message != "m" || p.Hint != "h" || p.Object != "o" || p.Origin.File != "f.yaml" || p.Detail != "f.yaml:2: o: m" {
			t.Errorf("%s came out as %+v", code, p)
		}
	}
	f.engine.Set(func(s *servertest.State) { s.Failure = errors.New("boom") })
	if p := f.refused(500, belay.CodeInternal, "POST", "/api/v1/plan", "{}"); p.Message != "boom" {
		t.Errorf("got %+v", p)
	}
	f.engine.Set(func(s *servertest.State) { s.Failure = context.DeadlineExceeded })
	f.refused(503, belay.CodeUnavailable, "POST", "/api/v1/plan", "{}")
}

func TestUnknownPathsAndMethods(t *testing.T) {
	f := start(t)
	f.refused(404, belay.CodeNotFound, "GET", "/nosuch", "")
	f.refused(404, belay.CodeNotFound, "GET", "/schemas/Application.json", "")
	f.refused(405, belay.CodeInvalid, "DELETE", "/api/v1/status", "")
	if _, _, h := f.ask("PUT", "/api/v1/sync", ""); h.Get("Allow") != "POST" {
		t.Errorf("Allow is %q", h.Get("Allow"))
	}
}

// What a request holds may be secret: it is in no answer and no log.
func TestRequestsAreNeitherQuotedNorLogged(t *testing.T) {
	var logged bytes.Buffer
	f := start(t, func(c *server.Config) {
		c.Log = slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	const secret = "hunter2hunter2"
	object := `{"id":{"kind":"Secret","name":"s"},"apiVersion":"v1","digest":"","origin":{},"raw":{"stringData":{"p":"` + secret + `"}}`
	app := `{"name":"a","origin":{},"spec":{"source":{},"sync":{"automatic":true,"selfHeal":true,"prune":true,"createNamespace":true,"pruneLimit":{"percent":1,"from":1}}}}`
	for _, body := range []string{
		`{"rendered":[{"application":` + app + `,"objects":[` + object + `}]}]}`,                           // fine
		`{"rendered":[{"application":` + app + `,"objects":[` + object + `,"nosuch":"` + secret + `"}]}]}`, // an unknown field
		`{"rendered":[{"application":"` + secret + `"}]}`,                                                  // a wrong type
		`{"rendered":[{"application":` + app + `,"objects":[` + object + ``,                                // no JSON
		`"` + secret + `"`, secret, `{"revision":{"x":"` + secret + `"}}`,
	} {
		if code, raw, _ := f.ask("POST", "/api/v1/plan", body); strings.Contains(raw, secret) {
			t.Errorf("%d quotes the request: %s", code, raw)
		}
	}
	if _, raw, _ := f.ask("POST", "/hooks/push", `{"`+`repo":["`+secret+`"]}`); strings.Contains(raw, secret) {
		t.Errorf("the hook quotes the request: %s", raw)
	}
	if code, raw, _ := f.ask("POST", "/api/v1/plan", `{"rendered":[{"application":`+app+`,"objects":[`+object+`}]}]}`); code != 200 {
		t.Errorf("the example is refused, so this test shows nothing: %d %s", code, raw)
	}
	if strings.Contains(logged.String(), secret) || !strings.Contains(logged.String(), "/api/v1/plan") {
		t.Errorf("the log is\n%s", logged.String())
	}
}

func TestLargeBodiesAreRefused(t *testing.T) {
	f := start(t)
	f.refused(413, belay.CodeInvalid, "POST", "/api/v1/sync", `{"applications":["`+strings.Repeat("x", 1<<17)+`"]}`)
	// A plan holds every object of a working directory.
	if code, raw, _ := f.ask("POST", "/api/v1/plan", `{"revision":"`+strings.Repeat("x", 1<<20)+`"}`); code != 200 {
		t.Errorf("a plan of a megabyte answered %d %.200s", code, raw)
	}
}

func TestReadinessAndHealth(t *testing.T) {
	f := start(t)
	if code, raw, _ := f.ask("GET", "/healthz", ""); code != 200 || raw != `{"status":"ok"}`+"\n" {
		t.Errorf("/healthz answered %d %s", code, raw)
	}
	if code, raw, _ := f.ask("GET", "/readyz", ""); code != 200 || raw != `{"ready":true,"reasons":[]}`+"\n" {
		t.Errorf("/readyz answered %d %s", code, raw)
	}
	f.engine.Set(func(s *servertest.State) {
		s.NotReady = errors.Join(errors.New("the definitions were not read yet"), errors.New("cluster prod was not tried yet"))
	})
	want := `{"ready":false,"reasons":["the definitions were not read yet","cluster prod was not tried yet"]}` + "\n"
	if code, raw, _ := f.ask("GET", "/readyz", ""); code != 503 || raw != want {
		t.Errorf("/readyz answered %d %s", code, raw)
	}
}

func TestMetricsSchemasVersionAndFrontPage(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "belay_test_total", Help: "Of this test."})
	registry.MustRegister(counter)
	counter.Inc()
	f := start(t, func(c *server.Config) {
		c.Metrics = registry
		c.Schemas = func(kind string) []byte {
			if kind == "Application" {
				return []byte(`{"type":"object"}`)
			}
			return nil
		}
	})
	if code, raw, _ := f.ask("GET", "/metrics", ""); code != 200 || !strings.Contains(raw, "belay_test_total 1") || strings.Contains(raw, "go_goroutines") {
		t.Errorf("/metrics answered %d %s", code, raw)
	}
	if code, raw, h := f.ask("GET", "/schemas/Application.json", ""); code != 200 || raw != `{"type":"object"}` || h.Get("Content-Type") != "application/schema+json" {
		t.Errorf("the schema is %d %s", code, raw)
	}
	f.refused(404, belay.CodeNotFound, "GET", "/schemas/Nosuch.json", "")
	f.refused(404, belay.CodeNotFound, "GET", "/schemas/Application", "")
	if b := decode[belay.Build](f, 200, "GET", "/api/v1/version", ""); b.Version != "v0.0.0-test" {
		t.Errorf("the version is %+v", b)
	}
	if code, _, h := f.ask("GET", "/", ""); code != 302 || h.Get("Location") != "/docs" {
		t.Errorf("/ answered %d to %s", code, h.Get("Location"))
	}
}

// A web site must not reach the server through the browser of somebody who runs it.
func TestHostAndOrigin(t *testing.T) {
	f := start(t)
	port := f.url[strings.LastIndexByte(f.url, ':'):]
	for host, ok := range map[string]bool{
		"127.0.0.1" + port: true, "localhost" + port: true, "LOCALHOST": true, "[::1]" + port: true, "::1": true, "127.1.2.3": true,
		"evil.example.com": false, "evil.example.com" + port: false, "localhost.evil.example.com": false, "10.0.0.1": false, "0.0.0.0" + port: false, "127.0.0.1.evil.example.com": false,
	} {
		code, _, _ := f.ask("GET", "/healthz", "", "Host", host)
		if ok && code != 200 || !ok && code != 421 {
			t.Errorf("host %q answered %d", host, code)
		}
	}
	f.refused(421, belay.CodeForbidden, "GET", "/api/v1/status", "", "Host", "evil.example.com")
	f.refused(421, belay.CodeForbidden, "GET", "/metrics", "", "Host", "evil.example.com")

	for _, c := range []struct {
		method string
		header []string
		ok     bool
	}{
		{"POST", nil, true}, // no browser
		{"POST", []string{"Origin", f.url}, true},
		{"POST", []string{"Origin", f.url, "Sec-Fetch-Site", "same-origin"}, true},
		{"POST", []string{"Origin", "https://evil.example.com"}, false},
		{"POST", []string{"Origin", "http://127.0.0.1:1"}, false},
		{"POST", []string{"Origin", "null"}, false},
		{"POST", []string{"Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site"}, false},
		{"POST", []string{"Sec-Fetch-Site", "same-site"}, false},
	} {
		code, raw, _ := f.ask(c.method, "/hooks/push", "", c.header...)
		if c.ok && code != 202 || !c.ok && code != 403 {
			t.Errorf("%s with %q answered %d %s", c.method, c.header, code, raw)
		}
	}
	f.refused(403, belay.CodeForbidden, "POST", "/api/v1/sync", `{"all":true}`, "Origin", "https://evil.example.com")
	f.engine.Get(func(s servertest.State) {
		if len(s.Syncs) > 0 || len(s.Pokes) != 3 {
			t.Errorf("a refused request reached the engine: %+v, %q", s.Syncs, s.Pokes)
		}
	})
}

func TestListenRefusesWhatIsNotLoopback(t *testing.T) {
	for addr, code := range map[string]belay.Code{
		":8180": belay.CodeDenied, "0.0.0.0:0": belay.CodeDenied, "[::]:0": belay.CodeDenied, "[::ffff:0.0.0.0]:0": belay.CodeDenied,
		"192.0.2.1:0": belay.CodeDenied, "[2001:db8::1]:0": belay.CodeDenied, "[::ffff:192.0.2.1]:0": belay.CodeDenied,
		"nosuch.invalid:0": belay.CodeInvalid, "127.0.0.1": belay.CodeInvalid, "": belay.CodeInvalid, "127.0.0.1:99999": belay.CodeUnavailable,
	} {
		l, err := server.Listen(t.Context(), addr)
		if err == nil {
			t.Errorf("listens on %q as %s", addr, l.Addr())
			_ = l.Close()
			continue
		}
		e, ok := errors.AsType[*belay.Error](err)
		if !ok || e.Code != code || e.Hint == "" || !strings.Contains(e.Message, fmt.Sprintf("%q", addr)) {
			t.Errorf("%q is refused with %+v, want code %s", addr, err, code)
		}
	}
	for _, addr := range []string{"127.0.0.1:0", "localhost:0", "127.0.0.2:0", "[::ffff:127.0.0.1]:0"} {
		l, err := server.Listen(t.Context(), addr)
		if err != nil {
			t.Errorf("%q is refused: %v", addr, err)
			continue
		}
		if !l.Addr().(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("%q listens on %s", addr, l.Addr())
		}
		_ = l.Close()
	}
}

func TestAPortThatIsTakenIsNamed(t *testing.T) {
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = server.Listen(t.Context(), l.Addr().String())
	if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v", err)
	}
}

type panicking struct{ *servertest.Engine }

func (panicking) Status() belay.Status { panic("boom") }

func TestADefectAnswersAndIsLogged(t *testing.T) {
	var logged bytes.Buffer
	f := start(t, func(c *server.Config) {
		c.Engine = panicking{c.Engine.(*servertest.Engine)}
		c.Log = slog.New(slog.NewTextHandler(&logged, nil))
	})
	if p := f.refused(500, belay.CodeInternal, "GET", "/api/v1/status", ""); strings.Contains(p.Message, "boom") {
		t.Errorf("the defect is shown: %+v", p)
	}
	f.refused(404, belay.CodeNotFound, "GET", "/nosuch", "") // it still serves
	if !strings.Contains(logged.String(), "boom") {
		t.Errorf("the log is %s", logged.String())
	}
}
