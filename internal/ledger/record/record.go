// Package record is the format of the ledger: what a commit of it says and
// holds. The writer and the verifier share this package and nothing else.
//
// One event is one commit on the branch ledger/WRITER. Its author is who caused
// the event, its date when that was, its committer the writer. Its message says
// what happened in a line, then why, then trailers for machines and for
// `git log --grep`. Its tree holds the event whole, as event.json in the
// directory that it is about, and the latest state of everything:
//
//	format                               "belay-ledger 1"
//	allowed_signers                      keys that sign the checkpoints, as ssh-keygen(1) reads them; the last is in use
//	event.json                           the latest event of no application
//	clusters/CLUSTER/XX/APP/event.json   the latest event of the application
//	clusters/CLUSTER/XX/APP/deployment.json its latest deployment
//	clusters/CLUSTER/XX/APP/manifests/…  what was applied, secret values replaced by keyed digests
//	holds/CLUSTER/APP.json               a hold in force
//	running/CLUSTER/APP                  the ID of a deployment that did not succeed yet
//	sources/REPO/REF                     the commit a ref was seen at last
//	leases/REPO/LEASE                    when the writer began to lead, where several stand by for one another
//
// XX are two digits of a digest of the application's name. Every commit writes the
// directories above its file anew, so one of ten thousand applications would make
// each record cost hundreds of kilobytes; `git log -- 'clusters/*/*/APP/*'` needs no digits.
//
// A checkpoint is a record too; its commit carries an SSH signature. The file of
// allowed signers is set by record 1, and changed by checkpoints alone: one is then
// signed with the key that was in use before, or, where that was lost, with the new
// one, which proves nothing of where it came from.
//
// It must not know how commits are written or read: it is a function over values.
package record

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

// Names of files in the tree.
const (
	FormatFile     = "format"
	Format         = "belay-ledger 1\n"
	SignersFile    = "allowed_signers"
	EventFile      = "event.json"
	DeploymentFile = "deployment.json"
	ManifestDir    = "manifests"
	ClusterDir     = "clusters"
	HoldDir        = "holds"
	RunningDir     = "running"
	SourceDir      = "sources"
	LeaseDir       = "leases"
)

// TrailerRecord is the trailer with the ID of a record.
const TrailerRecord = "Belay-Record"

// Namespace of the signatures, that of Git itself: `git verify-commit` checks them.
const Namespace = "git"

// BranchPrefix begins the ref of every writer.
const BranchPrefix = "refs/heads/ledger/"

// Branch is the ref of a writer.
func Branch(writer string) string { return BranchPrefix + writer }

// Principal is the name of a writer in the file of allowed signers and the
// e-mail address of its commits.
func Principal(writer string) string { return writer + "@belay.invalid" }

// SignerLine is the line of a key in the file of allowed signers. The last line
// is that of the key in use; those before it were, and are kept so that plain git
// verifies what they signed.
func SignerLine(writer, key string) string {
	return Principal(writer) + " namespaces=\"" + Namespace + "\" " + key + "\n"
}

// SignerKey is the key in such a line: "TYPE BASE64".
func SignerKey(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return ""
	}
	return strings.Join(fields[len(fields)-2:], " ")
}

// CheckWriter says what is wrong with the name of a writer, if anything is.
func CheckWriter(name string) error {
	ok := name != "" && len(name) <= 63 && name[0] != '-' && name[0] != '.' && !strings.HasSuffix(name, ".lock") &&
		!strings.HasSuffix(name, ".") && !strings.Contains(name, "..")
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	}
	if !ok {
		return fmt.Errorf("%q does not fit as the name of a writer: use up to 63 lower-case letters, digits, '-', '_' and '.'", name)
	}
	return nil
}

// File is a file that a commit of the ledger sets; Data nil removes it. A path
// that ends in "/" removes a directory.
type File struct {
	Path string
	Data []byte
}

// Entry is a record as a commit.
type Entry struct {
	// Author is "Name <email>".
	Author, Committer string
	When              time.Time
	Message           string
	Files             []File
	// Deployment is the one that the record begins or ends, as it stands after it.
	Deployment *belay.Deployment
}

// stored is what event.json holds.
type stored struct {
	Format int         `json:"format"`
	Writer string      `json:"writer"`
	Seq    uint64      `json:"seq"`
	Event  belay.Event `json:"event"`
}

// mended is what encoding/json writes for bytes that are no text. Read and encoded
// again, it is the character itself; everything else is encoded the same once more.
const mended = `\ufffd`

