package record

import (
	"strings"

	"github.com/belaydev/belay"
)

// ParseManifestPath is the object that a path made by [ManifestPath] is of; ok is
// false for any other.
func ParseManifestPath(path string) (id belay.ObjectID, ok bool) {
	rest, ok := strings.CutPrefix(path, ManifestDir+"/")
	if !ok {
		return id, false
	}
	rest, ok = strings.CutSuffix(rest, ".yaml")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 3 {
		return id, false
	}
	for i, p := range parts {
		if parts[i], ok = Unescape(p); !ok {
			return id, false
		}
	}
	id.Kind, id.Group, _ = strings.Cut(parts[0], ".")
	if parts[1] != "_" {
		id.Namespace = parts[1]
	}
	id.Name = parts[2]
	return id, ManifestPath(id) == path
}
