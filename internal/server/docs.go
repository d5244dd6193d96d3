package server

import (
	"bytes"
	"cmp"
	_ "embed" // of the page below
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

//go:embed docs.html
var docsPage string

// docsOperation is an operation as the page shows it.
type docsOperation struct {
	*huma.Operation
	Body    *huma.RequestBody
	Answers []docsAnswer
}

type docsAnswer struct {
	Status      string
	Description string
	Type        string
	Schema      *huma.Schema
}

type docsTag struct {
	*huma.Tag
	Operations []docsOperation
}

type docsSchema struct {
	Name   string
	Schema *huma.Schema
	Fields []docsField
}

type docsField struct {
	Name     string
	Required bool
	Schema   *huma.Schema
}

// docs is the API's documentation as one page that loads nothing from elsewhere.
func docs(api *huma.OpenAPI) http.Handler {
	tmpl := template.Must(template.New("docs").Funcs(template.FuncMap{"typeOf": typeOf, "ref": refName}).Parse(docsPage))
	var page bytes.Buffer
	if err := tmpl.Execute(&page, struct {
		*huma.OpenAPI
		ByTag   []docsTag
		Schemas []docsSchema
	}{api, docsByTag(api), docsSchemas(api)}); err != nil {
		panic(err) // a test renders it
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		_, _ = w.Write(page.Bytes()) // the client may be gone
	})
}

func docsByTag(api *huma.OpenAPI) []docsTag {
	var tags []docsTag
	for _, t := range api.Tags {
		tag := docsTag{Tag: t}
		for _, path := range slices.Sorted(maps.Keys(api.Paths)) {
			item := api.Paths[path]
			for _, op := range []*huma.Operation{item.Get, item.Post} {
				if op == nil || !slices.Contains(op.Tags, t.Name) {
					continue
				}
				o := docsOperation{Operation: op, Body: op.RequestBody}
				for _, status := range slices.Sorted(maps.Keys(op.Responses)) {
					r := op.Responses[status]
					a := docsAnswer{Status: status, Description: r.Description}
					for ct, m := range r.Content {
						a.Type, a.Schema = ct, m.Schema
					}
					o.Answers = append(o.Answers, a)
				}
				tag.Operations = append(tag.Operations, o)
			}
		}
		tags = append(tags, tag)
	}
	return tags
}

func docsSchemas(api *huma.OpenAPI) []docsSchema {
	var out []docsSchema
	for name, s := range api.Components.Schemas.Map() {
		d := docsSchema{Name: name, Schema: s}
		for f, fs := range s.Properties {
			d.Fields = append(d.Fields, docsField{Name: f, Required: slices.Contains(s.Required, f), Schema: fs})
		}
		slices.SortFunc(d.Fields, func(a, b docsField) int { return cmp.Compare(a.Name, b.Name) })
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b docsSchema) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// refName is the name of the schema that s refers to, through lists; "" for none.
func refName(s *huma.Schema) string {
	for s != nil && s.Items != nil {
		s = s.Items
	}
	if s == nil {
		return ""
	}
	return strings.TrimPrefix(s.Ref, "#/components/schemas/")
}

// typeOf is a schema's type in words: "string", "list of Error", "map of string".
func typeOf(s *huma.Schema) string {
	switch {
	case s == nil:
		return ""
	case s.Ref != "":
		return refName(s)
	case s.Type == huma.TypeArray:
		return "list of " + typeOf(s.Items)
	case s.Type == "":
		return "any JSON"
	}
	if v, ok := s.AdditionalProperties.(*huma.Schema); ok {
		return "map of " + typeOf(v)
	}
	if s.Format == "date-time" {
		return "time"
	}
	return s.Type
}
