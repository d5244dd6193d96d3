package verify_test

import (
	"bytes"
	"compress/zlib"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/ledger/verify"
	"github.com/belaydev/belay/internal/signature"
)

// spec is one commit of a ledger: everything of it can be forged.
type spec struct {
	record            belay.Record
	files             []record.File
	author, committer string
	authored, written int64
	message           string
	// sig is the armored signature; key signs anew when the commit is made.
	sig []byte
	key ssh.Signer
	// parents are indexes of other commits; nil for the one before.
	parents []int
	mode    string // of its files, where that is not 100644
}

// forged is a repository that is made of specs, object by object, so that it can
// hold what no writer would write.
type forged struct {
	t     testing.TB
	dir   string
	specs []spec
	ids   []string
	key   ssh.Signer
}

func newKey(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// allowedLine is a line of allowed signers.
func allowedLine(writer string, key ssh.Signer) string {
	return record.Principal(writer) + ` namespaces="git" ` + string(ssh.MarshalAuthorizedKey(key.PublicKey()))
}

func keysOf(t testing.TB, text string) *signature.Keys {
	t.Helper()
	k, err := signature.ParseAllowedSigners([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newLedger(t testing.TB) *forged {
	return &forged{t: t, dir: gittest.NewRepo(t).Dir, key: newKey(t)}
}

func (l *forged) git(args ...string) string { return gittest.OpenRepo(l.t, l.dir).Git(args...) }

// object writes a loose object.
func (l *forged) object(kind string, data []byte) string {
	l.t.Helper()
	whole := append([]byte(fmt.Sprintf("%s %d\x00", kind, len(data))), data...)
	sum := sha1.Sum(whole)
	id := hex.EncodeToString(sum[:])
	if _, err := os.Stat(l.path(id)); err != nil {
		l.store(id, whole)
	}
	return id
}

func (l *forged) path(id string) string { return filepath.Join(l.dir, "objects", id[:2], id[2:]) }

// store writes bytes as the object of that name, whatever they are.
func (l *forged) store(id string, whole []byte) {
	l.t.Helper()
	file := l.path(id)
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, zlib.BestSpeed)
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := z.Write(whole); err != nil {
		l.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		l.t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		l.t.Fatal(err)
	}
	_ = os.Remove(file)
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

type stored struct {
	id, mode string
}

// tree writes the trees of a set of files.
func (l *forged) tree(files map[string]stored, prefix string) string {
	dirs := map[string]bool{}
	type line struct{ sort, text string }
	var lines []line
	for p, f := range files {
		rest, ok := strings.CutPrefix(p, prefix)
		if !ok {
			continue
		}
		name, _, dir := strings.Cut(rest, "/")
		if dir {
			dirs[name] = true
			continue
		}
		id, _ := hex.DecodeString(f.id)
		lines = append(lines, line{name, f.mode + " " + name + "\x00" + string(id)})
	}
	for name := range dirs {
		id, _ := hex.DecodeString(l.tree(files, prefix+name+"/"))
		lines = append(lines, line{name + "/", "40000 " + name + "\x00" + string(id)})
	}
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.sort, b.sort) })
	var b strings.Builder
	for _, x := range lines {
		b.WriteString(x.text)
	}
	return l.object("tree", []byte(b.String()))
}

// build writes all commits anew and sets the branch to the last.
func (l *forged) build(writer string) {
	l.t.Helper()
	l.ids = nil
	files := map[string]stored{}
	for i := range l.specs {
		s := &l.specs[i]
		for _, f := range s.files {
			switch {
			case strings.HasSuffix(f.Path, "/"):
				maps.DeleteFunc(files, func(p string, _ stored) bool { return strings.HasPrefix(p, f.Path) })
			case f.Data == nil:
				delete(files, f.Path)
			default:
				mode := "100644"
				if s.mode != "" {
					mode = s.mode
				}
				files[f.Path] = stored{l.object("blob", f.Data), mode}
			}
		}
		l.ids = append(l.ids, l.object("commit", l.raw(i, l.tree(files, ""))))
	}
	l.git("update-ref", record.Branch(writer), l.ids[len(l.ids)-1])
}

func (l *forged) raw(i int, tree string) []byte {
	s := &l.specs[i]
	var b bytes.Buffer
	fmt.Fprintf(&b, "tree %s\n", tree)
	parents := s.parents
	if parents == nil && i > 0 {
		parents = []int{i - 1}
	}
	for _, p := range parents {
		fmt.Fprintf(&b, "parent %s\n", l.ids[p])
	}
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n\n%s", s.author, s.authored, s.committer, s.written, s.message)
	if s.key != nil {
		sig, err := signature.Sign(rand.Reader, s.key, b.Bytes())
		if err != nil {
			l.t.Fatal(err)
		}
		s.sig, s.key = sig, nil
	}
	if s.sig == nil {
		return b.Bytes()
	}
	return signature.Attach(b.Bytes(), s.sig)
}

// history writes specs as the writer of a ledger would.
type history struct {
	t      testing.TB
	writer string
	seq    uint64
	now    time.Time
	began  map[string]*belay.Deployment
	specs  []spec
}

func newHistory(t testing.TB, writer string) *history {
	return &history{t: t, writer: writer, now: time.Date(2026, 11, 1, 9, 0, 0, 0, time.UTC), began: map[string]*belay.Deployment{}}
}

func (h *history) add(ev belay.Event) string {
	h.t.Helper()
	h.seq++
	h.now = h.now.Add(1500 * time.Millisecond)
	ev.Time = h.now
	r := belay.Record{Writer: h.writer, Seq: h.seq, Event: ev}
	began := h.began[ev.Application]
	e, err := record.Encode(r, began)
	if err != nil {
		h.t.Fatal(err)
	}
	if d := e.Deployment; d != nil {
		h.began[ev.Application] = d
		if d.Result == belay.Succeeded || d.Result == belay.Superseded {
			h.began[ev.Application] = nil
		}
	}
	h.specs = append(h.specs, spec{record: r, files: e.Files, author: e.Author, committer: e.Committer, authored: e.When.Unix(), written: e.When.Unix(), message: e.Message})
	return r.ID()
}

// checkpoint is signed by key.
func (h *history) checkpoint(key ssh.Signer) {
	h.t.Helper()
	h.add(belay.Event{Type: belay.EventCheckpoint, Message: "signed up to here"})
	h.specs[len(h.specs)-1].key = key
}

func (h *history) last() *spec { return &h.specs[len(h.specs)-1] }

func manifest(name, value string) belay.Manifest {
	return belay.Manifest{ID: belay.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: name}, Raw: json.RawMessage(`{"data":{"x":"` + value + `"},"metadata":{"name":"` + name + `"}}`)}
}

