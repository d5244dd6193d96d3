package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
)

const renderLong = `Renders an application from the repository as it is on disk and writes its
manifests as YAML, each with the file it came from. Neither a server nor a cluster
is needed; a server that answers is asked for the versions its cluster serves,
which charts may ask about.

Values of Secrets are replaced by digests unless --show-secrets is given.
With "-o json" the output is a List of the manifests.`

const renderExample = `  belay render guestbook-production
  belay render guestbook-production --dir ~/src/fleet | kubectl diff -f -
  belay render notifier -o json | jq '.items[].kind'`

func newRender(env *env) *cobra.Command {
	var w workdirFlags
	var kubeVersion string
	var show bool
	cmd := &cobra.Command{Use: "render APP", Short: "Show what an application declares", Long: renderLong, Example: renderExample,
		Args: cobra.ExactArgs(1), ValidArgsFunction: env.completeApplications}
	out := addOutput(cmd)
	w.add(cmd)
	cmd.Flags().StringVar(&kubeVersion, "kube-version", "", "Kubernetes version that charts are told (default: the server's, or a recent one)")
	cmd.Flags().BoolVar(&show, "show-secrets", false, "write the values of Secrets")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := w.open(cmd.Context())
		if err != nil {
			return err
		}
		defer dir.Close()
		objects, err := env.renderOne(cmd.Context(), dir, args[0], kubeVersion)
		if err != nil {
			return err
		}
		return env.writeManifests(*out, objects, show)
	}
	return cmd
}

func (e *env) renderOne(ctx context.Context, w *workdir, name, kubeVersion string) ([]belay.Object, error) {
	apps, err := w.applications([]string{name})
	if err != nil {
		return nil, err
	}
	if err := w.catalog.ApplicationErrors[name]; err != nil {
		return nil, err
	}
	if src := w.elsewhere(apps[0]); src != nil {
		return nil, &belay.Error{Code: belay.CodeNotFound, Origin: apps[0].Origin,
			Message: fmt.Sprintf("application %q is rendered from %s at %s, not from this directory", name, belay.ChartURL(src.Repo, src.Chart), src.Ref),
			Hint:    "if that is this repository, say so with --repo"}
	}
	known := unknownCluster(kubeVersion)
	if kubeVersion == "" {
		known = e.serverFacts
	}
	results, errs, err := w.renderAll(ctx, apps, known)
	if err != nil {
		return nil, err
	}
	for _, warning := range results[0].Warnings {
		fmt.Fprintf(e.stderr, "warning: %s\n", cleanLines(warning))
	}
	return results[0].Objects, errs[0]
}

// serverFacts asks a server what a cluster serves; without one it is not known.
func (e *env) serverFacts(ctx context.Context, cluster string) (belay.ClusterFacts, error) {
	c, err := e.client()
	if err != nil {
		return belay.ClusterFacts{}, err
	}
	f, err := c.Facts(ctx, cluster)
	if err != nil {
		return belay.ClusterFacts{}, nil //nolint:nilerr // a server is a help here, not a need
	}
	return f, nil
}

func (e *env) writeManifests(o output, objects []belay.Object, show bool) error {
	key := make([]byte, 32)
	rand.Read(key) // nobody can test a guess at a value against what is written
	items := make([]json.RawMessage, len(objects))
	for i := range objects {
		items[i] = objects[i].Raw
		if objects[i].Sensitive() && !show {
			redacted, err := belay.RedactSecret(objects[i].Raw, key)
			if err != nil {
				return err
			}
			items[i] = redacted
		}
	}
	if o != outputTable {
		return e.write(o, map[string]any{"apiVersion": "v1", "kind": "List", "items": items})
	}
	for i := range objects {
		doc, err := yaml.JSONToYAML(items[i])
		if err != nil {
			return fmt.Errorf("encode %s: %w", objects[i].ID, err)
		}
		if _, err := fmt.Fprintf(e.stdout, "---\n# Source: %s\n%s%s", objects[i].Origin, hookLine(objects[i].Hook), doc); err != nil {
			return err
		}
	}
	return nil
}

// hookLine says above a manifest when it runs, if it is a hook.
func hookLine(h *belay.Hook) string {
	if h == nil {
		return ""
	}
	words := make([]string, len(h.Phases))
	for i, p := range h.Phases {
		words[i] = string(p)
	}
	return "# Hook: " + strings.Join(words, ", ") + "\n"
}
