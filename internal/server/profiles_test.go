package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func TestProfiles(t *testing.T) {
	l, err := ListenProfiles(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- ServeOpen(ctx, l, Profiles(), slog.New(slog.DiscardHandler)) }()
	get := func(path, host, site string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			req.Host = host
		}
		if site != "" {
			req.Header.Set("Sec-Fetch-Site", site)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	for path, want := range map[string]string{
		"/debug/pprof/":                  "heap",
		"/debug/pprof/goroutine?debug=1": "TestProfiles",
		"/debug/pprof/heap":              "\x1f\x8b", // gzip
		"/debug/pprof/profile?seconds=1": "\x1f\x8b",
		"/debug/pprof/trace?seconds=0.1": "go 1.",
		"/debug/pprof/block?debug=1":     "cycles/second",
		"/debug/pprof/mutex?debug=1":     "sampling period=0", // off unless asked for
	} {
		if code, body := get(path, "", "none"); code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d, without %q: %.200q", path, code, want, body)
		}
	}
	for _, other := range []string{"/", "/metrics", "/api/v1/status", "/debug/pprof/cmdline"} {
		if code, _ := get(other, "", ""); code != http.StatusNotFound {
			t.Errorf("%s is served: %d", other, code)
		}
	}
	if code, body := get("/debug/pprof/heap", "rebound.example.com", ""); code != http.StatusMisdirectedRequest {
		t.Errorf("under another name: %d %.200q", code, body)
	}
	if code, body := get("/debug/pprof/heap", "", "cross-site"); code != http.StatusForbidden {
		t.Errorf("for another site: %d %.200q", code, body)
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestProfilesAreForLoopback(t *testing.T) {
	for _, addr := range []string{":6060", "0.0.0.0:6060", "[::]:6060", "192.0.2.1:6060"} {
		_, err := ListenProfiles(t.Context(), addr)
		if belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	_, err := ListenProfiles(t.Context(), "6060")
	if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "--pprof-listen") {
		t.Errorf("%v", err)
	}
}
