package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
)

// ActorHeader says who asks, for the record. Nothing is allowed because of it.
const ActorHeader = "Belay-Actor"

// defaultActor is who asks where the request does not say.
const defaultActor = "api"

// ActorParam is the header of requests that change something.
type ActorParam struct {
	Actor string `header:"Belay-Actor" doc:"Who asks, for the record; nothing is allowed because of it. Default: api." maxLength:"128" pattern:"^[ -~]*$"`
}

func (a ActorParam) name() string {
	if a.Actor == "" {
		return defaultActor
	}
	return a.Actor
}

// previews is the answer to a plan request.
type previews struct {
	Previews []belay.Preview `json:"previews" doc:"What would change, sorted by application."`
}

// poked is the answer to a hook.
type poked struct {
	Repositories int `json:"repositories" doc:"How many repositories are looked at now."`
}

func (s *Server) registerActions(api huma.API) {
	operation(api, syncTimeout, huma.Operation{
		OperationID: "sync-application", Method: http.MethodPost, Path: "/api/v1/applications/{name}/sync", Tags: []string{tagAction},
		DefaultStatus: http.StatusAccepted,
		Summary:       "Sync one application",
		Description:   "Looks for new commits, then compares the application with Git and makes the cluster equal to it. The answer comes when that was noted; events and the application's state tell the outcome. It is refused while the application is suspended or outside of its windows.",
	}, func(ctx context.Context, in *struct {
		ActorParam
		Name string `path:"name" doc:"Name of the application." maxLength:"253"`
	}) (*reply[belay.SyncAccepted], error) {
		return s.sync(ctx, belay.SyncRequest{Applications: []string{in.Name}}, in.name())
	})
	operation(api, syncTimeout, huma.Operation{
		OperationID: "sync", Method: http.MethodPost, Path: "/api/v1/sync", Tags: []string{tagAction},
		DefaultStatus: http.StatusAccepted,
		Summary:       "Sync several applications or all",
		Description: "As for one application. An unknown name refuses the whole request, and so does an application that is suspended or outside of its windows; " +
			"a sync of all leaves those out. With overrideWindow and a reason, one sync of each application runs in spite of windows, on the record.",
	}, func(ctx context.Context, in *struct {
		ActorParam
		Body belay.SyncRequest
	}) (*reply[belay.SyncAccepted], error) {
		if in.Body.All == (len(in.Body.Applications) > 0) {
			return nil, &belay.Error{Code: belay.CodeInvalid, Message: "either applications or all must be given", Hint: `send {"applications": ["NAME"]} or {"all": true}`}
		}
		if err := checkOverride(&in.Body); err != nil {
			return nil, err
		}
		return s.sync(ctx, in.Body, in.name())
	})
	operation(api, planTimeout, huma.Operation{
		OperationID: "plan", Method: http.MethodPost, Path: "/api/v1/plan", Tags: []string{tagAction},
		MaxBodyBytes: maxPlanBody,
		Summary:      "What would change",
		Description:  "Compares a revision, or what a working directory renders to, with the clusters. Nothing is changed. Secret values are redacted in the answer.",
	}, func(ctx context.Context, in *struct{ Body belay.PlanRequest }) (*reply[previews], error) {
		if in.Body.Revision != "" && len(in.Body.Rendered)+len(in.Body.Declared) > 0 {
			return nil, &belay.Error{Code: belay.CodeInvalid, Message: "a plan is of a revision or of rendered objects, not of both"}
		}
		ps, err := s.Engine.Plan(ctx, in.Body)
		if err != nil {
			return nil, err
		}
		return &reply[previews]{previews{sortedPreviews(ps)}}, nil
	})
	s.registerHook(api)
}

// registerHook declares the hook of repositories. It takes any content type,
// because what calls it is often a line of shell.
func (s *Server) registerHook(api huma.API) {
	body := &huma.RequestBody{
		Description: "The repository that was pushed to; without a body, every repository.",
		Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
			Type: huma.TypeObject, AdditionalProperties: false,
			Properties: map[string]*huma.Schema{"repo": {Type: huma.TypeString, Description: "URL of the repository as it is declared, or its name."}},
		}}},
	}
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "push-hook", Method: http.MethodPost, Path: "/hooks/push", Tags: []string{tagAction},
		DefaultStatus: http.StatusAccepted,
		Summary:       "Look for new commits now",
		Description:   "For the hook of a repository: it cuts the wait until the next look. The answer comes at once.",
	}, func(_ context.Context, in *struct{ RawBody []byte }) (*reply[poked], error) {
		repo, err := hookRepo(in.RawBody)
		if err != nil {
			return nil, err
		}
		n, err := s.Engine.Poke(repo)
		if err != nil {
			return nil, err
		}
		if n == 0 && repo != "" {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("no repository %q is in use", repo),
				Hint: "name it by its URL as the definitions spell it; \"belay status -o json\" lists the repositories in use"}
		}
		return &reply[poked]{poked{n}}, nil
	})
	api.OpenAPI().Paths["/hooks/push"].Post.RequestBody = body
}

// hookRepo is the repository that a hook's body names, "" for all.
func hookRepo(raw []byte) (string, error) {
	if len(raw) == 0 {
		return "", nil
	}
	var fields map[string]json.RawMessage
	invalid := func(what string) error {
		return &belay.Error{Code: belay.CodeInvalid, Message: what, Hint: `send {"repo": "URL"}, or no body for every repository`}
	}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return "", invalid("the body is not a JSON object")
	}
	var repo string
	for name, v := range fields {
		if name != "repo" {
			return "", invalid("the body has an unknown field " + strconv.Quote(name))
		}
		if err := json.Unmarshal(v, &repo); err != nil {
			return "", invalid("repo is not a string")
		}
	}
	return repo, nil
}

// checkOverride says what an override of windows lacks.
func checkOverride(req *belay.SyncRequest) error {
	invalid := func(message, hint string) error {
		return &belay.Error{Code: belay.CodeInvalid, Message: message, Hint: hint}
	}
	switch reason := strings.TrimSpace(req.Reason); {
	case !req.OverrideWindow:
		return nil
	case req.All:
		return invalid("windows are not overridden for all applications at once", "name the applications")
	case reason == "":
		return invalid("an override of windows needs a reason", "say why: it is recorded")
	}
	return nil
}

// sync asks for a sync of the applications, of all of them for no names.
func (s *Server) sync(ctx context.Context, req belay.SyncRequest, who string) (*reply[belay.SyncAccepted], error) {
	// Read before anything is asked for: what happens from here on belongs to this request.
	accepted := belay.SyncAccepted{Since: s.resumePoint(s.Events.Latest()), RequestedAt: time.Now().UTC(), Applications: []string{}}
	req.Applications = slices.Compact(slices.Sorted(slices.Values(req.Applications)))
	names, refused, err := s.Engine.Sync(ctx, req, who)
	if err != nil {
		return nil, err
	}
	accepted.Applications = append(accepted.Applications, slices.Sorted(slices.Values(names))...)
	accepted.Refused = refused
	return &reply[belay.SyncAccepted]{accepted}, nil
}

// sortedPreviews is the documented form: sorted, with lists instead of null.
func sortedPreviews(ps []belay.Preview) []belay.Preview {
	ps = append([]belay.Preview{}, ps...)
	slices.SortStableFunc(ps, func(a, b belay.Preview) int {
		if a.Application != b.Application {
			if a.Application < b.Application {
				return -1
			}
			return 1
		}
		return 0
	})
	for i := range ps {
		if ps[i].Changes == nil {
			ps[i].Changes = []belay.PreviewChange{}
		}
	}
	return ps
}
