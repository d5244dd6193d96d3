package plane

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"k8s.io/klog/v2"
)

// directory is where a plane keeps its files, held by one process at a time.
type directory struct {
	path      string
	lock      *os.File
	socketDir string // holds etcd's socket when path is too long for one
	logPath   string // "" when the log goes to standard error
}

// The kernel's limit for a socket's path is 104 bytes on darwin, 108 on linux,
// and a client may put a temporary suffix to it.
const maxSocketPath = 96

func openDirectory(path string) (*directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the control plane's directory: %w", err)
	}
	d := &directory{path: path}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(d.file("pki"), 0o700); err != nil {
		d.close()
		return nil, fmt.Errorf("make the control plane's directory: %w", err)
	}
	return d, nil
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }
func (d *directory) kubeconfig() string      { return d.file("kubeconfig") }
func (d *directory) auditLog() string        { return d.file("audit.log") }

// acquire takes the lock that keeps a second plane off the directory. The
// kernel gives it back when the process ends, however it ends.
func (d *directory) acquire() error {
	name := d.file("lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("write in the control plane's directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("lock %q: %w", name, err)
		}
		owner := "another process"
		if pid, _ := io.ReadAll(io.LimitReader(f, 32)); len(bytes.TrimSpace(pid)) > 0 {
			owner = "process " + string(bytes.TrimSpace(pid))
		}
		return fmt.Errorf("directory %q is in use by %s: stop it, or give another directory with --dir", d.path, owner)
	}
	d.lock = f
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func (d *directory) close() {
	if d.socketDir != "" {
		os.RemoveAll(d.socketDir)
	}
	if d.lock != nil {
		d.lock.Close()
	}
}

// socket is where etcd listens: a socket in a private directory, so that no
// other user of the machine can get at the data behind the API server.
func (d *directory) socket() (string, error) {
	name := d.file("etcd.sock")
	if len(name) > maxSocketPath {
		dir, err := os.MkdirTemp("", "devcluster-")
		if err != nil {
			return "", fmt.Errorf("make a directory for etcd's socket: %w", err)
		}
		d.socketDir = dir
		name = filepath.Join(dir, "etcd.sock")
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("remove etcd's old socket: %w", err)
	}
	return name, nil
}

// redirectLogs sends what the components log to a file in the directory, or
// leaves it on standard error when somebody asked to see it. It replaces the
// file descriptor, because some libraries have taken a copy of os.Stderr when
// they were initialized.
func (d *directory) redirectLogs(verbosity int) error {
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	if verbosity > 0 {
		return flags.Set("v", strconv.Itoa(verbosity))
	}
	d.logPath = d.file("devcluster.log")
	f, err := os.OpenFile(d.logPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the control plane's log: %w", err)
	}
	defer f.Close()
	if err := redirect(f, 2); err != nil {
		return fmt.Errorf("redirect standard error to the control plane's log: %w", err)
	}
	return nil
}

// listen binds the API server's port.
func (d *directory) listen(port int) (net.Listener, error) {
	remembered := d.file("port")
	l, err := d.bind(port, remembered)
	if err != nil {
		return nil, err
	}
	port = l.Addr().(*net.TCPAddr).Port
	if err := writeFile(remembered, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("remember the port: %w", err)
	}
	return l, nil
}

func (d *directory) bind(port int, remembered string) (net.Listener, error) {
	if port != 0 {
		l, err := listenLoopback(port)
		if errors.Is(err, syscall.EADDRINUSE) {
			return nil, fmt.Errorf("port %d on 127.0.0.1 is taken by another process: give another with --port, or --port 0 for a free one", port)
		}
		return l, err
	}
	// The same port again keeps kubeconfigs valid that others have copied.
	if data, err := os.ReadFile(remembered); err == nil {
		if last, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && last > 0 {
			if l, err := listenLoopback(last); err == nil {
				return l, nil
			}
		}
	}
	// Below the range from which the kernel takes the local ports of outgoing
	// connections: nothing takes the port by chance while the plane restarts.
	for range 100 {
		if l, err := listenLoopback(20000 + rand.IntN(12000)); err == nil {
			return l, nil
		}
	}
	return listenLoopback(0)
}

func listenLoopback(port int) (net.Listener, error) {
	return net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}
