package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/xec"
)

// soakServer is "belay serve" through all its lives.
type soakServer struct {
	mu      sync.Mutex
	life    int // counts the starts
	running *life
}

// life is one process.
type life struct {
	*program
	*client.Client
	log    *os.File
	number int
}

var errDown = errors.New("the server is down")

// now is the process that serves.
func (s *soakServer) now() (*life, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil, errDown
	}
	return s.running, nil
}

func (s *soakServer) start(ctx context.Context, c *soak) error {
	log, err := os.OpenFile(c.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	p, url, err := start(ctx, xec.Command{Path: c.belay, Inherit: []string{"PATH", "HOME", "GOMAXPROCS", "GOGC", "GOMEMLIMIT"},
		Args: []string{"serve", "--log-format", "json", "--repo", c.living.repo.url(), "--kubeconfig", c.kubeconfig,
			"--data", c.dataDir(), "--listen", "127.0.0.1:0", "--instance", c.instance, "--ledger-writer", soakWriter,
			"--pprof-listen", "127.0.0.1:0"}}, log, // for whoever wants to look inside: the log has the address
		func(line string) (string, bool) {
			var said struct{ Msg, URL string }
			err := json.Unmarshal([]byte(line), &said)
			return said.URL, err == nil && said.Msg == "serving"
		})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, tail(log.Name()))
	}
	cl, err := client.New(url)
	if err != nil {
		return errors.Join(err, p.stop())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life++
	s.running = &life{p, cl, log, s.life}
	return nil
}

// take is the process that serves, for whoever ends it.
func (s *soakServer) take() *life {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.running
	s.running = nil
	return l
}

// kill ends the process as a power cut would.
func (s *soakServer) kill() error {
	l := s.take()
	if l == nil {
		return nil
	}
	if err := syscall.Kill(l.pid(), syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill the server: %w", err)
	}
	err := l.process.Wait()
	l.cancel()
	_ = l.log.Close() // written by a goroutine that is done
	if e, ok := errors.AsType[*xec.ExitError](err); !ok || e.Signal != syscall.SIGKILL {
		return fmt.Errorf("the server had ended before it was killed: %w", err)
	}
	return nil
}

// stop ends it in good order.
func (s *soakServer) stop() error {
	l := s.take()
	if l == nil {
		return errDown
	}
	return errors.Join(l.stop(), l.log.Close())
}

// metrics reads all metrics, by name with labels.
func (l *life) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.Server()+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read the metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }() // only read
	return parseMetrics(resp.Body)
}

// awaitSynced waits until all applications are.
func (s *soakServer) awaitSynced(ctx context.Context, apps int) error {
	for {
		l, err := s.now()
		if err != nil {
			return err
		}
		m, err := l.metrics(ctx)
		if err != nil {
			return err
		}
		if int(synced(m)) == apps {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// awaitReady waits until it says that it is ready, and tells how long that took.
func (l *life) awaitReady(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.Server()+"/readyz", nil)
		if err != nil {
			return 0, fmt.Errorf("ask whether the server is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close() // only its status counts
			if resp.StatusCode == http.StatusOK {
				return time.Since(began), nil
			}
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
