package record_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// The list of a deployment is complete, whichever of its manifests are written.
func TestTheListOfManifestsIsComplete(t *testing.T) {
	id := func(name string) belay.ObjectID {
		return belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: name}
	}
	raw := func(v string) json.RawMessage { return json.RawMessage(`{"data":{"v":"` + v + `"}}`) }
	tree := map[string]string{}
	apply := func(seq uint64, ev belay.Event, began *belay.Deployment) belay.Deployment {
		t.Helper()
		ev.Application, ev.Cluster = "web", "local"
		e, err := record.Encode(belay.Record{Writer: "main", Seq: seq, Event: ev}, began)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range e.Files {
			switch {
			case f.Data != nil:
				tree[f.Path] = string(f.Data)
			case strings.HasSuffix(f.Path, "/"):
				maps.DeleteFunc(tree, func(p, _ string) bool { return strings.HasPrefix(p, f.Path) })
			default:
				delete(tree, f.Path)
			}
		}
		var d belay.Deployment
		if err := json.Unmarshal([]byte(tree[record.Dir(&ev)+record.DeploymentFile]), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	seq := uint64(0)
	deploy := func(detail *belay.Detail) belay.Deployment {
		t.Helper()
		began := apply(seq+1, belay.Event{Type: belay.EventSyncStarted}, nil)
		seq += 2
		return apply(seq, belay.Event{Type: belay.EventSynced, Deployment: began.ID, Result: belay.Succeeded, Detail: detail}, &began)
	}
	check := func(what string, d belay.Deployment, want ...string) {
		t.Helper()
		var got []string
		for _, m := range d.Manifests {
			content, ok := tree[record.Dir(&belay.Event{Application: "web", Cluster: "local"})+m.Path]
			if !ok || record.Sum([]byte(content)) != m.SHA256 {
				t.Errorf("%s: %s is listed with another digest than its file has", what, m.Path)
			}
			got = append(got, strings.TrimSuffix(m.Path[strings.LastIndexByte(m.Path, '/')+1:], ".yaml"))
		}
		n := 0
		for p := range tree {
			if strings.Contains(p, "/"+record.ManifestDir+"/") {
				n++
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) || n != len(want) {
			t.Errorf("%s: listed are %v, there are %d files, want %v", what, got, n, want)
		}
	}
	_, sum, err := record.ManifestFile(raw("1"))
	if err != nil {
		t.Fatal(err)
	}
	check("the first", deploy(&belay.Detail{Complete: true, Manifests: []belay.Manifest{{ID: id("a"), Raw: raw("1")}, {ID: id("b"), Raw: raw("1")}, {ID: id("c"), Raw: raw("1")}}}), "a", "b", "c")
	check("a change", deploy(&belay.Detail{Manifests: []belay.Manifest{{ID: id("a"), SHA256: sum}, {ID: id("b"), Raw: raw("2")}, {ID: id("c")}}}), "a", "b")
	check("all anew", deploy(&belay.Detail{Complete: true, Manifests: []belay.Manifest{{ID: id("d"), Raw: raw("1")}}}), "d")
	check("nothing", deploy(&belay.Detail{Complete: true}))
	deploy(&belay.Detail{Complete: true, Manifests: []belay.Manifest{{ID: id("d"), Raw: raw("1")}}})
	check("cleared", deploy(&belay.Detail{Cleared: true}))
}
