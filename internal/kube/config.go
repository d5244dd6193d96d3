package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay"
)

// A ConfigOption changes what [ConfigFromKubeconfig] accepts.
type ConfigOption func(*configRules)

type configRules struct {
	local   bool
	plugins []string
}

// Trusted accepts what reaches into the machine: programs that fetch
// credentials, and files. It is for a kubeconfig of the operator's own.
func Trusted() ConfigOption { return func(r *configRules) { r.local = true } }

// AllowExec accepts programs that fetch credentials: those named, and no other.
// A name without a slash is looked for in PATH; one with a slash is a whole path.
func AllowExec(names ...string) ConfigOption {
	return func(r *configRules) { r.plugins = append(r.plugins, names...) }
}

// ConfigFromKubeconfig reads a kubeconfig and picks a context, by default its
// current one. A kubeconfig may name programs to run and files to send to the
// server it also names; whoever can edit it would gain both, so they are
// refused unless it is [Trusted] or the program is one of [AllowExec]. So is a
// connection on which anybody could read the credentials. Errors do not repeat
// its contents.
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
		if err := rules.check(parsed, entry, context); err != nil {
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
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: noKubeconfig(rules), Err: err,
				Hint: "name one with --kubeconfig, or set KUBECONFIG"}
		}
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the kubeconfig cannot be used: " + plainCause(err), Err: err}
	}
	return cfg, nil
}

// noKubeconfig says where no kubeconfig was found, or none with anything in it.
func noKubeconfig(rules *clientcmd.ClientConfigLoadingRules) string {
	files := rules.GetLoadingPrecedence()
	if rules.ExplicitPath != "" {
		files = []string{rules.ExplicitPath}
	}
	for i, f := range files {
		if _, err := os.Stat(f); err == nil {
			files[i] += " (which is empty)"
		} else if !errors.Is(err, fs.ErrNotExist) {
			files[i] += fmt.Sprintf(" (%s)", plainCause(err))
		}
	}
	return "no kubeconfig found at " + strings.Join(files, " or ")
}
