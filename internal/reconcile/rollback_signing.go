package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/signature"
)

// Commits that Belay makes are signed, so that they may be deployed where that is
// wanted. A signature stands for everything that a commit contains, whoever asked
// for it: it must never let in what those who trust the key have refused. So nothing
// is signed on top of a commit that a Project refuses, nor what goes back to one.

// patchHint is what is always left to do.
const patchHint = "take the commit as a patch and sign it: belay rollback ... --patch FILE, then git am -S FILE and push"

// CommitSigner is whose signature the commits have that this server makes.
func (e *Engine) CommitSigner() (belay.CommitSigner, error) {
	if e.Committer == nil {
		return belay.CommitSigner{}, &belay.Error{Code: belay.CodeInternal, Message: "this process makes no commits"}
	}
	s, err := e.Committer.Signer()
	return s.CommitSigner, err
}

// guard lets in only what is signed: a Project, or this server for its definitions.
type guard struct {
	refKey // with the URL of the branch that it guards
	rules  *belay.Signatures
	file   belay.Origin // of the Project
	// accepted is what it let in last.
	accepted string
}

func (g *guard) name() string {
	if g.project == configProject {
		return "this server"
	}
	return fmt.Sprintf("project %q", g.project)
}

// guardsOf are those of a branch.
func (e *Engine) guardsOf(ctx context.Context, w *work, bk branchKey) []guard {
	keys := []refKey{e.configKey()}
	e.mu.Lock()
	for k := range e.refs {
		keys = append(keys, k)
	}
	e.mu.Unlock()
	for _, p := range w.pasts {
		for k := range p.at {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, func(a, b refKey) int { return cmp.Or(compareRefs(a, b), strings.Compare(a.project, b.project)) })
	var out []guard
	for _, k := range slices.Compact(keys) {
		rules := e.rulesOf(k)
		if k.project == "" || !rules.Wanted() || rules.Mode == belay.SignaturesWarn || !e.follows(ctx, k, bk, w.branches[bk].head) {
			continue
		}
		g := guard{refKey: refKey{bk.url, k.ref, k.project}, rules: rules, accepted: e.acceptedLast(k)}
		if cat := e.catalogInForce(); cat != nil {
			g.file = cat.Projects[k.project].Origin
		}
		out = append(out, g)
	}
	return out
}

// follows says whether a ref means a branch that is at head. The repository may be
// known under another URL as well: then its commits are the same.
func (e *Engine) follows(ctx context.Context, k refKey, bk branchKey, head string) bool {
	branch, err := e.Committer.Branch(ctx, k.url, k.ref)
	if err != nil || branch != bk.branch { // a chart has none
		return false
	}
	if k.url == bk.url {
		return true
	}
	rev, _ := e.Sources.Revision(k.url, k.ref) // that a newer one may exist does not matter
	if rev.Commit == "" {
		return false
	}
	same, err := e.Committer.Includes(ctx, bk.url, head, rev.Commit)
	return err == nil && same
}

// asked says whether a guard has to let in what is made: it is the server, or the
// Project of something that goes back. Others may refuse it.
func (w *work) asked(g *guard) bool {
	return g.project == configProject || slices.ContainsFunc(w.pasts, func(p *past) bool { return p.project.Name == g.project })
}

// letIn says why a guard would not let a commit in; what it did let in stays.
func (e *Engine) letIn(ctx context.Context, g *guard, commit string) error {
	if g.accepted == commit {
		return nil
	}
	return e.checkSigned(ctx, g.refKey, commit, g.accepted, g.rules)
}

// signerFor is who signs a commit on a branch, or why nobody does.
func (e *Engine) signerFor(ctx context.Context, w *work, bk branchKey) (*CommitSigner, error) {
	signer, err := e.Committer.Signer()
	if err != nil {
		return nil, err
	}
	b := w.branches[bk]
	for i := range b.guards {
		g := &b.guards[i]
		if err := e.letIn(ctx, g, b.head); err != nil {
			be := *asError(err, "")
			be.Message = fmt.Sprintf("nothing is signed on top of what %s does not let in: %s", g.name(), be.Message)
			return nil, &be
		}
		for _, p := range w.pasts {
			if rev, ok := e.refusedOf(ctx, g, p); ok {
				return nil, &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: g.url, Revision: rev.Commit}, Hint: "choose a revision that is",
					Message: fmt.Sprintf("nothing is signed that goes back to what %s does not let in: %s is not signed as it wants it", g.name(), rev.Short())}
			}
		}
	}
	return &signer, nil
}

