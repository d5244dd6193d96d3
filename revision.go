package belay

import (
	"strings"
	"time"
)

// Revision is one commit of a repository, as found under a ref.
type Revision struct {
	// Repo is the repository's URL without credentials.
	Repo string `json:"repo"`
	// Ref is what was asked for: branch, tag, commit or semver range.
	Ref string `json:"ref"`
	// Name is the ref that was found, "v1.4.2" for a range; equal to Ref otherwise.
	Name string `json:"name,omitempty"`
	// Commit is the full id.
	Commit string `json:"commit"`
	// Author and Subject of the commit, for people.
	Author  string    `json:"author,omitempty"`
	Subject string    `json:"subject,omitempty"`
	Time    time.Time `json:"time,omitzero"`
}

// Short is the first 10 characters of the commit; of a chart or artifact it is
// the version, or of the digest if that is not known.
func (r Revision) Short() string {
	if digest, ok := strings.CutPrefix(r.Commit, "sha256:"); ok {
		if r.Name != "" && r.Name != r.Commit {
			return r.Name
		}
		return digest[:min(len(digest), 10)]
	}
	if len(r.Commit) > 10 {
		return r.Commit[:10]
	}
	return r.Commit
}

// ReadKind says what was learned from a path.
type ReadKind string

// What a render may learn of a path.
const (
	// ReadFile: the content. The digest is the Git object id of the blob.
	ReadFile ReadKind = "file"
	// ReadList: the names and types of a directory's entries. The digest covers just those.
	ReadList ReadKind = "list"
	// ReadStat: whether it exists and what it is. The digest is "file", "dir" or "absent".
	ReadStat ReadKind = "stat"
	// ReadLink: what stands at the path itself, links not followed. The digest of
	// a symlink is the Git object id of its target's name; else it is as for ReadStat.
	ReadLink ReadKind = "link"
)

// Read is one thing a render learned. A render's result holds as long as every
// one of its reads has the same digest.
type Read struct {
	Path   string   `json:"p"`
	Kind   ReadKind `json:"k"`
	Digest string   `json:"d"`
}

// PathChange is one path that differs between two commits. A path whose type
// changed (a file that became a link) is two changes: one removed, one added.
type PathChange struct {
	// Path of a file, symlink or submodule; directories are not listed.
	Path string
	// Old and New are Git object ids, empty where the path is not there.
	Old, New string
	// Top is the highest path that came or went with this one: "a" where a/b/c is
	// the first file below a. It is Path where only the file itself came, went or
	// changed. Empty means that it is not known.
	Top string
}