const fleet = "https://git.example.org/fleet.git"

func commitID(n int) string { return fmt.Sprintf("%040x", n) }

// deploy is a deployment from its start to its end.
func (h *history) deploy(app string, revision int, result belay.Result, manifests ...belay.Manifest) {
	h.t.Helper()
	id := h.start(app, revision)
	h.finish(app, id, revision, result, manifests...)
}

func (h *history) start(app string, revision int) string {
	return h.add(belay.Event{Type: belay.EventSyncStarted, Application: app, Cluster: "prod", Project: "shop", Repo: fleet, Revision: commitID(revision), Change: commitID(revision),
		Actor: "Ada <ada@example.org>", Message: "2 objects to write", Plan: "sha256:aa", Detail: &belay.Detail{
			Commits: []belay.Commit{{ID: commitID(revision), Author: "Ada <ada@example.org>", Subject: "Change it", Time: h.now, Approvers: []string{"Bob <bob@example.org>"}}},
			Objects: []belay.ObjectResult{{Verb: "create", ID: belay.ObjectID{Kind: "ConfigMap", Namespace: "shop", Name: "a"}}}}})
}

func (h *history) finish(app, id string, revision int, result belay.Result, manifests ...belay.Manifest) {
	kind := map[belay.Result]belay.EventType{belay.Succeeded: belay.EventSynced, belay.Failed: belay.EventSyncFailed, belay.Superseded: belay.EventSuperseded}[result]
	h.add(belay.Event{Type: kind, Application: app, Cluster: "prod", Project: "shop", Repo: fleet, Revision: commitID(revision), Actor: "Ada <ada@example.org>",
		Message: "it " + string(result), Deployment: id, Result: result, Seconds: 1.25, Detail: &belay.Detail{Manifests: manifests}})
}

// sample is a history with everything that records have.
func sample(t testing.TB, writer string, key ssh.Signer) *history {
	h := newHistory(t, writer)
	h.add(belay.Event{Type: belay.EventStarted, Message: "belay started"})
	h.last().files = append(h.last().files, record.File{Path: record.SignersFile, Data: []byte(allowedLine(writer, key))})
	h.add(belay.Event{Type: belay.EventRevision, Repo: fleet, Ref: "main", Revision: commitID(1), Actor: "Ada <ada@example.org>", Message: "main moved"})
	h.add(belay.Event{Type: belay.EventApplication, Application: "web", Cluster: "prod", Message: "added"})
	h.deploy("web", 1, belay.Succeeded, manifest("a", "1"), manifest("b", "1"))
	h.add(belay.Event{Type: belay.EventDrift, Application: "web", Cluster: "prod", Object: "ConfigMap shop/a", Actor: "kubectl-edit", Message: "data.x was changed"})
	h.checkpoint(key)
	h.add(belay.Event{Type: belay.EventRevision, Repo: fleet, Ref: "main", Revision: commitID(2), Message: "main moved"})
	id := h.start("web", 2)
	h.finish("web", id, 2, belay.Failed, manifest("a", "2"))
	h.finish("web", id, 2, belay.Succeeded, manifest("a", "2"), manifest("c", "1"), belay.Manifest{ID: manifest("b", "").ID})
	h.add(belay.Event{Type: belay.EventHold, Application: "web", Cluster: "prod", Message: "held", Detail: &belay.Detail{Hold: &belay.Hold{Application: "web", Revision: commitID(1), By: "Ada", Reason: "it broke"}}})
	id = h.start("api", 2)
	h.finish("api", id, 2, belay.Superseded)
	h.deploy("api", 3, belay.Succeeded, manifest("api", "1"))
	h.add(belay.Event{Type: belay.EventRelease, Application: "web", Cluster: "prod", Message: "released"})
	h.add(belay.Event{Type: belay.EventDenied, Actor: "eve", Message: "denied"})
	h.checkpoint(key)
	id = h.start("api", 4)
	h.add(belay.Event{Type: belay.EventSynced, Application: "api", Cluster: "prod", Deployment: id, Result: belay.Succeeded, Message: "gone", Detail: &belay.Detail{Cleared: true}})
	return h
}

func (l *forged) sample(writer string) {
	l.t.Helper()
	l.specs = sample(l.t, writer, l.key).specs
	l.build(writer)
}

func run(t testing.TB, o verify.Options) *verify.Report {
	t.Helper()
	if o.MaxUnsigned == 0 {
		o.MaxUnsigned = -1
	}
	r, err := verify.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func show(r *verify.Report) string {
	b, _ := json.MarshalIndent(r, "", "  ")
	return string(b)
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
