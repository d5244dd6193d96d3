package main

import (
	"encoding/base64"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

// sealedFleet adds applications with encrypted files to a secretFleet.
type sealedFleet struct {
	key, other sopstest.Key
	// values are what the Secret "token" of each good one has to hold.
	values map[string]string
}

// newSealedFleet makes the keys. The right one is where the Project refers to: in a
// Secret of the server's own cluster.
func newSealedFleet(t *testing.T, w *world, p planted) *sealedFleet {
	t.Helper()
	f := &sealedFleet{key: sopstest.Age(t), other: sopstest.Age(t)}
	p.add("the private key", strings.Fields(string(f.key.Private))[3])
	_, err := w.kube.CoreV1().Secrets(w.home).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "sops"},
		Data: map[string][]byte{"age": f.key.Private}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *sealedFleet) add(t *testing.T, w *world, p planted, files map[string]string, good, bad *[]string) {
	t.Helper()
	f.values = map[string]string{}
	files["belay/sealed.yaml"] = "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: sealed}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n" +
		"  clusterKinds: [\"*\"]\n  decryption:\n    age: [{secret: {namespace: " + w.home + ", name: sops, key: age}}]\n"
	app := func(to *[]string, name, project string, more map[string]string) {
		*to = append(*to, name)
		files["belay/"+name+".yaml"] = application(name, "apps/"+name, "NS-"+name, "  project: "+project+"\n")
		for file, content := range more {
			files["apps/"+name+"/"+file] = content
		}
	}
	enc := func(file, content, regex string) string { return sopstest.Encrypt(t, file, content, regex, f.key) }
	head := "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\n"
	planted := func(name string) string {
		f.values[name] = p.value("the encrypted file of " + name)
		return f.values[name]
	}

	app(good, "sops", "sealed", map[string]string{"s.yaml": enc("s.yaml", head+"stringData: {token: "+planted("sops")+"}\n", "^stringData$")})
	app(good, "sops-data", "sealed", map[string]string{"s.yaml": enc("s.yaml", head+"data: {token: "+base64.StdEncoding.EncodeToString([]byte(planted("sops-data")))+"}\n", "^data$")})
	app(good, "sops-kust", "sealed", map[string]string{"s.env": enc("s.env", "token="+planted("sops-kust")+"\n", ""),
		"kustomization.yaml": "secretGenerator:\n  - name: token\n    envs: [s.env]\ngeneratorOptions: {disableNameSuffixHash: true}\n"})
	app(good, "sops-helm", "sealed", map[string]string{"Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "values.yaml": enc("values.yaml", "secret: "+planted("sops-helm")+"\n", ""),
		"templates/s.yaml": head + "data:\n  token: {{ .Values.secret | b64enc }}\n"})

	v := p.value("encrypted files that cannot be used")
	sealed := enc("s.yaml", head+"stringData: {token: "+v+"}\n", "^stringData$")
	app(bad, "sops-nokeys", belay.DefaultProject, map[string]string{"s.yaml": sealed})
	app(bad, "sops-tampered", "sealed", map[string]string{"s.yaml": strings.Replace(sealed, "name: token", "name: other", 1)})
	app(bad, "sops-other", "sealed", map[string]string{"s.yaml": sopstest.Encrypt(t, "s.yaml", head+"stringData: {token: "+v+"}\n", "^stringData$", f.other)})
	app(bad, "sops-config", "sealed", map[string]string{"s.yaml": enc("s.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: token}\ndata: {token: "+v+"}\n", "^data$")})
}

// check looks for the values where they belong.
func (f *sealedFleet) check(t *testing.T, w *world) {
	t.Helper()
	if len(f.values) != 4 {
		t.Fatalf("there are %d applications with encrypted files", len(f.values))
	}
	for name, want := range f.values {
		s, err := w.kube.CoreV1().Secrets(w.ns(name)).Get(t.Context(), "token", metav1.GetOptions{})
		if err != nil || string(s.Data["token"]) != want {
			t.Errorf("the Secret of %s does not hold what is encrypted: %v", name, err)
		}
	}
}
