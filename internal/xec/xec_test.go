package xec

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(script string) Command {
	return Command{Path: "/bin/sh", Args: []string{"-c", script}, Inherit: []string{"PATH"}, Name: "script"}
}

// patience is how long a test waits for what has to come.
const patience = 3 * time.Minute

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}

func TestEnvironmentIsOnlyWhatIsNamed(t *testing.T) {
	t.Setenv("XEC_LEAK", "leaked")
	t.Setenv("XEC_NAMED", "named")
	t.Setenv("XEC_BOTH", "outer")
	c := Command{Path: "env", Env: []string{"XEC_BOTH=inner"}, Inherit: []string{"XEC_NAMED", "XEC_BOTH", "XEC_UNSET"}}
	out, err := c.Output(t.Context(), 1<<10)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), "XEC_NAMED=named\nXEC_BOTH=inner\n"; got != want {
		t.Errorf("environment = %q, want %q", got, want)
	}
	out, err = Command{Path: "env"}.Output(t.Context(), 1<<10)
	if err != nil || len(out) != 0 {
		t.Errorf("environment = %q, %v, want none", out, err)
	}
}

func TestExitErrorKeepsBoundedScrubbedStderr(t *testing.T) {
	c := sh(`echo first >&2; i=0; while [ $i -lt 2000 ]; do echo "line $i padding padding" >&2; i=$((i+1)); done
		echo "fatal: https://me:hunter2hunter2@host/x and hunter2hunter2" >&2; exit 3`)
	c.StderrLimit = 1000
	c.Secrets = []string{"hunter2hunter2"}
	err := c.Run(t.Context())
	e, ok := errors.AsType[*ExitError](err)
	if !ok || e.Code != 3 {
		t.Fatalf("error = %v, want exit status 3", err)
	}
	if !strings.HasPrefix(e.Stderr, "first\n") || len(e.Stderr) > 1200 {
		t.Errorf("stderr is %d bytes and starts %.20q, want the first and last parts", len(e.Stderr), e.Stderr)
	}
	if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "script: exit status 3: fatal: https://host/x and") {
		t.Errorf("error = %q", err)
	}
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	c := sh(`sleep 1000 & echo $!; wait`)
	c.Pipes = true
	p, err := c.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, _ := strconv.Atoi(strings.TrimSpace(line))
	if !alive(grandchild) {
		t.Fatalf("grandchild %q does not run", line)
	}
	why := errors.New("enough")
	cancel(why)
	if err := p.Wait(); !errors.Is(err, why) {
		t.Errorf("Wait = %v, want the cause", err)
	}
	await(t, "grandchild dead", func() bool { return !alive(grandchild) })
	p.Stdin.Close()
	p.Stdout.Close()
}

func TestGraceLetsItEndKindly(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := sh(`trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	c.Pipes, c.Grace = true, patience
	p, err := c.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(p.Stdout)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	rest, _ := io.ReadAll(r)
	if string(rest) != "bye\n" {
		t.Errorf("output after SIGTERM = %q, want bye", rest)
	}
	_ = p.Wait()
}

func TestPipesKeepOutputAfterWait(t *testing.T) {
	c := Command{Path: "cat", Pipes: true}
	p, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p.Stdin, "hello")
	p.Stdin.Close()
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatalf("second Wait: %v", err)
	}
	got, err := io.ReadAll(p.Stdout)
	if string(got) != "hello" || err != nil {
		t.Errorf("output = %q, %v", got, err)
	}
	p.Kill() // after the end: nothing happens
}

func TestOutputLimit(t *testing.T) {
	out, err := Command{Path: "yes"}.Output(t.Context(), 1000)
	if !errors.Is(err, ErrTooLong) || len(out) != 1000 {
		t.Errorf("Output = %d bytes, %v", len(out), err)
	}
}

// Who is left behind may hold the output open. Then it is not known whether all of it
// was read.
func TestOutputThatDoesNotEndIsNoSuccess(t *testing.T) {
	out, err := sh(`sleep 1000 2>/dev/null & echo $!`).Output(t.Context(), 1000)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	if pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err == nil || !strings.Contains(err.Error(), errOpenOutput.Error()) {
		t.Errorf("Output = %q, %v", out, err)
	}
	out, err = sh(`sleep 1000 >/dev/null & echo $!`).Output(t.Context(), 1000)
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || convErr != nil {
		t.Errorf("Output = %q, %v", out, err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

func TestStartErrors(t *testing.T) {
	_, err := Command{Path: "no-such-program-xec"}.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no-such-program-xec") {
		t.Errorf("error = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (Command{Path: "true"}).Start(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}
}

// The child outlives the goroutine and thread that asked for it, although it is
// told to die with its parent.
func TestChildOutlivesTheCallersThread(t *testing.T) {
	started := make(chan *Process)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		p, err := Command{Path: "cat", Pipes: true}.Start(t.Context())
		if err != nil {
			t.Error(err)
		}
		started <- p
	}()
	p := <-started
	for range 100 {
		done := make(chan struct{})
		go func() { runtime.LockOSThread(); close(done) }()
		<-done
	}
	io.WriteString(p.Stdin, "still here\n")
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	if line != "still here\n" {
		t.Errorf("read %q, %v", line, err)
	}
	p.Stdin.Close()
	if err := p.Wait(); err != nil {
		t.Error(err)
	}
	p.Stdout.Close()
}

// A child whose parent is killed with SIGKILL dies as well.
func TestDeathWithParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // documented: no such thing there
	}
	c := Command{Path: os.Args[0], Args: []string{"-test.run=^TestHelperParent$"}, Env: []string{"XEC_HELPER=1"}, Pipes: true}
	p, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(p.Stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err, p.Stderr())
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(line))
	if !alive(pid) {
		t.Fatal("child does not run")
	}
	syscall.Kill(p.Pid(), syscall.SIGKILL)
	_ = p.Wait()
	await(t, "child dead", func() bool { return !alive(pid) })
}

func TestHelperParent(t *testing.T) {
	if os.Getenv("XEC_HELPER") == "" {
		return
	}
	p, err := Command{Path: "/bin/sleep", Args: []string{"1000"}}.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(p.Pid())
	_ = p.Wait()
}

func TestScrubber(t *testing.T) {
	key := "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAABBBBCCCC\nDDDDEEEE\n-----END OPENSSH PRIVATE KEY-----\n"
	s := NewScrubber("p@ss word!", key, "abc")
	for in, want := range map[string]string{
		"x p@ss word! y":                       "x [redacted] y",
		"x p%40ss+word%21 y":                   "x [redacted] y",
		"cEBzcyB3b3JkIQ==":                     "[redacted]",
		"line DDDDEEEE of it":                  "line [redacted] of it",
		"abc stays":                            "abc stays",
		"https://token@host/a":                 "https://host/a",
		"https://a:b@token@host/a or /x@y":     "https://host/a or /x@y",
		"ssh://git:pw@host/a":                  "ssh://git@host/a",
		"ssh://me@home:p@w@host/a@b":           "ssh://me@home@host/a@b",
		"git@host:path":                        "git@host:path",
		"Authorization: Basic Zm9vOmJhcg== ok": "Authorization: Basic [redacted] ok",
	} {
		if got := s.String(in); got != want {
			t.Errorf("String(%q) = %q, want %q", in, got, want)
		}
	}
	if got := (*Scrubber)(nil).String("http://a:b@c/"); got != "http://c/" {
		t.Errorf("nil Scrubber: %q", got)
	}
}
