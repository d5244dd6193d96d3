package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// A rollback is a commit: what an application was made of then, put back on top
// of history. It cannot conflict, because it takes no commit back; it leaves no
// gap between Git and the cluster, because it is how Git comes to say what the
// cluster is to be; and it needs no automatic sync to be switched off.

// pushTries is how often a rollback is worked out anew because somebody pushed
// meanwhile.
const pushTries = 5

// Rollback takes one application, or with req.Change all that a commit changed,
// back to what they were. A dry run tells what would be done and leaves nothing
// behind that anybody sees.
func (e *Engine) Rollback(ctx context.Context, name string, req belay.RollbackRequest, actor string) (belay.Rollback, error) {
	if e.Committer == nil {
		return belay.Rollback{}, &belay.Error{Code: belay.CodeInternal, Message: "this process makes no commits"}
	}
	e.rolling.Lock() // two at once would push past each other
	defer e.rolling.Unlock()
	e.check(ctx, e.Repo)
	wants, err := e.wants(ctx, name, &req)
	if err != nil {
		return belay.Rollback{}, err
	}
	pasts := make([]*past, 0, len(wants))
	for _, w := range wants {
		p, err := e.pastOf(ctx, w)
		if err != nil {
			return belay.Rollback{}, err
		}
		pasts = append(pasts, p)
	}
	slices.SortFunc(pasts, func(a, b *past) int { return strings.Compare(a.name, b.name) })
	var out belay.Rollback
	if req.Now {
		if out.Hold, err = e.holdFor(ctx, pasts, &req, actor); err != nil {
			return out, err
		}
	}
	if req.HoldOnly {
		out.Applications, out.Commits = rolledBack(pasts), []belay.RollbackCommit{}
		return out, nil
	}
	done, err := e.commitBack(ctx, pasts, &req, actor)
	done.Hold = out.Hold
	if err != nil && out.Hold != nil { // the hold stands, whatever became of the commit
		done.Applications, done.Commits = rolledBack(pasts), slices.Concat([]belay.RollbackCommit{}, done.Commits)
		done.Problem, err = asError(err, pasts[0].name), nil
	}
	return done, err
}

func rolledBack(pasts []*past) []belay.RolledBack {
	out := make([]belay.RolledBack, 0, len(pasts))
	for _, p := range pasts {
		out = append(out, belay.RolledBack{Application: p.name, Revision: p.rev.Commit, From: p.from, Config: p.config, Deployment: p.deployment, Digest: p.desired.digest, Held: p.held})
	}
	return out
}

// wants are the earlier states that a request is for.
func (e *Engine) wants(ctx context.Context, name string, req *belay.RollbackRequest) ([]wanted, error) {
	switch {
	case req.Change != "" && (req.To != "" || name != ""):
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "either an application and what it goes back to, or a change, not both"}
	case req.Change != "":
		return e.wantsOfChange(ctx, req.Change)
	case req.To == "":
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: "what to go back to is not said", Hint: "belay rollback " + name + " lists the revisions and deployments"}
	}
	w, err := e.want(ctx, name, req.To)
	return []wanted{w}, err
}

// commitBack makes the commits, proves them and pushes them, unless it is a dry
// run. When somebody is faster it begins again on top of their commit.
func (e *Engine) commitBack(ctx context.Context, pasts []*past, req *belay.RollbackRequest, actor string) (belay.Rollback, error) {
	for try := 1; ; try++ {
		w, err := e.prepare(ctx, pasts, req, actor)
		if err != nil {
			return belay.Rollback{}, err
		}
		out, err := e.described(ctx, w, req, actor)
		if err != nil {
			return out, err
		}
		refusal := e.notDeployed(ctx, w, &out)
		if req.DryRun {
			out.Previews, out.Problem = e.previewsOf(ctx, w), refusal
			return out, nil
		}
		if err := agreed(w, req); err != nil {
			return out, err
		}
		if refusal != nil {
			return out, refusal
		}
		moved, err := e.pushAll(ctx, w, &out, actor, req.Reason)
		switch {
		case err != nil || !moved:
			return out, err
		case try == pushTries:
			return out, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("nothing was pushed: somebody was faster %d times in a row", try), Hint: "try again"}
		}
	}
}

// agreed refuses to change applications that nobody agreed to.
func agreed(w *work, req *belay.RollbackRequest) error {
	var unasked []string
	for _, o := range w.others {
		if !slices.Contains(req.Others, o.Application) {
			unasked = append(unasked, o.Application)
		}
	}
	if len(unasked) == 0 {
		return nil
	}
	return &belay.Error{Code: belay.CodeHeld, Message: "nothing was pushed: it would also change " + strings.Join(unasked, ", "),
		Hint: "they are made of the same files; look at it with --dry-run, and agree with --yes"}
}

