package verify

import (
	"fmt"
	"slices"
	"strings"
)

// named are the commits of a repository, in the order in which records name them,
// each with the first that does.
type named struct {
	ids []string
	by  map[string]Finding
}

// namesSources remembers which commits of sources the record names.
func (c *checker) namesSources() {
	if len(c.v.o.Sources) == 0 {
		return
	}
	ev := &c.r.Event
	c.names(ev.Repo, ev.Revision)
	if ev.Detail != nil {
		for _, s := range ev.Detail.Sources {
			c.names(s.Repo, s.Revision)
		}
	}
}

func (c *checker) names(repo, revision string) {
	if repo == "" || !isCommit(revision) {
		return
	}
	m := c.v.sources[repo]
	if m == nil {
		m = &named{by: map[string]Finding{}}
		c.v.sources[repo] = m
	}
	if _, known := m.by[revision]; !known {
		m.ids = append(m.ids, revision)
		m.by[revision] = c.at
	}
}

func isCommit(s string) bool {
	return (len(s) == 40 || len(s) == 64) && strings.Trim(s, "0123456789abcdef") == ""
}

// lookUpSources looks for the commits that records name.
func (v *verifier) lookUpSources() error {
	for _, source := range v.o.Sources {
		url, folder, given := strings.Cut(source, "=")
		if !given {
			folder = url
		}
		n, known := v.sources[url]
		if !known {
			return fmt.Errorf("no record names a commit of the repository %s; they name %s", clean(url), v.knownSources())
		}
		if err := v.lookUp(url, folder, n); err != nil {
			return fmt.Errorf("read the repository %s: %w", clean(url), err)
		}
	}
	return nil
}

func (v *verifier) knownSources() string {
	var out []string
	for url := range v.sources {
		out = append(out, clean(url))
	}
	slices.Sort(out)
	if len(out) == 0 {
		return "none at all"
	}
	return strings.Join(out, ", ")
}

func (v *verifier) lookUp(url, where string, n *named) error {
	var r *repo
	var err error
	if isURL(where) {
		r = &repo{env: v.o.Env}
		err = r.fetched(v.ctx, where, "+refs/*:refs/*")
	} else {
		r, err = open(v.ctx, where, nil)
	}
	if r != nil {
		defer r.close()
	}
	if err != nil {
		return err
	}
	c := r.command("cat-file", "--batch-check=%(objectname) %(objecttype)")
	c.Stdin = strings.NewReader(strings.Join(n.ids, "\n") + "\n")
	out, err := c.Output(v.ctx, outputLimit)
	if err != nil {
		return err
	}
	answers := strings.Split(string(out), "\n")
	for i, id := range n.ids {
		if answer := line(answers, i); answer != id+" commit" {
			f := n.by[id]
			f.Check, f.Message, f.Want = CheckSource, "the commit of the source that it names does not exist in "+clean(url), id
			v.report.add(f)
		}
	}
	v.report.SourceCommits += len(n.ids)
	return nil
}
