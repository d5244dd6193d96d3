package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// soakWriter is the server's name in the ledger.
const soakWriter = "soak"

// finalPatience is how long the cluster may take to become what Git says once
// nobody pushes any more: the pause before an edit that comes back again and again
// is healed is five minutes at most.
const finalPatience = 6 * time.Minute

// makeForeign makes objects that are not Belay's, as close to being so as can be,
// and returns what identifies them.
func (s *soak) makeForeign(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	ours := map[string]string{belay.LabelManaged: "true"}
	if s.instance != "" {
		ours[belay.LabelInstance] = s.instance
	}
	for i, ns := range s.namespaces() {
		id := belay.FormatID(s.living.fleet.name(i), belay.ObjectID{Kind: "ConfigMap", Namespace: ns, Name: "web"})
		for name, meta := range map[string]metav1.ObjectMeta{
			"foreign-plain": {}, "foreign-label": {Labels: ours},
			"foreign-copy": {Labels: ours, Annotations: map[string]string{belay.AnnotationID: id, belay.AnnotationDigest: "0"}},
		} {
			meta.Name = name
			cm, err := s.kube.CoreV1().ConfigMaps(ns).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"value": "foreign"}}, metav1.CreateOptions{})
			if err != nil {
				return nil, fmt.Errorf("make a foreign object: %w", err)
			}
			out[ns+"/"+name] = string(cm.UID) + " " + cm.ResourceVersion
		}
	}
	return out, nil
}

// conclude mends what is broken, waits until the cluster is what Git says, ends the
// server, and looks at what it leaves.
func (s *soak) conclude(ctx context.Context, foreign map[string]string) error {
	// If nothing is broken this is one more commit to one application.
	if err := s.push(ctx, s.living.next(changeMend)); err != nil {
		return err
	}
	s.events.running.Wait()
	differ, err := s.awaitEqual(ctx)
	if err != nil {
		return err
	}
	s.res.found("the cluster is what Git says, object by object", differ)
	s.res.found("the repository is what was pushed", s.compareRepository(ctx))
	s.res.found("nothing foreign was touched", s.compareForeign(ctx, foreign))
	if err := s.server.stop(); err != nil {
		return fmt.Errorf("end the server: %w", err)
	}
	_, strays := processes(-1, s.belay, s.dataDir())
	s.res.Strays = strays
	s.res.found("belay audit verify passes", s.verify(ctx))
	s.res.found("every commit is on record", s.compareRecord(ctx))
	s.res.found("git finds nothing wrong with the ledger", s.fsck(ctx))
	return s.res.readLog(s.logFile())
}

// awaitEqual compares until nothing differs any more, or patience is at its end.
func (s *soak) awaitEqual(ctx context.Context) (differ []string, err error) {
	began := time.Now()
	for {
		if differ, err = s.compareCluster(ctx); err != nil {
			return nil, err
		}
		s.res.Equal = time.Since(began).Seconds()
		if len(differ) == 0 || time.Since(began) > finalPatience {
			return differ, nil
		}
		if err := pause(ctx, time.Second); err != nil {
			return nil, err
		}
	}
}

// compareCluster compares every object in the namespaces of the fleet with what
// the fleet's values make of it.
func (s *soak) compareCluster(ctx context.Context) (differ []string, err error) {
	client, err := dynamic.NewForConfig(s.cfg)
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	for j, r := range resources {
		list, err := client.Resource(schema.GroupVersionResource{Group: r.group, Version: r.version, Resource: r.plural}).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", r.plural, err)
		}
		want := s.wanted(j)
		for i := range list.Items {
			o := &list.Items[i]
			key := r.plural + " " + o.GetNamespace() + "/" + o.GetName()
			w, ok := want[key]
			switch {
			case !ofPrefix(o.GetNamespace(), s.prefix) || ofCluster(o):
			case !ok:
				differ = append(differ, key+" is there and not in Git")
			default:
				if d := difference(w, o.Object, ""); d != "" {
					differ = append(differ, key+d)
				}
				delete(want, key)
			}
		}
		for key := range want {
			differ = append(differ, key+" is missing")
		}
	}
	slices.Sort(differ)
	return differ, nil
}

// ofCluster tells what the control plane puts into each namespace, and what is foreign.
func ofCluster(o *unstructured.Unstructured) bool {
	name := o.GetName()
	return o.GetKind() == "ConfigMap" && name == "kube-root-ca.crt" || o.GetKind() == "ServiceAccount" && name == "default" ||
		strings.HasPrefix(name, "foreign-")
}

