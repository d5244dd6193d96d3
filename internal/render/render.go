// Package render turns a source into Kubernetes objects and the set of reads
// they follow from.
//
// The work is done by worker processes of the same binary (package worker) that
// have no file system, no network, no environment and bounded memory and time.
// They see the source through this package, which confines what they ask for,
// notes it, and takes what they answer for hostile until it is checked.
//
// It must not know clusters, Git or policy, nor import Helm or Kustomize: those
// run on the other side of the pipe.
package render

import (
	"errors"
	"io/fs"

	"github.com/belaydev/belay"
)

// WorkerArgument is the hidden first argument that makes the binary a worker.
const WorkerArgument = "render-worker"

// Files is what a render may see of a source. Paths are slash-separated and
// relative to the root of the repository, which is "."; nothing outside of it
// can be reached. A missing path is an fs.ErrNotExist. A Files does not change.
type Files interface {
	// ReadFile returns the content of a file.
	ReadFile(path string) ([]byte, error)
	// ReadDir returns the entries of a directory, sorted by name.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Stat follows symlinks.
	Stat(path string) (fs.FileInfo, error)
	// Digest is what a read of that kind would learn now; see [belay.ReadKind].
	Digest(kind belay.ReadKind, path string) (string, error)
}

// Tracer is what a Files with symlinks has as well.
type Tracer interface {
	// Trace lists everything that a read depends on: the place where the path
	// really leads, and the symlinks on the way there.
	Trace(kind belay.ReadKind, path string) ([]belay.Read, error)
}

// Request is one render to do.
type Request struct {
	// Application is named in errors, and is the default release name of a chart.
	Application string
	Source      belay.Source
	// Namespace is .Release.Namespace, and stands in for a missing namespace
	// when objects are compared. It is not written into objects.
	Namespace string
	// KubeVersion and APIVersions are of the destination cluster; empty when
	// it is not known, which means some recent Kubernetes.
	KubeVersion string
	APIVersions []string
	// Patches and Variables of the application change what was rendered.
	Patches   []belay.Patch
	Variables *belay.Variables
	// Project is named in errors; Decryption are its keys, nil when it has none.
	Project    string
	Decryption *belay.Decryption
	// Repo and Revision go into the origin of objects and errors.
	Repo, Revision string
	// Definition is where the application is declared, for errors in its patches and variables.
	Definition belay.Origin
}

// Result is what a source renders to.
type Result struct {
	// Objects in a fixed order. The Digest of a Secret is a keyed one.
	Objects []belay.Object
	// Reads are what the render learned of the source, sorted by path. They are
	// set with an error too: it stands as long as they do.
	Reads []belay.Read
	// UsesCapabilities is true when the result may depend on KubeVersion and APIVersions.
	UsesCapabilities bool
	// Kind is "plain", "kustomize" or "helm".
	Kind string
	// Warnings are for people; they hold no secret values.
	Warnings []string
	// Unfit are the indexes of patches that fit no object of this source. One that
	// fits none of any source of its application is an error; see [belay.UnfitPatch].
	Unfit []int
	// Partial is true when it comes from the cache and has Secrets, which are
	// redacted then: values are not stored. Their Digest is right.
	Partial bool
}

// Problems takes the error of a render apart: one [belay.Error] for each thing
// that is wrong.
func Problems(err error) []*belay.Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*belay.Error
		for _, e := range joined.Unwrap() {
			out = append(out, Problems(e)...)
		}
		return out
	}
	if e, ok := errors.AsType[*belay.Error](err); ok {
		return []*belay.Error{e}
	}
	return nil
}
