package plan

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
)

const web = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, team: a}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  strategy: {type: RollingUpdate}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {}
      containers:
      - name: app
        image: nginx:1
        args: []
        command: [run]
        env: [{name: A, value: a}, {name: B, value: ""}]
        ports: [{containerPort: 80}, {containerPort: 81, name: x}]
        resources: {requests: {cpu: 100m}}
        volumeMounts: [{name: work, mountPath: /work}]
      volumes: [{name: work, emptyDir: {}}]
`

const webWithoutReplicas = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: nginx:1}]}
`

const settings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, finalizers: [example.com/kept]}
data: {a: "1", b: "2"}
`

const emptySettings = `
apiVersion: v1
kind: ConfigMap
metadata: {name: empty}
data: {}
`

const login = `
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {user: admin, password: hunter22}
`

const dns = `
apiVersion: v1
kind: Service
metadata: {name: dns}
spec: {selector: {app: web}, ports: [{name: dns, port: 53}]}
`

const deny = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
`

const role = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
`

const scaler = `
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: old}
spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: other}, maxReplicas: 3, targetCPUUtilizationPercentage: 50}
`

const thing = `
apiVersion: plan.example.com/v1
kind: Thing
metadata: {name: thing}
spec:
  free: {a: {b: 1, c: 2}, d: {e: 1}, list: [1]}
  set: [1, 2]
  keyed: [{port: 53}, {port: 54, protocol: UDP, name: x}]
  atomicMap: {a: b}
  strings: {a: b}
  parts: {one: {size: big}, two: {size: small}}
  atomicParts: {one: {size: big}}
