// Package client is the Go client of Belay's HTTP API, as the command line uses
// it. Answers are the types of package belay, and so are errors: whatever the
// server refuses comes back as a *belay.Error with its code, message and hint.
//
// It must not know how the server works, nor anything of terminals and flags.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// DefaultServer is where "belay serve" listens unless it is told otherwise.
const DefaultServer = "http://127.0.0.1:8180"

// maxAnswer bounds what is read of an answer: the status of a very large fleet fits.
const maxAnswer = 1 << 30

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	base *url.URL
	http *http.Client
	// Actor says who asks, for the record of what was done. Default: the server's.
	Actor string
	// Who says so where Actor is empty. It is asked at most once, and only before
	// something is to be changed.
	Who func() string
	// retryMin and retryMax bound the wait before an event stream is connected again.
	retryMin, retryMax time.Duration
	// silence is how long an event stream may be silent.
	silence time.Duration
}

// New makes a Client of the server at an address such as
// "http://127.0.0.1:8180"; "http://" may be left out, and "" is [DefaultServer].
// It does not connect.
func New(server string) (*Client, error) {
	if server == "" {
		server = DefaultServer
	}
	if !strings.Contains(server, "://") {
		server = "http://" + server
	}
	u, err := url.Parse(server)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%q is not the address of a server", redacted(server, u)),
			Hint: "use an address such as " + DefaultServer}
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	return &Client{base: u, http: &http.Client{Transport: transport}, retryMin: 250 * time.Millisecond, retryMax: 5 * time.Second, silence: silence}, nil
}

// redacted is the address without a password that somebody put into it.
func redacted(server string, u *url.URL) string {
	if u != nil && u.User != nil {
		return u.Redacted()
	}
	return server
}

// Server is the address of the server.
func (c *Client) Server() string { return c.base.String() }

// Filter chooses applications; empty fields choose all.
type Filter struct {
	Applications []string
	Project      string
	Cluster      string
}

func (f Filter) query() url.Values {
	q := url.Values{}
	for _, a := range f.Applications {
		q.Add("application", a)
	}
	if f.Project != "" {
		q.Set("project", f.Project)
	}
	if f.Cluster != "" {
		q.Set("cluster", f.Cluster)
	}
	return q
}

// Status is the state of the fleet, its applications filtered and sorted by name.
func (c *Client) Status(ctx context.Context, f Filter) (belay.Status, error) {
	var st belay.Status
	err := c.do(ctx, http.MethodGet, "/api/v1/status", f.query(), nil, &st)
	return st, err
}

// Clusters lists the clusters that the server looks after, sorted by name.
func (c *Client) Clusters(ctx context.Context) ([]belay.ClusterEntry, error) {
	var inv belay.Inventory
	err := c.do(ctx, http.MethodGet, "/api/v1/clusters", nil, nil, &inv)
	return inv.Clusters, err
}

// Repositories lists the repositories in use, sorted by URL.
func (c *Client) Repositories(ctx context.Context) ([]belay.RepositoryEntry, error) {
	var inv belay.Inventory
	err := c.do(ctx, http.MethodGet, "/api/v1/repositories", nil, nil, &inv)
	return inv.Repositories, err
}

// Projects lists the Projects in force, sorted by name.
func (c *Client) Projects(ctx context.Context) ([]belay.ProjectEntry, error) {
	var inv belay.Inventory
	err := c.do(ctx, http.MethodGet, "/api/v1/projects", nil, nil, &inv)
	return inv.Projects, err
}

