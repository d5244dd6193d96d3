package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/registry"
)

// This file finds the digest that a version, range or tag means, and brings the
// content behind it here.

func (a *artifacts) options() registry.Options {
	a.mu.Lock()
	defer a.mu.Unlock()
	o := registry.Options{PlainHTTP: a.config.PlainHTTP, UserAgent: a.h.o.UserAgent}
	if auth := a.config.Auth; auth != nil {
		o.Auth = func(ctx context.Context) (registry.Auth, error) {
			g, err := auth(ctx)
			return registry.Auth{Username: g.Username, Password: g.Password, CA: g.CA}, err
		}
	}
	if a.config.stranger {
		o.Guard = refuseLocal
	}
	return o
}

func (a *artifacts) helm() *registry.Helm { return &registry.Helm{URL: a.url, Options: a.options()} }
func (a *artifacts) oci() *registry.OCI   { return &registry.OCI{URL: a.url, Options: a.options()} }

// noVersion is the error of a ref that nothing fits. names are the versions there are.
func (a *artifacts) noVersion(what, ref string, names []string) error {
	e := &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: a.url},
		Message: fmt.Sprintf("repository %s: %s has no version %s", a.url, what, ref)}
	if best := highestVersion(names, ">=0.0.0-0"); best != "" {
		e.Hint = "the highest version is " + best
	} else if near := nearest(ref, names); len(near) > 0 {
		e.Hint = "did you mean " + strings.Join(near, ", ") + "?"
	}
	return e
}

// pickVersion finds the version that a ref means: itself, or the highest one of
// a range. A prerelease counts only if the range names one.
func pickVersion(versions []string, ref string) string {
	for _, v := range versions {
		if v == ref || strings.TrimPrefix(v, "v") == strings.TrimPrefix(ref, "v") {
			return v
		}
	}
	return highestVersion(versions, ref)
}

func highestVersion(versions []string, constraint string) string {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return ""
	}
	var best *semver.Version
	name := ""
	for _, s := range versions {
		v, err := semver.StrictNewVersion(strings.TrimPrefix(s, "v"))
		if err == nil && c.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, name = v, s
		}
	}
	return name
}

func (a *artifacts) askHelm(ctx context.Context, refs []string) (map[string]*release, error) {
	wanted := map[string]bool{}
	for _, r := range refs {
		chart, _, _ := strings.Cut(r, "@")
		wanted[chart] = true
	}
	known := a.index
	for chart := range wanted {
		if known != nil && known.Charts[chart] == nil {
			known = nil // it was not kept
		}
	}
	idx, err := a.helm().Index(ctx, known, func(chart string) bool { return wanted[chart] })
	switch {
	case errors.Is(err, registry.ErrNotModified):
		idx = known
	case err != nil:
		return nil, err
	default:
		a.index = idx
		clear(a.digests)
	}
	out := make(map[string]*release, len(refs))
	for _, r := range refs {
		chart, ref, _ := strings.Cut(r, "@")
		out[r] = a.helmRelease(ctx, idx, chart, ref)
	}
	return out, nil
}

func (a *artifacts) helmRelease(ctx context.Context, idx *registry.Index, chart, ref string) *release {
	versions := idx.Charts[chart]
	if len(versions) == 0 {
		return &release{err: &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: a.url},
			Message: fmt.Sprintf("repository %s: has no chart %q", a.url, chart)}}
	}
	names := make([]string, len(versions))
	for i, v := range versions {
		names[i] = v.Version
	}
	i := slices.Index(names, pickVersion(names, ref))
	if registry.IsDigest(ref) {
		i = slices.IndexFunc(versions, func(v registry.ChartVersion) bool { return v.Digest == ref })
	}
	if i < 0 {
		return &release{err: a.noVersion("the chart "+chart, ref, names)}
	}
	v := versions[i]
	r := &release{name: v.Version, digest: v.Digest}
	if r.digest == "" {
		r.digest = a.digests[chart+"@"+v.Version]
	}
	if r.digest == "" || a.h.trees.get(r.digest) == nil && a.h.contents.get(r.digest) == nil {
		done, err := acquire(ctx, a.h.fetch)
		if err != nil {
			return &release{err: err}
		}
		defer done()
		b, digest, err := a.helm().Fetch(ctx, chart, v)
		if err == nil {
			_, err = a.takeChart(digest, b)
		}
		if err != nil {
			return &release{err: err}
		}
		r.digest = digest
		a.digests[chart+"@"+v.Version] = digest
	}
	return r
}

// takeChart unpacks an archive that was just fetched, and keeps it if it is good.
func (a *artifacts) takeChart(digest string, b []byte) (*archive, error) {
	t, err := a.unpackChart(b)
	if err != nil {
		return nil, err
	}
	a.h.trees.put(digest, t)
	return t, a.h.contents.put(b)
}

func (a *artifacts) unpackChart(b []byte) (*archive, error) {
	t := newArchive()
	err := t.unpack(b)
	if err == nil {
		err = t.stripTop()
	}
	if err != nil {
		return nil, a.named(err)
	}
	t.top.seal()
	return t, nil
}

