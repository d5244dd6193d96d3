package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	cliflag "k8s.io/component-base/cli/flag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	apiserveroptions "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	controllermanageroptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// The components are configured by the flags they document, because those are
// a stable interface and the structs behind them are not; but they are started
// by their Run functions, because their commands install signal handlers and
// end the process.

func (p *Plane) startAPIServer(cfg Config, k *keys, listener net.Listener) error {
	// Components write deprecation warnings to standard error otherwise.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})

	args := []string{
		"--etcd-servers=unix://" + p.socketPath(),
		"--service-cluster-ip-range=" + serviceRange,
		"--advertise-address=127.0.0.1",
		// A loopback address is not allowed in Endpoints, so there can be none.
		"--endpoint-reconciler-type=none",
		"--client-ca-file=" + k.caFile,
		"--cert-dir=" + p.dir.file("pki"),
		"--tls-cert-file=" + k.tlsCertFile,
		"--tls-private-key-file=" + k.tlsKeyFile,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + k.accountKeyFile,
		"--service-account-signing-key-file=" + k.accountKeyFile,
		// Tests ask as fast as they can, and count what they asked.
		"--enable-priority-and-fairness=false",
		"--max-requests-inflight=0",
		"--max-mutating-requests-inflight=0",
	}
	if cfg.Audit {
		policy := p.dir.file("audit-policy.yaml")
		if err := writeFile(policy, []byte(auditPolicy), 0o600); err != nil {
			return err
		}
		args = append(args,
			"--audit-policy-file="+policy,
			"--audit-log-path="+p.dir.auditLog(),
			// Written before the request is answered: who has the answer finds
			// the line.
			"--audit-log-mode=blocking",
			"--audit-log-maxsize=1000000",
		)
	}

	opts := apiserveroptions.NewServerRunOptions()
	if err := parse(opts.Flags(), args); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	opts.SecureServing.Listener = listener
	opts.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	if err := opts.GenericServerRunOptions.ComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	ready := make(chan error, 1)
	p.run("kube-apiserver", apiServerGrace, func(ctx context.Context) error {
		completed, err := opts.Complete(ctx)
		if err == nil {
			err = utilerrors.NewAggregate(completed.Validate())
		}
		ready <- err
		if err != nil {
			return err
		}
		return serveAPI(ctx, completed)
	})
	if err := <-ready; err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	return nil
}

// serveAPI does what the kube-apiserver command does once its options are
// complete, with two handlers more.
func serveAPI(ctx context.Context, opts apiserveroptions.CompletedOptions) error {
	config, err := apiserver.NewConfig(opts)
	if err != nil {
		return err
	}
	// The aggregator's chain is the outermost; requests pass no other.
	open := openRequests(ctx)
	generic := config.Aggregator.GenericConfig
	build := generic.BuildHandlerChainFunc
	generic.BuildHandlerChainFunc = func(api http.Handler, c *genericapiserver.Config) http.Handler {
		return endWith(open, nameComponents(build(api, c)))
	}
	completed, err := config.Complete()
	if err != nil {
		return err
	}
	server, err := apiserver.CreateServerChain(completed)
	if err != nil {
		return err
	}
	prepared, err := server.PrepareRun()
	if err != nil {
		return err
	}
	return prepared.Run(ctx)
}

// openRequests returns a context that ends a moment after another: time to
// finish what is quick.
func openRequests(ctx context.Context) context.Context {
	open, end := context.WithCancel(context.Background())
	context.AfterFunc(ctx, func() { time.AfterFunc(200*time.Millisecond, end) })
	return open
}

