package source

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/signature"
)

// Trust is whose signatures count, and of what.
type Trust struct {
	// Keys sign commits and tags, Artifacts what is in registries.
	Keys      *signature.Keys
	Artifacts []crypto.PublicKey
	// All wants every commit signed that comes after Since and After; where neither
	// is given, the newest alone.
	All          bool
	Since, After string
}

const (
	// mostNew is how many new commits are looked at; more is a history, not a change.
	mostNew = 10_000
	// mostBack is how many commits Vouched goes back.
	mostBack = 200
)

// Vouch says whether a revision of a ref is signed as it has to be. The error is a
// [*belay.Error]: with CodeDenied it says which commit is not, and why.
func (h *Hub) Vouch(ctx context.Context, url, ref, revision string, t Trust) error {
	f, err := h.repo(url)
	if err != nil {
		return err
	}
	if a, ok := f.(*artifacts); ok {
		return a.vouch(ctx, url, revision, t)
	}
	m, err := h.Mirror(ctx, url)
	if err != nil {
		return err
	}
	return (&voucher{m: m, t: t}).revision(ctx, ref, revision)
}

// Vouched finds the newest revision before one that is signed as it has to be, and
// that does not come before notBefore.
func (h *Hub) Vouched(ctx context.Context, url, ref, revision, notBefore string, t Trust) (rev belay.Revision, ok bool, err error) {
	m, err := h.Mirror(ctx, url)
	if errors.Is(err, errors.ErrUnsupported) {
		for _, d := range h.Earlier(url, revision) {
			if err := h.Vouch(ctx, url, ref, d, t); err == nil {
				return belay.Revision{Repo: url, Ref: ref, Commit: d}, true, nil
			} else if belay.CodeOf(err) != belay.CodeDenied {
				return rev, false, err
			}
		}
		return rev, false, nil
	}
	if err != nil {
		return rev, false, err
	}
	line, err := m.Line(ctx, revision, mostBack)
	if err != nil {
		return rev, false, err
	}
	v := &voucher{m: m, t: t}
	for _, id := range line[min(1, len(line)):] {
		if notBefore != "" {
			if follows, err := m.IsAncestor(ctx, notBefore, id); err != nil || !follows {
				return rev, false, err
			}
		}
		err := v.commits(ctx, id)
		if err != nil && belay.CodeOf(err) == belay.CodeDenied {
			continue
		}
		if err != nil {
			return rev, false, err
		}
		return h.At(ctx, url, ref, id)
	}
	return rev, false, nil
}

func person(name, email string) string {
	if email == "" {
		return name
	}
	return strings.TrimSpace(name + " <" + email + ">")
}

// voucher checks commits of one mirror.
type voucher struct {
	m *git.Mirror
	t Trust
}

// revision checks what a ref means: of a tag its own signature is enough.
func (v *voucher) revision(ctx context.Context, ref, commit string) error {
	refs, err := v.m.LocalRefs(ctx)
	if err != nil {
		return err
	}
	to, err := resolveRef(v.m.URL(), refs, ref, commitsIn(ctx, v.m))
	name, isTag := strings.CutPrefix(to.full, "refs/tags/")
	if err == nil && isTag && to.Commit == commit {
		signed, err := v.tag(ctx, name, commit)
		if err != nil || signed {
			return err
		}
	}
	return v.commits(ctx, commit)
}

// tag tells whether a tag is annotated and signed by a trusted key, under its own
// name and of this commit. One that is signed wrongly is refused, whatever the
// commit is.
func (v *voucher) tag(ctx context.Context, name, commit string) (bool, error) {
	id, err := v.m.TagObject(ctx, name)
	if err != nil || id == commit {
		return false, err
	}
	kind, raw, err := v.m.Raw(ctx, id)
	if err != nil || kind != "tag" {
		return false, err
	}
	deny := func(why string) error {
		return &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: v.m.URL(), Revision: commit},
			Message: fmt.Sprintf("tag %s by %s is refused: %s", name, signature.Person(raw, "tagger"), why),
			Hint:    "sign the tag with a trusted key (git tag -s), or add its key to spec.signatures of the Project"}
	}
	_, err = v.t.Keys.Tag(raw, "")
	switch {
	case signature.ReasonOf(err) == signature.Missing:
		return false, nil
	case err != nil:
		return false, deny(err.Error())
	case signature.Header(raw, "tag") != name:
		return false, deny(fmt.Sprintf("it was signed as %q", signature.Header(raw, "tag")))
	case signature.Header(raw, "object") != commit:
		return false, deny("it is not of this commit itself")
	}
	return true, nil
}

