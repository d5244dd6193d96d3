package render_test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/belaydev/belay/internal/render/wire"
	"github.com/belaydev/belay/internal/render/worker"
	"github.com/belaydev/belay/internal/xec"
)

const probeArgument = "probe-sandbox"

// probe locks this process down as a worker does, then tries everything a
// template must not be able to, and prints what came of it.
func probe() {
	out := os.Stdout
	result := map[string]string{}
	note := func(what string, err error) {
		if err == nil {
			result[what] = "possible"
		} else {
			result[what] = err.Error()
		}
	}
	sandbox, err := worker.Lockdown(wire.Limits{Memory: 1 << 30, Output: 1 << 20})
	note("lockdown", err)
	result["sandbox"] = sandbox
	_, err = os.ReadFile("/etc/passwd")
	note("read a file", err)
	_, err = os.ReadDir("/")
	note("list a directory", err)
	note("write a file", os.WriteFile(filepath.Join("/tmp", "belay-probe"), []byte("x"), 0o600))
	_, err = net.Dial("tcp", "127.0.0.1:1")
	note("open a TCP socket", err)
	_, err = net.Dial("udp", "127.0.0.1:1")
	note("open a UDP socket", err)
	_, err = net.Dial("unix", "/run/nothing")
	note("open a unix socket", err)
	_, err = net.Listen("tcp", "127.0.0.1:0")
	note("listen", err)
	note("run a program", exec.Command("/bin/true").Run())
	note("replace the program", syscall.Exec("/bin/true", []string{"true"}, nil))
	note("signal the parent", syscall.Kill(os.Getppid(), 0))
	note("trace the parent", ptrace(os.Getppid()))
	note("raise a limit", syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 1 << 16, Max: 1 << 16}))
	for i, dir := range []string{"/proc/self/environ", "/proc/1/environ"} {
		_, err = os.Open(dir)
		note(fmt.Sprintf("read an environment %d", i), err)
	}
	result["environment"] = strings.Join(os.Environ(), " ")
	result["directory"], _ = os.Getwd()
	// The runtime must still work: threads, timers, garbage collection.
	done := make(chan bool)
	for range 20 {
		go func() {
			runtime.LockOSThread()
			_ = make([]byte, 1<<20)
			runtime.GC()
			done <- true
		}()
	}
	for range 20 {
		<-done
	}
	json.NewEncoder(out).Encode(result)
	os.Exit(0)
}

func TestWorkerIsLockedIn(t *testing.T) {
	t.Setenv("BELAY_PLANTED", "planted-in-the-environment")
	out, err := xec.Command{Path: os.Args[0], Args: []string{probeArgument}}.Output(t.Context(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got["lockdown"] != "possible" {
		t.Fatalf("lockdown: %s", got["lockdown"])
	}
	t.Log(got["sandbox"])
	if got["environment"] != "" {
		t.Errorf("environment: %s", got["environment"])
	}
	for what, result := range got {
		switch what {
		case "lockdown", "environment", "sandbox", "directory":
			continue
		}
		if runtime.GOOS == "linux" && !strings.Contains(result, "not permitted") && !strings.Contains(result, "denied") {
			t.Errorf("a worker that tries to %s: %s", what, result)
		}
	}
	if runtime.GOOS == "linux" && (!strings.Contains(got["sandbox"], "Landlock ABI") || !strings.Contains(got["sandbox"], "seccomp allowlist")) {
		t.Errorf("sandbox is only: %s", got["sandbox"])
	}
}

func TestPoolTellsItsSandbox(t *testing.T) {
	p := newPool(t, testOptions)
	if s := p.Sandbox(); !strings.Contains(s, "no environment") || !strings.Contains(s, "1024 MiB") {
		t.Errorf("sandbox: %q", s)
	}
}
