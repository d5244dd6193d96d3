package wire

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// kustomizationNames are the names that make a directory a kustomization.
// Kustomize has the list; a test holds this one against it.
var kustomizationNames = [...]string{"kustomization.yaml", "kustomization.yml", "Kustomization"}

// KustomizationNames are the paths that make dir a kustomization if one is there.
func KustomizationNames(dir string) []string {
	out := make([]string, len(kustomizationNames))
	for i, n := range kustomizationNames {
		out[i] = path.Join(dir, n)
	}
	return out
}

// ahead are the questions that the renderer of a job asks first, which follow from
// the job and from what is known by then. Both sides know them, so the parent
// answers before it is asked. They hold nothing that the renderer would not ask.
var ahead = []func(j *Job, known *Memory) Question{first, second}

func first(j *Job, _ *Memory) Question {
	root := path.Clean(j.Source.Path)
	switch {
	case j.Source.Helm != nil:
		return Question{Stat: []string{root, path.Join(root, "Chart.yaml")}, List: []string{root}}
	case j.Source.Kustomize != nil:
		return Question{Stat: []string{root}, Read: KustomizationNames(root)}
	case j.Source.Directory != nil:
		return Question{Stat: []string{root}}
	}
	// What it is shows only then.
	return Question{Stat: []string{root, path.Join(root, "Chart.yaml")}, Read: KustomizationNames(root)}
}

// second is about charts and plain sources: what is in the directory, or the file.
func second(j *Job, known *Memory) Question {
	root := path.Clean(j.Source.Path)
	st := known.stats[root]
	switch {
	case j.Source.Helm != nil || j.Source.Kustomize != nil || st.Err != nil || known.isKustomization(root):
		return Question{}
	case st.Dir:
		return Question{List: []string{root}}
	}
	return Question{Read: []string{root}}
}

// isKustomization reports whether one of its names was read, or is in the way.
func (m *Memory) isKustomization(root string) bool {
	for _, n := range KustomizationNames(root) {
		if c, ok := m.files[n]; ok && !c.Dir && !errors.Is(c.Err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// Ahead answers what a job asks first. An error of answer ends it.
func Ahead(j *Job, answer func(Question) (Answers, [][]byte, error)) (all Answers, data [][]byte, err error) {
	known := Remember(nil)
	for _, next := range ahead {
		q := next(j, known)
		if q.Len() == 0 {
			break
		}
		a, parts, err := answer(q)
		if err != nil {
			return all, nil, err
		}
		seen, err := a.seen(q, parts)
		if err != nil {
			return all, nil, err
		}
		known.Learn(q, seen)
		all.Items, data = append(all.Items, a.Items...), append(data, parts...)
	}
	return all, data, nil
}

// learn takes in the answers that came with a job, which use up the body.
func (j *Job) learn(known *Memory, a *Answers, body []byte) error {
	for _, next := range ahead {
		q := next(j, known)
		if q.Len() == 0 {
			break
		}
		if len(a.Items) < q.Len() {
			return &ProtocolError{Problem: fmt.Sprintf("%d answers to %d questions", len(a.Items), q.Len())}
		}
		part := Answers{Items: a.Items[:q.Len()]}
		a.Items = a.Items[q.Len():]
		n := part.size(q)
		if n < 0 || n > int64(len(body)) {
			return &ProtocolError{Problem: "a part reaches beyond its frame"}
		}
		parts, err := part.cut(q, body[:n])
		if err != nil {
			return err
		}
		body = body[n:]
		seen, err := part.seen(q, parts)
		if err != nil {
			return err
		}
		known.Learn(q, seen)
	}
	if len(a.Items) > 0 || len(body) > 0 {
		return &ProtocolError{Problem: fmt.Sprintf("%d answers and %d bytes more than a job asks for", len(a.Items), len(body))}
	}
	return nil
}
