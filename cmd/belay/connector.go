package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/reconcile"
)

// connector makes cluster adapters.
type connector struct {
	instance, kubeconfig string
	namespaces, plugins  []string
	ownCredentials       bool
	lease                *kube.Lease
	log                  *slog.Logger
}

// Connect implements reconcile.Connector.
func (c *connector) Connect(ctx context.Context, def belay.Cluster, interactive []string, notify func([]string, bool)) (reconcile.Cluster, error) {
	o := kube.Options{Name: def.Name, Instance: c.instance, Logger: c.log, Interactive: interactive, Notify: notify, Lease: c.lease, Namespaces: c.namespaces,
		Renew: c.credentials(def)}
	var err error
	if o.Config, err = o.Renew(ctx); err != nil {
		return nil, fmt.Errorf("cluster %q: %w", def.Name, err)
	}
	return kube.New(o)
}

// credentials reads how a cluster is reached, each time anew.
func (c *connector) credentials(def belay.Cluster) func(context.Context) (*kube.Config, error) {
	if def.Spec.Kubeconfig == nil || c.ownCredentials {
		kubeContext := def.Spec.Context
		if def.Spec.Kubeconfig != nil {
			kubeContext = "" // it is one of the other kubeconfig
		}
		return func(context.Context) (*kube.Config, error) { return kube.OwnConfig(c.kubeconfig, kubeContext) }
	}
	return func(ctx context.Context) (*kube.Config, error) {
		data, err := resolve(ctx, def.Spec.Kubeconfig, c.ownSecret)
		if err != nil {
			return nil, err
		}
		return kube.ConfigFromKubeconfig(data, def.Spec.Context, kube.AllowExec(c.plugins...))
	}
}

// ownSecret reads a Secret of the server's own cluster.
func (c *connector) ownSecret(ctx context.Context, ref belay.SecretReference) ([]byte, error) {
	cfg, err := kube.OwnConfig(c.kubeconfig, "")
	if err != nil {
		return nil, err
	}
	own, err := kube.New(kube.Options{Name: "own", Config: cfg, Logger: c.log})
	if err != nil {
		return nil, err
	}
	return own.SecretValue(ctx, ref)
}
