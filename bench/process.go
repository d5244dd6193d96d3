package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/xec"
)

// program is a running process that says something when it is ready.
type program struct {
	process *xec.Process
	cancel  context.CancelFunc
}

// errEnded is the cause of a program's end that was asked for.
var errEnded = errors.New("ended")

// start runs a command until it is told to end, and returns what ready made of
// the first line of its output that it accepts. All of its output goes to a log.
func start(ctx context.Context, c xec.Command, log io.Writer, ready func(line string) (string, bool)) (*program, string, error) {
	running, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	out, w := io.Pipe()
	c.Stdout, c.Stderr, c.Grace = w, w, 5*time.Minute
	p, err := c.Start(running)
	if err != nil {
		cancel(err)
		return nil, "", err
	}
	prog := &program{p, func() { cancel(errEnded) }}
	go func() { _ = w.CloseWithError(p.Wait()) }() // the reader below sees it
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewReader(io.TeeReader(out, log))
		for told := false; ; {
			line, err := lines.ReadString('\n')
			if err != nil {
				close(found)
				return
			}
			if what, ok := ready(strings.TrimSpace(line)); ok && !told {
				told = true
				found <- what
			}
		}
	}()
	select {
	case what, ok := <-found:
		if !ok {
			return nil, "", fmt.Errorf("%s ended before it was ready: %w", filepath.Base(c.Path), p.Wait())
		}
		return prog, what, nil
	case <-ctx.Done():
		return nil, "", errors.Join(ctx.Err(), prog.stop())
	}
}

func (p *program) pid() int { return p.process.Pid() }

// stop ends the program as a person would, and waits for it.
func (p *program) stop() error {
	p.cancel()
	err := p.process.Wait()
	if e, ok := errors.AsType[*xec.ExitError](err); ok && (e.Code == 0 || e.Signal == syscall.SIGTERM || errors.Is(e.Err, errEnded)) {
		return nil
	}
	return err
}

// controlPlane is a control plane for one run.
type controlPlane struct {
	*program
	kubeconfig, auditLog string
}

func startControlPlane(ctx context.Context, path, dir string) (*controlPlane, error) {
	p, kubeconfig, err := start(ctx, xec.Command{Path: path, Env: os.Environ(),
		Args: []string{"up", "--quiet", "--audit", "--port", "0", "--dir", dir}}, io.Discard,
		func(line string) (string, bool) { return line, strings.HasSuffix(line, "kubeconfig") })
	if err != nil {
		return nil, err
	}
	return &controlPlane{p, kubeconfig, filepath.Join(dir, "audit.log")}, nil
}

// server is a running "belay serve".
type server struct {
	*program
	*client.Client
	log     *os.File
	sampler *sampler
	metrics string
	// settled is set once it has looked at what the API server serves for the last time.
	settled bool
	// scraped is how many bytes of metrics it was made to write.
	scraped atomic.Int64
}

// serve starts the real program and returns when it serves. Its log is kept.
func (b *bench) serve(ctx context.Context) (*server, error) {
	log, err := os.OpenFile(filepath.Join(b.dir, "belay.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("make the log: %w", err)
	}
	args := []string{"serve", "--log-format", "json", "--log-level", cmp.Or(b.logLevel, "info"), "--repo", b.repo.url(), "--kubeconfig", b.kubeconfig,
		"--data", filepath.Join(b.dir, "data"), "--listen", "127.0.0.1:0", "--instance", b.instance, "--pprof-listen", b.pprof}
	if b.interval > 0 {
		args = append(args, "--interval", b.interval.String())
	}
	p, url, err := start(ctx, xec.Command{Path: b.belay, Inherit: []string{"HOME", "GOMAXPROCS", "GOGC", "GOMEMLIMIT"},
		Env: []string{"PATH=" + cmp.Or(b.path, os.Getenv("PATH"))}, Args: args}, log,
		func(line string) (string, bool) {
			var said struct{ Msg, URL string }
			err := json.Unmarshal([]byte(line), &said)
			return said.URL, err == nil && said.Msg == "serving"
		})
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, tail(log.Name()))
	}
	c, err := client.New(url)
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return &server{program: p, Client: c, log: log, sampler: sample(ctx, p.pid()), metrics: url + "/metrics"}, nil
}

func (s *server) stop() error {
	s.sampler.end()
	return errors.Join(s.program.stop(), s.log.Close())
}

// withLog is an error with the end of Belay's log.
func withLog(err error, log string) error {
	return fmt.Errorf("%w\nthe end of Belay's log:\n%s", err, tail(log))
}

// tail is the end of a file, for errors.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	const most = 2000
	return string(b[max(0, len(b)-most):])
}

// counters are the metrics of the server that are of interest here.
type counters struct{ renders, cached, applies, passes, records, synced, healthy float64 }

func (c counters) minus(d counters) counters {
	return counters{c.renders - d.renders, c.cached - d.cached, c.applies - d.applies, c.passes - d.passes, c.records - d.records, c.synced, c.healthy}
}

func (s *server) counters(ctx context.Context) (c counters, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.metrics, nil)
	if err != nil {
		return c, fmt.Errorf("read the metrics: %w", err)
	}
	req.Header.Set("Accept-Encoding", "identity") // so that what is read is what was written
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		s.scraped.Add(int64(len(lines.Bytes())) + 1)
		name, value, _ := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndex(lines.Text(), " "); i > 0 { // label values may have spaces
			name, value = lines.Text()[:i], lines.Text()[i+1:]
		}
		v, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "belay_renders_total":
			c.renders = v
		case name == "belay_render_cache_hits_total":
			c.cached = v
		case name == "belay_applies_total":
			c.applies = v
		case name == "belay_passes_total":
			c.passes = v
		case name == `belay_ledger_record{state="written"}`:
			c.records = v
		case strings.HasPrefix(name, "belay_applications{") && strings.Contains(name, `sync="Synced"`):
			c.synced += v
			if strings.Contains(name, `health="Healthy"`) {
				c.healthy += v
			}
		}
	}
	return c, lines.Err()
}

// awaitSynced waits until all applications are, and returns when that was.
func (s *server) awaitSynced(ctx context.Context, apps int) (time.Time, error) {
	return s.await(ctx, "Synced", apps, func(c counters) int { return int(c.synced) })
}

// awaitHealthy waits until all applications are Synced and Healthy: the cluster's
// own controllers are done with them too.
func (s *server) awaitHealthy(ctx context.Context, apps int) error {
	_, err := s.await(ctx, "Synced and Healthy", apps, func(c counters) int { return int(c.healthy) })
	return err
}

// await waits until so many applications are in some state. What asking costs
// grows with the fleet, so it asks less often where it takes longer. It gives up
// when nothing has changed for a while.
func (s *server) await(ctx context.Context, what string, apps int, of func(counters) int) (time.Time, error) {
	const patience, share = 5 * time.Minute, 20
	var before counters
	changed := time.Now()
	for {
		began := time.Now()
		c, err := s.counters(ctx)
		if err != nil {
			return time.Time{}, err
		}
		if of(c) == apps {
			return time.Now(), nil
		}
		if c != before {
			before, changed = c, began
		} else if time.Since(changed) > patience {
			return time.Time{}, fmt.Errorf("waiting for applications to be %s: %d of %d are, and nothing has happened for %v", what, of(c), apps, patience)
		}
		if err := pause(ctx, max(50*time.Millisecond, share*time.Since(began))); err != nil {
			return time.Time{}, err
		}
	}
}

func listenLoopback(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}