// named puts the repository into the error of an archive.
func (a *artifacts) named(err error) error {
	if be, ok := errors.AsType[*belay.Error](err); ok {
		c := *be
		c.Message = "repository " + a.url + ": " + c.Message
		c.Origin.Repo = a.url
		return &c
	}
	return err
}

// validTag is what a registry takes for a tag.
var validTag = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

func (a *artifacts) askOCI(ctx context.Context, refs []string) map[string]*release {
	out := make(map[string]*release, len(refs))
	var tags []string // listed once, if at all
	for _, ref := range refs {
		r, err := a.ociRelease(ctx, ref, &tags)
		if err == nil && a.h.trees.get(r.digest) == nil {
			_, err = a.tree(ctx, r.digest)
		}
		if err != nil {
			r = &release{err: err}
		}
		out[ref] = r
	}
	return out
}

func (a *artifacts) ociRelease(ctx context.Context, ref string, tags *[]string) (*release, error) {
	o := a.oci()
	if registry.IsDigest(ref) {
		return &release{name: ref, digest: ref}, nil
	}
	tag := strings.ReplaceAll(ref, "+", "_") // a tag has no "+", and Helm writes it so
	if validTag.MatchString(tag) {
		digest, err := o.Resolve(ctx, tag)
		if err == nil {
			return &release{name: ref, digest: digest}, nil
		}
		if _, cerr := semver.NewConstraint(ref); cerr != nil || belay.CodeOf(err) != belay.CodeNotFound {
			return nil, err
		}
	}
	if *tags == nil {
		var err error
		if *tags, err = o.Tags(ctx); err != nil {
			return nil, err
		}
	}
	versions := make([]string, len(*tags))
	for i, t := range *tags {
		versions[i] = strings.ReplaceAll(t, "_", "+")
	}
	v := pickVersion(versions, ref)
	if v == "" && ref == "*" && slices.Contains(*tags, "latest") {
		v = "latest"
	}
	if v == "" {
		return nil, a.noVersion("it", ref, versions)
	}
	digest, err := o.Resolve(ctx, strings.ReplaceAll(v, "+", "_"))
	return &release{name: v, digest: digest}, err
}

// tree gives the files behind a digest, from disk or from the registry.
func (a *artifacts) tree(ctx context.Context, digest string) (*archive, error) {
	if isOCI(a.url) {
		return a.ociTree(ctx, digest)
	}
	if b := a.h.contents.get(digest); b != nil {
		t, err := a.unpackChart(b)
		if err == nil {
			a.h.trees.put(digest, t)
		}
		return t, err
	}
	return a.fetchAgain(ctx, digest)
}

// fetchAgain gets an archive that was known once and is not here any more.
func (a *artifacts) fetchAgain(ctx context.Context, digest string) (*archive, error) {
	idx, err := a.helm().Index(ctx, nil, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	for chart, versions := range idx.Charts {
		for _, v := range versions {
			if v.Digest != digest {
				continue
			}
			b, _, err := a.helm().Fetch(ctx, chart, v)
			if err != nil {
				return nil, err
			}
			return a.takeChart(digest, b)
		}
	}
	return nil, &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: a.url, Revision: digest},
		Message: fmt.Sprintf("repository %s: has no chart with the digest %.19s… any more", a.url, digest)}
}

func (a *artifacts) ociTree(ctx context.Context, digest string) (*archive, error) {
	o, fresh := a.oci(), [][]byte(nil)
	get := func(digest string, fetch func() ([]byte, error)) ([]byte, error) {
		if b := a.h.contents.get(digest); b != nil {
			return b, nil
		}
		done, err := acquire(ctx, a.h.fetch)
		if err != nil {
			return nil, err
		}
		defer done()
		b, err := fetch()
		if err == nil {
			fresh = append(fresh, b)
		}
		return b, err
	}
	raw, err := get(digest, func() ([]byte, error) { return o.Manifest(ctx, digest) })
	if err != nil {
		return nil, err
	}
	m, err := registry.ParseManifest(a.url, raw)
	if err != nil {
		return nil, err
	}
	t := newArchive()
	for _, l := range m.Layers {
		b, err := get(l.Digest, func() ([]byte, error) { return o.Layer(ctx, l) })
		if err != nil {
			return nil, err
		}
		if err := t.layer(l, b); err != nil {
			return nil, a.named(err)
		}
	}
	if m.Chart {
		if err := t.stripTop(); err != nil {
			return nil, a.named(err)
		}
	}
	t.top.seal()
	for _, b := range fresh {
		if err := a.h.contents.put(b); err != nil {
			return nil, err
		}
	}
	a.h.trees.put(digest, t)
	return t, nil
}

// layer adds what is in one layer: an archive, or one file.
func (t *archive) layer(l registry.Layer, b []byte) error {
	if l.Archive() {
		return t.unpack(b)
	}
	name, err := inside(l.Title)
	if err != nil {
		return err
	}
	if len(b) > maxArchiveFile {
		return hostile("contains %q, which is bigger than %d MiB", name, maxArchiveFile>>20)
	}
	return t.add(name, b)
}