// wanted are the objects of one resource, by what names them.
func (s *soak) wanted(resource int) map[string]map[string]any {
	l := s.living
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]map[string]any{}
	for i, state := range l.state {
		if state == appThere {
			ns := l.fleet.namespace(fleetBelay, i)
			out[resources[resource].plural+" "+ns+"/web"] = objectsOf(fleetBelay, l.fleet.values[i], l.fleet.shared)[resource]
		}
	}
	return out
}

// exact are fields that hold nothing but what Git says, so that what was added by
// hand shows; elsewhere the API server adds defaults.
var exact = []string{".data", ".spec.selector", ".metadata.labels"}

// difference is the first field in which an object is not what is wanted, with both
// values; "" if there is none.
func difference(want, have any, path string) string {
	differs := func() string { return fmt.Sprintf(": %s is %v, in Git %v", strings.TrimPrefix(path, "."), have, want) }
	switch w := want.(type) {
	case map[string]any:
		h, ok := have.(map[string]any)
		if !ok {
			return differs()
		}
		for _, k := range slices.Sorted(maps.Keys(w)) {
			if d := difference(w[k], h[k], path+"."+k); d != "" {
				return d
			}
		}
		for k := range h {
			if _, ok := w[k]; !ok && slices.Contains(exact, path) && !strings.HasPrefix(k, "belay.dev/") {
				return differs()
			}
		}
	case []any:
		h, ok := have.([]any)
		if !ok || len(w) != len(h) {
			return differs()
		}
		for i := range w {
			if d := difference(w[i], h[i], fmt.Sprintf("%s[%d]", path, i)); d != "" {
				return d
			}
		}
	default: // numbers come back in another type
		if fmt.Sprint(want) != fmt.Sprint(have) {
			return differs()
		}
	}
	return ""
}

// compareRepository compares the tree of main with what the fleet is thought to
// be: what was compared with the cluster is then what Git says.
func (s *soak) compareRepository(ctx context.Context) []string {
	const most = 1 << 30
	out, err := s.living.repo.command("", "ls-tree", "-r", "-z", "--format=%(objectname) %(path)", "main").Output(ctx, most)
	if err != nil {
		return []string{err.Error()}
	}
	var paths []string
	var ask strings.Builder
	for entry := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		id, path, _ := strings.Cut(entry, " ")
		paths = append(paths, path)
		ask.WriteString(id + "\n")
	}
	blobs, err := readBlobs(ctx, s.living.repo, ask.String())
	if err != nil {
		return []string{err.Error()}
	}
	var differ []string
	want := s.living.files()
	for i, path := range paths {
		if w, ok := want[path]; !ok || w != string(blobs[i]) {
			differ = append(differ, path)
		}
		delete(want, path)
	}
	for path := range want {
		differ = append(differ, path+" is missing")
	}
	return differ
}

// readBlobs reads objects, named one a line, in their order.
func readBlobs(ctx context.Context, repo *repository, names string) ([][]byte, error) {
	const most = 2 << 30
	out, err := repo.command(names, "cat-file", "--batch").Output(ctx, most)
	if err != nil {
		return nil, fmt.Errorf("read objects: %w", err)
	}
	var blobs [][]byte
	for len(out) > 0 {
		head, rest, _ := bytes.Cut(out, []byte("\n"))
		var id, kind string
		var size int
		if _, err := fmt.Sscan(string(head), &id, &kind, &size); err != nil || size > len(rest) {
			return nil, fmt.Errorf("read objects: git says %q", head)
		}
		blobs, out = append(blobs, rest[:size]), rest[min(len(rest), size+1):]
	}
	return blobs, nil
}

