package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// planted are the secret values of a test, by what they were planted in.
type planted map[string]string

// value plants a text.
func (p planted) value(where string) string {
	v := "planted-" + strings.ToLower(rand.Text()[:16])
	p.add(where, v)
	return v
}

// number plants a number.
func (p planted) number(where string) string {
	digits := strings.Map(func(r rune) rune { return '1' + r%9 }, rand.Text()[:15])
	p.add(where, digits)
	return digits
}

// add keeps what was planted there before.
func (p planted) add(where, v string) {
	for ; p[where] != ""; where += " again" {
	}
	p[where] = v
}

// check looks for the values, as they are and in base64, in a text.
func (p planted) check(t testing.TB, in, text string) {
	t.Helper()
	for where, v := range p {
		for _, form := range []string{v, base64.StdEncoding.EncodeToString([]byte(v)), base64.StdEncoding.EncodeToString([]byte(v + "\n")), fmt.Sprintf("%x", v)} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("the value planted in %s is in %s: …%s…", where, in, text[max(0, i-200):min(len(text), i+100)])
				break
			}
		}
	}
}

// secretFleet has Secrets in every way a Secret can be declared, right and wrong.
// good maps right ones to what makes them, bad wrong ones to a word of their error.
func secretFleet(p planted, round string) (files map[string]string, good, bad []string) {
	files = map[string]string{}
	add := func(to *[]string, name, path string, more map[string]string, spec ...string) {
		*to = append(*to, name)
		files["belay/"+name+".yaml"] = application(name, path, "NS-"+name, spec...)
		maps.Copy(files, more)
	}
	plain := func(to *[]string, name, body string) {
		add(to, name, "apps/"+name, map[string]string{"apps/" + name + "/secret.yaml": body, "apps/" + name + "/config.yaml": configMap("config", round)})
	}
	head := "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\n"
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

	v := p.value("stringData")
	plain(&good, "plain", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: token\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: '{\"stringData\":{\"token\":\""+v+"\"}}'\nstringData: {token: "+v+"}\n")
	plain(&good, "data", head+"data: {token: "+b64(p.value("data"))+"}\n")
	plain(&good, "list", "apiVersion: v1\nkind: List\nitems:\n  - apiVersion: v1\n    kind: Secret\n    metadata: {name: token}\n    stringData: {token: "+p.value("a List")+"}\n")
	plain(&good, "fixed", head+"immutable: true\nstringData: {token: "+p.value("an immutable Secret")+"}\n")
	add(&good, "manual", "apps/manual", map[string]string{"apps/manual/secret.yaml": head + "stringData: {token: " + p.value("a Secret that waits") + "}\n",
		"apps/manual/config.yaml": configMap("config", round)}, "  sync: {automatic: false}\n")
	add(&good, "kust", "apps/kust", map[string]string{"apps/kust/secret.env": "token=" + p.value("an env file") + "\n",
		"apps/kust/kustomization.yaml": "secretGenerator:\n  - name: literal\n    literals: [token=" + p.value("a literal") + "]\n  - name: env\n    envs: [secret.env]\n"})
	chart := map[string]string{"charts/good/Chart.yaml": "apiVersion: v2\nname: good\nversion: 1.0.0\n", "charts/good/values.yaml": "secret: " + p.value("values.yaml") + "\n",
		"charts/good/templates/secret.yaml": head + "stringData:\n  token: {{ .Values.secret }}\n  other: {{ .Values.other }}\n"}
	add(&good, "helm", "charts/good", chart)
	files["belay/helm.yaml"] = strings.Replace(files["belay/helm.yaml"], "    path: charts/good\n",
		"    path: charts/good\n    helm: {values: {other: "+p.value("values of a definition")+"}}\n", 1)

	plain(&bad, "number", head+"stringData: {token: "+p.number("a number in stringData")+"}\n")
	plain(&bad, "data-number", head+"data: {token: "+p.number("a number in data")+"}\n")
	plain(&bad, "not-base64", head+"data: {token: \""+p.value("data that is not base64")+"!\"}\n")
	plain(&bad, "not-json", head+"type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: "+p.value("a dockerconfigjson that is not JSON")+"}\n")
	plain(&bad, "no-map", head+"stringData: "+p.value("stringData that is no mapping")+"\n")
	plain(&bad, "nested", head+"stringData: {token: {deeper: "+p.value("a nested value")+"}}\n")
	plain(&bad, "unclosed", head+"stringData:\n  token: \""+p.value("an unclosed string")+"\n  other: {\n")
	plain(&bad, "anchor", head+"stringData:\n  token: *"+p.value("an unknown anchor")+"\n")
	plain(&bad, "key", head+"stringData: {\"bad key!\": "+p.value("under a bad key")+"}\n")
	plain(&bad, "tagged", head+"stringData: {token: !!int "+p.value("a wrong tag")+"}\n")
	add(&bad, "kust-literal", "apps/kust-literal", map[string]string{
		"apps/kust-literal/kustomization.yaml": "secretGenerator:\n  - name: literal\n    literals: [" + p.value("a literal without a key") + "]\n"})
	add(&bad, "kust-env", "apps/kust-env", map[string]string{"apps/kust-env/secret.env": "to ken=" + p.value("a wrong env file") + "\n",
		"apps/kust-env/kustomization.yaml": "secretGenerator:\n  - name: env\n    envs: [secret.env]\n"})
	for name, code := range map[string]string{"helm-date": `{{ mustToDate "2006" .Values.secret }}`, "helm-json": "{{ mustFromJson .Values.secret }}",
		"helm-yaml": "{ [ {{ .Values.secret }}: - : }", "helm-call": "{{ index .Values.secret \"x\" }}"} {
		path := "charts/" + name
		add(&bad, name, path, map[string]string{path + "/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n",
			path + "/values.yaml": "secret: " + p.value(code) + "\n", path + "/templates/s.yaml": head + "stringData:\n  token: " + code + "\n"})
	}
	return files, good, bad
}

// Values of Secrets are written down nowhere: not in a log, not in an answer of
// the API, not in an event, not in a diff, not in a file, except in Git itself:
// the mirror in the data directory is the repository.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := planted{}
	root := t.TempDir()
	gittest.InitRepo(t, filepath.Join(root, "locked.git"))
	locked := gittest.ServeHTTP(t, root, gittest.HTTPOptions{User: "ada", Password: "another one"})
	write(t, filepath.Join(root, "password"), p.value("the password of a repository"))
	files, good, bad := secretFleet(p, "0")
	sealed := newSealedFleet(t, w, p)
	sealed.add(t, w, p, files, &good, &bad)
	files["belay/locked.yaml"] = "apiVersion: belay.dev/v1alpha1\nkind: Repository\nmetadata: {name: locked}\nspec:\n  url: " + locked.URL +
		"/locked.git\n  auth: {username: ada, password: {file: " + filepath.Join(root, "password") + "}}\n---\n" +
		strings.Replace(application("locked", "x", "NS-locked"), "source:\n", "source:\n    repo: locked\n", 1)
	bad = append(bad, "locked")
	w.commit("Secrets", files)
	var outputs []string
	note := func(what, text string) {
		outputs = append(outputs, what)
		p.check(t, what, text)
	}
	cli := func(s *serveProcess, args ...string) {
		stdout, stderr, _ := s.cli(args...)
		note("the output of "+strings.Join(args, " "), stdout+stderr)
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", w.repo.Dir, clone).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v: %s", err, out)
	}

	look := func(s *serveProcess, round string) {
		t.Helper()
		note("the log "+round, s.log.String())
		note("the status", s.get("/api/v1/status"))
		note("the metrics", s.get("/metrics"))
		for _, name := range slices.Concat(good, bad) {
			note("the tree of "+name, s.get("/api/v1/applications/"+name))
		}
		for _, req := range []belay.PlanRequest{{}, {Revision: "main"}, {Revision: w.repo.Resolve("main")}, {Applications: []string{"manual"}}} {
			previews, err := s.Plan(t.Context(), req)
			text := fmt.Sprintf("%+v %v", previews, err)
			note("the plan "+req.Revision, text)
			if !strings.Contains(text, belay.RedactedPrefix) {
				t.Errorf("%s: the plan %s does not show that a Secret would change: %s", round, req.Revision, text)
			}
		}
		note("the events", fmt.Sprintf("%+v", s.events()))
		record := w.ledgerGit("log", "-p", "--branches")
		note("the record", record)
		if !strings.Contains(record, "token: "+belay.RedactedPrefix) {
			t.Errorf("%s: the record does not show that there are Secrets", round)
		}
		cli(s, "status")
		cli(s, "status", "-o", "json")
		cli(s, "events")
		cli(s, "get", "app", "plain", "-o", "yaml")
		cli(s, "plan", "--dir", clone)
		cli(s, "lint", "--dir", clone)
		if round == "after a restart" { // one at a time, so that no wrong one hides another
			for _, name := range slices.Concat(good, bad) {
				cli(s, "render", name, "--dir", clone)
				cli(s, "plan", name, "--dir", clone)
			}
		}
		for _, name := range slices.Concat(good, bad) {
			list, err := w.kube.CoreV1().Events(w.ns(name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			note("the Kubernetes events of "+name, fmt.Sprintf("%+v", list.Items))
		}
		for path, content := range readAll(t, w.data, func(path string) bool { return !strings.HasPrefix(path, filepath.Join(w.data, "repos")) }) {
			note(path, content)
			note(path+" uncompressed", uncompressed(t, content))
		}
	}
	s := w.serve("--log-level", "debug")
	settled := func() {
		t.Helper()
		s.awaitApps(slices.DeleteFunc(slices.Clone(good), func(n string) bool { return n == "manual" })...)
		s.awaitMessage("manual", "automatic sync is off")
		for _, name := range bad {
			devtest.Await(t, name+" to be wrong", func() error {
				if a, _ := s.app(name); a.Message == "" || strings.HasPrefix(a.Message, "looking") || a.Sync == belay.Synced {
					return fmt.Errorf("it is %s %s: %q", a.Sync, a.Health, a.Message)
				}
				return nil
			})
		}
	}
	settled()
	if st := s.state(); !slices.ContainsFunc(st.Applications, func(a belay.ApplicationStatus) bool { return a.Name == "plain" && a.Objects == 2 }) {
		t.Errorf("the application plain has not both its objects")
	}
	sealed.check(t, w)
	look(s, "after the first sync")
	cli(s, "sync", "manual", "--wait", "--timeout", "3m")

	// Somebody changes a Secret by hand: in one application it is healed, in the
	// other it waits, and shows in a plan.
	for _, name := range []string{"plain", "manual"} {
		patch := fmt.Sprintf(`{"stringData":{"token":%q}}`, p.value("a live Secret of "+name))
		if _, err := w.kube.CoreV1().Secrets(w.ns(name)).Patch(t.Context(), "token", types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
			t.Fatal(err)
		}
	}
	s.awaitEvent(belay.EventHealed, "plain", "Secret")
	s.awaitMessage("manual", "automatic sync is off")
	look(s, "after a change by hand")

	// Every value changes; the immutable one cannot.
	files, _, _ = secretFleet(p, "1")
	sealed.add(t, w, p, files, new([]string), new([]string))
	bad = append(bad, "fixed")
	good = slices.DeleteFunc(good, func(n string) bool { return n == "fixed" })
	s.push("Rotate", files)
	settled()
	sealed.check(t, w)
	look(s, "after a rotation")
	s.stop()
	p.check(t, "the log at the end", s.log.String())

	s = w.serve("--log-level", "debug")
	settled()
	look(s, "after a restart")
	if len(outputs) < 200 {
		t.Errorf("only %d outputs were looked at", len(outputs))
	}
}

// uncompressed is a file of the render cache in the clear, as far as it was written;
// "" for any other.
func uncompressed(t testing.TB, content string) string {
	t.Helper()
	if !bytes.HasPrefix([]byte(content), []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		return ""
	}
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	out, err := dec.DecodeAll([]byte(content), nil)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return string(out)
}
