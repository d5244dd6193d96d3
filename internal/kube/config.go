package kube

import (
	"errors"
	"fmt"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/belaydev/belay"
)

// A ConfigOption changes what [ConfigFromKubeconfig] accepts.
type ConfigOption func(*configRules)

type configRules struct{ local bool }

// Trusted accepts what reaches into the machine: programs that fetch
// credentials, and files. It is for a kubeconfig of the operator's own.
func Trusted() ConfigOption { return func(r *configRules) { r.local = true } }

// ConfigFromKubeconfig reads a kubeconfig and picks a context, by default its
// current one. A kubeconfig may name programs to run and files to send to the
// server it also names; whoever can edit it would gain both, so they are
// refused unless it is [Trusted]. Errors do not repeat its contents.
func ConfigFromKubeconfig(data []byte, context string, opts ...ConfigOption) (*rest.Config, error) {
	var rules configRules
	for _, o := range opts {
		o(&rules)
	}
	parsed, err := clientcmd.Load(data)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the kubeconfig cannot be read: it is not valid YAML of kind Config",
			Err: err}
	}
	if context == "" {
		context = parsed.CurrentContext
	}
	entry, ok := parsed.Contexts[context]
	if !ok {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("the kubeconfig has no context %q", context),
			Hint: "name one of its contexts, or set current-context"}
	}
	if !rules.local {
		if err := refuseLocal(parsed, entry, context); err != nil {
			return nil, err
		}
	}
	cfg, err := clientcmd.NewNonInteractiveClientConfig(*parsed, context, &clientcmd.ConfigOverrides{}, nil).ClientConfig()
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Err: err,
			Message: fmt.Sprintf("context %q of the kubeconfig is not complete: its cluster or user is missing or empty", context)}
	}
	return cfg, nil
}

func refuseLocal(parsed *api.Config, entry *api.Context, context string) error {
	refuse := func(what, hint string) error {
		return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("context %q of the kubeconfig %s, which is not allowed here", context, what), Hint: hint}
	}
	if u := parsed.AuthInfos[entry.AuthInfo]; u != nil {
		switch {
		case u.Exec != nil:
			return refuse("runs a program to get credentials", "use a token or a client certificate, such as a ServiceAccount's token")
		case u.AuthProvider != nil:
			return refuse("uses an auth provider", "use a token or a client certificate, such as a ServiceAccount's token")
		case u.TokenFile != "" || u.ClientCertificate != "" || u.ClientKey != "":
			return refuse("names files of this machine", "put the data into the kubeconfig: kubectl config view --flatten --minify")
		}
	}
	if cl := parsed.Clusters[entry.Cluster]; cl != nil && cl.CertificateAuthority != "" {
		return refuse("names files of this machine", "put the data into the kubeconfig: kubectl config view --flatten --minify")
	}
	return nil
}

// OwnConfig is the configuration of the process itself: of the kubeconfig file
// if one is named, else of the pod it runs in, else of KUBECONFIG and
// ~/.kube/config. Everything in it is trusted.
func OwnConfig(file, context string) (*rest.Config, error) {
	if file == "" {
		cfg, err := rest.InClusterConfig()
		if err == nil {
			return cfg, nil
		}
		if !errors.Is(err, rest.ErrNotInCluster) {
			return nil, fmt.Errorf("read the pod's service account: %w", err)
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if file != "" {
		if _, err := os.Stat(file); err != nil {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no kubeconfig to read: %s", plainCause(err)), Err: err,
				Hint: "--kubeconfig names a file on this machine"}
		}
		rules.ExplicitPath = file
	}
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		if clientcmd.IsEmptyConfig(err) {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: "no kubeconfig found", Err: err,
				Hint: "name one with --kubeconfig, or set KUBECONFIG"}
		}
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the kubeconfig cannot be used: " + plainCause(err), Err: err}
	}
	return cfg, nil
}
