package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
)

// The demo brings a cluster and a fleet up, follows a commit as it says, and leaves
// nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := filepath.Abs("../../bin/devcluster")
	if err != nil {
		t.Fatal(err)
	}
	tmp, out := t.TempDir(), &logBuffer{}
	cmd := exec.Command(self, "demo", "--listen", "127.0.0.1:0", "--devcluster", program)
	cmd.Env = append(os.Environ(), envServe+"=1", "TMPDIR="+tmp)
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe() // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = stdin.Close()
		if t.Failed() {
			t.Logf("the demo said:\n%s", out)
		}
	})
	devtest.Await(t, "the fleet to be up", func() error {
		if !strings.Contains(out.String(), "Ctrl-C here ends everything.") {
			return errors.New("it does not say so")
		}
		return nil
	})
	said := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out.String())
		if m == nil {
			t.Fatalf("it does not say %s", pattern)
		}
		return m[1]
	}
	fleet, url := said(`A sample fleet is in (\S+)`), said(`Serving it on (\S+)`)
	file := filepath.Join(fleet, "apps/guestbook/overlays/production/kustomization.yaml")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), "count: 3", "count: 5", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) string {
		t.Helper()
		got, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", fleet}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("git %s: %v: %s", args[0], err, got)
		}
		return strings.TrimSpace(string(got))
	}
	git("commit", "-qam", "Scale the guestbook to five")
	commit := git("rev-parse", "HEAD")
	c, err := client.New(url)
	if err != nil {
		t.Fatal(err)
	}
	devtest.Await(t, "the commit to be delivered", func() error {
		st, err := c.Status(t.Context(), client.Filter{})
		if err != nil {
			return err
		}
		for _, a := range st.Applications {
			if a.Name == "guestbook-production" && a.Revision == commit && a.Sync == belay.Synced && a.Health == belay.Healthy {
				return nil
			}
		}
		return fmt.Errorf("the fleet is %+v", st.Applications)
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if err != nil || !strings.Contains(out.String(), "Nothing is left behind.") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(devtest.Patience):
		t.Fatal("it does not end")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
