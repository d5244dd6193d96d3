package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/ledger/index"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
	"github.com/belaydev/belay/internal/server/servertest"
)

// The commands of scripts that talk to a server with a scripted engine:
//
//	server          start a server without applications and point BELAY_SERVER at it
//	server stop     stop it
//	fleet FILE      make FILE, the JSON of a status, the state of the fleet; the
//	                repositories count as checked just now
//	on-sync FILE [TYPE APP MESSAGE]
//	                make it so at the next sync, then publish the event
//	event TYPE APP MESSAGE
//	                publish an event of 2026-01-02 03:04:05
//	previews FILE   make FILE, a list of previews, the answer to plans
//	asked PATTERN   wait until the engine was asked for a sync of names by somebody, "a,b by ada"
//	ledger DIR      make a ledger with the story of a shop, which servers that are
//	                started later answer from
//	ledger-of DIR FILE
//	                make a ledger at DIR of FILE, which has the JSON of an event a line
//	start NAME COMMAND [ARG...]
//	                start a command in the background
//	start -tty NAME COMMAND [ARG...]
//	                start it on a terminal of 100 columns
//	see NAME PATTERN
//	                wait until what it wrote since the last see matches
//	interrupt NAME  interrupt it and wait for its end. It must have begun to run: the
//	                signal would end one that does not heed it yet
//	ended NAME [CODE]
//	                wait until it ends by itself, with an exit code
var scriptCommands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"server": func(ts *testscript.TestScript, _ bool, args []string) {
		s := scriptOf(ts)
		if len(args) == 1 && args[0] == "stop" {
			ts.Check(s.stop())
			return
		}
		c := servertest.Config(s.engine, s.bus)
		if s.record != nil {
			c.Record = s.record
		}
		url, stop, err := servertest.Serve(c, "127.0.0.1:0")
		ts.Check(err)
		s.stop = stop
		ts.Setenv("BELAY_SERVER", url)
		ts.Defer(func() { ts.Check(stop()) })
	},
	"fleet": func(ts *testscript.TestScript, _ bool, args []string) {
		scriptOf(ts).fleet(readJSON[belay.Status](ts, args[0]))
	},
	"inventory": func(ts *testscript.TestScript, _ bool, args []string) {
		inv := readJSON[belay.Inventory](ts, args[0])
		scriptOf(ts).engine.Set(func(s *servertest.State) { s.Inventory = inv })
	},
	"on-sync": func(ts *testscript.TestScript, _ bool, args []string) {
		s, fleet := scriptOf(ts), readJSON[belay.Status](ts, args[0])
		s.engine.Set(func(st *servertest.State) {
			st.OnSync = func([]string) {
				s.fleet(fleet)
				if len(args) == 4 {
					s.bus.Publish(event(args[1], args[2], args[3]))
				}
			}
		})
	},
	"event": func(ts *testscript.TestScript, _ bool, args []string) {
		scriptOf(ts).bus.Publish(event(args[0], args[1], args[2]))
	},
	"previews": func(ts *testscript.TestScript, _ bool, args []string) {
		p := readJSON[[]belay.Preview](ts, args[0])
		scriptOf(ts).engine.Set(func(s *servertest.State) { s.Previews = p })
	},
	"asked": func(ts *testscript.TestScript, neg bool, args []string) {
		re := regexp.MustCompile("(?m)" + args[0])
		var got []string
		for end := time.Now().Add(devtest.Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
			got = nil
			scriptOf(ts).engine.Get(func(s servertest.State) {
				for _, c := range s.Syncs {
					line := strings.Join(c.Names, ",") + " by " + c.Actor
					if c.Override != "" {
						line += " in spite of windows: " + c.Override
					}
					got = append(got, line)
				}
			})
			if re.MatchString(strings.Join(got, "\n")) != neg {
				return
			}
		}
		ts.Fatalf("the engine was asked %q", got)
	},
	"ledger":    shopLedger,
	"ledger-of": ledgerOf,
	"start":     startCommand,
	"see": func(ts *testscript.TestScript, _ bool, args []string) {
		b := scriptOf(ts).background(ts, args[0])
		if !b.see(regexp.MustCompile("(?s)" + args[1])) {
			ts.Fatalf("%s does not show %q; since the last look:\n%s", args[0], args[1], b.unseen())
		}
	},
	"interrupt": func(ts *testscript.TestScript, _ bool, args []string) {
		b := scriptOf(ts).background(ts, args[0])
		ts.Check(b.cmd.Process.Signal(os.Interrupt))
		b.await(ts, args[0])
	},
	"ended": func(ts *testscript.TestScript, _ bool, args []string) {
		want := "0"
		if len(args) == 2 {
			want = args[1]
		}
		b := scriptOf(ts).background(ts, args[0])
		b.await(ts, args[0])
		if got := b.cmd.ProcessState.ExitCode(); want != string(rune('0'+got)) {
			ts.Fatalf("%s ended with %d:\n%s", args[0], got, b.all())
		}
	},
}

