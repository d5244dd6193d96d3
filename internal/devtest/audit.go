package devtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// AuditLog is the path of the API server's audit log: one JSON event of
// audit.k8s.io/v1 a line, without bodies. It is "" if the control plane was
// started by someone else without one.
func (c *ControlPlane) AuditLog() string { return c.auditLog }

// Mark is a moment in the audit log.
type Mark int64

// Mark returns the present moment: a request answered before it is not counted
// after it.
func (c *ControlPlane) Mark(t testing.TB) Mark {
	t.Helper()
	info, err := os.Stat(c.mustAuditLog(t))
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	return Mark(info.Size())
}

// Request is a request that the API server has answered, or, if it is a watch
// or another that stays open, begun to answer.
type Request struct {
	Time        time.Time // of its arrival
	Answered    time.Time // when the answer was complete, or begun if it stays open
	UserAgent   string
	User        string
	As          string // the user who was impersonated
	Verb        string // of the API: get, list, watch, create, update, patch, delete, deletecollection
	Group       string
	Version     string
	Resource    string // plural; "" for a path outside of resources, such as /version
	Subresource string
	Namespace   string
	Name        string
	URI         string
	Code        int // HTTP status
}

func (r Request) String() string {
	return fmt.Sprintf("%s %s %d (%s)", r.Verb, r.URI, r.Code, r.UserAgent)
}

// Filter selects requests. A zero field selects all.
type Filter struct {
	UserAgent string // what the user agent begins with
	Verbs     []string
	Group     string // for the core group use Resource only
	Resource  string
	Namespace string
	Name      string
}

func (f Filter) selects(r Request) bool {
	return strings.HasPrefix(r.UserAgent, f.UserAgent) &&
		(len(f.Verbs) == 0 || slices.Contains(f.Verbs, r.Verb)) &&
		(f.Group == "" || f.Group == r.Group) &&
		(f.Resource == "" || f.Resource == r.Resource) &&
		(f.Namespace == "" || f.Namespace == r.Namespace) &&
		(f.Name == "" || f.Name == r.Name)
}

// Requests returns the requests since a mark that the filter selects, in the
// order of their answers. A request is in the log before its answer is
// complete, so whoever has the answer finds it here. What the control plane's
// own components read is not recorded.
func (c *ControlPlane) Requests(t testing.TB, since Mark, filter Filter) []Request {
	t.Helper()
	f, err := os.Open(c.mustAuditLog(t))
	if err != nil {
		t.Fatalf("devtest: %v", err)
	}
	defer f.Close()
	from := max(int64(since)-1, 0)
	data, err := io.ReadAll(io.NewSectionReader(f, from, 1<<62-from))
	if err != nil {
		t.Fatalf("devtest: read %q: %v", f.Name(), err)
	}
	if since > 0 { // a line that was being written at the mark shows in part
		_, data, _ = bytes.Cut(data, []byte("\n"))
	}
	var requests []Request
	for {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if !complete {
			return requests
		}
		data = rest
		request, counts, err := parseEvent(line)
		if err != nil {
			t.Fatalf("devtest: read %q: %v", f.Name(), err)
		}
		if counts && filter.selects(request) {
			requests = append(requests, request)
		}
	}
}

func (c *ControlPlane) mustAuditLog(t testing.TB) string {
	t.Helper()
	if c.auditLog == "" {
		t.Fatal(`devtest: the control plane has no audit log: start it with "devcluster run --audit"`)
	}
	return c.auditLog
}

// parseEvent reads an event of the log. Of the several that a request can have
// one counts: that it was begun to be answered if it stays open, else that it
// was answered.
func parseEvent(line []byte) (r Request, counts bool, err error) {
	var event struct {
		Stage                    string
		RequestReceivedTimestamp time.Time
		StageTimestamp           time.Time
		UserAgent                string
		User                     struct{ Username string }
		ImpersonatedUser         struct{ Username string }
		Verb                     string
		RequestURI               string
		ObjectRef                struct {
			APIGroup    string
			APIVersion  string
			Resource    string
			Subresource string
			Namespace   string
			Name        string
		}
		ResponseStatus struct{ Code int }
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return Request{}, false, err
	}
	ref := event.ObjectRef
	staysOpen := event.Verb == "watch" || slices.Contains([]string{"attach", "exec", "log", "portforward", "proxy"}, ref.Subresource)
	counts = (event.Stage == "ResponseStarted") == staysOpen
	return Request{
		Time:        event.RequestReceivedTimestamp,
		Answered:    event.StageTimestamp,
		UserAgent:   event.UserAgent,
		User:        event.User.Username,
		As:          event.ImpersonatedUser.Username,
		Verb:        event.Verb,
		Group:       ref.APIGroup,
		Version:     ref.APIVersion,
		Resource:    ref.Resource,
		Subresource: ref.Subresource,
		Namespace:   ref.Namespace,
		Name:        ref.Name,
		URI:         event.RequestURI,
		Code:        event.ResponseStatus.Code,
	}, counts, nil
}