// commits checks a commit, and with All those that it brings.
func (v *voucher) commits(ctx context.Context, head string) error {
	if err := v.commit(ctx, head, head); err != nil || !v.t.All {
		return err
	}
	without, err := v.bases(ctx)
	if err != nil || len(without) == 0 {
		return err
	}
	ids, err := v.m.Between(ctx, head, without, mostNew+1)
	if err != nil {
		return err
	}
	if len(ids) > mostNew {
		return &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: v.m.URL(), Revision: head},
			Message: fmt.Sprintf("more than %d new commits have to be signed", mostNew), Hint: "set spec.signatures.since of the Project to a later commit"}
	}
	for _, id := range slices.Backward(ids) { // the first one that is wrong is named
		if err := v.commit(ctx, id, head); err != nil {
			return err
		}
	}
	return nil
}

// bases are the commits up to which nothing has to be signed any more.
func (v *voucher) bases(ctx context.Context) ([]string, error) {
	var there []string
	for _, id := range []string{v.t.Since, v.t.After} {
		if id == "" {
			continue
		}
		has, err := v.m.HasCommit(ctx, id)
		if err != nil {
			return nil, err
		}
		if has {
			there = append(there, id)
			continue
		}
		e := &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: v.m.URL()},
			Message: "spec.signatures.since of the Project is no commit of this repository: " + id, Hint: "a Project with since serves the applications of one repository"}
		if id != v.t.Since {
			e.Message = fmt.Sprintf("the commit %.10s that was accepted before is gone from the repository: which commits are new cannot be told", id)
			e.Hint = "set spec.signatures.since of the Project to the commit after which every one has to be signed"
			if v.t.Since != "" {
				continue
			}
		}
		return nil, e
	}
	return there, nil
}

// commit checks the signature of one commit.
func (v *voucher) commit(ctx context.Context, id, head string) error {
	_, raw, err := v.m.Raw(ctx, id)
	if err != nil {
		return &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: v.m.URL(), Revision: id}, Message: err.Error(), Err: err}
	}
	_, err = v.t.Keys.Commit(raw, "")
	if err == nil {
		return nil
	}
	e := &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: v.m.URL(), Revision: id}, Err: err,
		Message: fmt.Sprintf("commit %.10s by %s is refused: %v", id, signature.Person(raw, "author"), err),
		Hint:    "sign it with a trusted key (git commit --amend -S), put a signed commit on top, or add the key to spec.signatures of the Project"}
	if id != head {
		e.Message = fmt.Sprintf("commit %.10s by %s, which %.10s brings, is refused: %v", id, signature.Person(raw, "author"), head, err)
		e.Hint = "every commit has to be signed: sign them again (git rebase --exec \"git commit --amend --no-edit -S\"), or set spec.signatures.since of the Project to a later commit"
	}
	return e
}

// vouch checks the signatures of an artifact.
func (a *artifacts) vouch(ctx context.Context, url, digest string, t Trust) error {
	deny := func(why, hint string) error {
		return &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: url, Revision: digest}, Message: fmt.Sprintf("%.19s… is refused: %s", digest, why), Hint: hint}
	}
	if !isOCI(a.url) {
		return deny("charts of Helm repositories have no signatures that can be checked", "use the chart from an OCI registry, signed with cosign")
	}
	found, err := a.oci().Signatures(ctx, digest)
	if err != nil {
		return err
	}
	sigs := make([]signature.Artifact, len(found))
	for i, s := range found {
		sigs[i] = signature.Artifact{Payload: s.Payload, Signature: s.Signature}
	}
	if _, err = signature.VerifyArtifact(digest, sigs, t.Artifacts); err == nil {
		return nil
	}
	bundles, err := a.oci().Bundles(ctx, digest)
	if err != nil {
		return err
	}
	for _, b := range bundles {
		if s, err := signature.ParseBundle(b); err == nil { // of something else, for all that is known
			sigs = append(sigs, s)
		}
	}
	if _, err := signature.VerifyArtifact(digest, sigs, t.Artifacts); err != nil {
		return deny(err.Error(), "sign it with a key that spec.signatures.artifacts of the Project names (cosign sign --key cosign.key REPOSITORY@"+digest+")")
	}
	return nil
}

// At is a revision that a ref meant earlier; ok is false where it is not here.
func (h *Hub) At(ctx context.Context, url, ref, revision string) (rev belay.Revision, ok bool, err error) {
	rev = belay.Revision{Repo: url, Ref: ref, Commit: revision}
	m, err := h.Mirror(ctx, url)
	if errors.Is(err, errors.ErrUnsupported) {
		return rev, true, nil
	}
	if err != nil {
		return rev, false, err
	}
	c, err := m.Commit(ctx, revision)
	if errors.Is(err, git.ErrMissing) {
		return rev, false, nil
	}
	rev.Repo, rev.Author, rev.Subject, rev.Time = m.URL(), person(c.AuthorName, c.AuthorEmail), c.Subject, c.Time
	return rev, err == nil, err
}
