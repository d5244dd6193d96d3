package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay"
)

// Where a Project wants signatures, what a ref means is the newest commit that has
// them, and not the newest there is. This file puts that between the sources and
// everybody who asks what is newest: a refused commit is then like one that cannot
// be fetched. The ref of such a project is another one than the same ref of a
// project that wants none.

// Provenance checks signatures, and remembers over restarts what was accepted.
type Provenance interface {
	// Check says whether a revision of a ref may be deployed. An error with
	// CodeDenied says which commit may not, and why; any other, that it cannot be
	// told now.
	// accepted is the revision that was accepted last, "" for none.
	Check(ctx context.Context, url, ref, revision, accepted string, rules *belay.Signatures) error
	// Earlier finds what may be deployed in place of a revision that was refused:
	// what was accepted last, or else the newest before it that is signed and does not
	// come before deployed, if that is not "".
	Earlier(ctx context.Context, url, ref, revision, accepted, deployed string, rules *belay.Signatures) (belay.Revision, bool, error)
	// Accepted is the revision of a ref that was accepted last for a project, over
	// restarts; Accept remembers it.
	Accepted(url, ref, project string) string
	Accept(url, ref, project, revision string)
}

// configProject stands in the key of the config repository itself, where its
// commits have to be signed. No Project is called that.
const configProject = "\x00"

// verdicts are by ref of a project that wants signatures.
type verdicts struct {
	mu sync.Mutex
	m  map[refKey]*verdict
}

// verdict is what is known of the newest commit of a ref.
type verdict struct {
	checking sync.Mutex
	// last can be read while a check is under way.
	last atomic.Pointer[judged]
}

type judged struct {
	rules    string // digest
	newest   string
	accepted belay.Revision
	err      *belay.Error
	// again is when it is asked again, for the tries-th time, where it could not be
	// told; zero where it could.
	again time.Time
	tries int
}

// undecided says whether it could not be told if the revision may be deployed.
func (j *judged) undecided() bool { return !j.again.IsZero() }

// askAgain is the time until it is asked again whether a revision may be deployed
// for which that could not be told the first time.
const askAgain = 10 * time.Second

func (v *verdicts) of(k refKey) *verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m == nil {
		v.m = map[refKey]*verdict{}
	}
	if v.m[k] == nil {
		v.m[k] = &verdict{}
	}
	return v.m[k]
}

// forget drops what nobody follows any more; followed says what is. Called with e.mu.
func (v *verdicts) forget(followed func(refKey) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for k := range v.m {
		if k.project != configProject && !followed(k) {
			delete(v.m, k)
		}
	}
}

// revision is the newest revision of a ref that may be deployed. As with Sources,
// an error may come with it: then a newer one was refused, or may exist.
func (e *Engine) revision(ctx context.Context, k refKey) (belay.Revision, error) {
	rev, err := e.head(k)
	return e.admit(ctx, k, rev, err)
}