// endWith ends requests with a context. The API server waits for its clients'
// watches when it shuts down, and etcd waits for the API server.
func endWith(open context.Context, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(open, cancel)()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// nameComponents makes the components' requests carry the user agent they
// carry on a real cluster, where each is a program. It shows in the audit log
// and, as the manager of the fields they set, in objects.
func nameComponents(next http.Handler) http.Handler {
	program := filepath.Base(os.Args[0]) + "/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if agent, own := strings.CutPrefix(r.UserAgent(), program); own {
			name := ""
			switch {
			case r.TLS == nil:
			case len(r.TLS.PeerCertificates) > 0:
				user := r.TLS.PeerCertificates[0].Subject.CommonName
				name, own = strings.CutPrefix(user, "system:")
			case r.TLS.ServerName == genericapiserver.LoopbackClientServerNameOverride:
				name = "kube-apiserver"
			}
			if own && name != "" {
				r.Header.Set("User-Agent", name+"/"+agent)
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (p *Plane) socketPath() string {
	if p.dir.socketDir != "" {
		return filepath.Join(p.dir.socketDir, "etcd.sock")
	}
	return p.dir.file("etcd.sock")
}

// auditPolicy records who asked for what, without bodies. The plane's own
// components read and renew all the time; only what they change is recorded.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: [` + ownUsers + `]
  verbs: [get, list, watch]
- level: None
  users: [` + ownUsers + `]
  resources:
  - group: coordination.k8s.io
    resources: [leases]
  - group: ""
    resources: [events]
  - group: events.k8s.io
    resources: [events]
- level: Metadata
`

const ownUsers = `"system:apiserver", "` + controllerManagerUser + `", "` + schedulerUser + `", "` + kwokUser + `"`

func (p *Plane) startControllerManager(k *keys) error {
	opts, err := controllermanageroptions.NewKubeControllerManagerOptions()
	if err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	all, disabled, aliases := controllermanager.KnownControllers(), controllermanager.ControllersDisabledByDefault(), controllermanager.ControllerAliases()
	flags := opts.Flags(all, disabled, aliases)
	err = parse(flags, []string{
		"--kubeconfig=" + k.controllerManager,
		"--kube-api-qps=2000",
		"--kube-api-burst=4000",
		"--leader-elect=false",
		"--secure-port=0",
		"--service-account-private-key-file=" + k.accountKeyFile,
		"--root-ca-file=" + k.caFile,
		"--cluster-signing-cert-file=" + k.caFile,
		"--cluster-signing-key-file=" + k.caKeyFile,
		"--service-cluster-ip-range=" + serviceRange,
		// Made when absent, and outside of the directory otherwise.
		"--flex-volume-plugin-dir=" + p.dir.file("flexvolume"),
		// The fake nodes send no heartbeat, so that a cluster at rest is at
		// rest, and a laptop may sleep in between.
		"--node-monitor-grace-period=876000h",
		"--concurrent-namespace-syncs=20",
	})
	if err != nil {
		return fmt.Errorf("kube-controller-manager: %w", err)
	}
	opts.ParsedFlags = &flags
	p.run("kube-controller-manager", controllerGrace, func(ctx context.Context) error {
		config, err := opts.Config(ctx, all, disabled, aliases)
		if err != nil {
			return err
		}
		return controllermanager.Run(ctx, config.Complete())
	})
	return nil
}

func (p *Plane) startScheduler(k *keys) error {
	opts := scheduleroptions.NewOptions()
	err := parse(*opts.Flags, []string{
		"--kubeconfig=" + k.scheduler,
		"--kube-api-qps=2000",
		"--kube-api-burst=4000",
		"--leader-elect=false",
		"--secure-port=0",
	})
	if err != nil {
		return fmt.Errorf("kube-scheduler: %w", err)
	}
	p.run("kube-scheduler", controllerGrace, func(ctx context.Context) error {
		config, sched, err := scheduler.Setup(ctx, opts)
		if err != nil {
			return err
		}
		return scheduler.Run(ctx, config, sched)
	})
	return nil
}

// parse sets a component's options from flags.
func parse(sets cliflag.NamedFlagSets, args []string) error {
	all := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, set := range sets.FlagSets {
		all.AddFlagSet(set)
	}
	return all.Parse(args)
}

func (p *Plane) awaitAPIServer(ctx context.Context, k *keys) error {
	client, err := kubernetes.NewForConfig(k.admin)
	if err != nil {
		return err
	}
	return p.poll(ctx, "kube-apiserver", func(ctx context.Context) error {
		body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil && len(body) > 0 {
			return errors.New(string(body))
		}
		return err
	})
}
