package verify

import (
	"errors"
	"fmt"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/signature"
)

// trust is whom the checkpoints of a branch are believed from.
type trust struct {
	// given are from outside; without them, the ledger's own first key is believed.
	given *signature.Keys
	// current is the key in use as a commit says that a trusted key signed.
	current *signature.Keys
	list    []Key
}

func newTrust(given *signature.Keys) trust {
	t := trust{given: given}
	if given != nil {
		t.remember(given, "")
	}
	return t
}

// verify checks a signature for a writer.
func (t *trust) verify(payload, sig []byte, writer string) (signature.Signer, error) {
	var all signature.Keys
	all.Merge(t.given)
	all.Merge(t.current)
	return all.Verify(payload, sig, signature.When(payload), record.Principal(writer))
}

func (t *trust) remember(keys *signature.Keys, since string) {
	for _, s := range keys.Signers() {
		known := false
		for i := range t.list {
			known = known || t.list[i].Fingerprint == s.Key
		}
		if !known {
			t.list = append(t.list, Key{Fingerprint: s.Key, Name: s.Name, Since: since})
		}
	}
}

func (t *trust) signed(by signature.Signer) {
	for i := range t.list {
		if t.list[i].Fingerprint == by.Key {
			t.list[i].Signed++
		}
	}
}

// signature checks the signature of the commit and a change of the keys.
func (c *checker) signature() {
	var brought *change
	for i := range c.e.changes {
		if f := &c.e.changes[i]; f.path == record.SignersFile {
			brought = f
		}
	}
	payload, sig, err := signature.SplitCommit(c.e.raw)
	isSigned := err != nil || sig != nil
	var by signature.Signer
	first := brought != nil && brought.new != "" && c.keys.given == nil && c.keys.current == nil
	if first { // nobody could vouch for the first key but itself
		c.newKeys(brought)
	}
	if err == nil && isSigned {
		by, err = c.keys.verify(payload, sig, c.b.Writer)
	}
	c.b.Unsigned++
	checkpoint := c.r != nil && c.r.Event.Type == belay.EventCheckpoint
	switch {
	case isSigned && err != nil:
		c.add(Finding{Check: CheckSignature, Message: err.Error(), Want: "a signature by a key that is trusted for " + record.Principal(c.b.Writer)})
	case isSigned:
		c.keys.signed(by)
		c.b.Checkpoints++
		c.b.LastCheckpoint, c.b.Unsigned = c.at.Record, 0
	case checkpoint:
		c.add(Finding{Check: CheckSignature, Message: "the checkpoint has no signature"})
	}
	if brought == nil || first {
		return
	}
	good := isSigned && err == nil
	switch {
	case brought.new == "":
		c.add(Finding{Check: CheckKeys, Path: brought.path, Message: "the file of keys is removed"})
	case good:
		c.newKeys(brought)
	case c.keys.given == nil || len(c.files[record.SignersFile].id) > 0:
		c.add(Finding{Check: CheckKeys, Path: brought.path, Message: "the keys are changed in a commit that no trusted key signed"})
	}
}

// newKeys trusts the key that the ledger says is in use from here on: the last of
// the file. Those before it signed earlier records, and sign no more.
func (c *checker) newKeys(f *change) {
	if f.err != nil {
		return // told already
	}
	_, err := signature.ParseAllowedSigners(f.data)
	var keys *signature.Keys
	if err == nil {
		text := strings.TrimSpace(string(f.data))
		keys, err = signature.ParseAllowedSigners([]byte(text[strings.LastIndexByte(text, '\n')+1:]))
	}
	if err == nil && keys.Len() != 1 {
		err = errors.New("its last line is no key")
	}
	if err != nil {
		c.add(Finding{Check: CheckKeys, Path: f.path, Message: fmt.Sprintf("the file of keys cannot be read: %v", err)})
		return
	}
	c.keys.current = keys
	c.keys.remember(keys, c.at.Record)
}
