package kube

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"

	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/belaydev/belay"
)

const flatten = "put the data into the kubeconfig: kubectl config view --flatten --minify"

// check refuses what a kubeconfig of somebody else must not make this process do.
func (r *configRules) check(parsed *api.Config, entry *api.Context, context string) error {
	refuse := func(what, hint string) error {
		return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("context %q of the kubeconfig %s, which is not allowed here", context, what), Hint: hint}
	}
	if u := parsed.AuthInfos[entry.AuthInfo]; u != nil {
		switch {
		case u.Exec != nil:
			if what, hint := r.refusePlugin(u.Exec); what != "" {
				return refuse(what, hint)
			}
			u.Exec.InteractiveMode, u.Exec.StdinUnavailable = api.NeverExecInteractiveMode, true
		case u.AuthProvider != nil:
			return refuse("uses an auth provider", "use a token or a client certificate, such as a ServiceAccount's token")
		}
		if u.TokenFile != "" || u.ClientCertificate != "" || u.ClientKey != "" {
			return refuse("names files of this machine", flatten)
		}
	}
	if cl := parsed.Clusters[entry.Cluster]; cl != nil {
		switch {
		case cl.CertificateAuthority != "":
			return refuse("names files of this machine", flatten)
		case cl.InsecureSkipTLSVerify:
			return refuse("does not check the server's certificate", "put its authority into certificate-authority-data; if the certificate is for another name, set tls-server-name")
		case !private(cl.Server):
			return refuse("sends credentials without TLS", "use an https:// server")
		}
	}
	return nil
}

// refusePlugin says what is wrong with a program that fetches credentials; "" if
// nothing is. The kubeconfig chooses its arguments, but not its environment:
// with that, any program could be made to run another.
func (r *configRules) refusePlugin(e *api.ExecConfig) (what, hint string) {
	if !slices.Contains(r.plugins, e.Command) || (filepath.Base(e.Command) != e.Command && !filepath.IsAbs(e.Command)) {
		return "runs a program to get credentials", "use a token or a client certificate, such as a ServiceAccount's token; " +
			"or allow the program where the server is started, by the name that the kubeconfig has: belay serve --allow-exec-plugin NAME"
	}
	if len(e.Env) > 0 {
		return "sets the environment of the program that gets credentials", "set it where the server is started, or use arguments instead"
	}
	return "", ""
}

// private reports whether what is sent to a server can be read on the way by
// nobody else.
func private(server string) bool {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "http" {
		return true // https, or nothing that a connection can be made to
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.IsLoopback())
}

// CheckPlugins refuses names that [AllowExec] could never match.
func CheckPlugins(names []string) error {
	for _, n := range names {
		if n == "" || (filepath.Base(n) != n && !filepath.IsAbs(n)) {
			return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%q is neither the name of a program nor an absolute path", n)}
		}
	}
	return nil
}
