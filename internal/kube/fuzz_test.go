package kube

import (
	"testing"

	"github.com/belaydev/belay"
)

// A kubeconfig of any content is refused with an error for people, or reaches
// into nothing of this machine.
func FuzzKubeconfig(f *testing.F) {
	f.Add([]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: c, cluster: {server: \"https://h:1\"}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: t}}]\n"))
	f.Add([]byte("apiVersion: v1\nkind: Config\ncurrent-context: x\nclusters: [{name: c, cluster: {server: \"https://h:1\"}}]\ncontexts: [{name: x, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {exec: {command: sh, apiVersion: client.authentication.k8s.io/v1}}}]\n"))
	f.Add([]byte("clusters: [{name: c, cluster: {certificate-authority: /etc/passwd}}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := ConfigFromKubeconfig(data, "")
		if err != nil {
			if belay.CodeOf(err) == belay.CodeInternal {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		if cfg.ExecProvider != nil || cfg.AuthProvider != nil || cfg.CAFile != "" || cfg.CertFile != "" || cfg.KeyFile != "" || cfg.BearerTokenFile != "" {
			t.Fatalf("%q reaches into the machine", data)
		}
	})
}
