package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"
)

// Media types of the OCI image specification.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// layout is an OCI image layout with one image for several platforms.
type layout struct {
	version   string
	created   time.Time
	blobs     map[string][]byte
	manifests []descriptor
}

type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Platform    *platform         `json:"platform,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

type config struct {
	Created time.Time `json:"created"`
	platform
	Config struct {
		User       string
		Env        []string
		Entrypoint []string
		Cmd        []string
		WorkingDir string
		Labels     map[string]string
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []history `json:"history"`
}

type history struct {
	Created   time.Time `json:"created"`
	CreatedBy string    `json:"created_by"`
}

// image adds an image of one architecture, made of layers.
func (l *layout) image(arch string, layers ...tree) error {
	c := config{Created: l.created, platform: platform{Architecture: arch, OS: "linux"}}
	c.Config.User = fmt.Sprintf("%d:%[1]d", user)
	c.Config.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/belay", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}
	c.Config.Entrypoint = []string{"/usr/bin/tini", "--", "/usr/local/bin/belay"}
	c.Config.Cmd = []string{"help"}
	c.Config.WorkingDir = "/home/belay"
	c.Config.Labels = labels(l)
	c.RootFS.Type = "layers"
	if _, ok := layers[0]["usr/bin/tini"]; !ok {
		c.Config.Entrypoint = c.Config.Entrypoint[2:]
	}
	m := manifest{SchemaVersion: 2, MediaType: typeManifest, Annotations: labels(l)}
	for _, t := range layers {
		var plain, packed bytes.Buffer
		if err := t.tar(&plain, l.created); err != nil {
			return err
		}
		z, err := gzip.NewWriterLevel(&packed, gzip.DefaultCompression)
		if err != nil {
			return err
		}
		if _, err := z.Write(plain.Bytes()); err != nil {
			return err
		}
		if err := z.Close(); err != nil {
			return err
		}
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, digest(plain.Bytes()))
		c.History = append(c.History, history{l.created, "deploy/image"})
		m.Layers = append(m.Layers, l.blob(typeLayer, packed.Bytes()))
	}
	var err error
	if m.Config, err = l.document(typeConfig, c); err != nil {
		return err
	}
	d, err := l.document(typeManifest, m)
	d.Platform = &c.platform
	l.manifests = append(l.manifests, d)
	return err
}

func labels(l *layout) map[string]string {
	return map[string]string{"org.opencontainers.image.title": "belay", "org.opencontainers.image.version": l.version,
		"org.opencontainers.image.source": "https://github.com/belaydev/belay", "org.opencontainers.image.licenses": "Apache-2.0"}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (l *layout) blob(mediaType string, data []byte) descriptor {
	d := digest(data)
	l.blobs[d] = data
	return descriptor{MediaType: mediaType, Digest: d, Size: len(data)}
}

func (l *layout) document(mediaType string, v any) (descriptor, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return l.blob(mediaType, data), nil
}

// write writes the archive, whole or not at all.
func (l *layout) write(name string) error {
	all, err := l.document(typeIndex, index{2, typeIndex, l.manifests})
	if err != nil {
		return err
	}
	all.Annotations = map[string]string{"org.opencontainers.image.ref.name": l.version, "io.containerd.image.name": "docker.io/library/belay:" + l.version}
	top, err := json.Marshal(index{2, typeIndex, []descriptor{all}})
	if err != nil {
		return err
	}
	f, err := os.Create(name + ".new")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := l.archive(f, top); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	fmt.Printf("%s: belay:%s %s\n", name, l.version, all.Digest)
	return nil
}

func (l *layout) archive(w io.Writer, top []byte) error {
	t := tree{}
	t.dir("blobs", 0o755, 0)
	t.dir("blobs/sha256", 0o755, 0)
	for _, d := range slices.Sorted(maps.Keys(l.blobs)) {
		t.file("blobs/sha256/"+d[len("sha256:"):], 0o644, l.blobs[d])
	}
	t.file("index.json", 0o644, top)
	t.file("oci-layout", 0o644, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return t.tar(w, l.created)
}
