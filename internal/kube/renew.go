package kube

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
)

const (
	// renewPause is the least time between two looks at where credentials are kept.
	renewPause = 10 * time.Second
	// renewTimeout bounds one look.
	renewTimeout = 5 * time.Second
)

// renewing sends requests with the newest credentials. When the API server does
// not take those it has, or does not answer, it looks whether there are others,
// and sends the request again with them. All connectors of a Cluster share it,
// so watches go on as if nothing had happened.
type renewing struct {
	renew func(context.Context) (*rest.Config, error) // nil where there is no place to look
	moved func()                                      // called when it is another server now
	log   *slog.Logger
	turn  chan struct{} // held by who looks

	mu         sync.Mutex
	cfg        *rest.Config
	transport  http.RoundTripper
	generation int
	looked     time.Time
}

func newRenewing(cfg *rest.Config, renew func(context.Context) (*rest.Config, error), moved func(), log *slog.Logger) (*renewing, error) {
	rt, err := rest.TransportFor(cfg)
	if err != nil {
		return nil, err
	}
	return &renewing{renew: renew, moved: moved, log: log, turn: make(chan struct{}, 1), cfg: cfg, transport: rt}, nil
}

// RoundTrip implements http.RoundTripper.
func (t *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	return attempted(req, t.roundTrip)
}

func (t *renewing) roundTrip(req *http.Request) (*http.Response, error) {
	rt, generation, fresh := t.current()
	res, err := rt.RoundTrip(req)
	rejected := err == nil && res.StatusCode == http.StatusUnauthorized
	if !rejected && (err == nil || req.Context().Err() != nil) {
		return res, err
	}
	if !t.look(req.Context(), generation) && (!rejected || !fresh) {
		return res, err
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return res, err
		}
		body, bodyErr := req.GetBody()
		if bodyErr != nil {
			return res, err
		}
		again.Body = body
	}
	if res != nil {
		_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be used again
		_ = res.Body.Close()
	}
	rt, _, _ = t.current()
	return rt.RoundTrip(again)
}

// current is how requests are sent now. fresh means that the transport itself
// gets other credentials after the server refused some, as it does where they come
// from a program or a file that is written anew.
func (t *renewing) current() (rt http.RoundTripper, generation int, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.transport, t.generation, t.cfg.ExecProvider != nil || t.cfg.BearerTokenFile != ""
}

// look reports whether there are other credentials than those of a generation.
func (t *renewing) look(ctx context.Context, generation int) bool {
	select {
	case t.turn <- struct{}{}:
		defer func() { <-t.turn }()
	case <-ctx.Done():
		return false
	}
	t.mu.Lock()
	known, looked := t.generation != generation, t.looked
	t.mu.Unlock()
	if known || t.renew == nil || time.Since(looked) < renewPause {
		return known
	}
	bounded, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	cfg, err := t.renew(bounded)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looked = time.Now()
	if err != nil {
		t.log.Debug("look for other credentials", "error", err)
		return false
	}
	return t.take(cfg)
}

// take uses a configuration from now on, if it differs. The caller holds t.mu.
func (t *renewing) take(cfg *rest.Config) bool {
	cfg = prepared(cfg)
	if !sameServer(cfg, t.cfg) {
		t.log.Info("the cluster has another address or authority now, connecting anew")
		t.moved()
		return false
	}
	if reflect.DeepEqual(credentials(cfg), credentials(t.cfg)) {
		return false
	}
	rt, err := rest.TransportFor(cfg)
	if err != nil {
		t.log.Warn("new credentials cannot be used", "error", plainCause(err))
		return false
	}
	t.log.Info("using new credentials")
	old := t.transport
	t.cfg, t.transport = cfg, rt
	t.generation++
	utilnet.CloseIdleConnectionsFor(old)
	return true
}

// CloseIdleConnections is found by [http.Client].
func (t *renewing) CloseIdleConnections() {
	rt, _, _ := t.current()
	utilnet.CloseIdleConnectionsFor(rt)
}

// sameServer reports whether two configurations lead to one server, known by one
// authority. Behind another one there may be another cluster, and what was
// observed of the first is not true of it.
func sameServer(a, b *rest.Config) bool {
	return a.Host == b.Host && a.APIPath == b.APIPath && a.ServerName == b.ServerName && a.Insecure == b.Insecure &&
		a.CAFile == b.CAFile && string(a.CAData) == string(b.CAData)
}

// credentials are what may change while the server stays the same.
func credentials(c *rest.Config) []any {
	return []any{c.Username, c.Password, c.BearerToken, c.BearerTokenFile, c.CertFile, c.KeyFile, c.CertData, c.KeyData, c.Impersonate, c.ExecProvider}
}
