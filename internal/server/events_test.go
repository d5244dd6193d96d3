package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/server/servertest"
)

// patience is how long a test waits for what has to come.
const patience = 3 * time.Minute

// eventStream reads messages of one connection.
type eventStream struct {
	f     *fixture
	lines *bufio.Scanner
}

func (f *fixture) stream(query string, header ...string) *eventStream {
	f.Helper()
	req, err := http.NewRequestWithContext(f.Context(), http.MethodGet, f.url+"/api/v1/events"+query, nil)
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || ct != "text/event-stream" {
		f.Fatalf("the stream answered %d with %q", resp.StatusCode, ct)
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	return &eventStream{f, s}
}

// next is the next message without its line breaks, "EOF" after the last.
func (s *eventStream) next() string {
	s.f.Helper()
	var parts []string
	for s.lines.Scan() {
		if s.lines.Text() == "" {
			return strings.Join(parts, " | ")
		}
		parts = append(parts, s.lines.Text())
	}
	if err := s.lines.Err(); err != nil {
		return "broken: " + err.Error()
	}
	return "EOF"
}

func (s *eventStream) expect(want ...string) {
	s.f.Helper()
	for _, w := range want {
		if got := strings.ReplaceAll(s.next(), s.f.bus.Epoch(), "E"); got != w {
			s.f.Fatalf("got  %s\nwant %s", got, w)
		}
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func (f *fixture) publish(app string, typ belay.EventType) {
	f.bus.Publish(belay.Event{Time: noon, Type: typ, Application: app, Message: "m"})
}

func data(seq int, app string, typ belay.EventType) string {
	n := strconv.Itoa(seq)
	return `id: E-` + n + ` | data: {"seq":` + n + `,"time":"2026-01-02T12:00:00Z","type":"` + string(typ) + `","application":"` + app + `","message":"m"}`
}

func TestEventsComeInOrderAndLive(t *testing.T) {
	f := start(t)
	f.publish("web", belay.EventSynced)
	s := f.stream("")
	s.expect("retry: 1000 | id: E-0", data(1, "web", belay.EventSynced))
	f.publish("web", belay.EventDrift)
	f.publish("web", belay.EventHealed)
	s.expect(data(2, "web", belay.EventDrift), data(3, "web", belay.EventHealed))
}

func TestEventsResume(t *testing.T) {
	f := start(t)
	for range 5 {
		f.publish("web", belay.EventSynced)
	}
	for _, s := range []*eventStream{
		f.stream("?since=3"), f.stream("?since=" + f.bus.Epoch() + "-3"), f.stream("?since=1", "Last-Event-ID", f.bus.Epoch()+"-3"),
	} {
		s.expect("retry: 1000 | id: E-3", data(4, "web", belay.EventSynced), data(5, "web", belay.EventSynced))
	}
	s := f.stream("?since=latest")
	s.expect("retry: 1000 | id: E-5")
	f.publish("web", belay.EventDrift)
	s.expect(data(6, "web", belay.EventDrift))
}

func TestEventsSayThatTheServerIsAnother(t *testing.T) {
	f := start(t)
	f.publish("web", belay.EventSynced)
	for _, since := range []string{"otherepoch-1", "4711"} {
		f.stream("?since="+since).expect("retry: 1000 | id: E-0", `event: gap | data: {"missed":0,"restarted":true}`, data(1, "web", belay.EventSynced))
	}
}

func TestEventsSayWhatWasMissed(t *testing.T) {
	f := start(t) // its bus keeps 64
	for range 100 {
		f.publish("web", belay.EventSynced)
	}
	f.stream("?since=10").expect("retry: 1000 | id: E-10", `event: gap | data: {"missed":26,"restarted":false}`, data(37, "web", belay.EventSynced))
}

func TestEventsAreFiltered(t *testing.T) {
	f := start(t)
	f.publish("web", belay.EventSynced)
	f.publish("guestbook", belay.EventSynced)
	f.publish("web", belay.EventDrift)
	s := f.stream("?application=web&type=drift&type=healed")
	s.expect("retry: 1000 | id: E-0", data(3, "web", belay.EventDrift))
	// What is filtered out still moves the resume point.
	f.publish("guestbook", belay.EventDrift)
	s.expect("id: E-4")
	f.refused(422, belay.CodeInvalid, "GET", "/api/v1/events?type=a,b", "")
	f.refused(422, belay.CodeInvalid, "GET", "/api/v1/events?since=yesterday", "")
}

func TestEventsEndWhereNobodyFollows(t *testing.T) {
	f := start(t)
	f.stream("?follow=false").expect("retry: 1000 | id: E-0", "EOF")
	f.publish("web", belay.EventSynced)
	f.stream("?follow=false").expect("retry: 1000 | id: E-0", data(1, "web", belay.EventSynced), "EOF")
	f.stream("?follow=false&application=x").expect("retry: 1000 | id: E-0", "id: E-1", "EOF")
}

func TestASilentStreamShowsThatItLives(t *testing.T) {
	f := start(t, func(c *server.Config) { c.Heartbeat = time.Millisecond })
	f.stream("").expect("retry: 1000 | id: E-0", ": alive", ": alive")
}

// A client that reads nothing holds up neither publishers nor other readers,
// and learns afterwards how much it missed.
func TestASlowConsumer(t *testing.T) {
	f := start(t, func(c *server.Config) { c.Patience = patience }) // the slow one is not given up
	slow, quick := f.stream(""), f.stream("")
	slow.expect("retry: 1000 | id: E-0")
	quick.expect("retry: 1000 | id: E-0")
	message := strings.Repeat("x", 64<<10)
	const total = 1000 // 64 MB: more than the sockets' buffers take
	for i := range total {
		f.bus.Publish(belay.Event{Message: message})
		if got := quick.next(); !strings.HasPrefix(got, "id: "+f.bus.Epoch()+"-"+strconv.Itoa(i+1)+" ") {
			t.Fatalf("after %d the quick reader got %.100s", i+1, got)
		}
	}
	seen, missed := 0, 0
	for seen+missed < total {
		got := slow.next()
		if rest, ok := strings.CutPrefix(got, `event: gap | data: {"missed":`); ok {
			n, err := strconv.Atoi(rest[:strings.IndexByte(rest, ',')])
			if err != nil {
				t.Fatal(err)
			}
			missed += n
			continue
		}
		seen++
		if want := "id: " + f.bus.Epoch() + "-" + strconv.Itoa(seen+missed) + " "; !strings.HasPrefix(got, want) {
			t.Fatalf("event %d is %.100s", seen+missed, got)
		}
	}
	if missed == 0 {
		t.Error("the slow reader missed nothing, so this test shows nothing")
	}
}

func TestStoppingEndsStreamsAndLetsRequestsFinish(t *testing.T) {
	engine, bus := &servertest.Engine{}, events.New(8)
	entered, release := make(chan struct{}), make(chan struct{})
	engine.Set(func(s *servertest.State) {
		s.OnSync = func([]string) { close(entered); <-release }
	})
	config := servertest.Config(engine, bus)
	config.Drain = patience // for the request that is in flight
	url, stop, err := servertest.Serve(config, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, engine: engine, bus: bus, url: url}
	s := f.stream("")
	s.expect("retry: 1000 | id: E-0")
	answered := make(chan int)
	go func() {
		code, _, _ := f.ask("POST", "/api/v1/sync", `{"all":true}`)
		answered <- code
	}()
	<-entered
	stopped := make(chan error)
	go func() { stopped <- stop() }()
	s.expect("EOF")
	select {
	case err := <-stopped:
		t.Errorf("stopped with a request in flight: %v", err)
	default:
	}
	close(release)
	if code := <-answered; code != 202 {
		t.Errorf("the request in flight answered %d", code)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		t.Error("it still listens")
	}
}

func TestStoppingDoesNotWaitForConnectionsThatSayNothing(t *testing.T) {
	var logged bytes.Buffer
	c := servertest.Config(&servertest.Engine{}, events.New(8))
	c.Log = slog.New(slog.NewTextHandler(&logged, nil))
	url, stop, err := servertest.Serve(c, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server has accepted it once it answers on a later one.
	f := &fixture{T: t, url: url}
	if code, _, _ := f.ask("GET", "/healthz", ""); code != 200 {
		t.Fatalf("/healthz answered %d", code)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(logged.String(), "cut off") {
		t.Errorf("it waited: %s", &logged)
	}
}

func TestServeSaysWhyItEnded(t *testing.T) {
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	err = server.New(servertest.Config(&servertest.Engine{}, events.New(1))).Serve(context.Background(), l)
	if !errors.Is(err, net.ErrClosed) || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Errorf("got %v", err)
	}
}
