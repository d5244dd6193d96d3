package kube

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

// Who has no kubeconfig is told where it was looked for.
func TestWhereNoKubeconfigWasFound(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	dir := t.TempDir()
	empty, missing := filepath.Join(dir, "empty"), filepath.Join(dir, "missing")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ env, file, want string }{
		{missing, "", "no kubeconfig found at " + missing},
		{missing + string(os.PathListSeparator) + empty, "", "no kubeconfig found at " + missing + " or " + empty + " (which is empty)"},
		{missing, empty, "no kubeconfig found at " + empty + " (which is empty)"},
		{"", missing, "there is no kubeconfig to read: "},
	} {
		t.Setenv("KUBECONFIG", tt.env)
		_, err := OwnConfig(tt.file, "")
		if belay.CodeOf(err) != belay.CodeNotFound || !strings.HasPrefix(err.Error(), tt.want) || !strings.Contains(err.Error(), "--kubeconfig") {
			t.Errorf("KUBECONFIG=%s, --kubeconfig %s: %v, want %q", tt.env, tt.file, err, tt.want)
		}
	}
}
