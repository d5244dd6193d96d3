package ledger

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// unsigned counts the records after the latest checkpoint.
func (w *writing) unsigned() uint64 { return w.tip.seq - w.tip.signed }

// due says whether it is time for a checkpoint while things go on happening.
func (l *Ledger) due() bool {
	w := &l.work
	return w.unsigned() >= l.limits.signRecords && w.unrest == 0 || w.unsigned() > 0 && l.now().Sub(w.since) >= l.limits.signTime
}

// checkpoint signs everything up to here: a record as any other, but for the
// signature of its commit. Fast-import cannot write one, so it ends before.
func (l *Ledger) checkpoint() error {
	w := &l.work
	if l.key == nil || w.tip.seq == 0 || w.unsigned() == 0 && !l.keyChanges() {
		return nil
	}
	l.rotate()
	if !w.fresh {
		if err := l.reload(); err != nil {
			return err
		}
	}
	key, signers, message := l.signing()
	r := belay.Record{Writer: l.writer, Seq: w.tip.seq + 1, Event: belay.Event{Type: belay.EventCheckpoint, Time: l.now(), Message: message}}
	e, err := record.Encode(r, nil)
	if err != nil {
		return err
	}
	if signers != nil {
		e.Files = append(e.Files, record.File{Path: record.SignersFile, Data: signers})
	}
	w.fresh = false // until it is known how it went
	commit, err := l.commitSigned(&e, key)
	if err != nil {
		return err
	}
	w.tip.commit, w.tip.seq, w.tip.signed, w.fresh = commit, r.Seq, r.Seq, true
	if signers != nil {
		w.tip.signers = signers
	}
	l.count(func(s *Stats) { s.Seq, s.Signed = r.Seq, r.Seq })
	return nil
}

func (l *Ledger) keyChanges() bool { return current(l.work.tip.signers) != l.key.public() }

// signing tells what the next checkpoint is signed with. When the key changed the
// old one signs that, so that who trusts the old one may trust the new one; where
// the old one is not at hand nothing can stand in for it.
func (l *Ledger) signing() (key *Key, signers []byte, message string) {
	w := &l.work
	if !l.keyChanges() {
		return l.key, nil, fmt.Sprintf("records up to %s are signed", belay.RecordID(l.writer, w.tip.seq))
	}
	signers = withKey(w.tip.signers, l.writer, l.key)
	old := current(w.tip.signers)
	for _, k := range l.oldKeys {
		if k.public() == old {
			return k, signers, fmt.Sprintf("the key changes from %s to %s", k.Fingerprint(), l.key.Fingerprint())
		}
	}
	l.log.Warn("the key of the ledger changed, and the old one is not at hand: whoever verifies has to be told the new one", "key", l.key.Fingerprint())
	return l.key, signers, fmt.Sprintf("the key changes to %s; the old one is not at hand", l.key.Fingerprint())
}

// commitSigned writes a commit with a signature on top of the tip.
func (l *Ledger) commitSigned(e *record.Entry, key *Key) (commit string, err error) {
	w := &l.work
	tree, err := l.treeWith(w.tip.commit, e.Files)
	if err != nil {
		return "", err
	}
	when := strconv.FormatInt(e.When.Unix(), 10) + " +0000"
	head := "tree " + tree + "\nparent " + w.tip.commit + "\nauthor " + e.Author + " " + when + "\ncommitter " + e.Committer + " " + when + "\n"
	sig, err := key.sign([]byte(head + "\n" + e.Message))
	if err != nil {
		return "", err
	}
	object := head + "gpgsig " + strings.ReplaceAll(sig, "\n", "\n ") + "\n\n" + e.Message
	if commit, err = l.hash("commit", []byte(object)); err != nil {
		return "", err
	}
	if _, err := l.repo.output(w.ctx, nil, "update-ref", l.ref, commit, w.tip.commit); err != nil {
		return "", err
	}
	return commit, l.repo.durable(l.ref)
}

// treeWith is the tree of a commit with other files at its top.
func (l *Ledger) treeWith(commit string, files []record.File) (string, error) {
	out, err := l.repo.output(l.work.ctx, nil, "ls-tree", "-z", commit)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	replaced := map[string]bool{}
	for _, f := range files {
		id, err := l.hash("blob", f.Data)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "100644 blob %s\t%s\x00", id, f.Path)
		replaced[f.Path] = true
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if _, path, ok := strings.Cut(line, "\t"); ok && !replaced[path] {
			b.WriteString(line + "\x00")
		}
	}
	out, err = l.repo.output(l.work.ctx, []byte(b.String()), "mktree", "-z")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(out)), l.repo.durableObject(strings.TrimSpace(string(out)))
}

// hash writes an object.
func (l *Ledger) hash(kind string, b []byte) (string, error) {
	out, err := l.repo.output(l.work.ctx, b, "hash-object", "-t", kind, "-w", "--stdin")
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(out))
	return id, l.repo.durableObject(id)
}
