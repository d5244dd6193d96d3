package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/belaydev/belay"
)

// recorded is a manifest as the record has it.
type recorded struct {
	digest string // of the object
	sum    string // of the file
}

// manifests are what a cluster was made equal to, for the record: in full those
// that are not on it yet, by their digest those that are. complete is true where
// nobody knows what the record has, as after a restart: then they are all in full,
// and stand for whatever it has.
//
// Values of Secrets are replaced by keyed digests. Nothing else can hold a value
// that Git does not show: what is decrypted is put into the data of Secrets alone,
// and an application with an encrypted value anywhere else does not render.
func (e *Engine) manifests(ctx context.Context, t *target) (list []belay.Manifest, complete bool, err error) {
	a := t.app
	before := a.recorded
	a.recorded = nil // until this is told, nobody knows
	objs, err := e.objects(ctx, t, false)
	if err != nil {
		return nil, false, err
	}
	now := make(map[belay.ObjectID]recorded, len(objs))
	for i := range objs {
		o := &objs[i]
		r, ok := before[o.ID]
		if ok && r.digest == o.Digest && r.sum != "" {
			now[o.ID] = r
			list = append(list, belay.Manifest{ID: o.ID, SHA256: r.sum})
			continue
		}
		m, err := e.manifest(o)
		if err != nil {
			return nil, false, err
		}
		r = recorded{digest: o.Digest}
		if e.ManifestFile != nil {
			if m.File, r.sum, err = e.ManifestFile(m.Raw); err != nil {
				return nil, false, fmt.Errorf("encode %s: %w", o.ID, err)
			}
		}
		now[o.ID] = r
		list = append(list, m)
	}
	for id := range before {
		if _, ok := now[id]; !ok {
			list = append(list, belay.Manifest{ID: id})
		}
	}
	a.recorded = now
	return list, before == nil, nil
}

// manifest is one of them, without secret values.
func (e *Engine) manifest(o *belay.Object) (belay.Manifest, error) {
	m := belay.Manifest{ID: o.ID, Raw: o.Raw}
	if o.Sensitive() && !o.Redacted {
		raw, err := belay.RedactSecret(o.Raw, e.SecretKey)
		if err != nil {
			return m, fmt.Errorf("redact %s: %w", o.ID, err)
		}
		m.Raw = raw
	}
	var err error
	if m.Raw, err = withoutDigest(m.Raw); err != nil {
		return m, fmt.Errorf("read %s: %w", o.ID, err)
	}
	return m, nil
}

// withoutDigest takes Belay's own digest from a manifest: it changes with
// everything else, and would be a line of every difference that people read.
func withoutDigest(raw json.RawMessage) (json.RawMessage, error) {
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		return nil, err
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		if ann, ok := meta["annotations"].(map[string]any); ok {
			delete(ann, belay.AnnotationDigest)
		}
	}
	return json.Marshal(m)
}

// recordedAs says whether the record has what is desired. After a start nobody knows
// what it has: it counts as what the application stands at then.
func (a *app) recordedAs(d *desired) bool {
	if a.recorded == nil {
		return a.synced == ""
	}
	ids := make(map[belay.ObjectID]bool, len(a.recorded))
	for _, o := range slices.Concat(d.objects, d.hooks) {
		if a.recorded[o.id].digest != o.digest {
			return false
		}
		ids[o.id] = true
	}
	return len(a.recorded) == len(ids)
}

// owes notes that the record has not what a cluster has of the application.
func (a *app) owes(cluster string) {
	if a.owing == nil {
		a.owing = map[string]bool{}
	}
	a.owing[cluster] = true
}
