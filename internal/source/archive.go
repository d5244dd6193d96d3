package source

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1" //nolint:gosec // Git's own object ids, as everywhere in read sets; trust rests on the archive's SHA-256
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// Limits of what an archive may unpack to. Charts with everything they depend on
// are some hundred files.
const (
	maxArchiveFiles = 20_000
	maxArchiveBytes = 128 << 20
	maxArchiveFile  = 32 << 20
	maxArchiveDepth = 40
)

// archive is the tree of an artifact, in memory.
type archive struct {
	top   *archiveDir
	bytes int64 // of all contents
	n     int   // files
}

type archiveDir struct {
	id       string
	entries  []git.Entry // sorted
	dirs     map[string]*archiveDir
	contents map[string][]byte
}

func newArchive() *archive { return &archive{top: newArchiveDir()} }

func newArchiveDir() *archiveDir {
	return &archiveDir{dirs: map[string]*archiveDir{}, contents: map[string][]byte{}}
}

// hostile is an archive that is not taken.
func hostile(format string, args ...any) error {
	return &belay.Error{Code: belay.CodeInvalid, Message: "the archive " + fmt.Sprintf(format, args...), Err: fs.ErrInvalid,
		Hint: "pack the files anew; nothing of it was used"}
}

// unpack adds the files of a tar.gz. Every name must stay inside, and there is
// nothing but files and directories.
func (a *archive) unpack(packed []byte) error {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return hostile("is not packed with gzip")
	}
	// Headers and padding count too: a bomb may consist of them.
	limited := &io.LimitedReader{R: zr, N: maxArchiveBytes + maxArchiveFiles*1024 + 1}
	tr := tar.NewReader(limited)
	for {
		h, err := tr.Next()
		if limited.N <= 0 {
			return hostile("unpacks to more than %d MiB", maxArchiveBytes>>20)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return hostile("is damaged: %v", err)
		}
		err = a.entry(h, tr)
		if limited.N <= 0 {
			return hostile("unpacks to more than %d MiB", maxArchiveBytes>>20)
		}
		if err != nil {
			return err
		}
	}
}

func (a *archive) entry(h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg, tar.TypeDir:
	case tar.TypeSymlink, tar.TypeLink:
		return hostile("contains the link %q; only files and directories are taken", h.Name)
	default:
		return hostile("contains %q, which is neither a file nor a directory", h.Name)
	}
	name, err := inside(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeDir {
		if name != "." {
			_, err = a.dir(name)
		}
		return err
	}
	if h.Size > maxArchiveFile {
		return hostile("contains %q, which is bigger than %d MiB", h.Name, maxArchiveFile>>20)
	}
	b, err := io.ReadAll(io.LimitReader(r, maxArchiveFile+1))
	if err != nil {
		return hostile("is damaged at %q: %v", h.Name, err)
	}
	return a.add(name, b)
}

// inside cleans the name of an entry, which must not lead out.
func inside(name string) (string, error) {
	clean := path.Clean(name)
	if strings.HasPrefix(name, "/") || strings.Contains(name, "\\") || strings.ContainsRune(name, 0) || clean == ".." || strings.HasPrefix(clean, "../") ||
		slices.Contains(strings.Split(name, "/"), "..") {
		return "", hostile("contains %q, which leads out of it", name)
	}
	if !fs.ValidPath(clean) {
		return "", hostile("contains %q, which is no file name", name)
	}
	if strings.Count(clean, "/") > maxArchiveDepth {
		return "", hostile("has directories more than %d deep", maxArchiveDepth)
	}
	return clean, nil
}

func (a *archive) dir(name string) (*archiveDir, error) {
	at := a.top
	for c := range strings.SplitSeq(name, "/") {
		if _, file := at.contents[c]; file {
			return nil, hostile("contains %q both as a file and as a directory", name)
		}
		next := at.dirs[c]
		if next == nil {
			if a.n++; a.n > maxArchiveFiles {
				return nil, hostile("has more than %d files", maxArchiveFiles)
			}
			next = newArchiveDir()
			at.dirs[c] = next
		}
		at = next
	}
	return at, nil
}