func (s *soak) compareForeign(ctx context.Context, foreign map[string]string) (differ []string) {
	list, err := s.kube.CoreV1().ConfigMaps("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	left := maps.Clone(foreign)
	for i := range list.Items {
		cm := &list.Items[i]
		key := cm.Namespace + "/" + cm.Name
		if was, ok := foreign[key]; ok {
			delete(left, key)
			if now := string(cm.UID) + " " + cm.ResourceVersion; now != was {
				differ = append(differ, key+" was written to")
			}
		}
	}
	for key := range left {
		differ = append(differ, key+" was deleted")
	}
	return differ
}

// verify runs "belay audit verify", which must also find the commits of the record
// in the repository.
func (s *soak) verify(ctx context.Context) []string {
	began := time.Now()
	const most = 1 << 20
	url := s.living.repo.url()
	out, err := xec.Command{Path: s.belay, Inherit: []string{"PATH", "HOME"}, Args: []string{"audit", "verify", "--data", s.dataDir(),
		"--max-unsigned", "0", "--repos", url + "=" + s.living.repo.dir}}.Output(ctx, most)
	s.res.Verify = time.Since(began).Seconds()
	s.res.Verified = strings.TrimSpace(string(out))
	if err != nil {
		return []string{err.Error(), string(out)}
	}
	return nil
}

func (s *soak) ledger() *repository { return &repository{filepath.Join(s.dataDir(), "ledger.git")} }

func (s *soak) fsck(ctx context.Context) []string {
	const most = 1 << 20
	out, err := s.ledger().command("", "fsck", "--full", "--no-dangling", "--no-progress").Output(ctx, most)
	if err != nil {
		return []string{err.Error(), string(out)}
	}
	return nil
}

// recorded is what matters here of an event in the ledger.
type recorded struct {
	Event struct {
		Type        belay.EventType
		Application string
		Detail      *belay.Detail
	}
}

// compareRecord reads the ledger with git alone. Every commit of main has to be in
// a record of the ref having moved; and every one that changed an application in a
// way that it arrived at in a deployment of that.
func (s *soak) compareRecord(ctx context.Context) []string {
	records, err := s.records(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	s.res.Events = map[string]int{}
	moved, deployed, more := map[string]bool{}, map[string]bool{}, 0
	for i := range records {
		ev := &records[i].Event
		s.res.Events[string(ev.Type)]++
		if ev.Detail == nil {
			continue
		}
		for _, c := range ev.Detail.Commits {
			switch ev.Type {
			case belay.EventRevision:
				moved[c.ID] = true
			case belay.EventSyncStarted:
				deployed[c.ID+" "+ev.Application] = true
			}
		}
		more += ev.Detail.MoreCommits
	}
	var differ []string
	if more > 0 {
		differ = append(differ, fmt.Sprintf("%d commits are only counted in the record, and not named", more))
	}
	for _, p := range s.living.commits() {
		if !moved[p.id] {
			differ = append(differ, p.id+" is in no record of main having moved")
		}
		if (p.kind == changeOne || p.kind == changeAdd || p.kind == changeMend) && !deployed[p.id+" "+p.app] {
			differ = append(differ, fmt.Sprintf("%s (%c) is in no deployment of %s", p.id, p.kind, p.app))
		}
	}
	return differ
}

// records are all events of the ledger, oldest first.
func (s *soak) records(ctx context.Context) ([]recorded, error) {
	const most = 4 << 30
	out, err := s.ledger().command("", "log", "--reverse", "--format=", "--raw", "--no-abbrev", "--no-renames", "-m", "--root", "ledger/"+soakWriter).Output(ctx, most)
	if err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	var ask strings.Builder
	for line := range strings.Lines(string(out)) {
		info, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
		f := strings.Fields(info)
		const fields = 5 // of a raw difference: modes, objects, what was done
		if len(f) == fields && f[4] != "D" && filepath.Base(path) == "event.json" {
			ask.WriteString(f[3] + "\n")
		}
	}
	blobs, err := readBlobs(ctx, s.ledger(), ask.String())
	if err != nil {
		return nil, err
	}
	all := make([]recorded, len(blobs))
	for i, b := range blobs {
		if err := json.Unmarshal(b, &all[i]); err != nil {
			return nil, fmt.Errorf("read the ledger: %w", err)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the ledger has no events")
	}
	return all, nil
}

// readLog counts what the server warned of, and finds what must never be there.
func (r *soakResult) readLog(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	r.Log = map[string]int{}
	var bad []string
	const line = 1 << 20
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, line)
	for lines.Scan() {
		var said struct{ Level, Msg string }
		err := json.Unmarshal(lines.Bytes(), &said)
		switch {
		case err != nil || strings.Contains(said.Msg, "panic"):
			bad = append(bad, lines.Text())
		case said.Level == "WARN" || said.Level == "ERROR":
			r.Log[said.Level+" "+said.Msg]++
		}
	}
	r.found("the log has no panic in it", bad)
	return lines.Err()
}