// Applications lists applications, sorted by name.
func (c *Client) Applications(ctx context.Context, f Filter) ([]belay.ApplicationStatus, error) {
	var body struct {
		Applications []belay.ApplicationStatus `json:"applications"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/applications", f.query(), nil, &body)
	return body.Applications, err
}

// Application is the state of one application with its tree of objects. The
// error's code is CodeNotFound where there is none of that name.
func (c *Client) Application(ctx context.Context, name string) (belay.ApplicationStatus, error) {
	var a belay.ApplicationStatus
	err := c.do(ctx, http.MethodGet, "/api/v1/applications/"+url.PathEscape(name), nil, nil, &a)
	return a, err
}

// Sync asks for a sync. It does not wait for its outcome; [Client.Wait] does.
func (c *Client) Sync(ctx context.Context, req belay.SyncRequest) (belay.SyncAccepted, error) {
	var a belay.SyncAccepted
	err := c.do(ctx, http.MethodPost, "/api/v1/sync", nil, req, &a)
	return a, err
}

// Plan tells what would change, sorted by application.
func (c *Client) Plan(ctx context.Context, req belay.PlanRequest) ([]belay.Preview, error) {
	var body struct {
		Previews []belay.Preview `json:"previews"`
	}
	err := c.do(ctx, http.MethodPost, "/api/v1/plan", nil, req, &body)
	return body.Previews, err
}

// Facts are what a cluster serves. The error's code is CodeNotFound for a
// cluster that is not declared and CodeUnavailable for one that does not answer.
func (c *Client) Facts(ctx context.Context, cluster string) (belay.ClusterFacts, error) {
	var body struct {
		Version     string   `json:"version"`
		APIVersions []string `json:"apiVersions"`
		Digest      string   `json:"digest"`
		Kinds       []struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Resource   string `json:"resource"`
			Namespaced bool   `json:"namespaced"`
		} `json:"kinds"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/clusters/"+url.PathEscape(cluster)+"/facts", nil, nil, &body); err != nil {
		return belay.ClusterFacts{}, err
	}
	f := belay.ClusterFacts{Version: body.Version, APIVersions: body.APIVersions, Digest: body.Digest, Kinds: map[belay.VersionKind]belay.KindFacts{}}
	for _, k := range body.Kinds {
		f.Kinds[belay.VersionKind{APIVersion: k.APIVersion, Kind: k.Kind}] = belay.KindFacts{Resource: k.Resource, Namespaced: k.Namespaced}
	}
	return f, nil
}

// Push tells that a repository was pushed to, all of them with "". It returns
// how many repositories are looked at now. The error's code is CodeNotFound
// where none has that URL or name.
func (c *Client) Push(ctx context.Context, repo string) (int, error) {
	var in any
	if repo != "" {
		in = map[string]string{"repo": repo}
	}
	var body struct {
		Repositories int `json:"repositories"`
	}
	err := c.do(ctx, http.MethodPost, "/hooks/push", nil, in, &body)
	return body.Repositories, err
}

// Version is what the server was built from.
func (c *Client) Version(ctx context.Context) (belay.Build, error) {
	var b belay.Build
	err := c.do(ctx, http.MethodGet, "/api/v1/version", nil, nil, &b)
	return b, err
}

// do sends a request with in as its JSON body, unless that is nil, and decodes the answer into out.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	resp, err := c.send(ctx, method, path, query, http.Header{"Accept": {"application/json"}}, in)
	if err != nil {
		return err
	}
	defer discard(resp)
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return c.foreign(fmt.Errorf("decode the answer to %s %s: %w", method, path, err))
	}
	return nil
}

// send returns the response to a request, whose body the caller closes, or the error that the server answered.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, header http.Header, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
		header.Set("Content-Type", "application/json")
	}
	u := *c.base
	u.Path, u.RawPath = c.base.Path+path, ""
	if p, err := url.PathUnescape(path); err == nil && p != path {
		u.Path, u.RawPath = c.base.Path+p, c.base.EscapedPath()+path
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	if method != http.MethodGet {
		if c.Actor == "" && c.Who != nil {
			c.Actor = c.Who()
		}
		if c.Actor != "" {
			header.Set("Belay-Actor", c.Actor)
		}
	}
	req.Header = header
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer discard(resp)
	return nil, c.refused(resp)
}

// discard closes the body of a response. Nothing that was read is lost by its error.
func discard(resp *http.Response) { _ = resp.Body.Close() }

// refused is the error that a response holds.
func (c *Client) refused(resp *http.Response) error {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return c.unreachable(resp.Request.Context(), err)
	}
	var e belay.Error
	if json.Unmarshal(raw, &e) != nil || e.Code == "" || e.Message == "" {
		return c.foreign(fmt.Errorf("it answered %s", resp.Status))
	}
	return &e
}

// foreign is the error for an answer that no server of Belay gives.
func (c *Client) foreign(err error) error {
	return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("what answers at %s is not a Belay server, or one of another version: %v", c.base, err),
		Hint: "name the server with --server or BELAY_SERVER", Err: err}
}

// unreachable is the error where no answer came. The context's own end stays what it is.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("no server answers at %s: %v", c.base, root(err)),
		Hint: "start one with \"belay serve --repo URL\", or name a running one with --server or BELAY_SERVER", Err: err}
}

// root is what went wrong, without the URL and address that the layers above repeat.
func root(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Err != nil {
		err = op.Err
	}
	return err
}
