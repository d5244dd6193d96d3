package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ListenOpen opens a TCP listener on any address, for what everybody may reach:
// [Probes] and [Hook], never the API. flag is the option that named the address.
func ListenOpen(ctx context.Context, flag, addr string) (net.Listener, error) {
	// A pod's address is given to it without the brackets that IPv6 needs here.
	if i := strings.LastIndexByte(addr, ':'); i > 0 {
		if ip, err := netip.ParseAddr(addr[:i]); err == nil && ip.Is6() {
			addr = net.JoinHostPort(addr[:i], addr[i+1:])
		}
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("the address %q of %s is not of the form host:port", addr, flag),
			Hint: "use for example :8181", Err: err}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cannot listen on %q: %v", addr, cause(err)),
			Hint: "name another address with " + flag, Err: err}
	}
	return l, nil
}

// ServeOpen answers requests on l until ctx ends, then lets requests finish for a
// few seconds. It closes l.
func ServeOpen(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: bodyTimeout, WriteTimeout: bodyTimeout + writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := s.Shutdown(end)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.Close()
	}
	if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// Probes answers what a cluster's own machinery asks: /healthz, /readyz and
// /metrics. It names no reasons, because anybody in the cluster may ask.
func Probes(ready func() error, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, v any) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the client may be gone
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, liveness{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		type short struct {
			Ready bool `json:"ready"`
		}
		if ready() != nil {
			answer(w, http.StatusServiceUnavailable, short{})
			return
		}
		answer(w, http.StatusOK, short{true})
	})
	mux.Handle("GET /metrics", http.TimeoutHandler(promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}), handlerTimeout, "too slow"))
	return mux
}

// forwardTimeout bounds the passing on of a hook.
const forwardTimeout = 10 * time.Second
