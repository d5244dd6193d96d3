package helm

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/Masterminds/semver/v3"
	chart "helm.sh/helm/v4/pkg/chart/v2"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// fetched loads the dependencies that charts/ does not contain from where
// Chart.yaml says they are published: the parent shows them at paths that say
// which they are. A version in Chart.lock counts; without one the range in
// Chart.yaml is followed.
func (c *charts) fetched(root string, ch *chart.Chart) bool {
	loaded := map[string]bool{}
	for i, dep := range ch.Metadata.Dependencies {
		m, ok := published(dep)
		if !ok || vendored(ch, dep, loaded) {
			continue
		}
		at := wire.Problem{File: path.Join(root, "Chart.yaml")}
		version, err := locked(ch, dep, i)
		if err != nil {
			at.Message, at.Hint = err.Error(), fmt.Sprintf("run \"helm dependency update %s\" and commit Chart.lock", root)
			c.out.Fail(at)
			return false
		}
		m.Ref = version
		dir := m.Path()
		if loaded[dir] {
			continue // the same chart by another alias
		}
		st := c.tree.Stat(dir)[0]
		if errors.Is(st.Err, fs.ErrNotExist) || st.Err == nil && !st.Dir {
			continue // reported as missing
		}
		if st.Err != nil {
			c.out.Fail(wire.ProblemOf(st.Err, at.File, 0))
			return false
		}
		sub := c.dir(dir)
		if sub == nil {
			return false
		}
		loaded[dir], loaded["chart "+dep.Name] = true, true
		ch.AddDependency(sub)
	}
	return true
}

// published is where a dependency comes from; ok is false if it does not say.
func published(dep *chart.Dependency) (m belay.Mount, ok bool) {
	repo := dep.Repository
	for _, prefix := range []string{"@", "alias:"} { // a name that people give a repository
		if name, ok := strings.CutPrefix(repo, prefix); ok {
			return belay.Mount{Repo: name, Chart: dep.Name}, name != ""
		}
	}
	for _, scheme := range []string{"https://", "http://", "oci://"} {
		if strings.HasPrefix(repo, scheme) {
			return belay.Mount{Repo: strings.TrimRight(repo, "/"), Chart: dep.Name}, true
		}
	}
	return m, false
}

// vendored says whether a dependency is in charts/. Two of one name may be, each
// in its version.
func vendored(ch *chart.Chart, dep *chart.Dependency, loaded map[string]bool) bool {
	for _, d := range ch.Dependencies() {
		if d.Name() == dep.Name && (!loaded["chart "+dep.Name] || fits(dep.Version, d.Metadata.Version)) {
			return true
		}
	}
	return false
}

func fits(constraint, version string) bool {
	c, err := semver.NewConstraint(constraint)
	if err != nil {
		return constraint == version
	}
	v, err := semver.NewVersion(version)
	return err == nil && c.Check(v)
}

// locked is the version to take: that of Chart.lock, or the range.
func locked(ch *chart.Chart, dep *chart.Dependency, i int) (string, error) {
	version := dep.Version
	if version == "" {
		version = "*"
	}
	if ch.Lock == nil {
		return version, nil
	}
	of := func(i int) string {
		if i < len(ch.Lock.Dependencies) {
			if l := ch.Lock.Dependencies[i]; l.Name == dep.Name {
				return l.Version
			}
		}
		return ""
	}
	v := of(i)
	for j := range ch.Lock.Dependencies {
		if v == "" {
			v = of(j)
		}
	}
	if v == "" || !fits(version, v) {
		return "", fmt.Errorf("Chart.lock has no version of %s that fits %q: it is out of date", dep.Name, version) //nolint:staticcheck // the name of a file
	}
	return v, nil
}