// head is where a ref stands. That of the definitions stands where they were looked
// at last: what one commit says in them and in the files beside them holds together,
// and no manifest of it is applied under the limits of the commit before.
func (e *Engine) head(k refKey) (belay.Revision, error) {
	rev, err := e.Sources.Revision(k.url, k.ref)
	if k.ref != e.Ref || rev.Commit == "" {
		return rev, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := e.considered; at.Commit != "" && (k.url == e.Repo || at.Repo == rev.Repo) {
		return at, err
	}
	return rev, err
}

// admit is a revision of a ref if it may be deployed, or the one that may be instead;
// err is what the sources say of it.
func (e *Engine) admit(ctx context.Context, k refKey, rev belay.Revision, err error) (belay.Revision, error) {
	if k.project == "" || rev.Commit == "" || e.DryRun { // a plan shows what is to be signed, too
		return rev, err
	}
	accepted, refused := e.vouched(ctx, k, rev)
	if refused != nil {
		return accepted, refused
	}
	return accepted, err
}

// known is the newest revision of a ref that may be deployed, as far as that is known
// without asking anybody. That of the definitions may not have been looked at yet.
func (e *Engine) known(k refKey) belay.Revision {
	rev, _ := e.Sources.Revision(k.url, k.ref) // its error is shown elsewhere
	return e.judgedSoFar(k, rev, false)
}

// taken is the revision that a pass takes. Where it cannot be told whether a newer one
// may be deployed that is the one that was accepted, which must not be taken for
// outdated meanwhile. Called without e.mu.
func (e *Engine) taken(k refKey) belay.Revision {
	rev, _ := e.head(k) // its error is shown elsewhere
	return e.judgedSoFar(k, rev, true)
}

func (e *Engine) judgedSoFar(k refKey, rev belay.Revision, undecided bool) belay.Revision {
	if k.project == "" || rev.Commit == "" || e.DryRun {
		return rev
	}
	if j := e.verdicts.of(k).last.Load(); j != nil && j.newest == rev.Commit && (undecided || !j.undecided()) {
		return j.accepted
	}
	return rev
}

// configRevision is the newest commit of the definitions that may be loaded, and the
// newest there is where it is known that this is the one to load in its place; "" where
// that cannot be told now.
func (e *Engine) configRevision(ctx context.Context) (rev, considered belay.Revision, err error) {
	head, err := e.Sources.Revision(e.Repo, e.Ref)
	rev, err = e.admit(ctx, e.configKey(), head, err)
	if rev.Commit != head.Commit && belay.CodeOf(err) != belay.CodeDenied {
		return rev, belay.Revision{}, err
	}
	return rev, head, err
}

func (e *Engine) configKey() refKey {
	k := refKey{url: e.Repo, ref: e.Ref}
	if e.ConfigSignatures.Wanted() {
		k.project = configProject
	}
	return k
}

// plain is the ref as the repository has it.
func (k refKey) plain() refKey { return refKey{url: k.url, ref: k.ref} }

// rulesOf are what a ref's project wants signed; nil where the project is gone.
func (e *Engine) rulesOf(k refKey) *belay.Signatures {
	if k.project == configProject {
		return e.ConfigSignatures
	}
	cat := e.catalogInForce()
	if cat == nil {
		return nil
	}
	p, ok := cat.Projects[k.project]
	if !ok {
		return nil
	}
	return p.Spec.Signatures
}

// vouched is a revision if it may be deployed, or else the one that was accepted
// before, with the reason.
func (e *Engine) vouched(ctx context.Context, k refKey, rev belay.Revision) (belay.Revision, error) {
	v := e.verdicts.of(k)
	if !v.checking.TryLock() {
		// Somebody asks, which may take long. Who knows that it could not be told need
		// not wait: all workers might, for one server that does not answer.
		if last := v.last.Load(); last != nil && last.undecided() && last.newest == rev.Commit {
			return last.accepted, errorOf(last.err)
		}
		v.checking.Lock()
	}
	defer v.checking.Unlock()
	rules, last := e.rulesOf(k), v.last.Load()
	if !rules.Wanted() { // the project is gone, or changes as we speak
		if last != nil {
			return last.accepted, errorOf(last.err)
		}
		return belay.Revision{}, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("what project %q wants signed is not known", k.project), Hint: "nothing to do"}
	}
	digest := rulesDigest(rules)
	if last != nil && last.newest == rev.Commit && last.rules == digest {
		left := time.Until(last.again)
		if !last.undecided() || left > 0 {
			if left > 0 {
				e.queue.addAfter(key{keySource, k.url}, left)
			}
			return last.accepted, errorOf(last.err)
		}
	}
	accepted := e.acceptedLast(k)
	err := e.checkSigned(ctx, k, rev.Commit, accepted, rules)
	now := &judged{rules: digest, newest: rev.Commit, accepted: rev}
	if err != nil && belay.CodeOf(err) != belay.CodeDenied {
		return e.cannotTell(k, v, now, last, err)
	}
	if err != nil {
		now.err = asError(err, "")
		if err := e.refused(ctx, k, rev, accepted, rules, now, last); err != nil {
			return e.cannotTell(k, v, now, last, err)
		}
	}
	v.last.Store(now)
	if c := now.accepted.Commit; c != "" && c != accepted && e.Provenance != nil {
		e.Provenance.Accept(k.url, k.ref, k.project, c)
	}
	if now.err != nil && (last == nil || last.newest != rev.Commit || last.undecided()) {
		e.tellRefused(k, rev, now.err)
	}
	return now.accepted, errorOf(now.err)
}

