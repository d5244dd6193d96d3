package verify

import (
	"fmt"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/signature"
)

// trust is whom the checkpoints of a branch are believed from. Keys that were
// given come first; a commit that one of the trusted signed may name others.
type trust struct {
	keys *signature.Keys
	list []Key
	// named is true once the ledger's own file of keys counts: always, when no
	// keys were given and it has one.
	own bool
}

func (t *trust) given(keys *signature.Keys) {
	if t.own = keys == nil; !t.own {
		t.keys = &signature.Keys{}
		t.keys.Merge(keys)
		t.remember(keys, "")
	}
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
	first := brought != nil && brought.new != "" && c.keys.own && c.keys.keys == nil
	if first { // nobody could vouch for the first key but itself
		c.newKeys(brought)
	}
	if err == nil && isSigned {
		by, err = c.keys.keys.Verify(payload, sig, signature.When(payload), record.Principal(c.b.Writer))
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
	case c.keys.own || len(c.files[record.SignersFile].id) > 0:
		c.add(Finding{Check: CheckKeys, Path: brought.path, Message: "the keys are changed in a commit that no trusted key signed"})
	}
}

// newKeys trusts the keys that the ledger names from here on.
func (c *checker) newKeys(f *change) {
	if f.err != nil {
		return // told already
	}
	keys, err := signature.ParseAllowedSigners(f.data)
	if err != nil {
		c.add(Finding{Check: CheckKeys, Path: f.path, Message: fmt.Sprintf("the file of keys cannot be read: %v", err)})
		return
	}
	if c.keys.own {
		c.keys.keys = keys
	} else {
		c.keys.keys.Merge(keys)
	}
	c.keys.remember(keys, c.at.Record)
}
