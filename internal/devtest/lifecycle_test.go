package devtest_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay/internal/devtest"
)

func clientFor(t *testing.T, config *rest.Config) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/devcluster")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// devcluster runs the command to its end and returns its output and exit code.
func devcluster(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*devtest.Patience) // a start and a stop
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func address(t *testing.T, cp *devtest.ControlPlane) string {
	t.Helper()
	u, err := url.Parse(cp.RESTConfig().Host)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

func TestDedicatedKeepsItsData(t *testing.T) {
	t.Parallel()
	sharedPlane, cp := devtest.Cluster(t), devtest.Dedicated(t, devtest.Options{Nodes: 2})
	if address(t, cp) == address(t, sharedPlane) {
		t.Fatal("both control planes have the same address")
	}
	ns := cp.Namespace(t)
	c, host := client(t, cp), address(t, cp)
	nodes, err := c.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(nodes.Items) != 2 {
		t.Fatalf("%d nodes, %v, want 2", len(nodes.Items), err)
	}
	create := func(name string) {
		t.Helper()
		_, err := c.CoreV1().ConfigMaps(ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	create("before-stop")
	cp.Stop(t)
	l, err := net.Listen("tcp", host)
	if err != nil {
		t.Fatalf("the port is not free after the stop: %v", err)
	}
	l.Close()

	cp.Start(t)
	if address(t, cp) != host {
		t.Errorf("address %s after the restart, want %s", address(t, cp), host)
	}
	// The old client still has valid credentials.
	create("before-kill")
	cp.Kill(t)
	cp.Start(t)
	list, err := c.CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, cm := range list.Items {
		found[cm.Name] = true
	}
	if !found["before-stop"] || !found["before-kill"] {
		t.Errorf("found ConfigMaps %v, want before-stop and before-kill", found)
	}

	_, stderr, code := devcluster(t, "up", "--quiet", "--dir", filepath.Dir(cp.Kubeconfig()))
	if code != 1 || !strings.Contains(stderr, "in use by process ") {
		t.Errorf("a second one on the same directory: exit code %d, %q", code, stderr)
	}
	_, port, _ := net.SplitHostPort(host)
	_, stderr, code = devcluster(t, "up", "--quiet", "--dir", t.TempDir(), "--port", port)
	if code != 1 || !strings.Contains(stderr, "port "+port+" on 127.0.0.1 is taken") {
		t.Errorf("a second one on the same port: exit code %d, %q", code, stderr)
	}
}

func TestRunPassesTheExitCodeOn(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := devcluster(t, "run", "--audit", "--", "sh", "-c",
		`test "$KUBECONFIG" = "$BELAY_TEST_KUBECONFIG" && test -s "$KUBECONFIG" && test -s "$BELAY_TEST_AUDIT_LOG" && echo "$KUBECONFIG" && exit 7`)
	if code != 7 {
		t.Errorf("exit code %d, want 7: %s", code, stderr)
	}
	dir := filepath.Dir(strings.TrimSpace(stdout))
	if !strings.Contains(filepath.Base(dir), "devcluster-") {
		t.Errorf("kubeconfig %q, want one in a temporary directory", stdout)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory %q is still there: %v", dir, err)
	}
}

func TestRunForwardsSignals(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(binary(t), "run", "--quiet", "--", "sh", "-c", `trap 'echo got it; exit 3' TERM; echo $$; while :; do sleep 0.1; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	n, _ = out.Read(buf)
	if got := string(buf[:n]); got != "got it\n" {
		t.Errorf("the command wrote %q, want that it got the signal", got)
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("devcluster ended with %v, want exit status 3", err)
	}
	if err := syscall.Kill(child, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the command is still there: %v", err)
	}
}

// A test process that dies must not leave a control plane behind, so this one
// starts it from a shell and kills the shell.
func TestUpEndsWithItsParent(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, command string }{
		{"parent", `"$0" up --quiet --exit-with-parent --dir "$1" & echo $!; wait`},
		{"stdin", `mkfifo "$1/pipe"; "$0" up --quiet --exit-with-stdin --dir "$1" <"$1/pipe" & echo $!; exec 3>"$1/pipe"; wait`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.Command("sh", "-c", test.command, binary(t), dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			buf := make([]byte, 64)
			n, err := out.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
			devtest.Await(t, "the start", func() error {
				_, err := os.Stat(filepath.Join(dir, "etcd"))
				return err
			})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			devtest.Await(t, "the control plane to end", func() error {
				if running(pid) {
					return errors.New("still there")
				}
				return nil
			})
			_ = cmd.Wait() // killed above
		})
	}
}

// running reports whether a process exists and has not ended; an orphan that
// has may stay in the table for as long as its new parent likes.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && !strings.HasPrefix(strings.TrimSpace(string(state)), "Z")
}

func TestClearErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"up", "--dir", file}, "make the control plane's directory: mkdir " + file},
		{[]string{"up", "--port", "70000"}, "--port 70000: want a number"},
		{[]string{"up", "--nodes", "-1"}, "--nodes -1: want"},
		{[]string{"up", "--colour"}, `unknown flag: --colour: see "devcluster up --help"`},
		{[]string{"up", "there"}, "unknown command"},
		{[]string{"run"}, "name a command to run"},
		{[]string{"run", "no-such-command"}, `run "no-such-command":`},
	} {
		stdout, stderr, code := devcluster(t, test.args...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%v: exit code %d, output %q, errors %q, want %q", test.args, code, stdout, stderr, test.want)
		}
	}
	stdout, _, code := devcluster(t, "version")
	if code != 0 || !strings.Contains(stdout, "kubernetes v1.36.2\n") {
		t.Errorf("version: exit code %d, %q", code, stdout)
	}
}