// Encode makes a commit of a record. began is the deployment that the record
// belongs to, as it was recorded so far; nil if there is none.
func Encode(r belay.Record, began *belay.Deployment) (Entry, error) {
	r = normal(r)
	b, err := marshal(stored{Format: 1, Writer: r.Writer, Seq: r.Seq, Event: r.Event})
	if err != nil {
		return Entry{}, fmt.Errorf("encode record %s: %w", r.ID(), err)
	}
	// What is read back is what counts: encoding mends text that is no text.
	manifests := r.Event.Detail.Applied()
	complete := r.Event.Detail != nil && r.Event.Detail.Complete
	if r, err = Decode(b); err != nil {
		return Entry{}, fmt.Errorf("encode record: %w", err)
	}
	if bytes.Contains(b, []byte(mended)) {
		if b, err = marshal(stored{Format: 1, Writer: r.Writer, Seq: r.Seq, Event: r.Event}); err != nil {
			return Entry{}, fmt.Errorf("encode record %s: %w", r.ID(), err)
		}
	}
	if manifests != nil || complete {
		if r.Event.Detail == nil {
			r.Event.Detail = &belay.Detail{}
		}
		r.Event.Detail.Manifests, r.Event.Detail.Complete = manifests, complete
	}
	e := Entry{
		Author: Author(&r), Committer: "Belay <" + Principal(r.Writer) + ">", When: r.Event.Time,
		Message: Message(&r), Files: []File{{EventPath(&r.Event), b}},
	}
	if r.Seq == 1 {
		e.Files = append(e.Files, File{FormatFile, []byte(Format)})
	}
	more, err := e.state(&r, began)
	e.Files = append(e.Files, more...)
	return e, err
}

// normal is the record as it is stored: times in UTC to the microsecond, nothing
// of a process.
func normal(r belay.Record) belay.Record {
	r.Event.Seq = 0
	r.Event.Time = r.Event.Time.UTC().Truncate(time.Microsecond)
	r.Commit = ""
	return r
}

// Decode reads an event.json.
func Decode(b []byte) (belay.Record, error) {
	var s stored
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		return belay.Record{}, fmt.Errorf("not a record: %w", err)
	}
	if s.Format != 1 {
		return belay.Record{}, fmt.Errorf("a record of format %d, this Belay reads format 1", s.Format)
	}
	return belay.Record{Writer: s.Writer, Seq: s.Seq, Event: s.Event}, nil
}

// Begin is the deployment that a syncStarted record begins.
func Begin(r *belay.Record) belay.Deployment {
	ev := &r.Event
	d := belay.Deployment{
		ID: r.ID(), Application: ev.Application, Project: ev.Project, Cluster: ev.Cluster, Repo: ev.Repo, Revision: ev.Revision,
		Change: ev.Change, Actor: ev.Actor, Reason: ev.Reason, Message: ev.Message, Plan: ev.Plan,
		Started: ev.Time.UTC().Truncate(time.Microsecond),
	}
	if x := ev.Detail; x != nil {
		d.Previous, d.Sources, d.Commits, d.MoreCommits, d.Objects = x.Previous, x.Sources, x.Commits, x.MoreCommits, x.Objects
	}
	return d
}

// End is a deployment after a record that tells its outcome: synced, syncFailed or superseded.
func End(d belay.Deployment, r *belay.Record) belay.Deployment {
	ev := &r.Event
	d.Message, d.Result, d.Ended = ev.Message, ev.Result, ev.Time.UTC().Truncate(time.Microsecond)
	if ev.Detail != nil && len(ev.Detail.Objects) > 0 {
		d.Objects = ev.Detail.Objects
	}
	return d
}

// Ends says whether an event tells the outcome of a deployment.
func Ends(t belay.EventType) bool {
	return t == belay.EventSynced || t == belay.EventSyncFailed || t == belay.EventSuperseded
}

// state is what a record changes of the state beside its event.
func (e *Entry) state(r *belay.Record, began *belay.Deployment) ([]File, error) {
	ev := &r.Event
	var out []File
	switch {
	case ev.Type == belay.EventSyncStarted:
		d := Begin(r)
		b, err := marshal(d)
		if err != nil {
			return nil, fmt.Errorf("encode deployment %s: %w", d.ID, err)
		}
		e.Deployment = &d
		out = append(out, File{Dir(ev) + DeploymentFile, b}, File{RunningPath(ev), []byte(d.ID + "\n")})
	case Ends(ev.Type) && began != nil && ev.Deployment == began.ID:
		files, err := e.end(r, *began)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	case (ev.Type == belay.EventRevision || ev.Type == belay.EventRewritten) && ev.Ref != "":
		out = append(out, File{SourcePath(ev.Repo, ev.Ref), []byte(ev.Revision + "\n")})
	case ev.Type == belay.EventHold && ev.Detail != nil && ev.Detail.Hold != nil:
		b, err := marshal(ev.Detail.Hold)
		if err != nil {
			return nil, fmt.Errorf("encode the hold of %s: %w", ev.Application, err)
		}
		out = append(out, File{HoldPath(ev), b})
	case ev.Type == belay.EventLeader && ev.Object != "": // the end of it names no lease
		out = append(out, File{LeasePath(ev.Repo, ev.Object), []byte(ev.Time.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano) + "\n")})
	case ev.Type == belay.EventRelease:
		out = append(out, File{HoldPath(ev), nil})
	}
	return out, nil
}

