package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/signature"
)

// held is a file as the tree has it.
type held struct {
	id  string
	sum [sha256.Size]byte
}

// checker goes through the records of one branch, in order.
type checker struct {
	v      *verifier
	b      Branch
	report *Report
	// headless is true when the beginning of the branch is missing; first is the
	// number of the record that begins it then.
	headless bool
	first    uint64
	lost     *Finding // what is missing

	previous string // commit
	seq      uint64 // of the record before
	when     time.Time
	files    map[string]held
	keys     trust
	// latest is the deployment of each application as deployment.json has it.
	latest map[string]*belay.Deployment

	// Of the record that is looked at:
	at   Finding // Writer, Record and Commit
	e    *entryOf
	r    *belay.Record
	want map[string][]byte // files that it sets; nil removes
	gone []string          // directories that it removes
}

func newChecker(v *verifier, b branch) *checker {
	return &checker{v: v, report: v.report, keys: newTrust(v.o.Signers), b: Branch{Writer: b.writer, Head: b.head}, files: map[string]held{}, latest: map[string]*belay.Deployment{}}
}

func (c *checker) add(f Finding) {
	if f.Writer == "" {
		f.Writer, f.Record, f.Commit = c.at.Writer, c.at.Record, c.at.Commit
	}
	c.report.add(f)
}

// record checks one commit.
func (c *checker) record(e *entryOf) {
	c.e, c.r, c.want, c.gone = e, nil, map[string][]byte{}, nil
	c.b.Records++
	c.at = Finding{Writer: c.b.Writer, Commit: e.id, Record: belay.RecordID(c.b.Writer, c.seq+1)}
	if e.err != nil {
		c.add(Finding{Check: CheckObjects, Message: "the commit cannot be read: " + e.err.Error()})
		c.seq++
		c.previous = e.id
		return
	}
	read, problem := c.readEvent()
	c.chain()
	for _, f := range e.broken {
		c.add(f)
	}
	readable := c.readable()
	if problem != nil {
		c.add(*problem)
	}
	if read {
		c.number()
		c.namesSources()
		began := c.deployment()
		c.encoded(began)
		c.time()
	} else {
		c.seq++
	}
	c.settle()
	c.signature()
	if readable && !e.partial && c.r != nil {
		c.changes()
	}
	c.adopt()
	c.previous = e.id
}

// chain checks that the commit follows the one before, and no other.
func (c *checker) chain() {
	if c.lost != nil { // told with the first record that can be read
		f := *c.lost
		c.lost = nil
		c.add(f)
	}
	switch p := c.e.parents; {
	case c.previous == "" && len(p) == 0, c.previous == "" && c.headless:
	case c.previous == "":
		c.add(Finding{Check: CheckChain, Message: "the first record of the branch has a parent", Got: strings.Join(p, " ")})
	case len(p) == 0:
		c.add(Finding{Check: CheckChain, Message: "the record has no parent: a second beginning", Want: c.previous})
	case len(p) > 1:
		c.add(Finding{Check: CheckChain, Message: "the record merges another history into the branch", Want: c.previous, Got: strings.Join(p, " ")})
	case p[0] != c.previous:
		c.add(Finding{Check: CheckChain, Message: "the record does not follow the one before it", Want: c.previous, Got: p[0]})
	}
}

// readable reports new files that cannot be read.
func (c *checker) readable() bool {
	ok := true
	for i := range c.e.changes {
		if f := &c.e.changes[i]; f.err != nil {
			c.add(Finding{Check: CheckObjects, Path: f.path, Message: "the file cannot be read: " + f.err.Error(), Want: "blob " + f.new})
			ok = false
		}
	}
	return ok
}

