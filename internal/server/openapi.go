package server

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
)

//go:generate go test . -run ^TestOpenAPIIsTheCommittedOne$ -update

// problemRef is where the document describes errors.
const problemRef = "#/components/schemas/Problem"

// document is the OpenAPI document before operations are added.
func document() *huma.OpenAPI {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[belay.SyncState](), reflect.TypeFor[syncState]())
	registry.RegisterTypeAlias(reflect.TypeFor[belay.Health](), reflect.TypeFor[healthState]())
	registry.RegisterTypeAlias(reflect.TypeFor[belay.Verb](), reflect.TypeFor[verb]())
	schemaOf[problem](registry)
	return &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title: "Belay", Version: "v1",
			Description: "The state of a fleet that Belay keeps equal to Git, and the few things that can be asked of it. " +
				"Nothing here changes what is desired: that is a commit. Every error is a Problem with a code, a message and a hint.",
		},
		Tags: []*huma.Tag{
			{Name: tagState, Description: "What is there."},
			{Name: tagAction, Description: "What can be asked for."},
			{Name: tagEvents, Description: "What happens."},
			{Name: tagRecord, Description: "What happened, whenever that was, and who did it: from the ledger."},
			{Name: tagServer, Description: "The server itself. Metrics are at /metrics, schemas of definitions at /schemas/KIND.json."},
		},
		Components: &huma.Components{Schemas: registry},
	}
}

func schemaOf[T any](r huma.Registry) { r.Schema(reflect.TypeFor[T](), true, "") }

// problemResponse describes the answer to what went wrong.
func problemResponse() *huma.Response {
	return &huma.Response{Description: "What went wrong", Content: map[string]*huma.MediaType{problemType: {Schema: &huma.Schema{Ref: problemRef}}}}
}

// The values that strings of the domain may have; the domain knows no schemas.
type (
	syncState   string
	healthState string
	verb        string
)

// Schema is the schema of a sync state.
func (syncState) Schema(huma.Registry) *huma.Schema {
	return enum("Whether the cluster equals Git.", belay.Synced, belay.OutOfSync, belay.SyncUnknown)
}

// Schema is the schema of a health.
func (healthState) Schema(huma.Registry) *huma.Schema {
	return enum("Whether it works, as far as its status tells.",
		belay.Healthy, belay.Progressing, belay.Degraded, belay.Suspended, belay.Missing, belay.Unknown)
}

// Schema is the schema of a verb.
func (verb) Schema(huma.Registry) *huma.Schema {
	return enum("What is done to an object.", belay.VerbCreate, belay.VerbUpdate, belay.VerbHeal, belay.VerbDelete, belay.VerbAdopt, belay.VerbRecreate)
}

func enum[T ~string](doc string, values ...T) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Description: doc}
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
	return s
}

// finish corrects what huma says of types that it cannot know: lists are never
// null, and errors are problems.
func finish(api *huma.OpenAPI) {
	schemas := api.Components.Schemas.Map()
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	list := func(s *huma.Schema) {
		if s.Type == huma.TypeArray {
			s.Nullable = false
		}
	}
	for _, s := range schemas {
		for _, p := range s.Properties {
			list(p)
		}
		slices.Sort(s.Required)
	}
	for _, item := range api.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post} {
			if op == nil {
				continue
			}
			for _, p := range op.Parameters {
				list(p.Schema)
			}
		}
	}
}

// encode writes the document for people and diffs: indented, keys sorted.
func encode(api *huma.OpenAPI) []byte {
	raw, err := json.Marshal(api)
	if err != nil {
		panic(err) // a test encodes it
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		panic(err) // it was encoded just now
	}
	out.WriteByte('\n')
	return out.Bytes()
}
