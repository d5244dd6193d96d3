package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// state is what the tip of the ledger says now. It is kept by the paths of the
// files that say it, so that reading the ledger and writing it lead to the same.
type state struct {
	running map[string]belay.Deployment // by record.RunningPath
	holds   map[string]belay.Hold       // by record.HoldPath
	sources map[string]string           // by record.SourcePath
}

func newState() state {
	return state{running: map[string]belay.Deployment{}, holds: map[string]belay.Hold{}, sources: map[string]string{}}
}

// apply follows an entry of the ledger.
func (s *state) apply(e *record.Entry) {
	for _, f := range e.Files {
		dir, _, _ := strings.Cut(f.Path, "/")
		switch {
		case dir == record.RunningDir && f.Data == nil:
			delete(s.running, f.Path)
		case dir == record.RunningDir && e.Deployment != nil:
			s.running[f.Path] = *e.Deployment
		case dir == record.HoldDir && f.Data == nil:
			delete(s.holds, f.Path)
		case dir == record.HoldDir:
			var h belay.Hold
			if json.Unmarshal(f.Data, &h) == nil { // it was encoded a moment ago
				s.holds[f.Path] = h
			}
		case dir == record.SourceDir:
			s.sources[f.Path] = strings.TrimSpace(string(f.Data))
		}
	}
	if d := e.Deployment; d != nil && d.Result == belay.Failed {
		// It stays: what failed is tried again.
		path := record.RunningPath(&belay.Event{Application: d.Application, Cluster: d.Cluster})
		if s.running[path].ID == d.ID {
			s.running[path] = *d
		}
	}
}

// began is the deployment that an event belongs to, if that did not succeed yet.
func (s *state) began(ev *belay.Event) *belay.Deployment {
	if ev.Deployment == "" {
		return nil
	}
	if d, ok := s.running[record.RunningPath(ev)]; ok && d.ID == ev.Deployment {
		return &d
	}
	return nil
}

func (s *state) clone() state {
	return state{running: maps.Clone(s.running), holds: maps.Clone(s.holds), sources: maps.Clone(s.sources)}
}

func sorted[V any](m map[string]V) []V {
	out := make([]V, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// tipState is everything that is known of a branch from its tip.
type tipState struct {
	state
	commit  string
	seq     uint64
	signed  uint64 // seq of the latest checkpoint, 0 where that is not known
	signers []byte // the file of allowed signers
}

// load reads the tip of a branch.
func (r repo) load(ctx context.Context, writer, commit string) (tipState, error) {
	t := tipState{state: newState(), commit: commit}
	if commit == "" {
		return t, nil
	}
	var err error
	var signed bool
	if t.seq, signed, err = r.seq(ctx, writer, commit); err != nil {
		return t, err
	}
	if signed {
		t.signed = t.seq
	}
	out, err := r.output(ctx, nil, "ls-tree", "-r", "-z", "--full-tree", commit, "--", record.RunningDir, record.HoldDir, record.SourceDir, record.SignersFile)
	if err != nil {
		return t, err
	}
	var paths, names []string
	for line := range strings.SplitSeq(string(bytes.TrimSuffix(out, []byte{0})), "\x00") {
		meta, path, ok := strings.Cut(line, "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) != 3 {
			continue
		}
		name := fields[2]
		if segments := strings.Split(path, "/"); segments[0] == record.RunningDir && len(segments) == 3 {
			name = commit + ":" + deploymentPath(segments[1], segments[2])
		}
		paths, names = append(paths, path), append(names, name)
	}
	files, err := r.objects(ctx, names)
	if err != nil {
		return t, err
	}
	for i, path := range paths {
		if err := t.take(path, files[i]); err != nil {
			return t, fmt.Errorf("%s of %s: %w", path, commit, err)
		}
	}
	return t, nil
}

// deploymentPath is the file of the deployment that a file in running/ stands for.
func deploymentPath(cluster, app string) string {
	c, _ := record.Unescape(cluster)
	a, _ := record.Unescape(app)
	return record.Dir(&belay.Event{Cluster: c, Application: a}) + record.DeploymentFile
}

func (t *tipState) take(path string, b []byte) error {
	dir, _, _ := strings.Cut(path, "/")
	switch dir {
	case record.RunningDir:
		var d belay.Deployment
		if err := json.Unmarshal(b, &d); err != nil {
			return fmt.Errorf("no deployment: %w", err)
		}
		t.running[path] = d
	case record.HoldDir:
		var h belay.Hold
		if err := json.Unmarshal(b, &h); err != nil {
			return fmt.Errorf("no hold: %w", err)
		}
		t.holds[path] = h
	case record.SourceDir:
		t.sources[path] = strings.TrimSpace(string(b))
	case record.SignersFile:
		t.signers = b
	}
	return nil
}

// seq is the number of the record that a commit is, and whether it is signed.
func (r repo) seq(ctx context.Context, writer, commit string) (seq uint64, signed bool, err error) {
	out, err := r.output(ctx, nil, "cat-file", "commit", commit)
	if err != nil {
		return 0, false, err
	}
	head, _, _ := strings.Cut(string(out), "\n\n")
	id := ""
	for line := range strings.Lines(string(out)) {
		// The last one is the trailer: a subject may look like one.
		if v, ok := strings.CutPrefix(line, record.TrailerRecord+": "); ok {
			id = strings.TrimSpace(v)
		}
	}
	by, seq, ok := belay.ParseRecordID(id)
	if !ok || by != writer {
		return 0, false, fmt.Errorf("commit %s is no record of %s, but %q", commit, writer, id)
	}
	return seq, strings.Contains(head, "\ngpgsig "), nil
}
