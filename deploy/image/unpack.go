package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// unpack writes the root file system of one architecture of an image to a directory,
// checking every digest on the way.
func unpack(name, arch, dir string) error {
	blobs, top, err := readArchive(name)
	if err != nil {
		return err
	}
	get := func(d descriptor, v any) error {
		data, ok := blobs[d.Digest]
		if !ok || digest(data) != d.Digest || len(data) != d.Size {
			return fmt.Errorf("blob %s is missing or damaged", d.Digest)
		}
		if v == nil {
			return nil
		}
		return json.Unmarshal(data, v)
	}
	var outer, inner index
	if err := json.Unmarshal(top, &outer); err != nil || len(outer.Manifests) != 1 {
		return errors.Join(errors.New("the index is not of this program"), err)
	}
	if err := get(outer.Manifests[0], &inner); err != nil {
		return err
	}
	i := slices.IndexFunc(inner.Manifests, func(d descriptor) bool { return d.Platform != nil && d.Platform.Architecture == arch })
	if i < 0 {
		return fmt.Errorf("the image has no architecture %s", arch)
	}
	var m manifest
	var c config
	if err := get(inner.Manifests[i], &m); err != nil {
		return err
	}
	if err := get(m.Config, &c); err != nil {
		return err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return errors.New("the configuration does not fit the layers")
	}
	for i, l := range m.Layers {
		if err := get(l, nil); err != nil {
			return err
		}
		z, err := gzip.NewReader(bytes.NewReader(blobs[l.Digest]))
		if err != nil {
			return err
		}
		plain, err := io.ReadAll(z)
		if err != nil {
			return err
		}
		if digest(plain) != c.RootFS.DiffIDs[i] {
			return fmt.Errorf("layer %d is not what the configuration says", i)
		}
		if err := place(plain, dir); err != nil {
			return err
		}
	}
	return nil
}

// readArchive reads the blobs of an archive by their digests, and its index.
func readArchive(name string) (blobs map[string][]byte, top []byte, err error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	blobs = map[string][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return blobs, top, nil
		}
		if err != nil {
			return nil, nil, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return nil, nil, err
		}
		if d, ok := strings.CutPrefix(h.Name, "blobs/sha256/"); ok && d != "" {
			blobs["sha256:"+d] = data
		} else if h.Name == "index.json" {
			top = data
		}
	}
}

// place writes a layer's files.
func place(layer []byte, dir string) error {
	owned := os.Geteuid() == 0
	modes := map[string]os.FileMode{} // of directories, once they are full
	for r := tar.NewReader(bytes.NewReader(layer)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		p := filepath.Join(dir, filepath.FromSlash(h.Name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeDir:
			modes[p] = h.FileInfo().Mode()
			err = os.MkdirAll(p, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, p)
		case tar.TypeLink:
			err = os.Link(filepath.Join(dir, filepath.FromSlash(h.Linkname)), p)
		default:
			var data []byte
			if data, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(p, data, h.FileInfo().Mode())
			}
		}
		if err != nil {
			return err
		}
		if owned && h.Typeflag != tar.TypeLink {
			if err := os.Lchown(p, h.Uid, h.Gid); err != nil {
				return err
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(modes)) {
		if err := os.Chmod(p, modes[p]); err != nil {
			return err
		}
	}
	return nil
}
