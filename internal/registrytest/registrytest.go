// Package registrytest serves charts and artifacts to tests, on loopback: a Helm
// repository, and a real OCI registry.
package registrytest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Pack makes a tar.gz of files.
func Pack(t testing.TB, files map[string]string) []byte {
	t.Helper()
	headers := make([]tar.Header, 0, len(files))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(files[name]))})
	}
	return PackEntries(t, headers, files)
}

// PackEntries makes a tar.gz of any entries; contents are by name.
func PackEntries(t testing.TB, entries []tar.Header, contents map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	tw := tar.NewWriter(zw)
	for i := range entries {
		if err := tw.WriteHeader(&entries[i]); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, contents[entries[i].Name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Chart packs a chart: files are relative to it, and a Chart.yaml is made where
// there is none.
func Chart(t testing.TB, name, version string, files map[string]string) []byte {
	t.Helper()
	all := map[string]string{name + "/Chart.yaml": fmt.Sprintf("apiVersion: v2\nname: %s\nversion: %s\n", name, version)}
	for p, c := range files {
		all[name+"/"+p] = c
	}
	return Pack(t, all)
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// server is what both kinds have in common.
type server struct {
	// URL without a slash at the end.
	URL string
	t   testing.TB

	mu       sync.Mutex
	requests []string
	down     bool
}

func (s *server) serve(next http.Handler) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path)
		down := s.down
		s.mu.Unlock()
		if down {
			http.Error(w, "down for maintenance", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	}))
	s.t.Cleanup(srv.Close)
	s.URL = srv.URL
}

// SetDown lets the server answer nothing but that it is down.
func (s *server) SetDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Requests lists method and path of all requests so far.
func (s *server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Helm is a Helm repository.
type Helm struct {
	server
	// NoDigests leaves digests out of the index; set it before the first Publish.
	NoDigests bool

	user, password string
	entries        map[string][]map[string]any
	archives       map[string][]byte // by path
}

// ServeHelm serves an empty Helm repository until the test ends. With a password
// it asks for basic authentication.
func ServeHelm(t testing.TB, user, password string) *Helm {
	t.Helper()
	h := &Helm{server: server{t: t}, user: user, password: password, entries: map[string][]map[string]any{}, archives: map[string][]byte{}}
	h.serve(http.HandlerFunc(h.answer))
	return h
}

func (h *Helm) answer(w http.ResponseWriter, r *http.Request) {
	if u, p, _ := r.BasicAuth(); h.password != "" && (u != h.user || p != h.password) {
		w.Header().Set("WWW-Authenticate", "Basic")
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.archives[r.URL.Path]
	if r.URL.Path == "/index.yaml" {
		var err error
		if b, err = json.Marshal(map[string]any{"apiVersion": "v1", "entries": h.entries}); err != nil { // JSON is YAML
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		ok = true
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	tag := `"` + digest(b)[7:23] + `"`
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(b) // a client that is gone is no matter
}

// Publish adds a version of a chart and returns its digest.
func (h *Helm) Publish(name, version string, files map[string]string) string {
	h.t.Helper()
	return h.PublishArchive(name, version, Chart(h.t, name, version, files))
}

// PublishArchive is Publish with an archive of any kind.
func (h *Helm) PublishArchive(name, version string, b []byte) string {
	h.t.Helper()
	file := name + "-" + version + ".tgz"
	entry := map[string]any{"name": name, "version": version, "urls": []string{file}}
	if !h.NoDigests {
		entry["digest"] = strings.TrimPrefix(digest(b), "sha256:")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries[name] = append([]map[string]any{entry}, h.entries[name]...)
	h.archives["/"+file] = b
	return digest(b)
}

// Replace exchanges the archive of a version and leaves the index as it is.
func (h *Helm) Replace(name, version string, b []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.archives["/"+name+"-"+version+".tgz"] = b
}

// OCI is an OCI registry without TLS.
type OCI struct {
	server
	user, password string
	push           http.Handler
}

const token = "a-token-of-the-registry"

// ServeOCI serves an empty registry until the test ends. With a password it gives
// tokens to who knows it, and content to who has a token.
func ServeOCI(t testing.TB, user, password string) *OCI {
	t.Helper()
	o := &OCI{server: server{t: t}, user: user, password: password, push: registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))}
	o.serve(http.HandlerFunc(o.answer))
	return o
}

func (o *OCI) answer(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		if u, p, _ := r.BasicAuth(); u != o.user || p != o.password {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"token":"`+token+`"}`)
		return
	}
	if o.password != "" && r.Header.Get("Authorization") != "Bearer "+token {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+o.URL+`/token",service="test"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	o.push.ServeHTTP(w, r)
}

// Repo is the URL of a repository of the registry.
func (o *OCI) Repo(name string) string {
	return "oci://" + strings.TrimPrefix(o.URL, "http://") + "/" + name
}

// Layer is a layer to push.
type Layer struct {
	MediaType, Title string
	Content          []byte
	Annotations      map[string]string
}

// PushChart pushes a chart as helm push does and returns the digest of its manifest.
func (o *OCI) PushChart(repo, tag, name, version string, files map[string]string) string {
	o.t.Helper()
	return o.Push(repo, tag, "application/vnd.cncf.helm.config.v1+json",
		Layer{MediaType: "application/vnd.cncf.helm.chart.content.v1.tar+gzip", Content: Chart(o.t, name, version, files)})
}

// PushFlux pushes files as flux push artifact does.
func (o *OCI) PushFlux(repo, tag string, files map[string]string) string {
	o.t.Helper()
	return o.Push(repo, tag, "application/vnd.cncf.flux.config.v1+json",
		Layer{MediaType: "application/vnd.cncf.flux.content.v1.tar+gzip", Content: Pack(o.t, files)})
}

// Push pushes layers under a tag and returns the digest of the manifest.
func (o *OCI) Push(repo, tag, config string, layers ...Layer) string {
	o.t.Helper()
	return o.pushWith(repo, tag, nil, config, layers...)
}

// pushWith pushes a manifest with more fields; without a tag, by its digest.
func (o *OCI) pushWith(repo, tag string, more map[string]any, config string, layers ...Layer) string {
	o.t.Helper()
	type descriptor struct {
		MediaType   string            `json:"mediaType"`
		Digest      string            `json:"digest"`
		Size        int               `json:"size"`
		Annotations map[string]string `json:"annotations,omitempty"`
	}
	blob := func(mediaType string, b []byte) descriptor {
		o.request(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest(b), "application/octet-stream", b)
		return descriptor{MediaType: mediaType, Digest: digest(b), Size: len(b)}
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": blob(config, []byte("{}"))}
	all := []descriptor{}
	for _, l := range layers {
		d := blob(l.MediaType, l.Content)
		d.Annotations = l.Annotations
		if l.Title != "" {
			d.Annotations = map[string]string{"org.opencontainers.image.title": l.Title}
		}
		all = append(all, d)
	}
	m["layers"] = all
	maps.Copy(m, more)
	b, err := json.Marshal(m)
	if err != nil {
		o.t.Fatal(err)
	}
	if tag == "" {
		tag = digest(b)
	}
	o.request(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, "application/vnd.oci.image.manifest.v1+json", b)
	return digest(b)
}

// Sign puts a signature beside an artifact, as cosign does: payload is what was
// signed, sig the signature in base64.
func (o *OCI) Sign(repo, digest, payload, sig string) {
	o.t.Helper()
	o.Push(repo, strings.Replace(digest, ":", "-", 1)+".sig", "application/vnd.oci.image.config.v1+json", Layer{
		MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Content: []byte(payload), Annotations: map[string]string{"dev.cosignproject.cosign/signature": sig}})
}

// Bundle puts a bundle beside an artifact, as newer cosigns do: a manifest that
// refers to it.
func (o *OCI) Bundle(repo, digest string, bundle []byte) {
	o.t.Helper()
	const kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
	o.pushWith(repo, "", map[string]any{"artifactType": kind, "subject": map[string]any{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 0}},
		"application/vnd.oci.empty.v1+json", Layer{MediaType: kind, Content: bundle})
}

// request talks to the registry without its guard, as who publishes.
func (o *OCI) request(method, target, contentType string, b []byte) {
	o.t.Helper()
	r := httptest.NewRequestWithContext(o.t.Context(), method, target, bytes.NewReader(b))
	r.Header.Set("Content-Type", contentType)
	w := httptest.NewRecorder()
	o.push.ServeHTTP(w, r)
	if w.Code >= 300 {
		o.t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
	}
}