func startCommand(ts *testscript.TestScript, _ bool, args []string) {
	tty := args[0] == "-tty"
	if tty {
		args = args[1:]
	}
	name, argv := args[0], args[1:]
	path := argv[0]
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if _, err := os.Stat(filepath.Join(dir, argv[0])); err == nil {
			path = filepath.Join(dir, argv[0])
			break
		}
	}
	b := &background{cmd: exec.Command(path, argv[1:]...), done: make(chan error, 1)}
	b.changed = sync.NewCond(&b.mu)
	b.cmd.Dir = ts.Getenv("WORK")
	for _, k := range []string{"HOME", "TZ", "BELAY_SERVER", "PATH", "NO_COLOR"} {
		if v := ts.Getenv(k); v != "" {
			b.cmd.Env = append(b.cmd.Env, k+"="+v)
		}
	}
	if tty {
		b.cmd.Env = append(b.cmd.Env, "TERM=xterm")
		f, err := pty.StartWithSize(b.cmd, &pty.Winsize{Rows: 24, Cols: 100})
		ts.Check(err)
		read := make(chan struct{})
		go func() {
			defer close(read)
			_, _ = io.Copy(b, f) // ends with an error when the terminal is gone
		}()
		go func() { err := b.cmd.Wait(); <-read; b.finish(err) }()
	} else {
		b.cmd.Stdout, b.cmd.Stderr = b, b
		ts.Check(b.cmd.Start())
		go func() { b.finish(b.cmd.Wait()) }()
	}
	scriptOf(ts).running[name] = b
	ts.Defer(func() { _ = b.cmd.Process.Kill() }) // it may have ended
}

// script is what one script has.
type script struct {
	engine  *servertest.Engine
	bus     *events.Bus
	record  *index.Index // what servers answer from; may be nil
	stop    func() error
	running map[string]*background
}

type scriptKey struct{}

func setupScript(e *testscript.Env) {
	e.Values[scriptKey{}] = &script{engine: &servertest.Engine{}, bus: events.New(64), running: map[string]*background{}}
}

func scriptOf(ts *testscript.TestScript) *script { return ts.Value(scriptKey{}).(*script) }

func (s *script) fleet(st belay.Status) {
	for i := range st.Repositories {
		st.Repositories[i].CheckedAt = time.Now().UTC()
	}
	s.engine.Set(func(state *servertest.State) { state.Fleet = st })
}

func (s *script) background(ts *testscript.TestScript, name string) *background {
	b := s.running[name]
	if b == nil {
		ts.Fatalf("nothing called %s was started", name)
	}
	return b
}

func event(typ, app, message string) belay.Event {
	return belay.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Type: belay.EventType(typ), Application: app, Message: message}
}

func readJSON[T any](ts *testscript.TestScript, file string) T {
	var v T
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &v))
	return v
}

// background is a command with what it has written so far.
type background struct {
	cmd     *exec.Cmd
	done    chan error
	mu      sync.Mutex
	changed *sync.Cond
	out     bytes.Buffer
	seen    int
	ended   bool
}

func (b *background) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.changed.Broadcast()
	return b.out.Write(p)
}

func (b *background) finish(err error) {
	b.mu.Lock()
	b.ended = true
	b.changed.Broadcast()
	b.mu.Unlock()
	b.done <- err
}

// see waits until what was not seen yet matches.
func (b *background) see(re *regexp.Regexp) bool {
	late := false
	timer := time.AfterFunc(devtest.Patience, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		late = true
		b.changed.Broadcast()
	})
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if loc := re.FindIndex(b.out.Bytes()[b.seen:]); loc != nil {
			b.seen += loc[1]
			return true
		}
		if b.ended || late {
			return false
		}
		b.changed.Wait()
	}
}

func (b *background) unseen() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()[b.seen:]
}

func (b *background) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

func (b *background) await(ts *testscript.TestScript, name string) {
	select {
	case err := <-b.done:
		if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
			ts.Fatalf("%s: %v", name, err)
		}
	case <-time.After(devtest.Patience):
		_ = b.cmd.Process.Signal(syscall.SIGQUIT) // its goroutines say where it hangs
		ts.Fatalf("%s does not end:\n%s", name, b.all())
	}
	b.done <- nil
}

// scriptTB lets a script make what tests make.
type scriptTB struct{ *testscript.TestScript }

func (s scriptTB) Helper() {}

func (s scriptTB) Fatal(args ...any) { s.Fatalf("%v", args) }

func (s scriptTB) TempDir() string { return s.MkAbs("tmp") }

// shopLedger makes the ledger of a story, and the server answer from it.
func shopLedger(ts *testscript.TestScript, _ bool, args []string) {
	l := ledgertest.Init(scriptTB{ts}, ts.MkAbs(args[0]))
	l.Shop()
	x, err := index.Open(index.Options{Ledger: l.Dir, Path: ts.MkAbs("index.sqlite")})
	ts.Check(err)
	ts.Defer(func() { ts.Check(x.Close()) })
	scriptOf(ts).record = x
}
