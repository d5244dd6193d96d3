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

// openOptions are the flags of what is served beside the API: to more than this
// machine, or profiles.
type openOptions struct {
	health, hook, hookSecret, profiles string
	// contention takes block and mutex profiles too.
	contention bool
}

func (o *openOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.health, "health-listen", "", "another address for /healthz, /readyz and /metrics, which may be reached from elsewhere")
	f.StringVar(&o.hook, "hook-listen", "", "another address for POST /hooks/push, for a forge; needs --hook-secret-file")
	f.StringVar(&o.hookSecret, "hook-secret-file", "", "file with the secret that the forge's webhook is signed with")
	f.StringVar(&o.profiles, "pprof-listen", "", "another address, on loopback, for profiles of this process at /debug/pprof/")
	f.BoolVar(&o.contention, "pprof-contention", false, "with --pprof-listen: note where goroutines wait for one another, for the block and mutex profiles; costs a little all the time")
}

// openServer is one listener of a server and what answers there.
type openServer struct {
	listener net.Listener
	handler  http.Handler
}

// openListeners are those that the flags ask for; nil where they do not.
type openListeners struct{ health, hook, profiles net.Listener }

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
	if o.profiles != "" {
		if l.profiles, err = server.ListenProfiles(ctx, o.profiles); err != nil {
			return l, err
		}
	} else if o.contention {
		return l, usageError("--pprof-contention needs --pprof-listen: nobody could read what is noted")
	}
	return l, nil
}

func (l openListeners) close() {
	for _, l := range []net.Listener{l.health, l.hook, l.profiles} {
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
	if l.profiles != nil {
		if o.contention {
			server.NoteContention()
		}
		s.log.Info("profiles are served", "url", "http://"+l.profiles.Addr().String()+"/debug/pprof/")
		out = append(out, openServer{l.profiles, server.Profiles()})
	}
	return out
}
