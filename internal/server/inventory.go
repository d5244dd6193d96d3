package server

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belaydev/belay"
)

type clusters struct {
	Clusters []belay.ClusterEntry `json:"clusters" doc:"Sorted by name."`
}

type repositories struct {
	Repositories []belay.RepositoryEntry `json:"repositories" doc:"Sorted by URL."`
}

type projects struct {
	Projects []belay.ProjectEntry `json:"projects" doc:"Sorted by name."`
}

// registerInventory declares the lists of what a fleet has beside its applications.
func (s *Server) registerInventory(api huma.API) {
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "list-clusters", Method: http.MethodGet, Path: "/api/v1/clusters", Tags: []string{tagState},
		Summary:     "List clusters",
		Description: "The clusters that the server looks after: whether each is observed, its version, and what is delivered to it.",
	}, func(context.Context, *none) (*reply[clusters], error) {
		inv, err := s.Engine.Inventory()
		return &reply[clusters]{clusters{inv.Clusters}}, err
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "list-repositories", Method: http.MethodGet, Path: "/api/v1/repositories", Tags: []string{tagState},
		Summary:     "List repositories",
		Description: "The repositories in use: where each ref that is followed stands, when it was looked at last, and what is made from it. URLs have no credentials.",
	}, func(context.Context, *none) (*reply[repositories], error) {
		inv, err := s.Engine.Inventory()
		return &reply[repositories]{repositories{inv.Repositories}}, err
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "list-projects", Method: http.MethodGet, Path: "/api/v1/projects", Tags: []string{tagState},
		Summary:     "List projects",
		Description: "The Projects in force with what each permits, and the default one where nobody declares it. Credentials are references.",
	}, func(context.Context, *none) (*reply[projects], error) {
		inv, err := s.Engine.Inventory()
		return &reply[projects]{projects{inv.Projects}}, err
	})
}
