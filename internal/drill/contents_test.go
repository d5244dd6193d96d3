package drill_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/drill"
)

// objects makes rendered objects of YAML documents.
func objects(t *testing.T, documents string) []belay.Object {
	t.Helper()
	var out []belay.Object
	for doc := range strings.SplitSeq(documents, "---\n") {
		raw, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		group, _, named := strings.Cut(m.APIVersion, "/")
		if !named {
			group = ""
		}
		out = append(out, belay.Object{APIVersion: m.APIVersion, Raw: raw, Origin: belay.Origin{File: "apps/x.yaml", Line: 7},
			ID: belay.ObjectID{Group: group, Kind: m.Kind, Namespace: m.Metadata.Namespace, Name: m.Metadata.Name}})
	}
	return out
}

// kubernetes are the groups of every cluster, as far as the tests use them.
var kubernetes = []string{"", "apps", "batch", "networking.k8s.io", "rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io",
	"scheduling.k8s.io", "storage.k8s.io"}

// fleet is one application of each manifest, all in one cluster and in namespace shop.
func fleet(t *testing.T, apps map[string]string) *drill.Fleet {
	t.Helper()
	f := &drill.Fleet{Contents: map[string]drill.Contents{}, Cluster: map[string]string{}, Namespace: map[string]string{},
		BuiltIn: func(_ string, k belay.Kind) bool { return slices.Contains(kubernetes, k.Group) }}
	for name, documents := range apps {
		f.Contents[name], f.Cluster[name], f.Namespace[name] = drill.Read(objects(t, documents), "shop"), "prod", "shop"
	}
	return f
}

const web = `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      serviceAccountName: runner
      priorityClassName: high
      runtimeClassName: sandboxed
      imagePullSecrets: [{name: registry}]
      initContainers:
        - name: init
          env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: a}}}]
      containers:
        - name: main
          env:
            - {name: PASSWORD, valueFrom: {secretKeyRef: {name: db, key: password}}}
            - {name: EXTRA, valueFrom: {secretKeyRef: {name: maybe, key: x, optional: true}}}
          envFrom: [{secretRef: {name: environment}}]
      volumes:
        - {name: v1, secret: {secretName: tls}}
        - {name: v2, projected: {sources: [{configMap: {name: projected}}]}}
        - {name: v3, persistentVolumeClaim: {claimName: disk}}
        - {name: v4, configMap: {name: kube-root-ca.crt}}
`

func TestWhatIsMissing(t *testing.T) {
	f := fleet(t, map[string]string{
		"web": web,
		"others": `apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {ingressClassName: nginx, tls: [{secretName: web-tls}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot, namespace: elsewhere}
imagePullSecrets: [{name: pull}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  volumeClaimTemplates: [{spec: {storageClassName: fast}}]
  template: {spec: {containers: [{name: main}]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {serviceAccountName: robot2, containers: [{name: main}]}}}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: robots}
roleRef: {kind: ClusterRole, name: robots}
subjects: [{kind: ServiceAccount, name: robot3, namespace: shop}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewers}
roleRef: {kind: ClusterRole, name: view}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: checker}
webhooks: [{name: check.example.com, clientConfig: {service: {name: checker, namespace: shop}}}]
---
apiVersion: example.com/v1
kind: Widget
metadata: {name: w}
`})
	var titles []string
	for _, m := range f.Missing() {
		titles = append(titles, m.Title())
		if m.Cluster != "prod" || len(m.Applications) != 1 || m.File != "apps/x.yaml" || m.Line != 7 || m.Message == "" {
			t.Errorf("%+v", m)
		}
	}
	want := []string{"CABundle checker", "ClusterRole robots", "ConfigMap shop/projected", "ConfigMap shop/settings", "CustomResourceDefinition Widget.example.com",
		"IngressClass nginx", "Namespace elsewhere", "PersistentVolumeClaim shop/disk", "PriorityClass high", "RuntimeClass sandboxed",
		"Secret elsewhere/pull", "Secret shop/db", "Secret shop/environment", "Secret shop/registry", "Secret shop/tls", "Secret shop/web-tls",
		"ServiceAccount shop/robot2", "ServiceAccount shop/robot3", "ServiceAccount shop/runner", "StorageClass fast"}
	if !slices.Equal(titles, want) {
		t.Errorf("missing are\n%q\nwant\n%q", titles, want)
	}
}

// What another application brings, or a controller is asked to make, is not missing.
func TestWhatIsNotMissing(t *testing.T) {
	f := fleet(t, map[string]string{
		"web": web,
		"base": `apiVersion: v1
kind: ServiceAccount
metadata: {name: runner}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
---
apiVersion: v1
kind: Secret
metadata: {name: db}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: projected}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
---
apiVersion: bitnami.com/v1alpha1
kind: SealedSecret
metadata: {name: registry}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: e}
spec: {target: {name: environment}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: c}
spec: {secretName: tls}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sealedsecrets.bitnami.com}
spec: {group: bitnami.com, names: {kind: SealedSecret}}
`})
	var titles []string
	for _, m := range f.Missing() {
		titles = append(titles, m.Title())
	}
	want := []string{"CustomResourceDefinition Certificate.cert-manager.io", "CustomResourceDefinition ExternalSecret.external-secrets.io", "RuntimeClass sandboxed"}
	if !slices.Equal(titles, want) {
		t.Errorf("missing are %q, want %q", titles, want)
	}
	// In another cluster nothing of it is.
	f.Cluster["base"] = "staging"
	if n := len(f.Missing()); n < 10 {
		t.Errorf("%d findings; what is in another cluster is of no use here", n)
	}
}

func TestKindsThatOnlyTheRealClusterHas(t *testing.T) {
	f := fleet(t, map[string]string{"a": "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\n"})
	crd := func(name, kind string) string {
		return "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: " + name + "}\nspec: {group: example.com, names: {kind: " + kind + "}}\n"
	}
	f.Copied = map[string][]belay.Object{"prod": objects(t, crd("widgets.example.com", "Widget")+"---\n"+crd("others.example.com", "Other"))}
	found := f.Missing()
	if len(found) != 2 || found[0].Name != "others.example.com" || len(found[0].Applications) != 0 || found[1].Name != "widgets.example.com" || !slices.Equal(found[1].Applications, []string{"a"}) {
		t.Errorf("%+v", found)
	}
}

func TestKeysInTheLostCluster(t *testing.T) {
	ref := belay.SecretReference{Namespace: "belay", Name: "sops", Key: "age"}
	found := drill.Keys([]belay.SecretReference{ref, {Namespace: "belay", Name: "git", Key: "password"}, ref}, nil)
	if len(found) != 2 || found[0].Title() != "Secret belay/git" || found[1].Title() != "Secret belay/sops" || !strings.Contains(found[1].Message, `"age"`) {
		t.Errorf("%+v", found)
	}
}
