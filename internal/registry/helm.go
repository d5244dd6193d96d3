package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/belaydev/belay"
)

// Helm is a Helm repository: an index.yaml, and archives that it names.
type Helm struct {
	// URL of the repository, without index.yaml.
	URL string
	Options
}

// ErrNotModified says that an index is still the one that is known.
var ErrNotModified = errors.New("not modified")

// Index is the part of an index.yaml that matters.
type Index struct {
	// Charts are the versions of each chart, in the order of the index.
	Charts map[string][]ChartVersion
	// Tag and Modified identify this state of the index, for the next question.
	Tag, Modified string
}

// ChartVersion is one version of a chart.
type ChartVersion struct {
	Version string   `yaml:"version" json:"version"`
	Digest  string   `yaml:"digest" json:"digest"` // of the archive, "sha256:…"; empty where the index has none
	URLs    []string `yaml:"urls" json:"urls"`
}

// Index asks for the index. known is one that was read before, or nil: if it
// still holds, the error is ErrNotModified. Only charts that wanted says yes to
// are kept.
func (h *Helm) Index(ctx context.Context, known *Index, wanted func(chart string) bool) (*Index, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	c, err := h.converse(ctx, h.URL)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, h.URL, strings.TrimSuffix(h.URL, "/")+"/index.yaml")
	if err != nil {
		return nil, err
	}
	if known != nil && known.Tag != "" {
		req.Header.Set("If-None-Match", known.Tag)
	} else if known != nil && known.Modified != "" {
		req.Header.Set("If-Modified-Since", known.Modified)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, unreachable(h.URL, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotModified:
		return nil, ErrNotModified
	default:
		err := status(h.URL, resp.StatusCode, "index.yaml", len(c.auth.Password) > 0)
		if be, ok := errors.AsType[*belay.Error](err); ok && be.Code == belay.CodeNotFound {
			be.Hint = "is this the URL of a Helm repository? leave chart out for a Git repository, write oci:// for a registry"
		}
		return nil, err
	}
	b, err := read(h.URL, "index.yaml", resp.Body, MaxIndex)
	if err != nil {
		return nil, err
	}
	idx := &Index{Tag: resp.Header.Get("ETag"), Modified: resp.Header.Get("Last-Modified")}
	if idx.Charts, err = entries(b, wanted); err != nil {
		return nil, problem(h.URL, belay.CodeInvalid, "its index.yaml cannot be read", "is this the URL of a Helm repository?", err)
	}
	for _, versions := range idx.Charts {
		for i := range versions {
			versions[i].Digest = sha256Digest(versions[i].Digest)
		}
	}
	return idx, nil
}

// Fetch gets the archive of a version and its digest. An archive that is not
// what the index promises is an error.
func (h *Helm) Fetch(ctx context.Context, chart string, v ChartVersion) (content []byte, digest string, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	what := "the archive of " + chart + " " + v.Version
	if len(v.URLs) == 0 {
		return nil, "", problem(h.URL, belay.CodeInvalid, "its index.yaml has no URL for "+what, "", nil)
	}
	base, err := url.Parse(strings.TrimSuffix(h.URL, "/") + "/")
	if err != nil {
		return nil, "", problem(h.URL, belay.CodeInvalid, "not a URL", "", nil)
	}
	at, err := base.Parse(v.URLs[0])
	if err != nil || at.Scheme != "http" && at.Scheme != "https" {
		return nil, "", problem(h.URL, belay.CodeInvalid, "its index.yaml has no HTTP URL for "+what, "", nil)
	}
	c, err := h.converse(ctx, h.URL)
	if err != nil {
		return nil, "", err
	}
	if at.Scheme != base.Scheme || at.Host != base.Host {
		c.auth.Password = nil // credentials are for the repository alone
	}
	req, err := c.request(ctx, h.URL, at.String())
	if err != nil {
		return nil, "", err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, "", unreachable(h.URL, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, "", status(h.URL, resp.StatusCode, what, len(c.auth.Password) > 0)
	}
	if content, err = read(h.URL, what, resp.Body, MaxContent); err != nil {
		return nil, "", err
	}
	digest = Digest(content)
	if v.Digest != "" {
		err = verify(h.URL, what, v.Digest, content)
	}
	return content, digest, err
}

func (c *conversation) request(ctx context.Context, repo, at string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, http.NoBody)
	if err != nil {
		return nil, problem(repo, belay.CodeInvalid, "not a URL", "", nil) // the cause quotes it
	}
	req.Header.Set("User-Agent", c.agent)
	switch {
	case len(c.auth.Password) == 0:
	case c.auth.Username != "":
		req.SetBasicAuth(c.auth.Username, string(c.auth.Password))
	default:
		req.Header.Set("Authorization", "Bearer "+string(c.auth.Password))
	}
	return req, nil
}
