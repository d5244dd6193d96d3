package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
)

// openOptions are the flags of what is served to more than this machine.
type openOptions struct {
	health, hook, hookSecret string
}

func (o *openOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.health, "health-listen", "", "another address for /healthz, /readyz and /metrics, which may be reached from elsewhere")
	f.StringVar(&o.hook, "hook-listen", "", "another address for POST /hooks/push, for a forge; needs --hook-secret-file")
	f.StringVar(&o.hookSecret, "hook-secret-file", "", "file with the secret that the forge's webhook is signed with")
}

// openServer is one listener of a server and what answers there.
type openServer struct {
	listener net.Listener
	handler  http.Handler
}

// openListeners are those that the flags ask for; nil where they do not.
type openListeners struct{ health, hook net.Listener }

func (o *openOptions) listen(ctx context.Context) (l openListeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if o.hook != "" {
		if _, err := o.secret(); err != nil {
			return l, err
		}
		if l.hook, err = server.ListenOpen(ctx, "--hook-listen", o.hook); err != nil {
			return l, err
		}
	}
	if o.health != "" {
		if l.health, err = server.ListenOpen(ctx, "--health-listen", o.health); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (l openListeners) close() {
	for _, l := range []net.Listener{l.health, l.hook} {
		if l != nil {
			_ = l.Close() // nobody was told of it
		}
	}
}

// secret reads the secret of hooks.
func (o *openOptions) secret() ([]byte, error) {
	if o.hookSecret == "" {
		return nil, usageError("--hook-listen needs --hook-secret-file: anybody may reach it")
	}
	b, err := os.ReadFile(o.hookSecret)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: "the secret of hooks cannot be read: " + unwrapPath(err).Error(), Hint: "check --hook-secret-file", Err: err}
	}
	s := strings.TrimSpace(string(b))
	if len(s) < 16 {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the secret of hooks is shorter than 16 characters", Hint: "make one with: openssl rand -hex 32"}
	}
	return []byte(s), nil
}

// servers puts the listeners and what answers there together.
func (s *serving) servers(o *openOptions, l openListeners) []openServer {
	var out []openServer
	if l.health != nil {
		out = append(out, openServer{l.health, server.Probes(s.http.Engine.Ready, s.http.Metrics)})
	}
	if l.hook != nil {
		out = append(out, openServer{l.hook, server.Hook(server.HookConfig{Poke: s.engine.Poke, Secret: o.secret, Leader: s.leader, Denied: s.denials.denied, Log: s.log})})
	}
	return out
}
