package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
)

// The end-to-end tests run the real program: the test binary starts itself as
// "belay serve", so that it can be killed, against a real control plane and real
// repositories. See world for how they keep apart.

// Environment of a test binary that is to be the program.
const (
	envServe = "BELAY_E2E_SERVE"
	// envCrash is POINT:N; the process kills itself when it passes the
	// checkpoint for the N-th time. Lines of its standard input say the same.
	envCrash = "BELAY_E2E_CRASH"
)

// e2eProcess reports whether this process is to be the program, and runs it.
func e2eProcess() (code int, ok bool) {
	if os.Getenv(envServe) == "" {
		// These tests wait for other processes most of the time.
		_ = flag.Set("test.parallel", "8") // a flag on the command line wins
		return 0, false
	}
	bomb := &bomb{}
	bomb.arm(os.Getenv(envCrash))
	go func() { // its standard input ends with the test, however that ends
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			bomb.arm(lines.Text())
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
	return run(bomb.passed), true
}

// bomb kills the process at a checkpoint; armed with slow-POINT:N it waits there
// for N milliseconds each time instead, so that a test can come in between.
type bomb struct {
	mu   sync.Mutex
	at   string
	left int
}

func (b *bomb) arm(spec string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = ""
	if spec == "" {
		return
	}
	if n, err := fmt.Sscanf(strings.Replace(spec, ":", " ", 1), "%s %d", &b.at, &b.left); n != 2 {
		panic(err) // written by the test
	}
	fmt.Fprintln(os.Stderr, "armed", spec)
}

func (b *bomb) passed(point string) {
	b.mu.Lock()
	if b.at == "slow-"+point {
		pause := time.Duration(b.left) * time.Millisecond
		b.mu.Unlock()
		time.Sleep(pause)
		return
	}
	defer b.mu.Unlock()
	if b.at != point {
		return
	}
	if b.left--; b.left == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // nothing happens between the kill and the end
	}
}

// serveProcess is a running "belay serve".
type serveProcess struct {
	*client.Client
	w      *world
	url    string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	log    *logBuffer
	exited chan struct{} // closed when it has ended
	err    error         // of its end, once exited is closed
	died   time.Time     // when that was seen, likewise
	armed  bool          // it is to kill itself
}

// logBuffer collects a log and can be read meanwhile.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// lines are the complete lines so far, as JSON objects.
func (b *logBuffer) lines() []map[string]any {
	var out []map[string]any
	for line := range strings.Lines(b.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil {
			out = append(out, m)
		}
	}
	return out
}

// serve starts a server and returns when it serves.
func (w *world) serve(args ...string) *serveProcess {
	w.t.Helper()
	return w.serveCrashing("", args...)
}

// serveCrashing starts a server that kills itself at a checkpoint, unless crash is "".
func (w *world) serveCrashing(crash string, args ...string) *serveProcess {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	s := &serveProcess{w: w, log: &logBuffer{}, exited: make(chan struct{}), armed: crash != ""}
	s.cmd = exec.Command(self, append([]string{"serve", "--log-format", "json", "--repo", w.url, "--kubeconfig", w.kubeconfig,
		"--data", w.data, "--listen", "127.0.0.1:0", "--instance", w.instance, "--interval", "1h"}, args...)...)
	s.cmd.Env = append(os.Environ(), envServe+"=1", envCrash+"="+crash)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		s.died = time.Now()
		close(s.exited)
	}()
	w.servers = append(w.servers, s)
	w.t.Cleanup(func() {
		s.kill()
		_ = s.stdin.Close() // it has ended
		s.inspect()
	})
	devtest.Await(w.t, "the server to serve", func() error {
		for _, l := range s.log.lines() {
			if l["msg"] == "serving" {
				s.url, _ = l["url"].(string)
				return nil
			}
		}
		if s.ended() && crash == "" {
			w.t.Fatalf("the server ended: %v\n%s", s.err, s.log)
		}
		if s.ended() {
			return nil
		}
		return fmt.Errorf("no such line in its log")
	})
	if s.Client, err = client.New(s.url); err != nil {
		w.t.Fatal(err)
	}
	return s
}

// inspect looks at the log of a server that has ended for what must never be there.
func (s *serveProcess) inspect() {
	log := s.log.String()
	for _, bad := range []string{"DATA RACE", "reconcile panicked", "panic:", "goroutine 1 ["} {
		if strings.Contains(log, bad) {
			s.w.t.Errorf("%q in the log of the server", bad)
		}
	}
	if s.w.t.Failed() {
		const most = 12 << 10
		if len(log) > most {
			log = "…" + log[len(log)-most:]
		}
		s.w.t.Logf("log of %s:\n%s", s.url, log)
	}
}