func (e *Entry) end(r *belay.Record, began belay.Deployment) ([]File, error) {
	ev, d := &r.Event, End(began, r)
	var out []File
	// An earlier attempt of the deployment may have left some; those of this one count.
	d.Manifests = nil
	applied := map[string]bool{}
	if ev.Detail != nil {
		if ev.Detail.Cleared || ev.Detail.Complete {
			out = append(out, File{Dir(ev) + ManifestDir + "/", nil})
		}
		for _, m := range ev.Detail.Manifests {
			f, err := manifestFile(m)
			if err != nil {
				return nil, err
			}
			applied[f.Path] = true
			if m.SHA256 == "" {
				out = append(out, File{Dir(ev) + f.Path, f.Data})
			}
			if sum := m.SHA256; f.Data != nil || sum != "" {
				d.Manifests = append(d.Manifests, belay.ManifestFile{Path: f.Path, SHA256: cmp.Or(sum, Sum(f.Data))})
			}
		}
	}
	for _, m := range began.Manifests {
		if !applied[m.Path] && (ev.Detail == nil || !ev.Detail.Cleared && !ev.Detail.Complete) {
			d.Manifests = append(d.Manifests, m)
		}
	}
	slices.SortFunc(d.Manifests, func(a, b belay.ManifestFile) int { return strings.Compare(a.Path, b.Path) })
	b, err := marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode deployment %s: %w", d.ID, err)
	}
	e.Deployment = &d
	out = append(out, File{Dir(ev) + DeploymentFile, b})
	if ev.Result != belay.Failed { // what failed is tried again, and may succeed yet
		out = append(out, File{RunningPath(ev), nil})
	}
	return out, nil
}

// manifestFile is a manifest as a file below the directory of its application;
// without data where there is no manifest to write.
func manifestFile(m belay.Manifest) (File, error) {
	f := File{Path: ManifestPath(m.ID)}
	if m.Raw == nil || m.SHA256 != "" {
		return f, nil
	}
	if f.Data = m.File; f.Data != nil {
		return f, nil
	}
	var err error
	if f.Data, err = YAML(m.Raw); err != nil {
		return f, fmt.Errorf("encode %s: %w", m.ID, err)
	}
	return f, nil
}

// Sum is the SHA-256 of a file, in hexadecimal.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// ManifestFile is the file that holds a manifest, and its SHA-256.
func ManifestFile(raw json.RawMessage) (file []byte, sum string, err error) {
	if file, err = YAML(raw); err != nil {
		return nil, "", err
	}
	return file, Sum(file), nil
}

// Dir is the directory of what an event is about, with a slash at its end;
// empty if that is no application of a cluster.
func Dir(ev *belay.Event) string {
	if ev.Application == "" || ev.Cluster == "" {
		return ""
	}
	return ClusterDir + "/" + escape(ev.Cluster) + "/" + fan(ev.Application) + "/" + escape(ev.Application) + "/"
}

// fan spreads applications over 256 directories.
func fan(application string) string {
	sum := sha256.Sum256([]byte(application))
	return hex.EncodeToString(sum[:1])
}

// EventPath is the file of the event itself.
func EventPath(ev *belay.Event) string { return Dir(ev) + EventFile }

// RunningPath is the file of a deployment that did not succeed yet.
func RunningPath(ev *belay.Event) string {
	return RunningDir + "/" + escape(ev.Cluster) + "/" + escape(ev.Application)
}

// HoldPath is the file of a hold.
func HoldPath(ev *belay.Event) string {
	return HoldDir + "/" + escape(ev.Cluster) + "/" + escape(ev.Application) + ".json"
}

// SourcePath is the file that says where a ref was seen last.
func SourcePath(repo, ref string) string { return SourceDir + "/" + escape(repo) + "/" + escape(ref) }

// LeasePath is the file that says when a writer began to lead those that stand by
// for one another over a repository.
func LeasePath(repo, lease string) string { return LeaseDir + "/" + escape(repo) + "/" + escape(lease) }

// ManifestPath is the file of a manifest below the directory of its application.
func ManifestPath(id belay.ObjectID) string {
	ns := id.Namespace
	if ns == "" {
		ns = "_" // no namespace is called that
	}
	return ManifestDir + "/" + escape(id.GroupKind().String()) + "/" + escape(ns) + "/" + escape(id.Name) + ".yaml"
}

