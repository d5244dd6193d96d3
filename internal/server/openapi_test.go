package server_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "rewrite the documents that are generated from the code")

// reference is the published copy of the API's description.
var reference = filepath.Join("..", "..", "docs", "reference", "openapi.json")

func TestOpenAPIIsTheCommittedOne(t *testing.T) {
	f := start(t)
	code, raw, h := f.ask("GET", "/openapi.json", "")
	if code != 200 || h.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("answered %d with %q", code, h.Get("Content-Type"))
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(reference), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(reference, []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != raw {
		t.Errorf("%s is stale; run: go generate ./internal/server", reference)
	}
}

// spec is an OpenAPI document as plain JSON.
type spec struct {
	*testing.T
	root   map[string]any
	schema *jsonschema.Compiler
}

const specURL = "belay:///openapi.json"

func openapi(f *fixture) *spec {
	f.Helper()
	_, raw, _ := f.ask("GET", "/openapi.json", "")
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
	if err != nil {
		f.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(specURL, doc); err != nil {
		f.Fatal(err)
	}
	return &spec{f.T, doc.(map[string]any), c}
}

// at follows a JSON pointer.
func (s *spec) at(pointer string) any {
	var v any = s.root
	for p := range strings.SplitSeq(strings.TrimPrefix(pointer, "#/"), "/") {
		p = strings.NewReplacer("~1", "/", "~0", "~").Replace(p)
		m, ok := v.(map[string]any)
		if !ok || m[p] == nil {
			return nil
		}
		v = m[p]
	}
	return v
}

// walk visits every object of the document.
func walk(v any, path string, visit func(path string, m map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		visit(path, v)
		for k, e := range v {
			walk(e, path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(k), visit)
		}
	case []any:
		for i, e := range v {
			walk(e, fmt.Sprintf("%s/%d", path, i), visit)
		}
	}
}

func TestOpenAPIIsValid(t *testing.T) {
	s := openapi(start(t))
	if v := s.root["openapi"]; v != "3.1.0" {
		t.Errorf("openapi is %v", v)
	}
	walk(s.root, "#", func(path string, m map[string]any) {
		if ref, ok := m["$ref"].(string); ok && s.at(ref) == nil {
			t.Errorf("%s refers to %s, which is not there", path, ref)
		}
	})
	// Every schema of the document compiles as JSON Schema 2020-12.
	for name := range s.at("#/components/schemas").(map[string]any) {
		if _, err := s.schema.Compile(specURL + "#/components/schemas/" + name); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
		if name == "ErrorModel" || name == "ErrorDetail" {
			t.Errorf("schema %s is of no use here", name)
		}
	}
	ids := map[string]string{}
	placeholder := regexp.MustCompile(`\{([^}]+)\}`)
	for path, item := range s.at("#/paths").(map[string]any) {
		for method, v := range item.(map[string]any) {
			op, where := v.(map[string]any), method+" "+path
			id, _ := op["operationId"].(string)
			if id == "" || ids[id] != "" {
				t.Errorf("%s has the operationId %q, as has %q", where, id, ids[id])
			}
			ids[id] = where
			if op["summary"] == nil || op["tags"] == nil {
				t.Errorf("%s lacks a summary or tags", where)
			}
			declared := map[string]bool{}
			params, _ := op["parameters"].([]any)
			for _, p := range params {
				p := p.(map[string]any)
				if p["description"] == nil || p["schema"] == nil {
					t.Errorf("%s: parameter %v lacks a description or schema", where, p["name"])
				}
				if p["in"] == "path" {
					declared[p["name"].(string)] = p["required"] == true
				}
			}
			for _, m := range placeholder.FindAllStringSubmatch(path, -1) {
				if !declared[m[1]] {
					t.Errorf("%s does not declare the path parameter %s as required", where, m[1])
				}
			}
			responses, _ := op["responses"].(map[string]any)
			problem := s.at("#/paths/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(path) + "/" + method + "/responses/default/content/application~1problem+json")
			if len(responses) < 2 || problem == nil {
				t.Errorf("%s lacks a good answer or a problem", where)
			}
			for code, r := range responses {
				if r.(map[string]any)["description"] == "" {
					t.Errorf("%s: answer %s lacks a description", where, code)
				}
			}
		}
	}
	if len(ids) < 11 {
		t.Errorf("only %d operations: %v", len(ids), ids)
	}
}

// What the server answers is what the document says.
func TestAnswersFitTheDocument(t *testing.T) {
	f := start(t)
	s := openapi(f)
	for _, c := range []struct {
		method, path, body, template string
		code                         int
	}{
		{"GET", "/api/v1/status", "", "", 200},
		{"GET", "/api/v1/applications", "", "", 200},
		{"GET", "/api/v1/applications/guestbook", "", "/api/v1/applications/{name}", 200},
		{"GET", "/api/v1/applications/nosuch", "", "/api/v1/applications/{name}", 404},
		{"GET", "/api/v1/clusters/local/facts", "", "/api/v1/clusters/{name}/facts", 200},
		{"GET", "/api/v1/clusters", "", "", 200},
		{"GET", "/api/v1/repositories", "", "", 200},
		{"GET", "/api/v1/projects", "", "", 200},
		{"GET", "/api/v1/version", "", "", 200},
		{"GET", "/api/v1/commit-signer", "", "", 200},
		{"POST", "/api/v1/sync", `{"all":true}`, "", 202},
		{"POST", "/api/v1/sync", `{}`, "", 422},
		{"POST", "/api/v1/applications/web/sync", "", "/api/v1/applications/{name}/sync", 202},
		{"POST", "/api/v1/plan", `{"applications":["web"]}`, "", 200},
		{"POST", "/hooks/push", "", "", 202},
		{"GET", "/healthz", "", "", 200},
		{"GET", "/readyz", "", "", 200},
	} {
		code, raw, h := f.ask(c.method, c.path, c.body)
		if code != c.code {
			t.Errorf("%s %s answered %d %s", c.method, c.path, code, raw)
			continue
		}
		template, status := c.template, fmt.Sprint(code)
		if template == "" {
			template = c.path
		}
		esc := strings.NewReplacer("~", "~0", "/", "~1")
		responses := "#/paths/" + esc.Replace(template) + "/" + strings.ToLower(c.method) + "/responses/"
		if s.at(responses+status) == nil {
			status = "default"
		}
		pointer := responses + status + "/content/" + esc.Replace(h.Get("Content-Type")) + "/schema"
		if s.at(pointer) == nil {
			t.Errorf("%s %s: the document knows no %d with %s", c.method, c.path, code, h.Get("Content-Type"))
			continue
		}
		schema, err := s.schema.Compile(specURL + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(pointer))
		if err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s %s answered what the document does not say: %v", c.method, c.path, err)
		}
	}
}

// Every state that the domain knows is one that the document lists, so that a
// new one is not forgotten here.
func TestDocumentListsTheStates(t *testing.T) {
	s := openapi(start(t))
	for pointer, want := range map[string]any{
		"#/components/schemas/ApplicationStatus/properties/sync":   []belay.SyncState{belay.Synced, belay.OutOfSync, belay.SyncUnknown},
		"#/components/schemas/ApplicationStatus/properties/health": []belay.Health{belay.Healthy, belay.Progressing, belay.Degraded, belay.Suspended, belay.Missing, belay.Unknown},
		"#/components/schemas/PreviewChange/properties/verb":       []belay.Verb{belay.VerbCreate, belay.VerbUpdate, belay.VerbHeal, belay.VerbDelete, belay.VerbAdopt, belay.VerbRecreate},
	} {
		m, _ := s.at(pointer).(map[string]any)
		if got := string(mustJSON(t, m["enum"])); got != string(mustJSON(t, want)) {
			t.Errorf("%s lists %s", pointer, got)
		}
	}
}

func TestDocsLoadNothingFromElsewhere(t *testing.T) {
	f := start(t)
	code, page, h := f.ask("GET", "/docs", "")
	if code != 200 || !strings.HasPrefix(h.Get("Content-Type"), "text/html") {
		t.Fatalf("answered %d with %q", code, h.Get("Content-Type"))
	}
	if m := regexp.MustCompile(`(?i)(src|href|url)\s*[=(]\s*["']?(https?:)?//[^"'\s>)]*|<script|@import|<link`).FindString(page); m != "" {
		t.Errorf("the page loads %q", m)
	}
	if csp := h.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'") || strings.Contains(csp, "http") {
		t.Errorf("the policy is %q", csp)
	}
	for path := range openapi(f).at("#/paths").(map[string]any) {
		if !strings.Contains(page, ">"+path+"<") {
			t.Errorf("the page does not mention %s", path)
		}
	}
	for _, want := range []string{`id="schema-ApplicationStatus"`, `href="#schema-Preview"`, "<code>OutOfSync</code>"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
}

func TestDocumentIsTheSameForEveryServer(t *testing.T) {
	a, b := start(t), start(t, func(c *server.Config) { c.Build.Version = "v9.9.9" })
	_, x, _ := a.ask("GET", "/openapi.json", "")
	_, y, _ := b.ask("GET", "/openapi.json", "")
	if x != y || !json.Valid(bytes.TrimSpace([]byte(x))) {
		t.Error("the documents of two servers differ")
	}
}