// readEvent finds the event and reads it. Of several it is the one that should
// come next, or else the newest.
func (c *checker) readEvent() (ok bool, problem *Finding) {
	var broken error
	where := ""
	for i := range c.e.changes {
		f := &c.e.changes[i]
		if f.new == "" || path.Base(f.path) != record.EventFile || strings.Contains(f.path, "/"+record.ManifestDir+"/") {
			continue
		}
		where = f.path
		if f.err != nil {
			broken = f.err
			continue
		}
		r, err := record.Decode(f.data)
		if err != nil {
			broken = err
			continue
		}
		if next := c.seq + 1; c.r == nil || c.r.Seq != next && (r.Seq == next || r.Seq > c.r.Seq) {
			c.r = &r
		}
	}
	switch {
	case c.r != nil:
		c.at.Record = belay.RecordID(c.b.Writer, c.r.Seq)
		return true, nil
	case broken != nil:
		return false, &Finding{Check: CheckRecord, Path: where, Message: "the event cannot be read: " + broken.Error()}
	case c.e.partial:
		return false, nil // told already
	}
	return false, &Finding{Check: CheckRecord, Message: "the commit brings no event.json: it is no record", Want: record.EventFile}
}

// number checks whose record it is and which.
func (c *checker) number() {
	want := c.seq + 1
	if c.headless && c.previous == "" {
		want, c.first = c.r.Seq, c.r.Seq
	}
	if c.r.Writer != c.b.Writer {
		c.add(Finding{Check: CheckRecord, Path: record.EventPath(&c.r.Event), Message: "the record is of another writer", Want: c.b.Writer, Got: c.r.Writer})
	}
	if c.r.Seq != want {
		message := fmt.Sprintf("%d records are missing before this one", c.r.Seq-want)
		if c.r.Seq < want {
			message = "the number was there before: records are out of order, or one is twice"
		}
		c.e.partial = true // what the missing ones changed stands in this commit too
		c.add(Finding{Check: CheckSequence, Message: message, Want: belay.RecordID(c.b.Writer, want), Got: c.r.ID()})
	}
	c.seq = c.r.Seq
}

func (c *checker) time() {
	when := c.r.Event.Time
	if !c.when.IsZero() && when.Before(c.when.Add(-c.v.o.Tolerance)) {
		c.add(Finding{Check: CheckTime, Message: fmt.Sprintf("its time is %s before that of an earlier record", c.when.Sub(when).Round(time.Second)),
			Want: c.when.Format(time.RFC3339) + " or later", Got: when.Format(time.RFC3339)})
	}
	if when.After(c.when) {
		c.when = when
	}
	if c.b.First.IsZero() {
		c.b.First = when
	}
	c.b.Last = when
}

// encoded makes the record anew and compares the commit with it.
func (c *checker) encoded(began *belay.Deployment) {
	entry, err := record.Encode(*c.r, began)
	if err != nil {
		c.add(Finding{Check: CheckRecord, Message: "the event makes no record: " + err.Error()})
		return
	}
	for _, f := range entry.Files {
		if strings.HasSuffix(f.Path, "/") {
			c.gone = append(c.gone, f.Path)
		} else {
			c.want[f.Path] = f.Data
		}
	}
	c.commit(&entry)
}

// commit compares author, committer, dates and message.
func (c *checker) commit(entry *record.Entry) {
	payload, _, err := signature.SplitCommit(c.e.raw)
	if err != nil {
		return // the signature is checked by itself
	}
	var b bytes.Buffer
	b.WriteString("tree " + c.e.tree + "\n")
	for _, p := range c.e.parents {
		b.WriteString("parent " + p + "\n")
	}
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n\n%s", entry.Author, entry.When.Unix(), entry.Committer, entry.When.Unix(), entry.Message)
	if bytes.Equal(b.Bytes(), payload) {
		return
	}
	want, got := strings.Split(b.String(), "\n"), strings.Split(string(payload), "\n")
	for i := range max(len(want), len(got)) {
		w, g := line(want, i), line(got, i)
		if w == g {
			continue
		}
		what := "message"
		if i < len(c.e.parents)+4 {
			what, _, _ = strings.Cut(w, " ")
			if what == "" {
				what = "header"
			}
		}
		c.add(Finding{Check: CheckCommit, Message: "the " + what + " of the commit is not what its event says", Want: w, Got: g})
		return
	}
}

func line(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}