// escape makes one path segment of any text, and the same of no two.
func escape(s string) string {
	if s == "" {
		return "%" // nothing else becomes that
	}
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_~@:=+,"
	var b strings.Builder
	for i := range len(s) {
		// A dot in front is escaped: . and .. and .git mean something.
		if c := s[i]; strings.IndexByte(plain, c) >= 0 || c == '.' && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// Unescape is the text that a path segment stands for; ok is false where it
// stands for none.
func Unescape(segment string) (text string, ok bool) {
	if segment == "%" {
		return "", true
	}
	var b []byte
	for i := 0; i < len(segment); i++ {
		if segment[i] != '%' {
			b = append(b, segment[i])
			continue
		}
		if i+2 >= len(segment) {
			return "", false
		}
		c, err := hex.DecodeString(segment[i+1 : i+3])
		if err != nil {
			return "", false
		}
		b, i = append(b, c...), i+2
	}
	return string(b), escape(string(b)) == segment
}

// YAML is a manifest as the ledger holds it: for people and for git diff.
func YAML(raw json.RawMessage) ([]byte, error) {
	var tree any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(numbers(tree)); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// numbers makes YAML numbers of JSON's: as text they would be quoted.
func numbers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	}
	return v
}

func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

// Author is who caused a record: a person, a field manager, or the writer itself.
func Author(r *belay.Record) string {
	name, mail, ok := strings.Cut(r.Event.Actor, "<")
	mail, _, closed := strings.Cut(mail, ">")
	if !ok || !closed {
		name, mail = r.Event.Actor, ""
	}
	name, mail = belay.AuthorText(name), belay.AuthorText(mail)
	if name == "" && mail == "" {
		return "Belay <" + Principal(r.Writer) + ">"
	}
	if name == "" {
		name = mail
	}
	return name + " <" + mail + ">"
}

// Message is the message of the commit that a record is. It follows from the
// record alone.
func Message(r *belay.Record) string {
	ev := &r.Event
	var b strings.Builder
	about := ev.Application
	if about != "" && ev.Cluster != "" {
		about += "@" + ev.Cluster
	}
	for _, other := range []string{ev.Cluster, ev.Repo} {
		if about == "" {
			about = other
		}
	}
	if about != "" {
		b.WriteString(oneLine(about) + ": ")
	}
	if ev.Object != "" && !strings.Contains(ev.Message, ev.Object) {
		b.WriteString(oneLine(ev.Object) + ": ")
	}
	b.WriteString(oneLine(ev.Message) + "\n\n")
	if ev.Reason != "" {
		b.WriteString("Reason: " + oneLine(ev.Reason) + "\n\n")
	}
	if ev.Detail != nil && len(ev.Detail.Commits) > 0 {
		for i := range ev.Detail.Commits {
			c := &ev.Detail.Commits[i]
			fmt.Fprintf(&b, "  %.10s %s (%s)\n", c.ID, oneLine(c.Subject), oneLine(c.Author))
		}
		if n := ev.Detail.MoreCommits; n > 0 {
			fmt.Fprintf(&b, "  and %d more\n", n)
		}
		b.WriteString("\n")
	}
	for _, t := range trailers(r) {
		b.WriteString(t[0] + ": " + oneLine(t[1]) + "\n")
	}
	return b.String()
}

func trailers(r *belay.Record) [][2]string {
	ev := &r.Event
	out := [][2]string{{"Belay-Event", string(ev.Type)}, {TrailerRecord, r.ID()}}
	add := func(name, value string) {
		if value != "" {
			out = append(out, [2]string{name, value})
		}
	}
	add("Application", ev.Application)
	add("Project", ev.Project)
	add("Cluster", ev.Cluster)
	add("Object", ev.Object)
	add("Repository", ev.Repo)
	add("Ref", ev.Ref)
	add("Source-Commit", ev.Revision)
	add("Change", ev.Change)
	add("Deployment", ev.Deployment)
	add("Plan", ev.Plan)
	if ev.Detail != nil {
		var approved []string
		for i := range ev.Detail.Commits {
			for _, a := range ev.Detail.Commits[i].Approvers {
				if !slices.Contains(approved, a) {
					approved = append(approved, a)
				}
			}
		}
		for _, a := range approved {
			add("Approved-By", a)
		}
	}
	add("Result", string(ev.Result))
	if ev.Seconds > 0 {
		add("Seconds", strconv.FormatFloat(ev.Seconds, 'f', 3, 64))
	}
	return out
}

// oneLine keeps foreign text from adding lines, and so trailers, to a message.
func oneLine(s string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)), " ")
}
