package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// recordValues are the parameters of a query.
func recordValues(q *belay.RecordQuery) url.Values {
	v := url.Values{}
	for name, values := range map[string][]string{"application": q.Applications, "project": q.Projects, "cluster": q.Clusters} {
		for _, s := range values {
			v.Add(name, s)
		}
	}
	for _, t := range q.Types {
		v.Add("type", string(t))
	}
	for name, s := range map[string]string{"person": q.Person, "change": q.Change, "object": q.Object, "changed": q.Changed,
		"deployment": q.Deployment, "writer": q.Writer, "after": q.After} {
		if s != "" {
			v.Set(name, s)
		}
	}
	for name, t := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !t.IsZero() {
			v.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(min(q.Limit, belay.MaxPage)))
	}
	if q.Brief {
		v.Set("brief", "true")
	}
	return v
}

// recordPath is WRITER/SEQ, or -/SEQ, as a path.
func recordPath(id string) string {
	writer, seq := "-", id
	if i := strings.LastIndexByte(id, '/'); i >= 0 {
		writer, seq = id[:i], id[i+1:]
	}
	return url.PathEscape(writer) + "/" + url.PathEscape(seq)
}

// Records are the records of the ledger that a query chooses, newest first. next
// is the After of the next page, "" after the last.
func (c *Client) Records(ctx context.Context, q belay.RecordQuery) (records []belay.Record, next string, err error) {
	var body struct {
		Records []belay.Record `json:"records"`
		Next    string         `json:"next"`
	}
	err = c.do(ctx, http.MethodGet, "/api/v1/records", recordValues(&q), nil, &body)
	return body.Records, body.Next, err
}

// Record is one record, by its ID or the beginning of its commit in the ledger.
// The error's code is CodeNotFound where there is none.
func (c *Client) Record(ctx context.Context, id string) (belay.Record, error) {
	var r belay.Record
	err := c.do(ctx, http.MethodGet, "/api/v1/records/"+recordPath(id), nil, nil, &r)
	return r, err
}

// Deployments are those whose start a query chooses, newest first. next is the
// After of the next page, "" after the last.
func (c *Client) Deployments(ctx context.Context, q belay.RecordQuery) (deployments []belay.Deployment, next string, err error) {
	var body struct {
		Deployments []belay.Deployment `json:"deployments"`
		Next        string             `json:"next"`
	}
	err = c.do(ctx, http.MethodGet, "/api/v1/deployments", recordValues(&q), nil, &body)
	return body.Deployments, body.Next, err
}

// Deployment is one deployment, by its ID or that of any record of it.
func (c *Client) Deployment(ctx context.Context, id string) (belay.Deployment, error) {
	var d belay.Deployment
	err := c.do(ctx, http.MethodGet, "/api/v1/deployments/"+recordPath(id), nil, nil, &d)
	return d, err
}

// Manifests are what a deployment left its application with, sorted by object.
func (c *Client) Manifests(ctx context.Context, deployment string) ([]belay.ManifestText, error) {
	var body struct {
		Manifests []belay.ManifestText `json:"manifests"`
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/deployments/"+recordPath(deployment)+"/manifests", nil, nil, &body)
	return body.Manifests, err
}

// Changes are the manifests that a deployment changed, sorted by object.
func (c *Client) Changes(ctx context.Context, deployment string) ([]belay.ManifestChange, error) {
	return c.changes(ctx, "/api/v1/deployments/"+recordPath(deployment)+"/changes", nil)
}

// Diff compares what two deployments of an application, named by their IDs or
// their revisions, left it with.
func (c *Client) Diff(ctx context.Context, application, from, to string) ([]belay.ManifestChange, error) {
	return c.changes(ctx, "/api/v1/applications/"+url.PathEscape(application)+"/diff", url.Values{"from": {from}, "to": {to}})
}

func (c *Client) changes(ctx context.Context, path string, query url.Values) ([]belay.ManifestChange, error) {
	var body struct {
		Changes []belay.ManifestChange `json:"changes"`
	}
	err := c.do(ctx, http.MethodGet, path, query, nil, &body)
	return body.Changes, err
}

// Blame tells which deployment set each line of the manifests of an object, or of
// all objects with "". An empty cluster is the one deployed to last.
func (c *Client) Blame(ctx context.Context, application, cluster, object string) ([]belay.ManifestBlame, error) {
	var body struct {
		Manifests []belay.ManifestBlame `json:"manifests"`
	}
	q := url.Values{}
	for name, s := range map[string]string{"cluster": cluster, "object": object} {
		if s != "" {
			q.Set(name, s)
		}
	}
	err := c.do(ctx, http.MethodGet, "/api/v1/applications/"+url.PathEscape(application)+"/blame", q, nil, &body)
	return body.Manifests, err
}
