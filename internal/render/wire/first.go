package wire

import "path"

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

// First is what the renderer of a job asks first. Both sides know it, so the parent
// answers before it is asked. It holds nothing that the renderer would not ask.
func First(j *Job) Question {
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
