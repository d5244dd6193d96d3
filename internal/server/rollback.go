package server

import (
	"context"
	"net/http"
	"time"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
)

// rollbackTimeout bounds a rollback: it fetches, renders and pushes.
const rollbackTimeout = 5 * time.Minute

// Rollbacks take applications back. It is part of what the [Engine] does.
type Rollbacks interface {
	// Rollback takes an application back, or with req.Change and no name all that a
	// commit changed. The error's code is CodeHeld where it would change others that
	// are not among req.Others. With a hold in force, what keeps the commit from
	// being made is in the answer instead.
	Rollback(ctx context.Context, name string, req belay.RollbackRequest, actor string) (belay.Rollback, error)
	// RollbackTargets lists what an application can go back to, newest first.
	RollbackTargets(ctx context.Context, name string) ([]belay.RollbackTarget, error)
	// Release ends a hold. The error's code is CodeNotFound where there is none.
	Release(ctx context.Context, name string, req belay.ReleaseRequest, actor string) error
	// CommitSigner is whose signature the commits have. The error says why they have
	// none.
	CommitSigner() (belay.CommitSigner, error)
}

// rollbackTargets is the answer of the list.
type rollbackTargets struct {
	Targets []belay.RollbackTarget `json:"targets" doc:"What the application can go back to, newest first."`
}

// released is the answer to the end of a hold.
type released struct {
	Application string `json:"application" doc:"Application that is no longer held."`
}

func (s *Server) registerRollback(api huma.API) {
	operation(api, rollbackTimeout, huma.Operation{
		OperationID: "list-rollback-targets", Method: http.MethodGet, Path: "/api/v1/applications/{name}/rollback", Tags: []string{tagState},
		Summary:     "What an application can go back to",
		Description: "Its deployments as far as they are on record, or else the commits that changed what it is made of; newest first.",
	}, func(ctx context.Context, in *struct {
		Name string `path:"name" doc:"Name of the application." maxLength:"253"`
	}) (*reply[rollbackTargets], error) {
		list, err := s.Engine.RollbackTargets(ctx, in.Name)
		if err != nil {
			return nil, err
		}
		return &reply[rollbackTargets]{rollbackTargets{list}}, nil
	})
	operation(api, rollbackTimeout, huma.Operation{
		OperationID: "rollback-application", Method: http.MethodPost, Path: "/api/v1/applications/{name}/rollback", Tags: []string{tagAction},
		Summary: "Take one application back",
		Description: "Commits what the application was made of at an earlier revision on top of the branch, proves by rendering that it then is what it was, and pushes. " +
			"With dryRun it tells what would be done. It is refused where other applications would change that are not listed in others. With now the application is held at that revision at once.",
	}, func(ctx context.Context, in *struct {
		ActorParam
		Name string `path:"name" doc:"Name of the application." maxLength:"253"`
		Body belay.RollbackRequest
	}) (*reply[belay.Rollback], error) {
		out, err := s.Engine.Rollback(ctx, in.Name, in.Body, in.name())
		if err != nil {
			return nil, err
		}
		return &reply[belay.Rollback]{out}, nil
	})
	operation(api, rollbackTimeout, huma.Operation{
		OperationID: "rollback-change", Method: http.MethodPost, Path: "/api/v1/rollback", Tags: []string{tagAction},
		Summary:     "Take back what a commit changed",
		Description: "As for one application, for all that the commit named as change led to, each to what it had before, in one commit for each repository.",
	}, func(ctx context.Context, in *struct {
		ActorParam
		Body belay.RollbackRequest
	}) (*reply[belay.Rollback], error) {
		if in.Body.Change == "" {
			return nil, &belay.Error{Code: belay.CodeInvalid, Message: "the change is missing", Hint: `send {"change": "COMMIT"}`}
		}
		out, err := s.Engine.Rollback(ctx, "", in.Body, in.name())
		if err != nil {
			return nil, err
		}
		return &reply[belay.Rollback]{out}, nil
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "get-commit-signer", Method: http.MethodGet, Path: "/api/v1/commit-signer", Tags: []string{tagServer},
		Summary:     "Whose signature the server's commits have",
		Description: "Committer and public key of the commits that rollbacks make, to be named in the signers of Projects and at a forge.",
	}, func(context.Context, *struct{}) (*reply[belay.CommitSigner], error) {
		signer, err := s.Engine.CommitSigner()
		if err != nil {
			return nil, err
		}
		return &reply[belay.CommitSigner]{signer}, nil
	})
	operation(api, handlerTimeout, huma.Operation{
		OperationID: "release-application", Method: http.MethodPost, Path: "/api/v1/applications/{name}/release", Tags: []string{tagAction},
		Summary:     "End the hold of an application",
		Description: "The application is made equal to what Git says now, as its sync policy and windows allow.",
	}, func(ctx context.Context, in *struct {
		ActorParam
		Name string `path:"name" doc:"Name of the application." maxLength:"253"`
		Body belay.ReleaseRequest
	}) (*reply[released], error) {
		if err := s.Engine.Release(ctx, in.Name, in.Body, in.name()); err != nil {
			return nil, err
		}
		return &reply[released]{released{in.Name}}, nil
	})
}
