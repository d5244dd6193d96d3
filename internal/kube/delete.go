package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
)

// Delete deletes an object that is ours. What becomes of dependents the permit
// says. That it is gone already is success; that it was replaced by another of the
// same name, too.
//
// The deletion holds for the object in the state in which it was last seen to
// be ours. If it changed meanwhile it is looked at again: should it have been
// taken out of Belay's hands, the error has [belay.CodeConflict].
func (c *Cluster) Delete(ctx context.Context, permit belay.Permit, live belay.Live) error {
	if err := c.checkPermit(permit, live.ID); err != nil {
		return err
	}
	if live.Application == "" || live.Application != permit.Application() || live.UID == "" || (live.PruneDisabled && live.TeardownDisabled) {
		return c.defect(live.ID, fmt.Sprintf("a deletion for application %q of an object of application %q", permit.Application(), live.Application))
	}
	r, served, err := c.resolveLive(live)
	if err != nil {
		return err
	}
	if !served { // with its kind gone, so is the object
		c.objects.missing(live.ID, live.UID)
		return nil
	}
	version := live.ResourceVersion
	if now, ok := c.objects.lookup(live.ID); ok && now.UID == live.UID && now.Application == live.Application && !guarded(live, now) {
		version = now.ResourceVersion
	}
	c.objects.hold(live.ID)
	err = c.remove(ctx, r, permit, live, version)
	c.notes.application(c.objects.release(live.ID, permit.Application(), err == nil)...)
	if err != nil {
		return c.writeError(permit, err, live.ID, nil)
	}
	return nil
}

// guarded says whether an object asks for more care now than when its deletion
// was decided.
func guarded(then, now belay.Live) bool {
	return (now.PruneDisabled && !then.PruneDisabled) || (now.TeardownDisabled && !then.TeardownDisabled) ||
		(now.ConfirmPrune && !then.ConfirmPrune) || (now.ConfirmTeardown && !then.ConfirmTeardown)
}

// deleteAttempts bounds how often a deletion looks again at what has changed
// meanwhile. A controller may write an object many times in a row, and none of
// that speaks against deleting it.
const deleteAttempts = 16

func (c *Cluster) remove(ctx context.Context, r resource, permit belay.Permit, live belay.Live, version string) error {
	for attempt := 1; ; attempt++ {
		answer, err := c.sendDelete(ctx, r, permit, live, version)
		switch {
		case apierrors.IsNotFound(err):
			c.objects.missing(live.ID, live.UID)
			return nil
		case err == nil && answer.Kind == "PartialObjectMetadata" && answer.DeletionTimestamp != nil:
			c.objects.terminating(live.ID, live.UID, answer.ResourceVersion)
			return nil
		case err == nil:
			c.objects.deleted(live.ID, live.UID)
			return nil
		case !apierrors.IsConflict(err) || attempt == deleteAttempts:
			return err
		}
		m, err := c.getMetadata(ctx, r, live.ID)
		if apierrors.IsNotFound(err) || (err == nil && string(m.UID) != live.UID) {
			c.objects.missing(live.ID, live.UID)
			return nil
		}
		if err != nil {
			return err
		}
		if app, ours := ownerOf(live.ID, &m.ObjectMeta, c.instance); !ours || app != live.Application || m.Labels[belay.LabelManaged] != "true" ||
			guarded(live, trimmer{resource: r, instance: c.instance, interactive: c.interactive}.meta(&m.ObjectMeta).live) {
			return &belay.Error{Code: belay.CodeConflict, Object: live.ID.String(),
				Message: "it was to be deleted, but somebody has just taken it out of Belay's hands",
				Hint:    "nothing was deleted"}
		}
		version = m.ResourceVersion
	}
}

func (c *Cluster) sendDelete(ctx context.Context, r resource, permit belay.Permit, live belay.Live, version string) (*metav1.PartialObjectMetadata, error) {
	uid, propagation := types.UID(live.UID), metav1.DeletePropagationBackground
	switch permit.Propagation() {
	case belay.PropagationForeground:
		propagation = metav1.DeletePropagationForeground
	case belay.PropagationOrphan:
		propagation = metav1.DeletePropagationOrphan
	}
	options := metav1.DeleteOptions{
		TypeMeta:          metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"},
		Preconditions:     &metav1.Preconditions{UID: &uid},
		PropagationPolicy: &propagation,
	}
	if version != "" {
		options.Preconditions.ResourceVersion = &version
	}
	body, err := json.Marshal(options)
	if err != nil {
		return nil, err
	}
	return c.metadataCall(ctx, call{verb: http.MethodDelete, resource: r, id: live.ID, content: contentJSON, body: body, user: userOf(permit)})
}
