package main

import (
	"bufio"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// attack is an application whose author means harm.
type attack struct {
	name string
	// def is its definition, unless it is a plain one; spec is YAML below the spec of that.
	def, spec string
	files     map[string]string // below apps/NAME
	links     map[string]string // symlinks below apps/NAME
	// says is what the application's message must have, the place first.
	says []string
	// limited: whichever limit a machine meets first is named, of time or of size.
	limited bool
	// yields is what a ConfigMap named "loot" has if the attack is harmless because
	// it gets nothing; the application is then well.
	yields string
}

func chart(templates map[string]string) map[string]string {
	files := map[string]string{"Chart.yaml": "apiVersion: v2\nname: chart\nversion: 1.0.0\n", "values.yaml": "a: 1\n"}
	for name, text := range templates {
		files["templates/"+name] = text
	}
	return files
}

func loot(expr string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: loot}\ndata:\n  value: " + expr + "\n"
}

// attacks are what strangers may put into a repository. marker is a file that no
// code of theirs may make, target a server of the local network that none may reach.
func attacks(marker, target string) []attack {
	script := "#!/bin/sh\ntouch " + marker + "\necho 'apiVersion: v1'\n"
	plugin := "apiVersion: example.com/v1\nkind: Evil\nmetadata:\n  name: evil\n  annotations:\n    config.kubernetes.io/function: |\n      exec:\n        path: ./evil.sh\n"
	bomb := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'i'; c++ {
		bomb += fmt.Sprintf("%[1]c: &%[1]c [%[2]s]\n", c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c, ", c-1), 9), ", "))
	}
	return []attack{
		{name: "traversal", files: map[string]string{"kustomization.yaml": "resources: [../../../../../../etc/passwd]\n"}, says: []string{"apps/traversal/kustomization.yaml"}},
		{name: "absolute", files: map[string]string{"kustomization.yaml": "configMapGenerator:\n- name: loot\n  files: [/etc/passwd]\n"}, says: []string{"apps/absolute/kustomization.yaml"}},
		{name: "symlink", links: map[string]string{"a.yaml": "/etc/passwd"}, says: []string{"apps/symlink/a.yaml"}},
		{name: "climbing", links: map[string]string{"a.yaml": "../../../../../../../../etc/passwd"}, says: []string{"apps/climbing/a.yaml"}},
		{name: "circle", links: map[string]string{"a.yaml": "b.yaml", "b.yaml": "a.yaml"}, says: []string{"apps/circle/"}},
		{name: "yaml-bomb", files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n" + bomb}, says: []string{"apps/yaml-bomb/a.yaml"}},
		{name: "deep", files: map[string]string{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: " + strings.Repeat("[", 200_000) + "\n"}, says: []string{"apps/deep/a.yaml"}},
		{name: "helm-env", files: chart(map[string]string{"a.yaml": loot(`{{ env "PATH" | quote }}`)}), says: []string{"apps/helm-env/templates/a.yaml:5", "env"}},
		{name: "helm-file", files: chart(map[string]string{"a.yaml": loot(`{{ printf "[%s%s]" (.Files.Get "/etc/hostname") (.Files.Get "../../belay/other.yaml") | quote }}`)}), yields: "[]"},
		{name: "helm-lookup", files: chart(map[string]string{"a.yaml": loot(`{{ lookup "v1" "Namespace" "" "kube-system" | toJson | quote }}`)}), yields: "{}"},
		{name: "helm-dns", files: chart(map[string]string{"a.yaml": loot(`{{ getHostByName "localhost" | quote }}`)}), yields: ""},
		{name: "helm-endless", files: chart(map[string]string{"_h.tpl": `{{ define "x" }}{{ include "x" . }}{{ end }}`, "a.yaml": loot(`{{ include "x" . }}`)}), says: []string{"apps/helm-endless"}},
		{name: "helm-loop", files: chart(map[string]string{"a.yaml": loot(`{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}x`)}), says: []string{"apps/helm-loop", "took longer than 30s"}},
		{name: "helm-2gb", files: chart(map[string]string{"a.yaml": loot(`{{ repeat 2147483647 "x" }}`)}), says: []string{"apps/helm-2gb"}, limited: true},
		{name: "helm-flood", files: chart(map[string]string{"a.yaml": `{{ range until 3000000 }}` + "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c{{ . }}}\ndata: {v: \"" + strings.Repeat("x", 700) + "\"}\n" + `{{ end }}`}),
			says: []string{"apps/helm-flood"}, limited: true},
		{name: "kustomize-exec", files: map[string]string{"kustomization.yaml": "generators: [evil.yaml]\n", "evil.yaml": plugin, "evil.sh": script}, says: []string{"apps/kustomize-exec"}},
		{name: "kustomize-helm", files: map[string]string{"kustomization.yaml": "helmCharts:\n- name: nginx\n  repo: " + target + "\n  version: 1.0.0\n"}, says: []string{"apps/kustomize-helm/kustomization.yaml"}},
		{name: "kustomize-url", files: map[string]string{"kustomization.yaml": "resources: [\"" + target + "/x.yaml\"]\n"}, says: []string{"apps/kustomize-url/kustomization.yaml"}},
		{name: "kustomize-metadata", files: map[string]string{"kustomization.yaml": "resources: [\"http://169.254.169.254/latest/meta-data/\"]\n"}, says: []string{"apps/kustomize-metadata/kustomization.yaml"}},
		{name: "kustomize-circle", files: map[string]string{"kustomization.yaml": "resources: [b]\n", "b/kustomization.yaml": "resources: [../]\n"}, says: []string{"apps/kustomize-circle"}},
	}
}

// What strangers put into a repository is contained and named, and nobody else
// notices.
func TestAttacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var reached atomic.Int32
	local := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	t.Cleanup(local.Close)
	marker := filepath.Join(t.TempDir(), "marker")
	charts := hostileCharts(t)
	all := append(attacks(marker, local.URL), laterAttacks(local.URL, charts.URL)...)

	files := map[string]gittest.File{
		"belay/other.yaml": gittest.Text(w.expand(application("other", "apps/other", "NS-other"))), "apps/other/a.yaml": gittest.Text(configMap("a", "1"))}
	for p, text := range hostileDefinitions() {
		files[p] = gittest.Text(w.expand(text))
	}
	for _, a := range all {
		if a.def == "" {
			a.def = application(a.name, "apps/"+a.name, "NS-"+a.name, a.spec)
		}
		files["belay/"+a.name+".yaml"] = gittest.Text(w.expand(a.def))
		for p, text := range a.files {
			f := gittest.Text(text)
			if strings.HasSuffix(p, ".sh") {
				f = gittest.Exec(text)
			}
			files["apps/"+a.name+"/"+p] = f
		}
		for p, to := range a.links {
			files["apps/"+a.name+"/"+p] = gittest.Link(to)
		}
	}
	w.repo.CommitFiles("main", "Mean no good", files)
	s := w.serve()
	for n := 2; n <= 4; n++ { // while workers are at it
		s.push("Change the other", map[string]string{"apps/other/a.yaml": configMap("a", strconv.Itoa(n))})
		w.awaitValue(w.ns("other"), "a", strconv.Itoa(n))
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(passwd), "\n")
	for _, a := range all {
		if a.says == nil {
			s.awaitApps(a.name)
			if v, _ := w.value(w.ns(a.name), "loot"); v != a.yields {
				t.Errorf("%s got %q, want %q", a.name, v, a.yields)
			}
			continue
		}
		got := s.awaitMessage(a.name, a.says...)
		if a.limited {
			devtest.Await(t, a.name+" to name a limit", func() error {
				if got, _ = s.app(a.name); strings.Contains(got.Message, "more than") || strings.Contains(got.Message, "took longer than") {
					return nil
				}
				return fmt.Errorf("it says %q", got.Message)
			})
		}
		if strings.Contains(got.Message, line) || len(got.Message) > 4<<10 {
			t.Errorf("%s gives away too much: %q", a.name, got.Message)
		}
	}
	s.awaitProblem("the matrix has")
	s.awaitApps("other")
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program out of a repository ran")
	}
	if n := reached.Load(); n > 0 {
		t.Errorf("the local network was reached %d times", n)
	}
	// Any of the large attacks makes more than 2 GiB if it is not stopped. Of those that
	// are, several come at once, and whether the garbage of one goes before the next is chance.
	const most = raceMemory * 1 << 20
	if peak := peakMemory(t, s.cmd.Process.Pid); peak > most {
		t.Errorf("the server took %d KiB of memory at most, want less than %d", peak, most)
	}
}

// peakMemory is the most that a process has held, in KiB.
func peakMemory(t testing.TB, pid int) int {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == "VmHWM:" {
			n, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("the system does not say how much memory a process took")
	return 0
}