`

func TestCompareFindsForeignEdits(t *testing.T) {
	const (
		merge     = types.MergePatchType
		strategic = types.StrategicMergePatchType
		jsonPatch = types.JSONPatchType
	)
	containers := "/spec/template/spec/containers/0"
	inPod := func(patch string) string { return `{"spec":{"template":{"spec":` + patch + `}}}` }
	inApp := func(patch string) string { return inPod(`{"containers":[{"name":"app",` + patch + `}]}`) }
	const app = `spec.template.spec.containers[name="app"]`
	tests := []struct {
		name, object string
		manager      string
		kind         types.PatchType
		patch        string
		subresource  string
		taken, added []string
		// nobody is set where a removal leaves no trace of who did it.
		nobody bool
	}{
		{name: "a value changed", object: web, manager: "kubectl-edit", kind: strategic, patch: inApp(`"image":"evil"`), taken: []string{app + ".image"}},
		{name: "a value changed by a controller", object: web, manager: "image-updater", kind: strategic, patch: inApp(`"image":"nginx:2"`), taken: []string{app + ".image"}},
		{name: "a value removed", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"remove","path":"` + containers + `/command"}]`, taken: []string{app + ".command"}, nobody: true},
		{name: "an atomic list changed", object: web, manager: "kubectl-patch", kind: jsonPatch, patch: `[{"op":"add","path":"` + containers + `/command/-","value":"x"}]`, taken: []string{app + ".command"}},
		{name: "scaled", object: web, manager: "kubectl", kind: merge, patch: `{"spec":{"replicas":5}}`, subresource: "scale", taken: []string{"spec.replicas"}},
		{name: "scaled where nothing is declared", object: webWithoutReplicas, manager: "kubectl", kind: merge, patch: `{"spec":{"replicas":5}}`, subresource: "scale"},
		{name: "scaled by an autoscaler where nothing is declared", object: webWithoutReplicas, manager: "kube-controller-manager", kind: merge, patch: `{"spec":{"replicas":5}}`},
		{name: "replicas edited where nothing is declared", object: webWithoutReplicas, manager: "k9s", kind: merge, patch: `{"spec":{"replicas":5}}`},
		{name: "replicas and more edited where nothing is declared", object: webWithoutReplicas, manager: "k9s", kind: merge, patch: `{"spec":{"replicas":5,"minReadySeconds":7}}`, added: []string{"spec.minReadySeconds"}},
		{name: "restarted", object: web, manager: "kubectl-rollout", kind: strategic, patch: `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`},
		{name: "restarted from a terminal", object: web, manager: "k9s", kind: strategic, patch: `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`},
		{name: "restarted and annotated", object: web, manager: "k9s", kind: strategic, patch: `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now","x":"y"}}}}}`,
			added: []string{"spec.template.metadata.annotations.x"}},
		{name: "an item added", object: web, manager: "kubectl-edit", kind: strategic, patch: inPod(`{"containers":[{"name":"spy","image":"spy"}]}`), added: []string{`spec.template.spec.containers[name="spy"]`}},
		{name: "an item added by a webhook or controller", object: web, manager: "injector", kind: strategic, patch: inPod(`{"containers":[{"name":"proxy","image":"proxy"}]}`)},
		{name: "an item removed", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"remove","path":"` + containers + `/env/0"}]`, taken: []string{app + `.env[name="A"]`}, nobody: true},
		{name: "an item changed", object: web, manager: "kubectl-edit", kind: strategic, patch: inApp(`"env":[{"name":"A","value":"z"}]`), taken: []string{app + `.env[name="A"].value`}},
		{name: "a value given where none is declared", object: web, manager: "kubectl-edit", kind: strategic, patch: inApp(`"env":[{"name":"B","value":"z"}]`), taken: []string{app + `.env[name="B"].value`}},
		{name: "all items removed", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"remove","path":"` + containers + `/env"}]`, taken: []string{app + `.env[name="A"]`, app + `.env[name="B"]`}, nobody: true},
		{name: "an empty list filled", object: web, manager: "kubectl-edit", kind: strategic, patch: inApp(`"args":["x"]`), taken: []string{app + ".args"}},
		{name: "an empty map filled", object: web, manager: "kubectl-edit", kind: strategic, patch: inPod(`{"nodeSelector":{"a":"b"}}`), taken: []string{"spec.template.spec.nodeSelector"}},
		{name: "an empty map replaced by a sibling", object: web, manager: "kubectl-edit", kind: jsonPatch,
			patch: `[{"op":"replace","path":"/spec/template/spec/volumes/0","value":{"name":"work","hostPath":{"path":"/"}}}]`,
			taken: []string{`spec.template.spec.volumes[name="work"].emptyDir`}, added: []string{`spec.template.spec.volumes[name="work"].hostPath`}},
		{name: "a port of another protocol added", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"add","path":"` + containers + `/ports/-","value":{"containerPort":80,"protocol":"UDP"}}]`,
			added: []string{app + `.ports[containerPort=80,protocol="UDP"]`}},
		{name: "a port changed", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"replace","path":"` + containers + `/ports/0/containerPort","value":90}]`,
			taken: []string{app + ".ports[containerPort=80]"}, added: []string{app + `.ports[containerPort=90,protocol="TCP"]`}},
		{name: "the protocol of a port changed", object: web, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"replace","path":"` + containers + `/ports/1/protocol","value":"UDP"}]`,
			taken: []string{app + ".ports[containerPort=81]"}, added: []string{app + `.ports[containerPort=81,protocol="UDP"]`}},
		{name: "a label changed", object: web, manager: "kubectl-label", kind: merge, patch: `{"metadata":{"labels":{"team":"b"}}}`, taken: []string{"metadata.labels.team"}},
		{name: "a label added", object: web, manager: "kubectl-label", kind: merge, patch: `{"metadata":{"labels":{"x.io/y":"b"}}}`, added: []string{`metadata.labels["x.io/y"]`}},
		{name: "a label added by a controller", object: web, manager: "labeller", kind: merge, patch: `{"metadata":{"labels":{"x.io/y":"b"}}}`},
		{name: "our own annotation removed", object: web, manager: "kubectl-annotate", kind: merge, patch: `{"metadata":{"annotations":{"belay.dev/digest":null}}}`, taken: []string{`metadata.annotations["belay.dev/digest"]`}, nobody: true},
		{name: "a finalizer added", object: web, manager: "kubectl-patch", kind: jsonPatch, patch: `[{"op":"add","path":"/metadata/finalizers","value":["example.com/x"]}]`, added: []string{`metadata.finalizers["example.com/x"]`}},
		{name: "a finalizer removed", object: settings, manager: "kubectl-patch", kind: merge, patch: `{"metadata":{"finalizers":null}}`, taken: []string{"metadata.finalizers"}, nobody: true},
		{name: "a strategy changed", object: web, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"strategy":{"type":"Recreate","rollingUpdate":null}}}`, taken: []string{"spec.strategy.type"}},
		{name: "a default changed", object: web, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"minReadySeconds":7,"paused":true}}`, added: []string{"spec.minReadySeconds", "spec.paused"}},
		{name: "a key changed", object: settings, manager: "kubectl-edit", kind: merge, patch: `{"data":{"a":"9"}}`, taken: []string{"data.a"}},
		{name: "a key added", object: settings, manager: "kubectl-edit", kind: merge, patch: `{"data":{"c":"9"}}`, added: []string{"data.c"}},
		{name: "a key removed", object: settings, manager: "kubectl-edit", kind: merge, patch: `{"data":{"a":null}}`, taken: []string{"data.a"}, nobody: true},
		{name: "a map removed", object: settings, manager: "kubectl-edit", kind: merge, patch: `{"data":null}`, taken: []string{"data"}, nobody: true},
		{name: "a map replaced", object: settings, manager: "kubectl-replace", kind: jsonPatch, patch: `[{"op":"replace","path":"/data","value":{"c":"3"}}]`, taken: []string{"data.a", "data.b"}, added: []string{"data.c"}},
		{name: "an empty map filled by a controller", object: emptySettings, manager: "elector", kind: merge, patch: `{"data":{"leader":"me"}}`},
		{name: "an empty map filled by hand", object: emptySettings, manager: "kubectl-edit", kind: merge, patch: `{"data":{"leader":"me"}}`, added: []string{"data.leader"}},
		{name: "a secret value changed", object: login, manager: "kubectl-edit", kind: merge, patch: `{"data":{"password":"eA=="}}`, taken: []string{"data.password"}},
		{name: "a secret value changed in plain", object: login, manager: "kubectl-edit", kind: merge, patch: `{"stringData":{"password":"x"}}`, taken: []string{"data.password"}},
		{name: "a secret value added in plain", object: login, manager: "kubectl-edit", kind: merge, patch: `{"stringData":{"more":"x"}}`, added: []string{"data.more"}},
		{name: "a secret value removed", object: login, manager: "kubectl-edit", kind: merge, patch: `{"data":{"password":null}}`, taken: []string{"data.password"}, nobody: true},
		{name: "a service port of another protocol", object: dns, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"add","path":"/spec/ports/-","value":{"name":"u","port":53,"protocol":"UDP"}}]`,
			added: []string{`spec.ports[port=53,protocol="UDP"]`}},
		{name: "a service type changed", object: dns, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"type":"NodePort"}}`, added: []string{"spec.externalTrafficPolicy", "spec.type"}},
		{name: "a service selector changed", object: dns, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"selector":{"app":"other"}}}`, taken: []string{"spec.selector"}},
		{name: "a policy widened", object: deny, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"podSelector":{"matchLabels":{"a":"b"}},"ingress":[{}]}}`, taken: []string{"spec.podSelector"}, added: []string{"spec.ingress"}},
		{name: "a rule added", object: role, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"add","path":"/rules/-","value":{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}}]`, taken: []string{"rules"}},
		{name: "a schemaless value changed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"free":{"a":{"b":9}}}}`, taken: []string{"spec.free.a.b"}},
		{name: "a schemaless value removed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"free":{"a":{"b":null}}}}`, taken: []string{"spec.free.a.b"}, nobody: true},
		{name: "a schemaless value added", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"free":{"a":{"z":1}}}}`, added: []string{"spec.free.a.z"}},
		{name: "the only schemaless value changed", object: thing, manager: "operator", kind: merge, patch: `{"spec":{"free":{"d":{"e":9}}}}`, taken: []string{"spec.free.d.e"}},
		{name: "the only schemaless value removed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"free":{"d":{"e":null}}}}`, taken: []string{"spec.free.d.e"}, nobody: true},
		{name: "a schemaless list changed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"free":{"list":[1,2]}}}`, taken: []string{"spec.free.list"}},
		{name: "an element of a set removed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"set":[2]}}`, taken: []string{"spec.set[1]"}, nobody: true},
		{name: "an element of a set added", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"set":[1,2,3]}}`, added: []string{"spec.set[3]"}},
		{name: "a keyed item removed", object: thing, manager: "kubectl-edit", kind: jsonPatch, patch: `[{"op":"remove","path":"/spec/keyed/0"}]`, taken: []string{"spec.keyed[port=53]"}, nobody: true},
		{name: "an atomic map changed", object: thing, manager: "kubectl-edit", kind: merge, patch: `{"spec":{"atomicMap":{"c":"d"}}}`, taken: []string{"spec.atomicMap"}},
		{name: "a part changed", object: thing, manager: "operator", kind: merge, patch: `{"spec":{"parts":{"one":{"size":"tiny"}}}}`, taken: []string{"spec.parts.one.size"}},
		{name: "a part removed", object: thing, manager: "operator", kind: merge, patch: `{"spec":{"parts":{"one":{"size":null}}}}`, taken: []string{"spec.parts.one.size"}, nobody: true},
		{name: "an atomic part changed", object: thing, manager: "operator", kind: merge, patch: `{"spec":{"atomicParts":{"one":{"size":"tiny"}}}}`, taken: []string{"spec.atomicParts.one"}},
	}
	s := newServer(t)
	s.custom()
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := *s
			s.t = t
			o := s.named(tt.object, fmt.Sprintf("case-%d", i))
			s.apply(o)
			defer s.unblock(o)
			if v := s.compare(o); !v.OK {
				t.Fatalf("drift before any edit: %s", describe(v.Drift))
			}
			var sub []string
			if tt.subresource != "" {
				sub = []string{tt.subresource}
			}
			s.edit(o, tt.manager, tt.kind, tt.patch, sub...)
			v := s.compare(o)
			if len(tt.taken)+len(tt.added) == 0 {
				if !v.OK {
					t.Fatalf("found drift where there is none: %s%s", describe(v.Drift), ours(s.live(o)))
				}
				return
			}
			if v.OK {
				t.Fatalf("found no drift%s", ours(s.live(o)))
			}
			if !slices.Equal(v.Drift.Taken, tt.taken) || !slices.Equal(v.Drift.Added, tt.added) {
				t.Errorf("drift: %s\nwant taken %q, added %q%s", describe(v.Drift), tt.taken, tt.added, ours(s.live(o)))
			}
			wantTakeOver := []string(nil)
			if len(tt.added) > 0 {
				wantTakeOver = []string{tt.manager}
			}
			if !slices.Equal(v.TakeOver, wantTakeOver) {
				t.Errorf("take over %q, want %q", v.TakeOver, wantTakeOver)
			}
			switch {
			case tt.nobody:
				if v.Drift.Manager != "" {
					t.Errorf("a removal was put down to %q%s", v.Drift.Manager, ours(s.live(o)))
				}
			case v.Drift.Manager != tt.manager || v.Drift.Operation != "Update" || v.Drift.Subresource != tt.subresource:
				t.Errorf("put down to %q %q %q", v.Drift.Manager, v.Drift.Operation, v.Drift.Subresource)
			case tt.subresource != "scale" && time.Since(v.Drift.Time) > time.Hour: // the API server does not date the entries of scale
				t.Errorf("at %v", v.Drift.Time)
			}
			s.heal(o, v)
			if v := s.compare(o); !v.OK {
				t.Errorf("drift after it was healed: %s%s", describe(v.Drift), ours(s.live(o)))
			}
			if len(tt.taken) > 0 {
				s.holdsDeclared(o)
			}
		})
	}
}

// named gives an object another name, so that tests need not wait for each other's end.
func (s *server) named(document, name string) *belay.Object {
	s.t.Helper()
	o := *s.one(document)
	o.ID.Name = name
	var m map[string]any
	if err := json.Unmarshal(o.Raw, &m); err != nil {
		s.t.Fatal(err)
	}
	m["metadata"].(map[string]any)["name"] = name
	raw, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := belay.NewObject(raw, o.Origin)
	if err != nil {
		s.t.Fatal(err)
	}
	n.ID.Namespace = o.ID.Namespace
	n, err = Stamp(n, testApplication, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return &n
}

// holdsDeclared checks that the healed object has the declared values.
func (s *server) holdsDeclared(o *belay.Object) {
	s.t.Helper()
	var want map[string]any
	if err := json.Unmarshal(o.Raw, &want); err != nil {
		s.t.Fatal(err)
	}
	raw, err := s.get(o).MarshalJSON()
	if err != nil {
		s.t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		s.t.Fatal(err)
	}
	for k, v := range want {
		if k != "metadata" && !contains(got[k], v) {
			s.t.Errorf("after healing, %s is %v, want %v", k, got[k], v)
		}
	}
}

// contains tells whether got has everything of want, which may leave out defaults.
func contains(got, want any) bool {
	switch w := want.(type) {
	case map[string]any:
		g, _ := got.(map[string]any)
		for k, v := range w {
			if !contains(g[k], v) {
				return false
			}
		}
		return true
	case []any:
		g, _ := got.([]any)
		if len(g) != len(w) {
			return false
		}
		for i := range w {
			if !contains(g[i], w[i]) {
				return false
			}
		}
		return true
	case string:
		return w == "" && got == nil || reflect.DeepEqual(got, want)
	}
	return reflect.DeepEqual(got, want)
}