// described is the work as people see it.
func (e *Engine) described(ctx context.Context, w *work, req *belay.RollbackRequest, actor string) (belay.Rollback, error) {
	out := belay.Rollback{Applications: rolledBack(w.pasts), Commits: []belay.RollbackCommit{}, Others: w.others, Notes: w.notes}
	policy := e.policyOf(w.pasts)
	for _, bk := range slices.SortedFunc(maps.Keys(w.branches), e.configLast) {
		b := w.branches[bk]
		if b.commit == "" {
			continue
		}
		c := belay.RollbackCommit{Repo: bk.url, Branch: bk.branch, Parent: b.head, Commit: b.commit, Message: rollbackMessage(w.pasts, req, actor)}
		if b.signer != nil {
			c.Signer = b.signer.String()
		} else {
			c.Unsigned = asError(b.why, "").Message
		}
		if policy.Push == belay.PushPullRequest {
			c.Into, c.Branch = bk.branch, branchFor(policy.BranchPrefix, w.pasts)
			c.Compare = compareURL(bk.url, c.Into, c.Branch)
		}
		out.Notes = append(out.Notes, e.unwelcome(ctx, &c)...)
		tree, err := e.Committer.Tree(ctx, bk.url, b.head)
		if err != nil {
			return out, err
		}
		for _, p := range slices.Sorted(maps.Keys(b.edits)) {
			was, err := tree.Entry(p)
			if err != nil {
				return out, err
			}
			f := belay.ChangedFile{Path: p, Change: "changed"}
			switch {
			case b.edits[p].Entry == belay.TreeEntry{}:
				f.Change = "removed"
			case was == belay.TreeEntry{}:
				f.Change = "added"
			}
			c.Files = append(c.Files, f)
		}
		if req.DryRun {
			if c.Patch, err = e.Committer.Patch(ctx, bk.url, b.commit); err != nil {
				return out, err
			}
		}
		out.Commits = append(out.Commits, c)
	}
	for i := range out.Applications {
		out.Applications[i].Same = len(out.Commits) == 0
	}
	return out, nil
}

// unwelcome tells of a push that will be refused, as far as that is known before.
func (e *Engine) unwelcome(ctx context.Context, c *belay.RollbackCommit) []string {
	busy, err := e.Committer.CheckedOut(ctx, c.Repo, c.Branch)
	if err != nil || !busy { // or the push says why not
		return nil
	}
	return []string{fmt.Sprintf("%s is checked out in %s, and git will refuse the push; allow it there with "+
		"git config receive.denyCurrentBranch updateInstead, or take the commit with --patch", c.Branch, c.Repo)}
}

// configLast puts the definitions after what they are made of: a definition that
// goes back finds its files as they were.
func (e *Engine) configLast(a, b branchKey) int {
	last := func(k branchKey) int {
		if k.url == e.Repo {
			return 1
		}
		return 0
	}
	return cmp.Or(last(a)-last(b), strings.Compare(a.url, b.url), strings.Compare(a.branch, b.branch))
}

// policyOf is the strictest policy of the projects of all that goes back.
func (e *Engine) policyOf(pasts []*past) belay.RollbackPolicy {
	policy := belay.DefaultRollbackPolicy()
	for _, p := range pasts {
		if p.project.Spec.Rollback.Push == belay.PushPullRequest {
			policy = p.project.Spec.Rollback
		}
	}
	policy.BranchPrefix = cmp.Or(policy.BranchPrefix, belay.DefaultRollbackPolicy().BranchPrefix)
	return policy
}

func branchFor(prefix string, pasts []*past) string {
	name := pasts[0].name
	if len(pasts) > 1 {
		name = fmt.Sprintf("%s-and-%d", name, len(pasts)-1)
	}
	return prefix + name + "-" + strings.Trim(strings.NewReplacer("/", "-", ":", "-", "+", "-").Replace(pasts[0].rev.Short()), ".")
}