func (s *serveProcess) ended() bool {
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// kill ends the server as a power cut would.
func (s *serveProcess) kill() {
	_ = s.cmd.Process.Kill() // it may have ended
	<-s.exited
}

// crashAt has the server kill itself when it passes a checkpoint the n-th time from now.
func (s *serveProcess) crashAt(point string, n int) {
	s.w.t.Helper()
	spec := fmt.Sprintf("%s:%d", point, n)
	s.armed = !strings.HasPrefix(point, "slow-")
	if _, err := fmt.Fprintln(s.stdin, spec); err != nil {
		s.w.t.Fatal(err)
	}
	devtest.Await(s.w.t, "the server to take "+spec, func() error {
		if !strings.Contains(s.log.String(), "armed "+spec+"\n") {
			return errors.New("it did not")
		}
		return nil
	})
}

// stop ends the server as a person would.
func (s *serveProcess) stop() {
	s.w.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.w.t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(devtest.Patience):
		s.w.t.Fatalf("the server does not end")
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		s.w.t.Errorf("the server ended with %d (%v), want 0", code, s.err)
	}
}

// state is the present state of the fleet.
func (s *serveProcess) state() belay.Status {
	s.w.t.Helper()
	st, err := s.Status(s.w.t.Context(), client.Filter{})
	if err != nil {
		s.w.t.Fatalf("status: %v", err)
	}
	return st
}

// app is the present state of one application; ok is false if there is none.
func (s *serveProcess) app(name string) (belay.ApplicationStatus, bool) {
	s.w.t.Helper()
	for _, a := range s.state().Applications {
		if a.Name == name {
			return a, true
		}
	}
	return belay.ApplicationStatus{}, false
}

