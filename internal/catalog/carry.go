package catalog

// Most commits to a repository that holds definitions and sources change no
// definition. What such a one costs must not grow with how many there are.

// meaning is what catalogs of one meaning share.
type meaning struct {
	// ofTree is true where everything follows from the tree below the root.
	ofTree bool
}

// SameAs says that both catalogs are known to mean the same, without looking. It may
// be false of two that do.
func (c *Catalog) SameAs(o *Catalog) bool {
	return o != nil && c.meaning != nil && c.meaning == o.meaning
}

// carriedOn is the catalog for another commit if the tree below the root is the same
// there and nothing else counts, else nil. The origins in it name the commit at which
// the definitions were read: what stands there is the same.
func (c *Catalog) carriedOn(files Files, opts Options) *Catalog {
	if c.meaning == nil || !c.meaning.ofTree ||
		c.opts.Root != opts.Root || c.opts.Repo != opts.Repo || c.opts.Ref != opts.Ref {
		return nil
	}
	trees, ok := files.(Trees)
	d := c.dirs[rootDir(opts.Root)]
	if !ok || d == nil || d.digest == "" {
		return nil
	}
	if digest, err := trees.TreeDigest(rootDir(opts.Root)); err != nil || digest != d.digest {
		return nil // what is wrong with it the reader finds out
	}
	next := *c
	next.opts.Revision = opts.Revision
	return &next
}

// followsFromTree says whether the catalog would be the same of any commit with the
// same tree: no set that looks elsewhere, no link that leads elsewhere, nothing
// unreadable that is to be tried again, and nothing that is wrong, which has a memory.
func (c *Catalog) followsFromTree() bool {
	if len(c.sets)+len(c.Problems)+len(c.Holds)+len(c.ApplicationErrors) > 0 {
		return false
	}
	for _, d := range c.dirs {
		if d.digest == "" || len(d.links)+len(d.subs) > 0 {
			return false
		}
	}
	for _, f := range c.files {
		if f.digest == "" || f.broken || f.unreadable || f.remembers() {
			return false
		}
	}
	return true
}

// rootDir is the root as a path.
func rootDir(root string) string {
	if root == "" {
		return "."
	}
	return root
}
