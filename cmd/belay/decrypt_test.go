package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/sops/sopstest"
	"github.com/belaydev/belay/internal/source"
)

const recorderArgument = "recording-worker"

// recordWorker is a render worker whose every input is also written to a file.
func recordWorker(file string) int {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	defer f.Close()
	cmd := exec.Command(os.Args[0], render.WorkerArgument)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = io.TeeReader(os.Stdin, f), os.Stdout, os.Stderr
	if cmd.Run() != nil {
		return 1
	}
	return 0
}

var decryptKey = []byte("0123456789abcdef0123456789abcdef")

// decryptPool renders with a sealer; pipe is all that its workers were told.
func decryptPool(t *testing.T, s *sealer) (pool *render.Pool, pipe func() string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "pipe")
	pool, err := render.NewPool(render.Options{Key: decryptKey, Workers: 1, Deadline: devtest.Patience, Sealer: s, Command: []string{os.Args[0], recorderArgument, file}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, func() string {
		b, err := os.ReadFile(file)
		if err != nil || len(b) == 0 {
			t.Fatalf("nothing was recorded: %v", err)
		}
		return string(b)
	}
}

// onDiskFiles writes files and shows them to a render.
func onDiskFiles(t *testing.T, files map[string]string) render.Files {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, name), content)
	}
	d, err := source.Dir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func decryptRequest(path string, d *belay.Decryption) render.Request {
	return render.Request{Application: "app", Source: belay.Source{Path: path}, Namespace: "prod", Repo: "r", Revision: "c", Project: "team", Decryption: d}
}

// decoded are the values of the Secrets of a render, by name and key.
func decoded(t *testing.T, res render.Result) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, o := range res.Objects {
		if !o.Sensitive() {
			continue
		}
		var m struct {
			Metadata   struct{ Name string }
			Data       map[string][]byte
			StringData map[string]string
		}
		if err := json.Unmarshal(o.Raw, &m); err != nil {
			t.Fatalf("%s: %v", o.ID, err)
		}
		for k, v := range m.Data {
			out[m.Metadata.Name+"."+k] = string(v)
		}
		for k, v := range m.StringData {
			out[m.Metadata.Name+"."+k] = v
		}
	}
	return out
}

// encryptedFleet has encrypted files in every use; want is what has to come of them.
func encryptedFleet(t *testing.T, p planted, keys ...sopstest.Key) (files map[string]string, want map[string]map[string]string) {
	t.Helper()
	files, want = map[string]string{}, map[string]map[string]string{}
	enc := func(file, content, regex string) { files[file] = sopstest.Encrypt(t, file, content, regex, keys...) }
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

	a, b, n := p.value("an encrypted stringData"), p.value("encrypted data"), p.number("an encrypted number")
	enc("plain/s.yaml", "apiVersion: v1\nkind: Secret\nmetadata:\n    name: s\nstringData:\n    a: \""+a+": x\"\n    n: "+n+"\n    yes: true\ndata:\n    b: "+b64(b)+"\n", "^(data|stringData)$")
	files["plain/cm.yaml"] = configMap("c", "1")
	want["plain"] = map[string]string{"s.a": a + ": x", "s.n": n, "s.yes": "true", "s.b": b}

	e, y, i, k := p.value("an encrypted env file"), p.value("an encrypted configuration"), p.value("an encrypted ini file"), p.value("an encrypted key")
	enc("kust/s.env", "TOKEN="+e+"\n", "")
	enc("kust/config.yaml", "db:\n    password: '"+y+": #x'\n", "")
	enc("kust/app.ini", "[db]\npassword = "+i+"\n", "")
	enc("kust/tls.key", "-----BEGIN-----\n"+k+"\n", "")
	files["kust/kustomization.yaml"] = "secretGenerator:\n  - name: gen\n    envs: [s.env]\n    files: [config.yaml, app.ini, tls.key]\ngeneratorOptions: {disableNameSuffixHash: true}\n"
	want["kust"] = map[string]string{"gen.TOKEN": e, "gen.config.yaml": "db:\n    password: '" + y + ": #x'\n", "gen.app.ini": "[db]\npassword = " + i + "\n", "gen.tls.key": "-----BEGIN-----\n" + k + "\n"}

	v, q := p.value("encrypted values"), p.value("encrypted values in JSON")+`"`
	enc("chart/values.yaml", "password: "+v+"\nregistry:\n    password: '"+q+"'\n", "")
	files["chart/Chart.yaml"] = "apiVersion: v2\nname: c\nversion: 1.0.0\n"
	files["chart/templates/s.yaml"] = `apiVersion: v1
kind: Secret
metadata: {name: s}
stringData:
  url: "postgres://app:{{ .Values.password }}@db/app"
data:
  b: {{ .Values.password | b64enc }}
  docker: {{ printf "{\"auths\":{\"r\":{\"password\":\"%s\",\"auth\":\"%s\"}}}" .Values.registry.password (printf "u:%s" .Values.registry.password | b64enc) | b64enc }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, annotations: {checksum: "{{ sha256sum .Values.password }}"}}
`
	want["chart"] = map[string]string{"s.url": "postgres://app:" + v + "@db/app", "s.b": v,
		"s.docker": `{"auths":{"r":{"password":"` + strings.ReplaceAll(q, `"`, `\"`) + `","auth":"` + b64("u:"+q) + `"}}}`}
	return files, want
}

