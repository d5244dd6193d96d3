package devtest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a "devcluster up" of this test process.
type process struct {
	cmd        *exec.Cmd
	kubeconfig string
	// stdin is never written to. That it is open keeps the process running:
	// the kernel closes it when the tests end, however they end.
	stdin  io.Closer
	exited chan struct{}
	err    error // of the process, once exited is closed
}

// startProcess starts a control plane and returns when it is ready.
func startProcess(args ...string) (*process, error) {
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, append([]string{"up", "--quiet", "--exit-with-stdin"}, args...)...)
	stderr := new(lockedBuffer)
	cmd.Stderr = stderr
	// Ctrl-C is for the tests; the control plane outlives their clean-up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %q: %w", binary, err)
	}
	p := &process{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	// It writes one line when it is ready, and nothing if it ends before.
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	if readErr != nil {
		<-p.exited
		return nil, fmt.Errorf("%q ended before it was ready (%w): %s", binary, p.err, bytes.TrimSpace(stderr.Bytes()))
	}
	p.kubeconfig = strings.TrimSuffix(line, "\n")
	return p, nil
}

// stop asks the process to end and returns an error if it did not end well.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop devcluster: %w", err)
	}
	select {
	case <-p.exited:
	case <-time.After(Patience):
		return errors.Join(fmt.Errorf("stop devcluster: still there after %v, killed", Patience), p.kill())
	}
	if p.err != nil {
		return fmt.Errorf("devcluster: %w", p.err)
	}
	return nil
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill devcluster: %w", err)
	}
	<-p.exited
	return nil
}

// findBinary returns the path of bin/devcluster in the main module, looking
// upwards from the working directory, which is the tested package's.
func findBinary() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(data, []byte("module github.com/belaydev/belay\n")) {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find devcluster: the working directory is not in Belay's module")
		}
		dir = filepath.Dir(dir)
	}
	binary := filepath.Join(dir, "bin", "devcluster")
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf(`find devcluster: %w: run "make build" first`, err)
	}
	return binary, nil
}

// lockedBuffer can be read while a process still writes to it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}
