package server

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/belaydev/belay"
)

// Tags group operations in the documentation.
const (
	tagState  = "State"
	tagAction = "Actions"
	tagEvents = "Events"
	tagServer = "Server"
)

// register declares every operation on mux.
func (s *Server) register(mux *http.ServeMux) {
	// Nothing of huma's own is served: its documentation page loads scripts from
	// elsewhere, its $schema links would change the documented answers, and it
	// makes the document anew under concurrent requests.
	api := humago.New(mux, huma.Config{
		OpenAPI:       document(),
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{fromHuma},
	})
	s.registerState(api)
	s.registerInventory(api)
	s.registerActions(api)
	s.registerRollback(api)
	s.registerEvents(api)
	s.registerRecord(api)
	s.registerServer(api)
	finish(api.OpenAPI())

	spec := encode(api.OpenAPI())
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(spec) // the client may be gone
	})
	mux.Handle("GET /docs", docs(api.OpenAPI()))
	mux.Handle("GET /{$}", http.RedirectHandler("/docs", http.StatusFound))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}))
	if s.Schemas != nil {
		mux.HandleFunc("GET /schemas/{file}", s.schema)
	}
}

func (s *Server) schema(w http.ResponseWriter, r *http.Request) {
	kind, ok := strings.CutSuffix(r.PathValue("file"), ".json")
	var body []byte
	if ok {
		body = s.Schemas(kind)
	}
	if body == nil {
		refuse(w, http.StatusNotFound, belay.CodeNotFound, "schemas are named like /schemas/Application.json", "there is no schema %q", r.PathValue("file"))
		return
	}
	w.Header().Set("Content-Type", "application/schema+json")
	_, _ = w.Write(body) // the client may be gone
}

// operation adds an operation to the API: fn's errors become problems, and its
// time is bounded.
func operation[I, O any](api huma.API, timeout time.Duration, op huma.Operation, fn func(context.Context, *I) (*O, error)) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	op.Responses["default"] = problemResponse()
	if op.MaxBodyBytes == 0 {
		op.MaxBodyBytes = maxBody
	}
	// The deadline is of the connection and lasts until the answer is sent.
	op.BodyReadTimeout = bodyTimeout + timeout
	huma.Register(api, op, func(ctx context.Context, in *I) (*O, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		out, err := fn(ctx, in)
		if err != nil {
			return nil, newProblem(err)
		}
		return out, nil
	})
}

// reply is an answer with a body.
type reply[T any] struct{ Body T }

type none struct{}
