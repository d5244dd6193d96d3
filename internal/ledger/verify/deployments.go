package verify

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// deployment checks that what belongs to a deployment has its start, and that none
// ends twice, and returns the
// deployment that the record ends, as the tree had it before, with the
// manifests that the record says it applied.
func (c *checker) deployment() *belay.Deployment {
	ev := &c.r.Event
	dir := record.Dir(ev)
	latest := c.latest[dir]
	if ev.Type == belay.EventSyncStarted {
		c.v.starts[c.r.ID()] = true
		if latest != nil && latest.Ended.IsZero() { // as after a crash: no end is known, and none will be
			c.b.Unfinished++
		}
		return nil
	}
	if ev.Deployment == "" {
		return nil
	}
	writer, seq, ok := belay.ParseRecordID(ev.Deployment)
	switch {
	case !ok || writer == c.b.Writer && seq >= c.r.Seq:
		c.add(Finding{Check: CheckDeployment, Message: "it belongs to a deployment that did not begin before it", Got: ev.Deployment})
		return nil
	case writer == c.b.Writer && seq < c.first: // lost
	case writer != c.b.Writer:
		f := c.at
		f.Check, f.Message, f.Got = CheckDeployment, "it belongs to a deployment whose start is nowhere in the ledger", ev.Deployment
		c.v.elsewhere, c.v.elseID = append(c.v.elsewhere, f), append(c.v.elseID, ev.Deployment)
	case !c.v.starts[ev.Deployment]:
		c.add(Finding{Check: CheckDeployment, Message: "it belongs to a deployment that never began", Want: "a record syncStarted " + ev.Deployment})
	}
	if !record.Ends(ev.Type) || latest == nil || latest.ID != ev.Deployment {
		return nil
	}
	if !latest.Ended.IsZero() && latest.Result != belay.Failed {
		c.add(Finding{Check: CheckDeployment, Path: dir + record.DeploymentFile, Message: "the deployment " + latest.ID + " ends twice", Want: string(latest.Result), Got: string(ev.Result)})
		return nil
	}
	return c.withManifests(*latest)
}

// withManifests adds the list of manifests from the new deployment.json: which
// they are stands nowhere else. What they are is checked against the tree.
func (c *checker) withManifests(began belay.Deployment) *belay.Deployment {
	ev := &c.r.Event
	file := record.Dir(ev) + record.DeploymentFile
	for i := range c.e.changes {
		f := &c.e.changes[i]
		if f.path != file || f.data == nil {
			continue
		}
		var now belay.Deployment
		if err := json.Unmarshal(f.data, &now); err != nil {
			c.add(Finding{Check: CheckFiles, Path: file, Message: "the deployment cannot be read: " + err.Error()})
			return &began
		}
		began.Manifests = now.Manifests
	}
	return &began
}

// settle checks the manifests of a deployment that ends against its list.
func (c *checker) settle() {
	if c.r == nil || c.e.partial {
		return
	}
	dir := record.Dir(&c.r.Event)
	data := c.want[dir+record.DeploymentFile]
	if data == nil || !record.Ends(c.r.Event.Type) {
		return
	}
	var d belay.Deployment
	if json.Unmarshal(data, &d) != nil {
		return
	}
	after := map[string]string{}
	for _, m := range d.Manifests {
		after[dir+m.Path] = m.SHA256 // of one path, the last counts
	}
	seen := map[string]bool{}
	for i := range c.e.changes {
		f := &c.e.changes[i]
		sum, listed := after[f.path]
		if f.new == "" || f.err != nil {
			continue
		}
		if listed && hexSum(f.sum) != sum {
			c.add(Finding{Check: CheckManifest, Path: f.path, Message: "the manifest is not the one that was deployed", Want: "SHA-256 " + sum, Got: "SHA-256 " + hexSum(f.sum)})
		}
		seen[f.path] = true
	}
	if c.r.Event.Detail != nil && c.r.Event.Detail.Cleared {
		return
	}
	for _, m := range d.Manifests {
		p := dir + m.Path
		if seen[p] {
			continue
		}
		seen[p] = true
		switch h, there := c.files[p]; {
		case !there || c.removes(p):
			c.add(Finding{Check: CheckManifest, Path: p, Message: "a manifest that was deployed is not there", Want: "SHA-256 " + after[p]})
		case hexSum(h.sum) != after[p]:
			c.add(Finding{Check: CheckManifest, Path: p, Message: "the manifest is not the one that was deployed", Want: "SHA-256 " + after[p], Got: "SHA-256 " + hexSum(h.sum)})
		}
	}
}

func (c *checker) removes(path string) bool {
	return slices.ContainsFunc(c.e.changes, func(f change) bool { return f.path == path && f.new == "" })
}

// manifest tells whether a changed file is a manifest of the deployment that the
// record ends. One that goes is named nowhere; one that comes is in the list.
func (c *checker) manifest(f *change) bool {
	dir := record.Dir(&c.r.Event)
	list := c.want[dir+record.DeploymentFile]
	below, ok := strings.CutPrefix(f.path, dir+record.ManifestDir+"/")
	if !ok || dir == "" || list == nil || !record.Ends(c.r.Event.Type) {
		return false
	}
	if f.new == "" {
		return true
	}
	var d belay.Deployment
	if json.Unmarshal(list, &d) != nil {
		return false
	}
	return slices.ContainsFunc(d.Manifests, func(m belay.ManifestFile) bool { return m.Path == record.ManifestDir+"/"+below })
}