func TestEncryptedFilesBecomeSecrets(t *testing.T) {
	ageKey, pgpKey := sopstest.Age(t), sopstest.PGP(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "age"), string(ageKey.Private))
	t.Setenv("TEST_PGP_KEY", string(pgpKey.Private))
	byAge := &belay.Decryption{Age: []belay.Reference{{File: filepath.Join(dir, "age")}}}
	byPGP := &belay.Decryption{PGP: []belay.Reference{{Env: "TEST_PGP_KEY"}}}
	p := planted{}
	fleet, want := encryptedFleet(t, p, ageKey, pgpKey)
	files := onDiskFiles(t, fleet)
	pool, pipe := decryptPool(t, &sealer{})
	cache, err := render.OpenCache(filepath.Join(dir, "cache"), 1<<20, decryptKey)
	if err != nil {
		t.Fatal(err)
	}
	for path, values := range want {
		var digests []string
		for _, d := range []*belay.Decryption{byAge, byPGP} {
			req := decryptRequest(path, d)
			res, err := pool.Render(t.Context(), files, req)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			got := decoded(t, res)
			for k, v := range values {
				if got[k] != v {
					t.Errorf("%s: %s is %q, want %q", path, k, got[k], v)
				}
			}
			if len(got) != len(values) {
				t.Errorf("%s: %d values, want %d", path, len(got), len(values))
			}
			for _, o := range res.Objects {
				if o.Sensitive() {
					digests = append(digests, o.Digest)
				} else {
					p.check(t, o.ID.String(), string(o.Raw))
				}
			}
			if err := cache.Put(req, res); err != nil {
				t.Fatal(err)
			}
			hit, ok, err := cache.Get(t.Context(), files, req)
			if err != nil || !ok || !hit.Partial {
				t.Fatalf("%s: not cached as partial: %v %v", path, ok, err)
			}
			for _, o := range hit.Objects {
				p.check(t, "the cache", string(o.Raw))
			}
		}
		if len(digests) != 2 || digests[0] != digests[1] {
			t.Errorf("%s: the digests of the Secret differ: %v", path, digests)
		}
	}
	p.check(t, "what workers were told", pipe())
	if !strings.Contains(pipe(), belay.SealedPrefix) {
		t.Error("workers were told of no encrypted file")
	}
	for file, content := range readAll(t, dir, func(f string) bool { return f != filepath.Join(dir, "age") }) {
		p.check(t, file, content+uncompressed(t, content))
	}

	// Encrypted anew the file is another, and the Secret is not.
	before, err := pool.Render(t.Context(), files, decryptRequest("plain", byAge))
	if err != nil {
		t.Fatal(err)
	}
	again := "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: \"" + want["plain"]["s.a"] + "\", n: " + want["plain"]["s.n"] + ", yes: true}\ndata: {b: " +
		base64.StdEncoding.EncodeToString([]byte(want["plain"]["s.b"])) + "}\n"
	for content, same := range map[string]bool{again: true, strings.Replace(again, "yes: true", "yes: false", 1): false} {
		fleet["plain/s.yaml"] = sopstest.Encrypt(t, "s.yaml", content, "^(data|stringData)$", ageKey)
		after, err := pool.Render(t.Context(), onDiskFiles(t, fleet), decryptRequest("plain", byAge))
		if err != nil {
			t.Fatal(err)
		}
		if (before.Objects[1].Digest == after.Objects[1].Digest) != same {
			t.Errorf("the digests of the Secret are the same: %v, want %v", !same, same)
		}
	}
}

