package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metainternalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/belaydev/belay"
)

const (
	writeTimeout = 30 * time.Second
	maxInFlight  = 32

	// The first asks for metadata and takes nothing else: an object's values never come
	// back. As protobuf it costs both sides least; an aggregated API server may have none.
	acceptMetadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1," +
		"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	acceptJSON = "application/json"

	contentApply     = "application/apply-patch+yaml"
	contentJSONPatch = "application/json-patch+json"
	contentJSON      = "application/json"
)

// call is one request to the API server.
type call struct {
	verb     string
	resource resource
	id       belay.ObjectID
	// collection leaves the name out of the path, as a creation does.
	collection bool
	query      map[string]string
	accept     string
	content    string
	body       []byte
	// user is impersonated; empty for Belay's own identity.
	user string
}

// userOf is the user as whom the writes of a permit are sent. One connection pool
// serves them all: who it is stands in a header of the request.
func userOf(permit belay.Permit) string {
	if account, ok := permit.ServiceAccount(); ok {
		return account.User()
	}
	return ""
}

// do sends a request and returns the body of its answer. When the API server
// asks for patience (429) it is sent again; that is the only retry.
func (c *Cluster) do(ctx context.Context, r call) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	for {
		if err := c.writes.acquire(ctx); err != nil {
			return nil, err
		}
		body, err := c.send(ctx, r)
		pause, busy := tooMany(err)
		c.writes.release(busy)
		if !busy {
			return body, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

func (c *Cluster) send(ctx context.Context, r call) ([]byte, error) {
	if r.verb != http.MethodGet {
		guarded, done, err := c.lease.guard(ctx)
		if err != nil {
			return nil, err
		}
		defer done()
		ctx = guarded
	}
	path := []string{"/api", r.resource.gvr.Version}
	if r.resource.gvr.Group != "" {
		path = []string{"/apis", r.resource.gvr.Group, r.resource.gvr.Version}
	}
	client := c.rest
	if r.accept == acceptMetadata {
		client = c.partial // it reads errors that come as protobuf, too
	}
	req := rest.NewRequest(client).Verb(r.verb).AbsPath(path...).MaxRetries(0)
	req = req.NamespaceIfScoped(r.id.Namespace, r.resource.namespaced).Resource(r.resource.gvr.Resource)
	if !r.collection {
		req = req.Name(r.id.Name)
	}
	for k, v := range r.query {
		req = req.Param(k, v)
	}
	req = req.SetHeader("Accept", r.accept)
	if r.user != "" {
		req = req.SetHeader(transport.ImpersonateUserHeader, r.user)
	}
	if r.body != nil {
		req = req.Body(r.body).SetHeader("Content-Type", r.content)
	}
	res := req.Do(ctx)
	if err := res.Error(); err != nil {
		return nil, err
	}
	return res.Raw()
}

// tooMany reports whether the API server turned a request away because it is
// busy, and for how long.
func tooMany(err error) (pause time.Duration, busy bool) {
	if !apierrors.IsTooManyRequests(err) {
		return 0, false
	}
	seconds, _ := apierrors.SuggestsClientDelay(err)
	pause = max(time.Duration(seconds)*time.Second, 250*time.Millisecond)
	return pause + rand.N(pause/2), true
}

// metadataCall is do for requests that are answered with metadata.
func (c *Cluster) metadataCall(ctx context.Context, r call) (*metav1.PartialObjectMetadata, error) {
	r.accept = acceptMetadata
	body, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return readMetadata(body)
}

// readMetadata decodes what is metadata in any encoding; of a deletion, it may be a
// Status.
func readMetadata(body []byte) (*metav1.PartialObjectMetadata, error) {
	var m metav1.PartialObjectMetadata
	_, kind, err := metainternalversionscheme.Codecs.UniversalDeserializer().Decode(body, nil, &m)
	switch {
	case kind != nil && kind.Kind != "PartialObjectMetadata" && kind.Kind != "Status":
		return nil, fmt.Errorf("the API server answered with a whole %s where metadata was asked for", kind.Kind)
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return &m, nil
}

// getMetadata fetches the metadata of one object.
func (c *Cluster) getMetadata(ctx context.Context, r resource, id belay.ObjectID) (*metav1.PartialObjectMetadata, error) {
	return c.metadataCall(ctx, call{verb: http.MethodGet, resource: r, id: id})
}

// limiter bounds the requests in flight. The bound halves each time the API
// server is too busy, and grows by one after as many successes.
type limiter struct {
	mu       sync.Mutex
	free     chan struct{} // closed and replaced when a place may be free
	inFlight int
	bound    float64
	most     float64
	shrunk   time.Time
}

func newLimiter(most int) *limiter {
	return &limiter{bound: float64(most), most: float64(most), free: make(chan struct{})}
}

// acquire waits for a place.
func (l *limiter) acquire(ctx context.Context) error {
	for {
		l.mu.Lock()
		if float64(l.inFlight) < l.bound {
			l.inFlight++
			l.mu.Unlock()
			return nil
		}
		free := l.free
		l.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-free:
		}
	}
}

// release gives the place back.
func (l *limiter) release(busy bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	if busy {
		// All that were in flight are turned away together: that is one sign, not many.
		if now := time.Now(); now.Sub(l.shrunk) > time.Second {
			l.bound, l.shrunk = max(1, l.bound/2), now
		}
	} else {
		l.bound = min(l.most, l.bound+1/l.bound)
	}
	close(l.free)
	l.free = make(chan struct{})
}

// SecretValue reads one key of a Secret.
func (c *Cluster) SecretValue(ctx context.Context, ref belay.SecretReference) ([]byte, error) {
	id := belay.ObjectID{Kind: "Secret", Namespace: ref.Namespace, Name: ref.Name}
	body, err := c.do(ctx, call{verb: http.MethodGet, resource: coreResource("secrets", "Secret", true), id: id, accept: acceptJSON})
	if err != nil {
		e := c.apiError(err, id, nil)
		if apierrors.IsNotFound(err) {
			e.Code, e.Message, e.Hint = belay.CodeNotFound, fmt.Sprintf("there is no such Secret in cluster %q", c.name), "create it, or correct the reference"
		}
		return nil, e
	}
	var s struct {
		Data map[string][]byte `json:"data"`
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return nil, &belay.Error{Code: belay.CodeInternal, Object: id.String(), Message: "the Secret cannot be decoded"}
	}
	v, ok := s.Data[ref.Key]
	if !ok {
		return nil, &belay.Error{Code: belay.CodeNotFound, Object: id.String(),
			Message: fmt.Sprintf("the Secret has no key %q", ref.Key), Hint: "add the key, or correct the reference"}
	}
	return v, nil
}

// coreResource is a resource that every cluster serves.
func coreResource(plural, kind string, namespaced bool) resource {
	r := resource{kind: belay.Kind{Kind: kind}, namespaced: namespaced}
	r.gvr.Version, r.gvr.Resource = "v1", plural
	return r
}

// describeManagers lists who manages an object, for messages.
func describeManagers(entries []metav1.ManagedFieldsEntry) string {
	var names []string
	seen := map[string]bool{}
	for i := range entries {
		if m := entries[i].Manager; m != "" && !seen[m] && entries[i].Subresource == "" {
			seen[m] = true
			names = append(names, fmt.Sprintf("%q", m))
		}
	}
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