// changes compares what the commit changes with what the record says.
func (c *checker) changes() {
	for i := range c.e.changes {
		c.change(&c.e.changes[i])
	}
	changed := map[string]bool{}
	for i := range c.e.changes {
		changed[c.e.changes[i].path] = true
	}
	for _, p := range sortedPaths(c.want) {
		if changed[p] {
			continue
		}
		have, there := c.files[p]
		switch data := c.want[p]; {
		case data == nil && there:
			c.add(Finding{Check: CheckFiles, Path: p, Message: "the file should be gone after this record", Got: have.id})
		case data != nil && !c.is(have.id, data):
			c.add(Finding{Check: CheckFiles, Path: p, Message: "the record does not write the file", Want: c.shown(data), Got: have.id})
		}
	}
	for _, dir := range c.gone {
		for p := range c.files {
			if strings.HasPrefix(p, dir) && !changed[p] {
				c.add(Finding{Check: CheckFiles, Path: p, Message: "the file should be gone after this record: the application is"})
				break
			}
		}
	}
}

// change checks one file that the commit changes.
func (c *checker) change(f *change) {
	if f.new != "" && f.mode != "100644" {
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "it is no plain file", Want: "100644", Got: f.mode})
	}
	data, named := c.want[f.path]
	switch {
	case f.path == record.SignersFile, c.manifest(f): // with the keys, and with the deployment
	case named && data == nil && f.new != "":
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the record removes the file, the commit changes it", Got: f.new})
	case named && data != nil && f.new == "":
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the record writes the file, the commit removes it", Want: c.shown(data)})
	case named && data != nil && !c.is(f.new, data):
		want, got := firstDifference(data, f.data)
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the file is not what the event says", Want: want, Got: got})
	case named:
	case f.new == "" && slices.ContainsFunc(c.gone, func(dir string) bool { return strings.HasPrefix(f.path, dir) }):
	case f.old == "":
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the commit adds a file that its event does not speak of"})
	case f.new == "":
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the commit removes a file that its event does not speak of"})
	default:
		c.add(Finding{Check: CheckFiles, Path: f.path, Message: "the commit changes a file that its event does not speak of"})
	}
}

func (c *checker) is(id string, data []byte) bool { return id != "" && blobID(data, len(c.e.id)) == id }

func (c *checker) shown(data []byte) string { return blobID(data, len(c.e.id)) }

// firstDifference is the first line that differs, in both.
func firstDifference(want, got []byte) (string, string) {
	if got == nil {
		return strings.TrimSpace(string(want[:min(len(want), 80)])), ""
	}
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	for i := range max(len(w), len(g)) {
		if line(w, i) != line(g, i) {
			return strings.TrimSpace(line(w, i)), strings.TrimSpace(line(g, i))
		}
	}
	return "", ""
}

// adopt takes the tree as it is for the next record, so that one thing that is
// wrong is told once.
func (c *checker) adopt() {
	for i := range c.e.changes {
		f := &c.e.changes[i]
		if path.Base(f.path) == record.DeploymentFile {
			c.adoptDeployment(f)
		}
		if f.new == "" {
			delete(c.files, f.path)
			continue
		}
		h := held{id: f.new}
		if strings.Contains(f.path, "/"+record.ManifestDir+"/") {
			h.sum = f.sum
		}
		c.files[f.path] = h
	}
}

func (c *checker) adoptDeployment(f *change) {
	dir := strings.TrimSuffix(f.path, record.DeploymentFile)
	var d belay.Deployment
	if f.new == "" || json.Unmarshal(f.data, &d) != nil {
		delete(c.latest, dir)
		return
	}
	c.latest[dir] = &d
}

func (c *checker) end() {
	if c.lost != nil { // not even the newest
		c.at = Finding{Writer: c.b.Writer, Commit: c.b.Head}
		c.add(*c.lost)
	}
	c.b.Keys = c.keys.list
	c.at = Finding{Writer: c.b.Writer, Commit: c.b.Head, Record: belay.RecordID(c.b.Writer, c.seq)}
	if n := c.v.o.MaxUnsigned; n >= 0 && c.b.Unsigned > n {
		c.add(Finding{Check: CheckUnsigned, Message: fmt.Sprintf("%d records stand after the last checkpoint, which no signature vouches for", c.b.Unsigned), Want: fmt.Sprintf("%d at most", n), Got: c.b.LastCheckpoint})
	}
	if c.b.Checkpoints == 0 && c.v.o.Signers != nil {
		c.add(Finding{Check: CheckUnsigned, Message: "no checkpoint is signed by a key that is trusted for " + record.Principal(c.b.Writer)})
	}
}

func sortedPaths(m map[string][]byte) []string {
	out := make([]string, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func hexSum(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }
