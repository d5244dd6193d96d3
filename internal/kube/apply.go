package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

// applyAttempts bounds how often one apply looks again at what is in its way.
const applyAttempts = 4

// condition an apply depends on. The API server checks it with the write, so
// that nothing can come in between.
type precondition struct {
	// uid: the object must be this one. Empty: there must be none.
	uid string
}

// Apply writes the desired object of an action with server-side apply and
// returns it as it is now, which is also what [Cluster.Lookup] returns from then
// on. It is one request, unless something is in the way or fields must be taken
// over.
//
// A create never writes over an object that is there: if it is ours it becomes
// an update, and otherwise an error with [belay.CodeConflict]. An update
// or heal takes back every declared field from whoever owns it, of the very object
// in the action's Live: one that was deleted and made again by somebody else is
// a conflict.
//
// An adoption takes over an object that is there and that no Belay applied. What
// its former owner set and Git declares becomes ours, so that later removals from
// Git remove it.
//
// The desired object must have been stamped for the permit's application.
func (c *Cluster) Apply(ctx context.Context, permit belay.Permit, a belay.Action) (belay.Live, error) {
	r, err := c.checkApply(permit, a)
	if err != nil {
		return belay.Live{}, err
	}
	c.mu.Lock()
	for _, w := range c.ensureWatches(r.kind) {
		w.wanted = true
	}
	c.mu.Unlock()
	var secrets []string
	if a.Desired.Sensitive() {
		secrets = belay.SecretValues(a.Desired.Raw)
	}
	c.objects.hold(a.ID)
	live, err := c.applied(ctx, r, permit, a)
	c.notes.application(c.objects.release(a.ID, permit.Application(), err == nil)...)
	if err != nil {
		return belay.Live{}, c.writeError(permit, err, a.ID, secrets)
	}
	return live, nil
}

// applied applies, and remembers the outcome.
func (c *Cluster) applied(ctx context.Context, r resource, permit belay.Permit, a belay.Action) (belay.Live, error) {
	m, err := c.apply(ctx, r, permit, a)
	if err != nil {
		return belay.Live{}, err
	}
	t := trimmer{resource: r, instance: c.instance, interactive: c.interactive}.meta(&m.ObjectMeta)
	if t.live.Health, t.live.HealthMessage = metadataHealth(&m.ObjectMeta); !t.ours {
		return belay.Live{}, &belay.Error{Code: belay.CodeInvalid, Object: a.ID.String(),
			Message: "something in the cluster changed Belay's label or annotations while the object was applied",
			Hint:    "an admission webhook that does so must leave belay.dev names alone"}
	}
	if r.gvr.GroupResource() == crds.GroupResource() {
		c.mu.Lock()
		w := c.control[crds.Resource]
		c.mu.Unlock()
		if w != nil {
			w.definitions.expect(a.ID.Name)
		}
	}
	live, touched := c.written(t, r.kind)
	c.notes.application(touched...)
	return live, nil
}

// written takes in the answer to a write, unless the kind has vanished meanwhile:
// nothing would ever tell that the object is gone.
func (c *Cluster) written(t *trimmed, k belay.Kind) (live belay.Live, touched []string) {
	whole := c.watchedWhole(k)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, served := c.known.preferred[k]; !served {
		return t.live, nil
	}
	return c.objects.written(t, whole)
}

