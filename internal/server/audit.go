package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/belaydev/belay"
)

// Record answers questions of what happened, whenever that was. Lists come newest
// first with the After of the next page. Deployments and records are named by
// their IDs; an error's code is CodeNotFound where there is none.
type Record interface {
	Records(ctx context.Context, q belay.RecordQuery) (records []belay.Record, next string, err error)
	Record(ctx context.Context, id string) (belay.Record, error)
	Deployments(ctx context.Context, q belay.RecordQuery) (deployments []belay.Deployment, next string, err error)
	Deployment(ctx context.Context, id string) (belay.Deployment, error)
	// Manifests are what a deployment left its application with.
	Manifests(ctx context.Context, deployment string) ([]belay.ManifestText, error)
	// Changes are what a deployment changed of what was there before.
	Changes(ctx context.Context, deployment string) ([]belay.ManifestChange, error)
	// Diff compares two deployments of an application, named by ID or revision.
	Diff(ctx context.Context, application, from, to string) ([]belay.ManifestChange, error)
	// Blame tells which deployment set each line of the manifests of an object, or
	// of all with "", in a cluster, or with "" the one deployed to last.
	Blame(ctx context.Context, application, cluster, object string) ([]belay.ManifestBlame, error)
}

// tagRecord groups what is asked of the record.
const tagRecord = "Record"

// recordTimeout bounds a question: the first one after a loss of the index makes it anew.
const recordTimeout = 2 * time.Minute

// recordQuery is [belay.RecordQuery] as parameters.
type recordQuery struct {
	Application []string          `query:"application,explode" doc:"Names of applications; repeat it for several. Default: all. One that neither the fleet nor anything on record bears is refused." maxItems:"1000"`
	Project     []string          `query:"project,explode" doc:"Names of projects; repeat it for several." maxItems:"1000"`
	Cluster     []string          `query:"cluster,explode" doc:"Names of clusters; repeat it for several." maxItems:"1000"`
	Type        []belay.EventType `query:"type,explode" doc:"Types of events; repeat it for several. Deployments are not chosen by it." maxItems:"100"`
	Person      string            `query:"person" doc:"Part of the name or address of who caused it, or wrote, reviewed or approved a commit of it, in any case." maxLength:"256"`
	Change      string            `query:"change" doc:"Beginning of a commit: the Change, the revision, or one of the commits that were brought." maxLength:"128"`
	Object      string            `query:"object" doc:"KIND/NAME, KIND/NAMESPACE/NAME or a name, in any case." maxLength:"512"`
	Changed     string            `query:"changed" doc:"Regular expression: only deployments that added or removed a line of a manifest that matches. Records are not chosen by it." maxLength:"256"`
	Deployment  string            `query:"deployment" doc:"ID of a deployment: its start, its end, and what happened in between." maxLength:"128"`
	Writer      string            `query:"writer" doc:"Which server wrote it." maxLength:"63"`
	From        time.Time         `query:"from" doc:"The first instant, as of RFC 3339."`
	To          time.Time         `query:"to" doc:"The first instant that is too late."`
	After       string            `query:"after" doc:"The next of the page before." maxLength:"128"`
	Limit       int               `query:"limit" doc:"Most that are answered. A page may hold fewer and not be the last." minimum:"1" maximum:"1000" default:"100"`
	Brief       bool              `query:"brief" doc:"Leave out what is long: the detail of records; and of deployments objects, sources, manifests, and all but the newest of the commits."`
}

func (q *recordQuery) query() belay.RecordQuery {
	return belay.RecordQuery{
		Applications: q.Application, Projects: q.Project, Clusters: q.Cluster, Types: q.Type, Person: q.Person, Change: q.Change, Object: q.Object,
		Changed: q.Changed, Deployment: q.Deployment, Writer: q.Writer, From: q.From, To: q.To, After: q.After, Limit: q.Limit, Brief: q.Brief,
	}
}

// Answers to questions of the record.
type (
	recordList struct {
		Records []belay.Record `json:"records" doc:"Newest first."`
		Next    string         `json:"next,omitempty" doc:"The after of the next page; none if this is the last."`
	}
	deploymentList struct {
		Deployments []belay.Deployment `json:"deployments" doc:"Newest first."`
		Next        string             `json:"next,omitempty" doc:"The after of the next page; none if this is the last."`
	}
	manifestList struct {
		Manifests []belay.ManifestText `json:"manifests" doc:"Sorted by object, secret values redacted."`
	}
	changeList struct {
		Changes []belay.ManifestChange `json:"changes" doc:"Sorted by object, secret values redacted."`
	}
	blameList struct {
		Manifests []belay.ManifestBlame `json:"manifests" doc:"Sorted by object, secret values redacted."`
	}
)

// recordPath names a record or a deployment: WRITER/NUMBER.
type recordPath struct {
	Writer string `path:"writer" doc:"Which server wrote it; - where there is only one." maxLength:"63"`
	Seq    string `path:"seq" doc:"Its number, or with the writer - the beginning of the commit of the ledger that it is." maxLength:"64"`
}

func (p *recordPath) id() string { return p.Writer + "/" + p.Seq }

// AppPath names an application.
type AppPath struct {
	Name string `path:"name" doc:"Name of the application." maxLength:"253"`
}