func (a *archive) add(name string, b []byte) error {
	if name == "." {
		return hostile("has a file without a name")
	}
	at := a.top
	dir, base := path.Split(name)
	if dir != "" {
		var err error
		if at, err = a.dir(strings.TrimSuffix(dir, "/")); err != nil {
			return err
		}
	}
	if at.dirs[base] != nil {
		return hostile("contains %q both as a file and as a directory", name)
	}
	old, again := at.contents[base]
	if a.bytes += int64(len(b) - len(old)); a.bytes > maxArchiveBytes {
		return hostile("unpacks to more than %d MiB", maxArchiveBytes>>20)
	}
	if !again {
		if a.n++; a.n > maxArchiveFiles {
			return hostile("has more than %d files", maxArchiveFiles)
		}
	}
	at.contents[base] = b
	return nil
}

// stripTop makes the only directory at the top the root, as charts are packed.
func (a *archive) stripTop() error {
	if len(a.top.dirs) != 1 || len(a.top.contents) > 0 {
		return hostile("is not that of a chart: it has not one directory with everything in it")
	}
	for _, d := range a.top.dirs {
		a.top = d
	}
	return nil
}

// seal works out the ids: those that Git would give.
func (d *archiveDir) seal() {
	d.entries = d.entries[:0]
	for name, sub := range d.dirs {
		sub.seal()
		d.entries = append(d.entries, git.Entry{Name: name, Type: git.TypeDir, ID: sub.id})
	}
	for name, b := range d.contents {
		d.entries = append(d.entries, git.Entry{Name: name, Type: git.TypeFile, ID: objectID("blob", b)})
	}
	slices.SortFunc(d.entries, func(x, y git.Entry) int { return strings.Compare(x.Name, y.Name) })
	var tree bytes.Buffer
	for _, e := range d.entries {
		tree.WriteString(string(rune(e.Type)) + " " + e.Name + "\x00" + e.ID)
	}
	d.id = objectID("tree", tree.Bytes())
}

func objectID(kind string, b []byte) string {
	h := sha1.New() //nolint:gosec // see above
	fmt.Fprintf(h, "%s %d\x00", kind, len(b))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// The methods of a store.

func (a *archive) root() node { return node{typ: git.TypeDir, id: a.top.id, path: "."} }

func (a *archive) at(p string) *archiveDir {
	d := a.top
	if p == "." {
		return d
	}
	for c := range strings.SplitSeq(p, "/") {
		if d = d.dirs[c]; d == nil {
			return nil
		}
	}
	return d
}

func (a *archive) child(dir node, name string) (node, error) {
	d := a.at(dir.path)
	if d == nil {
		return node{}, fs.ErrNotExist
	}
	i, ok := slices.BinarySearchFunc(d.entries, name, func(e git.Entry, n string) int { return strings.Compare(e.Name, n) })
	if !ok {
		return node{}, fs.ErrNotExist
	}
	return node{typ: d.entries[i].Type, id: d.entries[i].ID, path: join(dir.path, name)}, nil
}

func (a *archive) children(dir node) ([]git.Entry, error) {
	d := a.at(dir.path)
	if d == nil {
		return nil, fs.ErrNotExist
	}
	return d.entries, nil
}

func (a *archive) listDigest(dir node) (string, error) {
	entries, err := a.children(dir)
	if err != nil {
		return "", err
	}
	return git.ListDigest(entries), nil
}

func (a *archive) content(n node) ([]byte, error) {
	dir, base := path.Split(n.path)
	if d := a.at(path.Clean("./" + dir)); d != nil {
		if b, ok := d.contents[base]; ok {
			return b, nil
		}
	}
	return nil, fs.ErrNotExist
}

func (a *archive) size(n node) (int64, error) {
	b, err := a.content(n)
	return int64(len(b)), err
}

func (a *archive) blobID(n node) (string, error) { return n.id, nil }
