package ledger

import (
	"fmt"

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
// signature of its commit.
func (l *Ledger) checkpoint() error {
	w := &l.work
	if l.key == nil || w.tip.seq == 0 || w.unsigned() == 0 && !l.keyChanges() {
		return nil
	}
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
	if err := l.put([]record.Entry{e}, key); err != nil {
		return err
	}
	w.tip.seq, w.tip.signed = r.Seq, r.Seq
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
