package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/belaydev/belay"
)

func TestProbes(t *testing.T) {
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "belay_test", Help: "x"}, func() float64 { return 1 }))
	why := errors.New("repository https://secret.example.com cannot be read")
	l, err := ListenOpen(t.Context(), "--health-listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- ServeOpen(ctx, l, Probes(func() error { return why }, metrics), slog.New(slog.DiscardHandler))
	}()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz: %d", code)
	}
	if code, body := get("/readyz"); code != http.StatusServiceUnavailable || strings.Contains(body, "secret") {
		t.Errorf("readyz: %d %q", code, body)
	}
	if code, body := get("/metrics"); code != http.StatusOK || !strings.Contains(body, "belay_test 1") {
		t.Errorf("metrics: %d %q", code, body)
	}
	for _, api := range []string{"/", "/api/v1/status", "/openapi.json", "/hooks/push", "/docs"} {
		if code, _ := get(api); code != http.StatusNotFound {
			t.Errorf("%s is open: %d", api, code)
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := ListenOpen(t.Context(), "--health-listen", "8181"); belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "--health-listen") {
		t.Errorf("%v", err)
	}
}

func TestWhatWasPushed(t *testing.T) {
	for _, test := range []struct {
		contentType, body, want string // "" is an error
	}{
		{"application/json", ``, `[""]`},
		{"application/json", `{"repo":"fleet"}`, `["fleet"]`},
		{"application/json", `{"zen":"x"}`, `[""]`},
		{"application/json", `{"repository":{"id":1,"clone_url":"https://github.com/a/b.git","ssh_url":"git@github.com:a/b.git","private":true}}`,
			`["https://github.com/a/b.git" "git@github.com:a/b.git"]`},
		{"application/json; charset=utf-8", `{"project":{"git_http_url":"https://gitlab.com/a/b.git"},"repository":{"git_ssh_url":"git@gitlab.com:a/b.git"}}`,
			`["git@gitlab.com:a/b.git" "https://gitlab.com/a/b.git"]`},
		{"application/json", `{"repository":{"name":"x"}}`, `[]`},
		{"application/x-www-form-urlencoded", `payload=%7B%7D`, ""},
		{"application/json", `[1]`, ""},
		{"application/json", `{`, ""},
	} {
		got, err := pushed(test.contentType, []byte(test.body))
		if text := strings.TrimSpace(quoted(got)); (err != nil) != (test.want == "") || (err == nil && text != test.want) {
			t.Errorf("%s: %s, %v, want %s", test.body, text, err, test.want)
		}
	}
}

func quoted(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = `"` + s + `"`
	}
	return "[" + strings.Join(out, " ") + "]"
}

func TestNoSecretSignsNothing(t *testing.T) {
	for _, h := range []http.Header{{}, {"X-Gitlab-Token": {""}}, {"X-Gitlab-Token": {"x"}}, {"X-Hub-Signature-256": {"sha256="}}} {
		if signed(h, []byte("x"), nil) || signed(h, []byte("x"), []byte("secret")) {
			t.Errorf("%v passes", h)
		}
	}
}
