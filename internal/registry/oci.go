package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/belaydev/belay"
)

// OCI is one repository of an OCI registry.
type OCI struct {
	// URL is oci://registry/repository.
	URL string
	Options
}

// maxTags bounds the versions of one repository.
const maxTags = 50_000

func (o *OCI) repository(ctx context.Context) (*remote.Repository, bool, error) {
	r, err := remote.NewRepository(strings.TrimPrefix(o.URL, "oci://"))
	if err != nil || r.Reference.Reference != "" {
		return nil, false, problem(o.URL, belay.CodeInvalid, "not a repository of a registry", "write oci://registry/repository, and the tag or digest as ref", nil)
	}
	c, err := o.converse(ctx, o.URL)
	if err != nil {
		return nil, false, err
	}
	client := &auth.Client{Client: c.client, Cache: auth.NewSingleContextCache(), Header: http.Header{"User-Agent": {o.UserAgent}}}
	given := len(c.auth.Password) > 0
	if given {
		cred := auth.Credential{Username: c.auth.Username, Password: string(c.auth.Password)}
		if c.auth.Username == "" {
			cred = auth.Credential{AccessToken: string(c.auth.Password)}
		}
		client.Credential = auth.StaticCredential(r.Reference.Host(), cred)
	}
	r.Client, r.PlainHTTP, r.MaxMetadataBytes = client, o.PlainHTTP, MaxManifest
	return r, given, nil
}

// explain words an error of the registry.
func (o *OCI) explain(what string, given bool, err error) error {
	if er, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		return status(o.URL, er.StatusCode, what, given)
	}
	if errors.Is(err, errdef.ErrNotFound) {
		return status(o.URL, http.StatusNotFound, what, given)
	}
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return status(o.URL, http.StatusUnauthorized, what, given)
	}
	return unreachable(o.URL, err)
}

// Resolve asks for the digest that a tag has now.
func (o *OCI) Resolve(ctx context.Context, tag string) (digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, given, err := o.repository(ctx)
	if err != nil {
		return "", err
	}
	d, err := r.Resolve(ctx, tag)
	if err != nil {
		return "", o.explain("tag "+tag, given, err)
	}
	if !IsDigest(d.Digest.String()) {
		return "", problem(o.URL, belay.CodeInvalid, "tag "+tag+" has a digest that is not SHA-256", "", nil)
	}
	return d.Digest.String(), nil
}

// Tags lists all tags.
func (o *OCI) Tags(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	r, given, err := o.repository(ctx)
	if err != nil {
		return nil, err
	}
	var all []string
	err = r.Tags(ctx, "", func(tags []string) error {
		if all = append(all, tags...); len(all) > maxTags {
			return problem(o.URL, belay.CodeInvalid, fmt.Sprintf("has more than %d tags", maxTags), "name one tag as ref", nil)
		}
		return nil
	})
	if err != nil {
		return nil, o.explain("list of tags", given, err)
	}
	slices.Sort(all)
	return all, nil
}

// Blob gets content by its digest: a manifest, or a blob of size bytes.
func (o *OCI) blob(ctx context.Context, d ocispec.Descriptor, manifest bool) ([]byte, error) {
	r, given, err := o.repository(ctx)
	if err != nil {
		return nil, err
	}
	what := fmt.Sprintf("content %.19s…", d.Digest)
	limit := int64(MaxContent)
	fetch := r.Blobs().Fetch
	if manifest {
		what, limit = fmt.Sprintf("manifest %.19s…", d.Digest), MaxManifest
		resolved, err := r.Resolve(ctx, d.Digest.String())
		if err != nil {
			return nil, o.explain(what, given, err)
		}
		d, fetch = resolved, r.Manifests().Fetch
	}
	if d.Size > limit {
		return nil, TooBig(o.URL, what, limit)
	}
	rc, err := fetch(ctx, d)
	if err != nil {
		return nil, o.explain(what, given, err)
	}
	defer rc.Close()
	b, err := read(o.URL, what, rc, limit)
	if err != nil {
		return nil, err
	}
	return b, verify(o.URL, what, d.Digest.String(), b)
}

// Media types of artifacts.
const (
	mediaHelmConfig = "application/vnd.cncf.helm.config.v1+json"
	mediaHelmChart  = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// Manifest is what an artifact is made of.
type Manifest struct {
	// Chart is true for a Helm chart.
	Chart  bool
	Layers []Layer
}

// Layer is one piece of content.
type Layer struct {
	Digest, MediaType string
	Size              int64
	// Title is the name of the file that it is; empty for an archive.
	Title string
}

// Archive says whether the layer is a tar.gz.
func (l Layer) Archive() bool {
	return strings.HasSuffix(l.MediaType, "tar+gzip") || strings.HasSuffix(l.MediaType, "tar.gzip") || l.MediaType == "application/gzip"
}

// Manifest gets the manifest of an artifact, as it is and parsed.
func (o *OCI) Manifest(ctx context.Context, digest string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	return o.blob(ctx, descriptor(digest, 0), true)
}

// Layer gets the content of a layer.
func (o *OCI) Layer(ctx context.Context, l Layer) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return o.blob(ctx, descriptor(l.Digest, l.Size), false)
}

// ParseManifest reads a manifest and keeps the layers with files in them.
func ParseManifest(repo string, b []byte) (Manifest, error) {
	var m ocispec.Manifest
	var kind struct {
		Manifests json.RawMessage `json:"manifests"`
	}
	if json.Unmarshal(b, &m) != nil || json.Unmarshal(b, &kind) != nil {
		return Manifest{}, problem(repo, belay.CodeInvalid, "its manifest cannot be read", "", nil)
	}
	if kind.Manifests != nil {
		return Manifest{}, problem(repo, belay.CodeInvalid, "is an index of several images, not a chart or an artifact with manifests", "push it with helm push, flux push artifact or oras push", nil)
	}
	out := Manifest{Chart: m.Config.MediaType == mediaHelmConfig}
	var met []string
	for _, d := range m.Layers {
		l := Layer{Digest: d.Digest.String(), MediaType: d.MediaType, Size: d.Size}
		if !l.Archive() {
			l.Title = d.Annotations[ocispec.AnnotationTitle]
		}
		met = append(met, d.MediaType)
		if !IsDigest(l.Digest) || out.Chart && d.MediaType != mediaHelmChart || !l.Archive() && l.Title == "" {
			continue
		}
		if l.Title != path.Clean(l.Title) && l.Title != "" {
			return out, problem(repo, belay.CodeInvalid, fmt.Sprintf("the artifact names a file %q", l.Title), "", nil)
		}
		out.Layers = append(out.Layers, l)
	}
	if len(out.Layers) == 0 {
		return out, problem(repo, belay.CodeInvalid, "the artifact has no layer that is a tar.gz or a named file, only "+strings.Join(met, ", "),
			"push it with helm push, flux push artifact or oras push", nil)
	}
	return out, nil
}

func descriptor(digest string, size int64) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: godigest.Digest(digest), Size: size}
}