// question adds one that needs the record.
func question[I, O any](s *Server, api huma.API, id, path, summary, description string, ask func(context.Context, Record, *I) (O, error)) {
	operation(api, recordTimeout, huma.Operation{
		OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{tagRecord}, Summary: summary, Description: description,
	}, func(ctx context.Context, in *I) (*reply[O], error) {
		if s.Record == nil {
			return nil, &belay.Error{Code: belay.CodeUnavailable, Message: "this server keeps no ledger: what happened before is not on record",
				Hint: "\"belay events\" shows what it remembers; with --ledger DIR|URL a question is answered from a ledger elsewhere"}
		}
		out, err := ask(ctx, s.Record, in)
		if err != nil {
			return nil, err
		}
		return &reply[O]{out}, nil
	})
}

// list makes an empty list of none.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// answer asks, and refuses a question with a name in it that nothing ever bore.
func answer[T any](ctx context.Context, s *Server, r Record, in *recordQuery, ask func(context.Context, belay.RecordQuery) ([]T, string, error)) (found []T, next string, err error) {
	if err := in.check(); err != nil {
		return nil, "", err
	}
	q := in.query()
	found, next, err = ask(ctx, q)
	if err == nil && len(found) == 0 && next == "" {
		err = s.unheardOf(ctx, r, &q)
	}
	return found, next, err
}

func (s *Server) registerRecord(api huma.API) {
	question(s, api, "list-records", "/api/v1/records", "What happened", "Records of the ledger that a query chooses, newest first.",
		func(ctx context.Context, r Record, in *recordQuery) (recordList, error) {
			records, next, err := answer(ctx, s, r, in, r.Records)
			return recordList{list(records), next}, err
		})
	question(s, api, "get-record", "/api/v1/records/{writer}/{seq}", "One record", "A record with all its detail.",
		func(ctx context.Context, r Record, in *recordPath) (belay.Record, error) {
			return r.Record(ctx, in.id())
		})
	question(s, api, "list-deployments", "/api/v1/deployments", "What was deployed", "Deployments whose start a query chooses, newest first.",
		func(ctx context.Context, r Record, in *recordQuery) (deploymentList, error) {
			deployments, next, err := answer(ctx, s, r, in, r.Deployments)
			return deploymentList{list(deployments), next}, err
		})
	question(s, api, "get-deployment", "/api/v1/deployments/{writer}/{seq}", "One deployment", "A deployment, named by its ID or by that of any record of it.",
		func(ctx context.Context, r Record, in *recordPath) (belay.Deployment, error) {
			return r.Deployment(ctx, in.id())
		})
	question(s, api, "get-deployment-manifests", "/api/v1/deployments/{writer}/{seq}/manifests", "Manifests of a deployment", "What a deployment left its application with.",
		func(ctx context.Context, r Record, in *recordPath) (manifestList, error) {
			m, err := r.Manifests(ctx, in.id())
			return manifestList{list(m)}, err
		})
	question(s, api, "get-deployment-changes", "/api/v1/deployments/{writer}/{seq}/changes", "Changes of a deployment", "The manifests that a deployment changed, against what was there before.",
		func(ctx context.Context, r Record, in *recordPath) (changeList, error) {
			c, err := r.Changes(ctx, in.id())
			return changeList{list(c)}, err
		})
	question(s, api, "list-application-history", "/api/v1/applications/{name}/history", "History of an application", "Deployments of one application, newest first.",
		func(ctx context.Context, r Record, in *struct {
			AppPath
			After string `query:"after" doc:"The next of the page before." maxLength:"128"`
			Limit int    `query:"limit" doc:"Most that are answered." minimum:"1" maximum:"1000" default:"100"`
		}) (deploymentList, error) {
			deployments, next, err := answer(ctx, s, r, &recordQuery{Application: []string{in.Name}, After: in.After, Limit: in.Limit}, r.Deployments)
			return deploymentList{list(deployments), next}, err
		})
	question(s, api, "diff-application", "/api/v1/applications/{name}/diff", "What two deployments differ in", "Compares the manifests that two deployments left the application with.",
		func(ctx context.Context, r Record, in *struct {
			AppPath
			From string `query:"from" required:"true" doc:"ID or revision of a deployment." maxLength:"128"`
			To   string `query:"to" required:"true" doc:"ID or revision of another." maxLength:"128"`
		}) (changeList, error) {
			c, err := r.Diff(ctx, in.Name, in.From, in.To)
			return changeList{list(c)}, err
		})
	question(s, api, "blame-application", "/api/v1/applications/{name}/blame", "Who set each line", "Tells of each line of the manifests, as they were deployed last, which deployment set it.",
		func(ctx context.Context, r Record, in *struct {
			AppPath
			Cluster string `query:"cluster" doc:"The cluster, where there are several. Default: the one deployed to last." maxLength:"253"`
			Object  string `query:"object" doc:"KIND/NAME, KIND/NAMESPACE/NAME or a name. Default: all." maxLength:"512"`
		}) (blameList, error) {
			b, err := r.Blame(ctx, in.Name, in.Cluster, in.Object)
			return blameList{list(b)}, err
		})
}