func TestEncryptedFilesThatCannotBeUsed(t *testing.T) {
	key, other := sopstest.Age(t), sopstest.Age(t)
	t.Setenv("TEST_AGE_KEY", string(key.Private))
	t.Setenv("TEST_OTHER_KEY", string(other.Private))
	with := func(env string) *belay.Decryption { return &belay.Decryption{Age: []belay.Reference{{Env: env}}} }
	p := planted{}
	v := p.value("an encrypted value")
	secret := func(body string) string {
		return sopstest.Encrypt(t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s, annotations: {a_enc: "+v+"}}\n"+body, "^(stringData|key|a_enc)$", key)
	}
	good := sopstest.Encrypt(t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: "+v+", b: other-"+v+"}\n", "^stringData$", key)
	values := sopstest.Encrypt(t, "values.yaml", "v: "+v+"\n", "", key)
	chart := func(template string) map[string]string {
		return map[string]string{"app/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "app/values.yaml": values, "app/templates/t.yaml": template}
	}
	headless, _, _ := strings.Cut(good, "sops:")
	for name, tc := range map[string]struct {
		files map[string]string
		with  *belay.Decryption
		code  belay.Code
		want  string
	}{
		"no keys in the project": {map[string]string{"app/s.yaml": good}, nil, belay.CodeInvalid, `app/s.yaml: it is encrypted with SOPS, and project "team" has no keys (name them in spec.decryption of the Project)`},
		"a missing reference":    {map[string]string{"app/s.yaml": good}, with("TEST_NO_KEY"), belay.CodeUnavailable, `app/s.yaml: it cannot be decrypted: spec.decryption.age[0] of project "team": the environment variable TEST_NO_KEY is not set`},
		"another key":            {map[string]string{"app/s.yaml": good}, with("TEST_OTHER_KEY"), belay.CodeUnavailable, "app/s.yaml: no key fits: it is encrypted for age " + key.Public},
		"a changed file":         {map[string]string{"app/s.yaml": strings.Replace(good, "name: s", "name: t", 1)}, with("TEST_AGE_KEY"), belay.CodeInvalid, "app/s.yaml: it was changed after SOPS encrypted it"},
		"no metadata":            {map[string]string{"app/s.yaml": headless}, with("TEST_AGE_KEY"), belay.CodeInvalid, "Secret s: it holds a value that is encrypted with SOPS, in a file that SOPS did not write"},
		"an annotation":          {map[string]string{"app/s.yaml": secret("")}, with("TEST_AGE_KEY"), belay.CodeInvalid, "Secret s: metadata.annotations.a_enc has a value of the encrypted file app/s.yaml, which may only stand in the data of a Secret"},
		"a ConfigMap":            {chart("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {k: \"x {{ .Values.v }}\"}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "ConfigMap c: data.k has a value of the encrypted file app/values.yaml"},
		"a ConfigMap in base64":  {chart("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\nbinaryData: {k: {{ printf \"x%s\" .Values.v | b64enc }}}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "ConfigMap c: binaryData.k has a value of an encrypted file"},
		"a key":                  {chart("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {\"{{ .Values.v }}\": x}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "has a value of the encrypted file app/values.yaml"},
		"a Secret of somebody":   {chart("apiVersion: x.example/v1\nkind: Secret\nmetadata: {name: c}\nstringData: {k: {{ .Values.v }}}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "Secret.x.example c: stringData.k has a value of"},
		"upper case":             {chart("apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {k: {{ upper .Values.v }}}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "Secret c: stringData.k has an encrypted value that a template cut or changed"},
		"cut":                    {chart("apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {k: {{ trunc 20 .Values.v }}}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "a template cut or changed"},
		"a mark out of the air":  {chart("apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData: {k: belay-sops-00000000000000000000000000000000{{ if .Values.v }}{{ end }}}\n"), with("TEST_AGE_KEY"), belay.CodeInvalid, "a template cut or changed"},
		"a huge file":            {map[string]string{"app/s.yaml": good + "#" + strings.Repeat("x", 5<<20)}, with("TEST_AGE_KEY"), belay.CodeInvalid, "larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			pool, pipe := decryptPool(t, &sealer{})
			res, err := pool.Render(t.Context(), onDiskFiles(t, tc.files), decryptRequest("app", tc.with))
			if err == nil {
				t.Fatalf("no error, but %s", res.Objects[0].Raw)
			}
			if belay.CodeOf(render.Problems(err)[0]) != tc.code || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %s %v\nwant %s %s", belay.CodeOf(err), err, tc.code, tc.want)
			}
			p.check(t, "the error", err.Error())
			p.check(t, "what workers were told", pipe())
		})
	}
}

// Without keys everything shows but the values.
func TestEncryptedFilesWithoutKeys(t *testing.T) {
	key := sopstest.Age(t)
	p := planted{}
	fleet, want := encryptedFleet(t, p, key)
	files := onDiskFiles(t, fleet)
	pool, _ := decryptPool(t, &sealer{keyless: true})
	for path, values := range want {
		res, err := pool.Render(t.Context(), files, decryptRequest(path, &belay.Decryption{}))
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		got := decoded(t, res)
		for k := range values {
			if !strings.Contains(got[k], belay.EncryptedValue) && k != "s.docker" {
				t.Errorf("%s: %s is %q", path, k, got[k])
			}
		}
		for _, o := range res.Objects {
			if !o.Sensitive() {
				continue
			}
			redacted, err := belay.RedactSecret(o.Raw, decryptKey)
			if err != nil || !strings.Contains(string(redacted), `\u003cencrypted\u003e`) {
				t.Errorf("%s: redacted it is %s %v", path, redacted, err)
			}
		}
	}
	if _, err := pool.Render(t.Context(), files, decryptRequest("plain", nil)); err == nil || !strings.Contains(err.Error(), "has no keys") {
		t.Errorf("a project without keys: %v", err)
	}
}