// cannotTell keeps to what was accepted while nobody can tell of a revision whether
// it may be deployed, and has that asked again: not by every pass, since the answer
// may take long to fail to come.
func (e *Engine) cannotTell(k refKey, v *verdict, now, last *judged, err error) (belay.Revision, error) {
	now.accepted, now.err, now.tries = belay.Revision{}, asError(err, ""), 1
	if last != nil {
		now.accepted = last.accepted
		if last.undecided() && last.newest == now.newest {
			now.tries = last.tries + 1
		}
	}
	pause := doubled(now.tries, askAgain, backoffMost)
	now.again = time.Now().Add(pause)
	v.last.Store(now)
	e.queue.addAfter(key{keySource, k.url}, pause)
	return now.accepted, errorOf(now.err)
}

// askNow has it asked at once whether the newest revision of a ref may be deployed,
// where that could not be told: somebody asked for a sync.
func (e *Engine) askNow(k refKey) {
	if k.project == "" {
		return
	}
	v := e.verdicts.of(k)
	if !v.checking.TryLock() {
		return // it is being asked
	}
	defer v.checking.Unlock()
	if last := v.last.Load(); last != nil && last.undecided() {
		now := *last
		now.again = time.Now()
		v.last.Store(&now)
		e.queue.add(key{keySource, k.url})
	}
}

// acceptedLast is the revision of a ref that may be deployed and was accepted last,
// over restarts; "" for none.
func (e *Engine) acceptedLast(k refKey) string {
	if last := e.verdicts.of(k).last.Load(); last != nil && last.accepted.Commit != "" {
		return last.accepted.Commit
	}
	if e.Provenance == nil {
		return ""
	}
	return e.Provenance.Accepted(k.url, k.ref, k.project)
}

// errorOf keeps a nil error nil.
func errorOf(e *belay.Error) error {
	if e == nil {
		return nil
	}
	return e
}

func (e *Engine) checkSigned(ctx context.Context, k refKey, revision, accepted string, rules *belay.Signatures) error {
	if e.Provenance == nil {
		return &belay.Error{Code: belay.CodeDenied, Message: "signatures cannot be checked here"}
	}
	return e.Provenance.Check(ctx, k.url, k.ref, revision, accepted, rules)
}

// refused decides what holds in place of a revision that was refused.
func (e *Engine) refused(ctx context.Context, k refKey, rev belay.Revision, accepted string, rules *belay.Signatures, now, last *judged) error {
	if rules.Mode == belay.SignaturesWarn {
		now.err.Message += "; it is deployed all the same, because signatures are only warned of"
		return nil
	}
	if last != nil && last.accepted.Commit != "" { // it stays, whatever the rules are by now
		now.accepted = last.accepted
		return nil
	}
	now.accepted = belay.Revision{}
	if e.Provenance == nil {
		return nil
	}
	earlier, ok, err := e.Provenance.Earlier(ctx, k.url, k.ref, rev.Commit, accepted, e.deployed(k), rules)
	if err != nil {
		return err
	}
	if ok {
		now.accepted = earlier
		return nil
	}
	now.err.Message += "; nor is there an earlier one that could be deployed: what is in the cluster stays as it is"
	return nil
}

// deployed is where a ref stood before its project wanted signatures: to want them
// must not take anything back. "" where nothing is known of before.
func (e *Engine) deployed(k refKey) string {
	e.mu.Lock()
	for other, f := range e.refs {
		if other.url == k.url && other.ref == k.ref && other.project != k.project && f.commit != "" {
			defer e.mu.Unlock()
			return f.commit
		}
	}
	e.mu.Unlock()
	if e.Recorder == nil {
		return ""
	}
	return e.Recorder.Source(k.url, k.ref)
}

func rulesDigest(rules *belay.Signatures) string {
	b, err := json.Marshal(rules)
	if err != nil {
		return err.Error() // strings always encode
	}
	return belay.Digest(b)
}

func (e *Engine) tellRefused(k refKey, rev belay.Revision, why *belay.Error) {
	project := k.project
	if project == configProject {
		project = ""
	}
	e.publish(belay.Event{Type: belay.EventRefused, Repo: rev.Repo, Ref: k.ref, Revision: rev.Commit, Actor: rev.Author, Project: project, Message: why.Message})
}

// mayDeploy says whether an earlier commit of a ref may take the place of one that
// does not render.
func (e *Engine) mayDeploy(ctx context.Context, k refKey, commit string) bool {
	if k.project == "" || e.DryRun {
		return true
	}
	rules := e.rulesOf(k)
	return rules != nil && (rules.Mode == belay.SignaturesWarn || e.checkSigned(ctx, k, commit, commit, rules) == nil)
}