// refusedOf is a revision that files are taken from and that a guard refuses. The
// Project of the application was asked already.
func (e *Engine) refusedOf(ctx context.Context, g *guard, p *past) (belay.Revision, bool) {
	for k, rev := range p.at {
		if k.url == g.url && k.project != g.project && !e.mayDeploy(ctx, g.refKey, rev.Commit) {
			return rev, true
		}
	}
	return belay.Revision{}, false
}

// notDeployed asks those who will judge the commits before anybody sees them. It says
// why one would not be deployed, and notes what people should know of others.
func (e *Engine) notDeployed(ctx context.Context, w *work, out *belay.Rollback) *belay.Error {
	var refusal *belay.Error
	for i := range out.Commits {
		c := &out.Commits[i]
		bk := branchKey{c.Repo, cmp.Or(c.Into, c.Branch)}
		for j := range w.branches[bk].guards {
			g := &w.branches[bk].guards[j]
			asked := w.asked(g)
			c.MustBeSigned = c.MustBeSigned || asked
			err := e.letIn(ctx, g, c.Commit)
			if err == nil || c.Into != "" && g.rules.Commits != belay.SignedAll { // whoever merges it signs that
				continue
			}
			why := asError(err, "").Message
			switch {
			case c.Into != "":
				out.Notes = append(out.Notes, fmt.Sprintf("%s wants every commit signed, and would not let this one in: %s; merge it as a commit of its own that is signed", g.name(), why))
			case !asked:
				out.Notes = append(out.Notes, fmt.Sprintf("%s will not let the commit in, and stays at what it has: %s", g.name(), why))
			case refusal == nil:
				refusal = refusalOf(g, w.branches[bk], err)
				refusal.Application = w.pasts[0].name
			}
		}
	}
	return refusal
}

// refusalOf says why a commit is not pushed that a guard would refuse, and what to
// do about it.
func refusalOf(g *guard, b *branchEdits, err error) *belay.Error {
	be := *asError(err, "")
	be.Message = fmt.Sprintf("nothing was pushed: %s would not let the commit in: %s", g.name(), be.Message)
	if b.signer == nil {
		be = *asError(b.why, "")
		be.Message = fmt.Sprintf("nothing was pushed: %s lets in only what is signed, and the commit is not: %s", g.name(), be.Message)
	}
	be.Hint = strings.TrimPrefix(be.Hint+"; or "+patchHint, "; or ")
	se, ok := errors.AsType[*signature.Error](err)
	if b.signer != nil && ok && se.Key == b.signer.Fingerprint { // and not that of another commit
		be.Origin, be.Hint = belay.Origin{}, g.howToTrust(&b.signer.CommitSigner, se)+"; or "+patchHint
	}
	return &be
}

// howToTrust says how a guard comes to let in what this server signs.
func (g *guard) howToTrust(s *belay.CommitSigner, why *signature.Error) string {
	where := "spec.signatures.signers of " + g.name()
	line := fmt.Sprintf("- {name: %q, key: %q}", s.Committer, s.Key)
	switch {
	case g.project == configProject && len(g.rules.Keys) > 0:
		where, line = g.rules.Keys[0].File, s.AllowedSigner
	case g.file.File != "":
		where += " (" + g.file.String() + ")"
	}
	if why.Reason == signature.Expired {
		return fmt.Sprintf("mend when the key of this server is valid in %s, or give it another with --commit-signing-key", where)
	}
	return fmt.Sprintf("to trust the key of this server, add to %s: %s", where, line)
}

// whoSigned says in words whose signature a commit has.
func whoSigned(c *belay.RollbackCommit) string {
	if c.Signer == "" {
		return "not signed: " + c.Unsigned
	}
	return "signed by " + c.Signer
}