// awaitSynced waits until exactly the named applications are there, all of them
// Synced and Healthy at the newest commit.
func (s *serveProcess) awaitSynced(names ...string) {
	s.w.t.Helper()
	commit := s.w.repo.Resolve("main")
	devtest.Await(s.w.t, fmt.Sprintf("%v to be synced to %.10s", names, commit), func() error {
		st := s.state()
		for _, a := range st.Applications {
			if !slices.Contains(names, a.Name) {
				return fmt.Errorf("%s is there: %s %s %q", a.Name, a.Sync, a.Health, a.Message)
			}
		}
		for _, n := range names {
			if err := wellAt(&st, n, commit); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitApps waits until the named applications are Synced and Healthy at the
// newest commit, whatever the others are.
func (s *serveProcess) awaitApps(names ...string) {
	s.w.t.Helper()
	commit := s.w.repo.Resolve("main")
	devtest.Await(s.w.t, fmt.Sprintf("%v to be synced to %.10s", names, commit), func() error {
		st := s.state()
		for _, n := range names {
			if err := wellAt(&st, n, commit); err != nil {
				return err
			}
		}
		return nil
	})
}

func wellAt(st *belay.Status, name, commit string) error {
	for _, a := range st.Applications {
		if a.Name != name {
			continue
		}
		if a.Sync != belay.Synced || a.Health != belay.Healthy || a.Revision != commit {
			return fmt.Errorf("%s is %s %s at %.10s: %q", name, a.Sync, a.Health, a.Revision, a.Message)
		}
		return nil
	}
	return fmt.Errorf("%s is not there", name)
}

// awaitMessage waits until an application is not synced, with a message and hint
// that contain all of the texts, and returns its state.
func (s *serveProcess) awaitMessage(app string, texts ...string) (found belay.ApplicationStatus) {
	s.w.t.Helper()
	devtest.Await(s.w.t, fmt.Sprintf("%s to say %q", app, texts), func() error {
		a, ok := s.app(app)
		if !ok {
			return fmt.Errorf("it is not there")
		}
		for _, text := range texts {
			if !strings.Contains(a.Message+"\n"+a.Hint, text) {
				return fmt.Errorf("it is %s %s: %q (%s)", a.Sync, a.Health, a.Message, a.Hint)
			}
		}
		found = a
		return nil
	})
	return found
}

// awaitProblem waits until a wrong definition is reported whose error contains
// all of the texts.
func (s *serveProcess) awaitProblem(texts ...string) {
	s.w.t.Helper()
	devtest.Await(s.w.t, fmt.Sprintf("a problem %q", texts), func() error {
		st := s.state()
		var all []string
		for i := range st.Problems {
			msg := st.Problems[i].Error()
			if !slices.ContainsFunc(texts, func(x string) bool { return !strings.Contains(msg, x) }) {
				return nil
			}
			all = append(all, msg)
		}
		return fmt.Errorf("problems are %q", all)
	})
}

// events are all events that the server remembers.
func (s *serveProcess) events() []belay.Event {
	s.w.t.Helper()
	var out []belay.Event
	for e, err := range s.Events(s.w.t.Context(), client.EventQuery{}) {
		if err != nil {
			s.w.t.Fatalf("events: %v", err)
		}
		out = append(out, e)
	}
	return out
}

// awaitEvent waits for an event of a type whose application, object, actor and
// message together contain all of the texts.
func (s *serveProcess) awaitEvent(typ belay.EventType, texts ...string) {
	s.w.t.Helper()
	devtest.Await(s.w.t, fmt.Sprintf("an event %s %q", typ, texts), func() error {
		var seen []string
		for _, e := range s.events() {
			line := strings.Join([]string{e.Application, e.Object, e.Actor, e.Message}, " | ")
			if e.Type == typ && !slices.ContainsFunc(texts, func(x string) bool { return !strings.Contains(line, x) }) {
				return nil
			}
			if e.Type == typ {
				seen = append(seen, line)
			}
		}
		return fmt.Errorf("of that type there are %q", seen)
	})
}

// get is the body of a GET.
func (s *serveProcess) get(path string) string {
	s.w.t.Helper()
	req, err := http.NewRequestWithContext(s.w.t.Context(), http.MethodGet, s.url+path, nil)
	if err != nil {
		s.w.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.w.t.Fatal(err)
	}
	return string(body)
}

// metric is the value of a counter or gauge without labels.
func (s *serveProcess) metric(name string) int {
	s.w.t.Helper()
	for line := range strings.Lines(s.get("/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				s.w.t.Fatalf("metric %s: %v", name, err)
			}
			return int(f)
		}
	}
	s.w.t.Fatalf("there is no metric %s", name)
	return 0
}

// cli runs a command of the program against the server and returns what it wrote.
func (s *serveProcess) cli(args ...string) (stdout, stderr string, code int) {
	s.w.t.Helper()
	var out, errOut bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(s.w.t.Context(), devtest.Patience)
	defer cancel()
	code = e.execute(ctx, append(args, "--server", s.url))
	return out.String(), errOut.String(), code
}

// hook tells the server of a push.
func (s *serveProcess) hook() {
	s.w.t.Helper()
	_, err := s.Push(s.w.t.Context(), s.w.url)
	if err != nil && s.armed { // it may pass the checkpoint before it has answered, or before it was asked
		s.awaitCrash("the checkpoint")
		return
	}
	if err != nil {
		s.w.t.Fatalf("push hook: %v", err)
	}
}

// awaitCrash waits until the server has killed itself.
func (s *serveProcess) awaitCrash(at string) {
	s.w.t.Helper()
	devtest.Await(s.w.t, "the crash at "+at, func() error {
		if !s.ended() {
			return errors.New("it lives")
		}
		return nil
	})
}

// interrupted says whether a request was under way when a server of the world died:
// what it changed may have come after the next one had looked.
func (w *world) interrupted(r devtest.Request) bool {
	return slices.ContainsFunc(w.servers, func(s *serveProcess) bool {
		return s.ended() && r.Time.Before(s.died) && r.Answered.After(s.died)
	})
}

// push commits files and tells the server.
func (s *serveProcess) push(subject string, files map[string]string) {
	s.w.t.Helper()
	s.w.commit(subject, files)
	s.hook()
}

// readAll returns every file below a directory by its path, for those the filter
// takes. A server may be at work there: files come and go meanwhile.
func readAll(t testing.TB, dir string, take func(path string) bool) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Type().IsRegular() && take(p) {
			var b []byte
			if b, err = os.ReadFile(p); err == nil {
				out[p] = string(b)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// leave removes the data directory at the end of the test, which is no error of the
// test while a git that a killed server ran still writes to it.
func (w *world) leave() {
	deadline := time.After(devtest.Patience)
	for os.RemoveAll(w.data) != nil {
		select {
		case <-deadline:
			return // who made the directory tells that it stays
		case <-time.After(50 * time.Millisecond):
		}
	}
}