// pushAll pushes every commit. moved is true when somebody was faster: then all
// has to be worked out again, and what was pushed already is found as it should be.
func (e *Engine) pushAll(ctx context.Context, w *work, out *belay.Rollback, actor, reason string) (moved bool, err error) {
	for i := range out.Commits {
		c := &out.Commits[i]
		err := e.pushOne(ctx, c)
		if errors.Is(err, ErrMoved) {
			e.check(ctx, c.Repo)
			return true, nil
		}
		if err != nil {
			be := *asError(err, w.pasts[0].name)
			for _, done := range out.Commits[:i] {
				be.Message += fmt.Sprintf("; commit %s was pushed to %s before", shortCommit(done.Commit), done.Repo)
			}
			be.Hint = strings.TrimPrefix(be.Hint+"; or take the commit as a patch: belay rollback ... --patch FILE, then git am FILE and push", "; ")
			return false, &be
		}
		c.Pushed = true
		e.Checkpoint("pushed")
		for _, p := range w.pasts {
			msg := fmt.Sprintf("commit %s puts back what it was made of at %s; %s", shortCommit(c.Commit), p.rev.Short(), whoSigned(c))
			if c.Into != "" {
				msg += fmt.Sprintf("; it waits on branch %s to be merged into %s", c.Branch, c.Into)
			}
			e.publish(belay.Event{Type: belay.EventRollback, Application: p.name, Project: p.project.Name, Cluster: p.def.Spec.Destination.Cluster, Repo: c.Repo, Ref: c.Branch,
				Revision: c.Commit, Actor: actor, Reason: reason, Deployment: p.deployment, Message: msg})
		}
	}
	for _, p := range w.pasts {
		e.noteCommit(p.name, out.Commits)
	}
	for _, c := range out.Commits {
		e.check(ctx, c.Repo)
	}
	return false, nil
}

// pushOne pushes one commit; a branch for a pull request gets another name where
// there is one already.
func (e *Engine) pushOne(ctx context.Context, c *belay.RollbackCommit) error {
	err := e.Committer.Push(ctx, c.Repo, c.Commit, c.Branch)
	if c.Into == "" {
		return err
	}
	name := c.Branch
	for n := 2; errors.Is(err, ErrMoved) && n < 20; n++ {
		c.Branch = fmt.Sprintf("%s-%d", name, n)
		c.Compare = compareURL(c.Repo, c.Into, c.Branch)
		err = e.Committer.Push(ctx, c.Repo, c.Commit, c.Branch)
	}
	return err
}

// previewsOf is what would change in the clusters.
func (e *Engine) previewsOf(ctx context.Context, w *work) []belay.Preview {
	v := view{catalog: w.catalog, rev: w.config, at: func(k refKey, now belay.Revision) belay.Revision { return e.then(ctx, w, k, now) }}
	out, patience := []belay.Preview{}, listPatience
	for _, name := range w.affected {
		def, ok := w.catalog.Applications[name]
		if !ok {
			continue
		}
		refs := refsOf(&def, w.catalog)
		p, err := e.previewOne(ctx, v, subject{def: &def, ref: refs[0], refs: refs}, nil, &patience)
		if err != nil {
			p.Errors = append(p.Errors, *asError(err, name))
		}
		out = append(out, p)
	}
	return out
}

// compareURL is the page of well-known forges on which a pull request is opened;
// "" for others.
func compareURL(repo, into, branch string) string {
	u, err := url.Parse(repo)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "ssh") {
		host, path, ok := strings.Cut(strings.TrimPrefix(repo, "git@"), ":") // git@host:path
		if !ok || strings.ContainsAny(host, "/\\") || strings.HasPrefix(path, "/") {
			return ""
		}
		u = &url.URL{Host: host, Path: "/" + path}
	}
	host := u.Hostname()
	base := "https://" + host + strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), ".git")
	from, to := pathEscape(branch), pathEscape(into)
	switch {
	case host == "github.com" || strings.HasPrefix(host, "github."):
		return base + "/compare/" + to + "..." + from + "?expand=1"
	case host == "gitlab.com" || strings.HasPrefix(host, "gitlab."):
		return base + "/-/merge_requests/new?merge_request%5Bsource_branch%5D=" + url.QueryEscape(branch) + "&merge_request%5Btarget_branch%5D=" + url.QueryEscape(into)
	case host == "bitbucket.org":
		return base + "/pull-requests/new?source=" + url.QueryEscape(branch) + "&dest=" + url.QueryEscape(into)
	case host == "codeberg.org" || strings.HasPrefix(host, "gitea.") || strings.HasPrefix(host, "forgejo."):
		return base + "/compare/" + to + "..." + from
	}
	return ""
}

// pathEscape keeps the slashes of a branch's name.
func pathEscape(branch string) string { return strings.ReplaceAll(url.PathEscape(branch), "%2F", "/") }
