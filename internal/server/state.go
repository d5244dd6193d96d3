package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
)

// filter chooses applications.
type filter struct {
	Application []string `query:"application,explode" doc:"Names of applications; repeat it for several. Default: all. One that there is not is left out, so that it can be waited for."`
	Project     string   `query:"project" doc:"Only applications of this project. It is refused where there is none of that name."`
	Cluster     string   `query:"cluster" doc:"Only applications of this cluster. It is refused where there is none of that name."`
}

func (f *filter) fits(a *belay.ApplicationStatus) bool {
	return (len(f.Application) == 0 || slices.Contains(f.Application, a.Name)) &&
		(f.Project == "" || f.Project == a.Project) && (f.Cluster == "" || f.Cluster == a.Cluster)
}

// applications is the answer of the list.
type applications struct {
	Applications []belay.ApplicationStatus `json:"applications" doc:"Sorted by name."`
}

// clusterFacts is [belay.ClusterFacts] as JSON, whose map has keys that JSON has not.
type clusterFacts struct {
	Version     string     `json:"version" doc:"Kubernetes version, such as v1.36.2."`
	APIVersions []string   `json:"apiVersions" doc:"apps/v1 and apps/v1/Deployment, sorted: what a Helm chart sees as its capabilities."`
	Kinds       []kindFact `json:"kinds" doc:"Kinds that are served, sorted by apiVersion and kind."`
	Digest      string     `json:"digest" doc:"Identifies version and apiVersions."`
}

type kindFact struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Resource   string `json:"resource" doc:"Plural name, as in URLs."`
	Namespaced bool   `json:"namespaced"`
}

func (s *Server) registerState(api huma.API) {
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-status", Method: http.MethodGet, Path: "/api/v1/status", Tags: []string{tagState},
		Summary:     "State of the fleet",
		Description: "Applications, the clusters and repositories they use, and definitions that are wrong. A filter chooses applications; the rest is always whole.",
	}, func(_ context.Context, in *filter) (*reply[belay.Status], error) {
		st, err := s.status(in)
		return &reply[belay.Status]{st}, err
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "list-applications", Method: http.MethodGet, Path: "/api/v1/applications", Tags: []string{tagState},
		Summary:     "List applications",
		Description: "The state of applications without their object trees.",
	}, func(_ context.Context, in *filter) (*reply[applications], error) {
		st, err := s.status(in)
		return &reply[applications]{applications{st.Applications}}, err
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-application", Method: http.MethodGet, Path: "/api/v1/applications/{name}", Tags: []string{tagState},
		Summary:     "State of one application",
		Description: "The state of an application and of each of its objects.",
	}, func(_ context.Context, in *struct {
		Name string `path:"name" doc:"Name of the application." maxLength:"253"`
	}) (*reply[belay.ApplicationStatus], error) {
		a, err := s.Engine.Application(in.Name)
		if err != nil {
			return nil, err
		}
		return &reply[belay.ApplicationStatus]{a}, nil
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-cluster-facts", Method: http.MethodGet, Path: "/api/v1/clusters/{name}/facts", Tags: []string{tagState},
		Summary:     "What a cluster serves",
		Description: "Version, API versions and kinds of a cluster, so that manifests can be rendered elsewhere as the server would render them.",
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" doc:"Name of the cluster." maxLength:"253"`
	}) (*reply[clusterFacts], error) {
		f, err := s.Engine.Facts(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		return &reply[clusterFacts]{factsBody(f)}, nil
	})
}

// status is the engine's status in the documented form: sorted, with lists
// instead of null, and without trees.
func (s *Server) status(f *filter) (belay.Status, error) {
	st := s.Engine.Status()
	if f.Project != "" || f.Cluster != "" {
		if err := s.namesOf(&st).check(nil, one(f.Project), one(f.Cluster)); err != nil {
			return st, err
		}
	}
	apps := make([]belay.ApplicationStatus, 0, len(st.Applications))
	for _, a := range st.Applications {
		if f.fits(&a) {
			a.Tree = nil
			apps = append(apps, a)
		}
	}
	slices.SortFunc(apps, func(a, b belay.ApplicationStatus) int { return cmp.Compare(a.Name, b.Name) })
	st.Applications = apps
	st.Clusters = slices.SortedFunc(slices.Values(st.Clusters), func(a, b belay.ClusterStatus) int { return cmp.Compare(a.Name, b.Name) })
	st.Repositories = slices.SortedFunc(slices.Values(st.Repositories), func(a, b belay.RepositoryStatus) int { return cmp.Compare(a.URL, b.URL) })
	return st, nil
}

func factsBody(f belay.ClusterFacts) clusterFacts {
	out := clusterFacts{Version: f.Version, APIVersions: f.APIVersions, Kinds: make([]kindFact, 0, len(f.Kinds)), Digest: f.Digest}
	if out.APIVersions == nil {
		out.APIVersions = []string{}
	}
	for vk, k := range f.Kinds {
		out.Kinds = append(out.Kinds, kindFact{APIVersion: vk.APIVersion, Kind: vk.Kind, Resource: k.Resource, Namespaced: k.Namespaced})
	}
	slices.SortFunc(out.Kinds, func(a, b kindFact) int {
		return cmp.Or(cmp.Compare(a.APIVersion, b.APIVersion), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// liveness answers /healthz.
type liveness struct {
	Status string `json:"status" doc:"Always ok: that it answers is the news."`
}

// readiness answers /readyz.
type readiness struct {
	Ready   bool     `json:"ready" doc:"Whether the fleet is being looked after."`
	Reasons []string `json:"reasons" doc:"Why not."`
}

func (s *Server) registerServer(api huma.API) {
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-version", Method: http.MethodGet, Path: "/api/v1/version", Tags: []string{tagServer},
		Summary: "What the server was built from",
	}, func(context.Context, *none) (*reply[belay.Build], error) { return &reply[belay.Build]{s.Build}, nil })

	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-health", Method: http.MethodGet, Path: "/healthz", Tags: []string{tagServer},
		Summary: "Whether the process works",
	}, func(context.Context, *none) (*reply[liveness], error) {
		return &reply[liveness]{liveness{Status: "ok"}}, nil
	})

	type readyReply struct {
		Status int
		Body   readiness
	}
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-readiness", Method: http.MethodGet, Path: "/readyz", Tags: []string{tagServer},
		Summary:     "Whether the fleet is looked after",
		Description: "Answers 503 with the reasons until the definitions were read and every cluster was tried.",
		Responses:   map[string]*huma.Response{"503": {Description: "Not ready"}},
	}, func(context.Context, *none) (*readyReply, error) {
		err := s.Engine.Ready()
		if err == nil {
			return &readyReply{http.StatusOK, readiness{Ready: true, Reasons: []string{}}}, nil
		}
		return &readyReply{http.StatusServiceUnavailable, readiness{Reasons: reasons(err)}}, nil
	})
	responses := api.OpenAPI().Paths["/readyz"].Get.Responses
	responses["503"].Content = responses["200"].Content
}

// reasons splits joined errors.
func reasons(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range joined.Unwrap() {
		out = append(out, reasons(e)...)
	}
	if len(out) == 0 {
		out = []string{strings.TrimSpace(fmt.Sprint(err))}
	}
	return out
}