// checkApply finds the resource of an action and makes sure that the action
// is what the permit is for.
func (c *Cluster) checkApply(permit belay.Permit, a belay.Action) (resource, error) {
	if a.Desired == nil {
		return resource{}, c.defect(a.ID, "an apply of nothing")
	}
	if err := c.checkPermit(permit, a.ID); err != nil {
		return resource{}, err
	}
	if a.Desired.ID != a.ID {
		return resource{}, c.defect(a.ID, "an action with an object of another name: "+a.Desired.ID.String())
	}
	var head struct {
		Metadata struct {
			Labels      map[string]string `json:"labels"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(a.Desired.Raw, &head); err != nil {
		return resource{}, c.defect(a.ID, "a manifest that cannot be read")
	}
	if head.Metadata.Labels[belay.LabelManaged] != "true" || head.Metadata.Labels[belay.LabelInstance] != c.instance ||
		head.Metadata.Annotations[belay.AnnotationID] != belay.FormatID(permit.Application(), a.ID) {
		return resource{}, c.defect(a.ID, "a manifest that is not stamped for its application and instance")
	}
	return c.resolve(a.Desired.APIVersion, a.ID)
}

// checkPermit makes sure that a permit is for an object of this cluster.
func (c *Cluster) checkPermit(permit belay.Permit, id belay.ObjectID) error {
	if permit.ID() != id || permit.Cluster() != c.name {
		return c.defect(id, fmt.Sprintf("a write with a permit for %s in cluster %q", permit.ID(), permit.Cluster()))
	}
	return c.checkPlace(id)
}

func (c *Cluster) defect(id belay.ObjectID, what string) error {
	return &belay.Error{Code: belay.CodeInternal, Object: id.String(), Message: fmt.Sprintf("cluster %q was given %s", c.name, what)}
}

// apply sends the write. When the API server says that its precondition does
// not hold, it looks at what is there and decides anew.
func (c *Cluster) apply(ctx context.Context, r resource, permit belay.Permit, a belay.Action) (*metav1.PartialObjectMetadata, error) {
	var pre precondition
	if a.Verb != belay.VerbCreate && a.Live != nil {
		pre.uid = a.Live.UID
	}
	for attempt, foreign := 1, false; ; attempt++ {
		raw := a.Desired.Raw
		if pre.uid != "" {
			var err error
			if raw, err = c.prepare(ctx, r, permit, a, pre.uid, foreign); err != nil {
				return nil, err
			}
		}
		m, err := c.patch(ctx, r, permit, a.ID, raw, pre, false)
		if err == nil || attempt == applyAttempts || !fails(err, pre) {
			return m, err
		}
		there, getErr := c.getMetadata(ctx, r, a.ID)
		switch {
		case apierrors.IsNotFound(getErr):
			pre.uid, foreign = "", false
			continue
		case getErr != nil:
			return nil, getErr
		case pre.uid != "" && string(there.UID) == pre.uid:
			return nil, err // it is what it should be; the conflict is about something else
		}
		if foreign, err = c.mayContinue(there, permit.Application(), a); err != nil {
			return nil, err
		}
		pre.uid = string(there.UID)
	}
}

// mayContinue decides whether an object that is unexpectedly there may be
// written over. foreign is true if that means to adopt it.
func (c *Cluster) mayContinue(there *metav1.PartialObjectMetadata, application string, a belay.Action) (foreign bool, err error) {
	owner, ours := ownerOf(a.ID, &there.ObjectMeta, c.instance)
	adopt := a.Verb == belay.VerbAdopt || madeNamespace(a.ID, there.ManagedFields)
	if there.DeletionTimestamp != nil && (ours || adopt || there.Labels[belay.LabelManaged] == "true") {
		return false, &belay.Error{Code: belay.CodeTerminating, Object: a.ID.String(), Message: terminating + "; it is applied again when it is gone",
			Hint: "if that does not end, look at its finalizers"}
	}
	if ours && (owner == application || owner == "" || (a.Live != nil && a.Live.Application == owner)) {
		return false, nil
	}
	e := &belay.Error{Code: belay.CodeConflict, Object: a.ID.String()}
	switch instance := there.Labels[belay.LabelInstance]; {
	case ours:
		e.Message = fmt.Sprintf("it belongs to application %q", owner)
		e.Hint = "declare it in one application only"
	case instance != c.instance && appliedByUs(there.ManagedFields) && (instance != "" || there.Labels[belay.LabelManaged] != "" || there.Annotations[belay.AnnotationID] != ""):
		e.Message = fmt.Sprintf("it belongs to the Belay instance %q", instance)
		e.Hint = "declare it for one instance only"
	case adopt:
		return true, nil
	case appliedByUs(there.ManagedFields):
		e.Message = "Belay applied it once, but its label and annotations no longer say so"
		e.Hint = fmt.Sprintf("to give it back, set its annotation %s=%s; to take it over, set spec.sync.adopt; else delete it, or give yours another name",
			belay.AnnotationID, belay.FormatID(application, a.ID))
	default:
		e.Message = fmt.Sprintf("an object of that name is there and was not applied by Belay; it is managed by %s", describeManagers(there.ManagedFields))
		e.Hint = fmt.Sprintf("to take it over, set spec.sync.adopt of the Application or annotate yours %s: %s; else delete it, or give yours another name",
			belay.AnnotationAdopt, belay.Enabled)
	}
	return false, e
}

// patch is the one request of an apply.
func (c *Cluster) patch(ctx context.Context, r resource, permit belay.Permit, id belay.ObjectID, raw []byte, pre precondition, dryRun bool) (*metav1.PartialObjectMetadata, error) {
	p, err := applyCall(r, id, raw, pre, dryRun)
	if err != nil {
		return nil, err
	}
	p.user = userOf(permit)
	return c.metadataCall(ctx, p)
}

func applyCall(r resource, id belay.ObjectID, raw []byte, pre precondition, dryRun bool) (call, error) {
	body, err := withPrecondition(raw, pre)
	if err != nil {
		return call{}, fmt.Errorf("read the manifest: %w", err)
	}
	q := map[string]string{"fieldManager": belay.FieldManager, "force": strconv.FormatBool(pre.uid != "")}
	if dryRun {
		q["dryRun"] = "All"
	}
	return call{verb: http.MethodPatch, resource: r, id: id, query: q, content: contentApply, body: body}, nil
}

// withPrecondition puts a precondition into a manifest. An apply that names a
// uid fails unless the object is there with it. One that names a
// resourceVersion fails if the object is there at another one, and does not look
// at it when it makes the object; no object is ever at version 1, which is that
// of the empty store.
func withPrecondition(raw []byte, pre precondition) ([]byte, error) {
	var top, meta map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(top["metadata"], &meta); err != nil {
		return nil, err
	}
	if pre.uid == "" {
		meta["resourceVersion"] = json.RawMessage(`"1"`)
	} else {
		uid, err := json.Marshal(pre.uid)
		if err != nil {
			return nil, err
		}
		meta["uid"] = uid
	}
	m, err := json.Marshal(meta)
	if err != nil {
		return nil, err
	}
	top["metadata"] = m
	return json.Marshal(top)
}

// fails reports whether an error says that the precondition did not hold.
func fails(err error, pre precondition) bool {
	if pre.uid == "" {
		return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err)
	}
	if apierrors.IsConflict(err) { // not there any more
		return strings.Contains(err.Error(), "uid mismatch")
	}
	if !apierrors.IsInvalid(err) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || status.Status().Details == nil {
		return false
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Field == "metadata.uid" {
			return true
		}
	}
	return false
}
