package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/belaydev/belay"
)

// Rollback takes an application back to an earlier revision, or with req.DryRun
// tells what that would do. The error's code is CodeHeld where it would change
// applications that are not listed in req.Others.
func (c *Client) Rollback(ctx context.Context, name string, req belay.RollbackRequest) (belay.Rollback, error) {
	var out belay.Rollback
	path := "/api/v1/applications/" + url.PathEscape(name) + "/rollback"
	if name == "" {
		path = "/api/v1/rollback"
	}
	err := c.do(ctx, http.MethodPost, path, nil, req, &out)
	return out, err
}

// RollbackTargets lists what an application can go back to, newest first.
func (c *Client) RollbackTargets(ctx context.Context, name string) ([]belay.RollbackTarget, error) {
	var body struct {
		Targets []belay.RollbackTarget `json:"targets"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/applications/"+url.PathEscape(name)+"/rollback", nil, nil, &body)
	return body.Targets, err
}

// Release ends the hold of an application.
func (c *Client) Release(ctx context.Context, name string, req belay.ReleaseRequest) error {
	var body struct{}
	return c.do(ctx, http.MethodPost, "/api/v1/applications/"+url.PathEscape(name)+"/release", nil, req, &body)
}

// CommitSigner is whose signature the commits have that the server makes.
func (c *Client) CommitSigner(ctx context.Context) (belay.CommitSigner, error) {
	var out belay.CommitSigner
	err := c.do(ctx, http.MethodGet, "/api/v1/commit-signer", nil, nil, &out)
	return out, err
}
