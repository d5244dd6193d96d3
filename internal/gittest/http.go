package gittest

import (
	"context"
	"crypto/subtle"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// HTTP serves the bare repositories below a directory with git http-backend.
type HTTP struct {
	// URL of the server; a repository is URL + "/name.git".
	URL string
	// CA is the server's certificate in PEM, nil without TLS.
	CA []byte

	t       testing.TB
	srv     *httptest.Server
	addr    string
	tls     bool
	backend http.Handler

	mu       sync.Mutex
	requests []string
	user     string
	password string
	hang     chan struct{}
}

// HTTPOptions of ServeHTTP.
type HTTPOptions struct {
	// User and Password are asked for when Password is set.
	User, Password string
	TLS            bool
}

// ServeHTTP serves root until the test ends.
func ServeHTTP(t testing.TB, root string, o HTTPOptions) *HTTP {
	t.Helper()
	exec, err := xec.Command{Path: "git", Args: []string{"--exec-path"}, Inherit: []string{"PATH"}}.Output(t.Context(), 4096)
	if err != nil {
		t.Fatal(err)
	}
	h := &HTTP{t: t, tls: o.TLS, user: o.User, password: o.Password, addr: quietAddress()}
	h.backend = &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(exec)), "git-http-backend"),
		Env: append(gitEnv(), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=tester",
			"PATH="+os.Getenv("PATH")),
		Stderr: t.Output(),
	}
	h.Start()
	t.Cleanup(h.Stop)
	return h
}

// Start serves again after Stop, at the same address.
func (h *HTTP) Start() {
	h.t.Helper()
	l := listen(h.t, h.addr)
	h.addr = l.Addr().String()
	h.srv = &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	if h.tls {
		h.srv.StartTLS()
		h.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.srv.Certificate().Raw})
	} else {
		h.srv.Start()
	}
	h.URL = h.srv.URL
}

// Stop refuses connections until Start.
func (h *HTTP) Stop() {
	h.Resume()
	h.srv.CloseClientConnections()
	h.srv.Close()
}

// SetPassword changes what is asked for.
func (h *HTTP) SetPassword(password string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.password = password
}

// Hang leaves every request unanswered until Resume.
func (h *HTTP) Hang() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hang == nil {
		h.hang = make(chan struct{})
	}
}

// Resume ends Hang.
func (h *HTTP) Resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hang != nil {
		close(h.hang)
		h.hang = nil
	}
}

// Requests are the paths and queries asked for so far, without those that were
// refused for want of a password.
func (h *HTTP) Requests() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.requests...)
}

// ServeHTTP implements http.Handler.
func (h *HTTP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	user, password, hang := h.user, h.password, h.hang
	h.mu.Unlock()
	if hang != nil {
		wait(r.Context(), hang)
	}
	if password != "" {
		u, p, ok := r.BasicAuth()
		if !ok || subtle.ConstantTimeCompare([]byte(u+"\x00"+p), []byte(user+"\x00"+password)) != 1 {
			w.Header().Set("WWW-Authenticate", `Basic realm="gittest"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
	}
	h.mu.Lock()
	h.requests = append(h.requests, r.Method+" "+r.URL.RequestURI())
	h.mu.Unlock()
	h.backend.ServeHTTP(w, r)
}

// listen listens at an address. While nobody did, a connection of somebody else's may
// have taken its port for a moment.
func listen(t testing.TB, addr string) net.Listener {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; <-time.After(50 * time.Millisecond) {
		l, err := net.Listen("tcp", addr)
		if err == nil {
			return l
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func wait(ctx context.Context, ch <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-ch:
	}
}
