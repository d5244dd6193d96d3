package verify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/ledger/verify"
)

// attack is something that somebody does to the sample ledger after it was
// written. Records: 1 started (with the keys), 2 revision, 3 application, 4 web
// starts, 5 web ends, 6 drift, 7 checkpoint, 8 revision, 9 web starts, 10 fails,
// 11 succeeds, 12 hold, 13 api starts, 14 superseded, 15 api starts, 16 ends, 17
// release, 18 denied, 19 checkpoint, 20 api starts, 21 gone.
type attack struct {
	name string
	// forge changes commits; all that follow are made anew, with the signatures
	// that they had. nil leaves them.
	forge func(a *attacked)
	// damage changes the repository afterwards.
	damage func(a *attacked)
	// check and record are what must be found first, and message what it says.
	check, record, message string
	// trusted gives the verifier the writer's keys; remote an untouched copy.
	trusted, remote bool
}

type attacked struct {
	*forged
	t     *testing.T
	eve   ssh.Signer
	clean string // an untouched copy
}

// at is the commit of a record.
func (a *attacked) at(seq int) *spec { return &a.specs[seq-1] }

// file is a file that a record sets.
func (s *spec) file(suffix string) *record.File {
	for i := range s.files {
		if strings.HasSuffix(s.files[i].Path, suffix) {
			return &s.files[i]
		}
	}
	panic("no file " + suffix)
}

// reevent makes a commit of a changed event, as somebody would who has the code.
func (a *attacked) reevent(seq int, change func(*belay.Record)) {
	s := a.at(seq)
	var r belay.Record
	b, err := json.Marshal(s.record)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	change(&r)
	e, err := record.Encode(r, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range e.Files {
		if i := slices.IndexFunc(s.files, func(x record.File) bool { return x.Path == f.Path }); i >= 0 {
			s.files[i] = f
		}
	}
	s.author, s.authored, s.written, s.message, s.record = e.Author, e.When.Unix(), e.When.Unix(), e.Message, r
}

func replace(data []byte, old, now string) []byte {
	if !bytes.Contains(data, []byte(old)) {
		panic("nothing to replace: " + old)
	}
	return bytes.Replace(data, []byte(old), []byte(now), 1)
}

var attacks = []attack{
	{name: "message edited", forge: func(a *attacked) { a.at(4).message = strings.Replace(a.at(4).message, "2 objects", "no objects", 1) },
		check: verify.CheckCommit, record: "main/4", message: "message"},
	{name: "trailer added", forge: func(a *attacked) { a.at(4).message += "Approved-By: Eve <eve@example.org>\n" },
		check: verify.CheckCommit, record: "main/4", message: "message"},
	{name: "author forged", forge: func(a *attacked) { a.at(5).author = "Eve <eve@example.org>" },
		check: verify.CheckCommit, record: "main/5", message: "author"},
	{name: "date forged", forge: func(a *attacked) { a.at(5).authored -= 86400 },
		check: verify.CheckCommit, record: "main/5", message: "author"},
	{name: "committer's date forged", forge: func(a *attacked) { a.at(5).written -= 86400 },
		check: verify.CheckCommit, record: "main/5", message: "committer"},
	{name: "committer forged", forge: func(a *attacked) { a.at(5).committer = "Eve <eve@example.org>" },
		check: verify.CheckCommit, record: "main/5", message: "committer"},
	{name: "event edited", forge: func(a *attacked) { f := a.at(6).file("event.json"); f.Data = replace(f.Data, "data.x", "data.y") },
		check: verify.CheckCommit, record: "main/6", message: "message"},
	{name: "event edited where the message does not show it", forge: func(a *attacked) {
		f := a.at(4).file("event.json")
		f.Data = replace(f.Data, `"kind": "ConfigMap"`, `"kind": "Secret"`)
	},
		check: verify.CheckFiles, record: "main/4", message: "not what the event says"},
	{name: "event with a field of its own", forge: func(a *attacked) {
		f := a.at(6).file("event.json")
		f.Data = replace(f.Data, "{\n", "{\n  \"x\": 1,\n")
	},
		check: verify.CheckRecord, record: "main/6", message: "cannot be read"},
	{name: "event in another spelling", forge: func(a *attacked) { f := a.at(6).file("event.json"); f.Data = replace(f.Data, "\n", "\n\n") },
		check: verify.CheckFiles, record: "main/6", message: "not what the event says"},
	{name: "event with something after it", forge: func(a *attacked) { f := a.at(6).file("event.json"); f.Data = append(f.Data, "{}"...) },
		check: verify.CheckFiles, record: "main/6"},
	{name: "event at another application", forge: func(a *attacked) { f := a.at(6).file("event.json"); f.Path = strings.Replace(f.Path, "web", "api", 1) },
		check: verify.CheckFiles, record: "main/6"},
	{name: "event removed", forge: func(a *attacked) { a.at(18).files = nil },
		check: verify.CheckRecord, record: "main/18", message: "no event.json"},
	{name: "record dropped", forge: func(a *attacked) { a.specs = slices.Delete(a.specs, 5, 6) },
		check: verify.CheckSequence, record: "main/7", message: "1 records are missing before this one"},
	{name: "record dropped and the rest counted anew", forge: func(a *attacked) {
		a.specs = slices.Delete(a.specs, 5, 6)
		for i := 6; i <= len(a.specs); i++ {
			a.reevent(i, func(r *belay.Record) { r.Seq = uint64(i) })
		}
	}, check: verify.CheckSignature, record: "main/6", message: "does not fit"},
	{name: "beginning dropped", forge: func(a *attacked) { a.specs = a.specs[2:] },
		check: verify.CheckSequence, record: "main/3", message: "2 records are missing"},
	{name: "tail dropped", forge: func(a *attacked) { a.specs = a.specs[:19] }, remote: true,
		check: "", record: ""},
	{name: "tail dropped and written anew", remote: true, forge: func(a *attacked) {
		a.reevent(20, func(r *belay.Record) { r.Event.Actor = "Eve" })
		a.specs = a.specs[:20]
	},
		check: verify.CheckRemote, record: "main/20", message: "part here"},
	{name: "two records swapped", forge: func(a *attacked) { a.specs[16], a.specs[17] = a.specs[17], a.specs[16] },
		check: verify.CheckSequence, record: "main/18", message: "missing before"},
	{name: "record twice", forge: func(a *attacked) { a.specs = slices.Insert(a.specs, 6, a.specs[5]) },
		check: verify.CheckRecord, record: "main/7", message: "no event.json"},
	{name: "manifest changed", forge: func(a *attacked) { f := a.at(5).file("a.yaml"); f.Data = replace(f.Data, `"1"`, `"2"`) },
		check: verify.CheckManifest, record: "main/5", message: "not the one that was deployed"},
	{name: "manifest changed later", forge: func(a *attacked) {
		f := *a.at(5).file("a.yaml")
		f.Data = replace(f.Data, `"1"`, `"2"`)
		a.at(6).files = append(a.at(6).files, f)
	}, check: verify.CheckFiles, record: "main/6", message: "changes a file"},
	{name: "manifest changed in the commit of another application's deployment", forge: func(a *attacked) {
		f := *a.at(5).file("a.yaml")
		f.Data = replace(f.Data, `"1"`, `"9"`)
		a.at(16).files = append(a.at(16).files, f)
	}, check: verify.CheckFiles, record: "main/16", message: "changes a file"},
	{name: "manifest missing", forge: func(a *attacked) {
		f := a.at(5).file("a.yaml")
		f.Path = strings.Replace(f.Path, "a.yaml", "z.yaml", 1)
	},
		check: verify.CheckManifest, record: "main/5", message: "not there"},
	{name: "manifest added", forge: func(a *attacked) {
		f := *a.at(5).file("a.yaml")
		f.Path = strings.Replace(f.Path, "a.yaml", "z.yaml", 1)
		a.at(5).files = append(a.at(5).files, f)
	}, check: verify.CheckFiles, record: "main/5", message: "adds a file"},
	{name: "manifest removed later", forge: func(a *attacked) {
		a.at(6).files = append(a.at(6).files, record.File{Path: a.at(5).file("a.yaml").Path})
	}, check: verify.CheckFiles, record: "main/6", message: "removes a file"},
	{name: "deployment edited", forge: func(a *attacked) { f := a.at(5).file("deployment.json"); f.Data = replace(f.Data, "ada@", "eve@") },
		check: verify.CheckFiles, record: "main/5", message: "not what the event says"},
	{name: "deployment edited later", forge: func(a *attacked) {
		f := *a.at(5).file("deployment.json")
		f.Data = replace(f.Data, "ada@", "eve@")
		a.at(6).files = append(a.at(6).files, f)
	}, check: verify.CheckFiles, record: "main/6", message: "changes a file"},
	{name: "deployment's manifest and digest edited together", trusted: true, forge: func(a *attacked) {
		f, d := a.at(5).file("a.yaml"), a.at(5).file("deployment.json")
		before := hexSum(f.Data)
		f.Data = replace(f.Data, `"1"`, `"2"`)
		d.Data = replace(d.Data, before, hexSum(f.Data))
	}, check: verify.CheckSignature, record: "main/7", message: "does not fit"},
	{name: "running deployment hidden", forge: func(a *attacked) {
		a.at(4).files = slices.DeleteFunc(a.at(4).files, func(f record.File) bool { return strings.HasPrefix(f.Path, "running/") })
	},
		check: verify.CheckFiles, record: "main/4", message: "does not write the file"},
	{name: "ended deployment left running", forge: func(a *attacked) {
		a.at(5).files = slices.DeleteFunc(a.at(5).files, func(f record.File) bool { return strings.HasPrefix(f.Path, "running/") })
	},
		check: verify.CheckFiles, record: "main/5", message: "should be gone"},
	{name: "hold edited", forge: func(a *attacked) {
		f := a.at(12).file(".json")
		_ = f
		h := a.at(12).file("web.json")
		h.Data = replace(h.Data, "it broke", "because")
	},
		check: verify.CheckFiles, record: "main/12", message: "not what the event says"},
	{name: "source edited", forge: func(a *attacked) { f := a.at(8).file("/main"); f.Data = []byte(commitID(9) + "\n") },
		check: verify.CheckFiles, record: "main/8", message: "not what the event says"},
	{name: "file added", forge: func(a *attacked) {
		a.at(6).files = append(a.at(6).files, record.File{Path: "notes.txt", Data: []byte("x")})
	},
		check: verify.CheckFiles, record: "main/6", message: "adds a file"},
	{name: "format removed", forge: func(a *attacked) { a.at(6).files = append(a.at(6).files, record.File{Path: "format"}) },
		check: verify.CheckFiles, record: "main/6", message: "removes a file"},
	{name: "files executable", forge: func(a *attacked) { a.at(6).mode = "100755" },
		check: verify.CheckFiles, record: "main/6", message: "no plain file"},
	{name: "start dropped", forge: func(a *attacked) { a.specs = slices.Delete(a.specs, 14, 15) },
		check: verify.CheckSequence, record: "main/16"},
	{name: "start became something else", forge: func(a *attacked) {
		a.reevent(15, func(r *belay.Record) { r.Event.Type = belay.EventHealth })
		a.at(15).files = slices.DeleteFunc(a.at(15).files, func(f record.File) bool { return !strings.HasSuffix(f.Path, "event.json") })
	}, check: verify.CheckDeployment, record: "main/16", message: "never began"},
	{name: "end became something else", forge: func(a *attacked) {
		a.reevent(14, func(r *belay.Record) { r.Event.Type = belay.EventHealth })
		a.at(14).files = slices.DeleteFunc(a.at(14).files, func(f record.File) bool { return !strings.HasSuffix(f.Path, "event.json") })
	}, check: verify.CheckSignature, record: "main/19", message: "does not fit"},
	{name: "deployment from the future", forge: func(a *attacked) { a.reevent(6, func(r *belay.Record) { r.Event.Deployment = "main/99" }) },
		check: verify.CheckDeployment, record: "main/6", message: "did not begin before"},
	{name: "deployment of nowhere", forge: func(a *attacked) { a.reevent(21, func(r *belay.Record) { r.Event.Deployment = "asia/4" }) },
		check: verify.CheckFiles, record: "main/21"},
	{name: "time turned back", forge: func(a *attacked) { a.reevent(6, func(r *belay.Record) { r.Event.Time = r.Event.Time.Add(-time.Hour) }) },
		check: verify.CheckTime, record: "main/6", message: "before that of an earlier record"},
	{name: "signature removed", forge: func(a *attacked) { a.at(7).sig = nil },
		check: verify.CheckSignature, record: "main/7", message: "no signature"},
	{name: "signature of another record", forge: func(a *attacked) { a.at(7).sig = a.at(19).sig },
		check: verify.CheckSignature, record: "main/7", message: "does not fit"},
	{name: "signature by another key", forge: func(a *attacked) { a.at(7).sig, a.at(7).key = nil, a.eve },
		check: verify.CheckSignature, record: "main/7", message: "none of the trusted keys"},
	{name: "two signatures", forge: func(a *attacked) { a.at(7).sig = append(a.at(7).sig, append([]byte("gpgsig "), a.at(7).sig...)...) },
		check: verify.CheckSignature, record: "main/7"},
	{name: "keys swapped", forge: func(a *attacked) {
		a.at(6).files = append(a.at(6).files, record.File{Path: record.SignersFile, Data: []byte(allowedLine("main", a.eve))})
	}, check: verify.CheckKeys, record: "main/6", message: "no trusted key signed"},
	{name: "keys swapped in a commit by the new key", forge: func(a *attacked) {
		a.at(6).files = append(a.at(6).files, record.File{Path: record.SignersFile, Data: []byte(allowedLine("main", a.eve))})
		a.at(6).key = a.eve
	}, check: verify.CheckSignature, record: "main/6", message: "none of the trusted keys"},
	{name: "keys removed", forge: func(a *attacked) { a.at(6).files = append(a.at(6).files, record.File{Path: record.SignersFile}) },
		check: verify.CheckKeys, record: "main/6", message: "removed"},
	{name: "all written anew and signed with another key", trusted: true, forge: func(a *attacked) {
		a.reevent(4, func(r *belay.Record) { r.Event.Actor = "Eve" })
		a.at(1).file(record.SignersFile).Data = []byte(allowedLine("main", a.eve))
		a.at(7).sig, a.at(7).key, a.at(19).sig, a.at(19).key = nil, a.eve, nil, a.eve
	}, check: verify.CheckFiles, record: "main/5"},
	{name: "all written anew, consistently, and signed with another key", trusted: true, forge: func(a *attacked) {
		a.reevent(3, func(r *belay.Record) { r.Event.Actor = "Eve" })
		a.at(1).file(record.SignersFile).Data = []byte(allowedLine("main", a.eve))
		a.at(7).sig, a.at(7).key, a.at(19).sig, a.at(19).key = nil, a.eve, nil, a.eve
	}, check: verify.CheckSignature, record: "main/7", message: "none of the trusted keys"},
	{name: "all written anew, consistently, seen from another copy", remote: true, forge: func(a *attacked) {
		a.reevent(3, func(r *belay.Record) { r.Event.Actor = "Eve" })
		a.at(1).file(record.SignersFile).Data = []byte(allowedLine("main", a.eve))
		a.at(7).sig, a.at(7).key, a.at(19).sig, a.at(19).key = nil, a.eve, nil, a.eve
	}, check: verify.CheckRemote, record: "main/1", message: "part here"},
	{name: "all written anew, hashes and numbers right, signatures kept", forge: func(a *attacked) { a.reevent(3, func(r *belay.Record) { r.Event.Actor = "Eve" }) },
		check: verify.CheckSignature, record: "main/7", message: "does not fit"},
	{name: "checkpoints taken out", trusted: true, forge: func(a *attacked) {
		a.specs = append(a.specs[:6:6], a.specs[7:18]...)
		for i := 7; i <= len(a.specs); i++ {
			a.specs[i-1].files = nil
		}
		a.specs = a.specs[:6]
	}, check: verify.CheckUnsigned, record: "main/6", message: "no checkpoint"},
	{name: "history merged", forge: func(a *attacked) { a.at(8).parents = []int{6, 2} },
		check: verify.CheckChain, record: "main/8", message: "merges"},
	{name: "second beginning merged", forge: func(a *attacked) { a.at(8).parents = []int{}; a.at(9).parents = []int{6, 7} },
		check: verify.CheckChain, record: "main/8", message: "merges"},
	{name: "second beginning", forge: func(a *attacked) { a.at(8).parents = []int{} },
		check: verify.CheckSequence, record: "main/8", message: "7 records are missing"},
	{name: "record of another writer", forge: func(a *attacked) {
		e := sample(a.t, "eu", a.key).specs[5]
		e.sig, e.key = nil, nil
		a.specs[5] = e
	}, check: verify.CheckRecord, record: "main/6", message: "another writer"},
	{name: "branch renamed", damage: func(a *attacked) { a.git("branch", "-m", "ledger/main", "ledger/asia") },
		check: verify.CheckRecord, record: "asia/1", message: "another writer"},
	{name: "branch removed", remote: true, damage: func(a *attacked) {
		a.git("update-ref", "refs/heads/ledger/eu", a.ids[3])
		a.git("update-ref", "-d", "refs/heads/ledger/main")
	}, check: verify.CheckRemote},
	{name: "replaced object", forge: func(a *attacked) {}, damage: func(a *attacked) {
		// git replace makes git itself show another commit; what is there is what counts.
		a.git("replace", a.ids[5], a.ids[4])
	}},
	{name: "commit exchanged under its name", damage: func(a *attacked) { a.store(a.ids[5], []byte("commit 5\x00nihil")) },
		check: verify.CheckObjects, record: "main/7", message: "before this one cannot be read"},
	{name: "file exchanged under its name", damage: func(a *attacked) { a.store(a.object("blob", a.at(5).file("a.yaml").Data), []byte("blob 5\x00nihil")) },
		check: verify.CheckObjects, record: "main/5", message: "damaged"},
	{name: "commit deleted", damage: func(a *attacked) { a.remove(a.ids[9]) },
		check: verify.CheckObjects, record: "main/11", message: "before this one cannot be read"},
	{name: "newest commit deleted", damage: func(a *attacked) { a.remove(a.ids[20]) },
		check: verify.CheckObjects},
	{name: "tree deleted", damage: func(a *attacked) { a.remove(a.git("rev-parse", a.ids[11]+":holds")) },
		check: verify.CheckObjects, record: "main/12", message: "missing"},
	{name: "file deleted", damage: func(a *attacked) { a.remove(a.object("blob", a.at(5).file("a.yaml").Data)) },
		check: verify.CheckObjects, record: "main/5", message: "missing"},
	{name: "clone is shallow", damage: func(a *attacked) {
		dir := filepath.Join(a.t.TempDir(), "shallow.git")
		a.git("clone", "-q", "--bare", "--depth", "3", "--branch", "ledger/main", "file://"+a.dir, dir)
		a.dir = dir
	}, check: verify.CheckObjects, record: "main/19", message: "unshallow"},
}

func (a *attacked) remove(id string) {
	if err := os.Remove(a.path(id)); err != nil {
		a.t.Fatal(err)
	}
}

func TestAttacks(t *testing.T) {
	for _, x := range attacks {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(t)
			l.sample("main")
			a := &attacked{forged: l, t: t, eve: newKey(t), clean: filepath.Join(t.TempDir(), "clean.git")}
			if x.remote {
				l.git("clone", "-q", "--mirror", "--", l.dir, a.clean)
			}
			if x.forge != nil {
				x.forge(a)
				l.build("main")
			}
			if x.damage != nil {
				x.damage(a)
			}
			o := verify.Options{Ledger: l.dir}
			if x.trusted {
				o.Signers = keysOf(t, allowedLine("main", l.key))
			}
			if x.remote {
				o.Against = a.clean
			}
			r := run(t, o)
			switch {
			case x.check == "" && x.name == "tail dropped":
				if r.Total != 0 || r.Branches[0].Remote != "2 records more there" {
					t.Fatal(show(r))
				}
			case x.check == "":
				if r.Total != 0 {
					t.Fatal(show(r))
				}
			case x.record == "":
				if r.ByCheck[x.check] == 0 {
					t.Fatal(show(r))
				}
			default:
				wantFirst(t, r, x.check, x.record, x.message)
			}
		})
	}
}

// A pack that lost its end is found, and the first record that it held is named.
func TestTruncatedPack(t *testing.T) {
	l := newLedger(t)
	l.sample("main")
	l.git("repack", "-a", "-d", "-q")
	packs, err := filepath.Glob(filepath.Join(l.dir, "objects/pack/*.pack"))
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	st, err := os.Stat(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(packs[0], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{st.Size() - 30, st.Size() / 2, 0} {
		if err := os.Truncate(packs[0], size); err != nil {
			t.Fatal(err)
		}
		if r := run(t, verify.Options{Ledger: l.dir}); r.ByCheck[verify.CheckObjects] == 0 {
			t.Fatalf("%d bytes: %s", size, show(r))
		}
	}
}

// Any one thing that is changed in any one record is found, and not after the next
// checkpoint, with all hashes made anew.
func TestAnyMutationIsFound(t *testing.T) {
	key := newKey(t)
	base := sample(t, "main", key)
	l := &forged{t: t, dir: gittest.NewRepo(t).Dir, key: key, specs: base.specs}
	l.build("main") // signs
	signed := slices.Clone(l.specs)
	checkpoints := []int{6, 18}
	rapid.Check(t, func(rt *rapid.T) {
		l.specs = slices.Clone(signed)
		i := rapid.IntRange(0, 18).Draw(rt, "record")
		s := &l.specs[i]
		s.files = slices.Clone(s.files)
		what := rapid.IntRange(0, 6).Draw(rt, "what")
		switch what {
		case 0:
			s.message = flip(rt, s.message)
		case 1:
			s.author = flipName(rt, s.author)
		case 2:
			s.authored += rapid.Int64Range(1, 1e6).Draw(rt, "seconds")
		case 3:
			s.written -= rapid.Int64Range(1, 1e6).Draw(rt, "seconds")
		case 4, 5:
			k := rapid.IntRange(0, len(s.files)-1).Draw(rt, "file")
			if len(s.files[k].Data) == 0 {
				s.files[k].Data = []byte("x")
			} else {
				s.files[k].Data = []byte(flip(rt, string(s.files[k].Data)))
			}
		case 6:
			s.files = append(s.files, record.File{Path: rapid.StringMatching(`[a-z]{1,5}(/[a-z]{1,5}){0,2}`).Draw(rt, "path"), Data: []byte("x")})
		}
		l.build("main")
		r := run(t, verify.Options{Ledger: l.dir, Signers: keysOf(t, allowedLine("main", key))})
		if r.Total == 0 {
			rt.Fatalf("mutation %d of record %d is not found", what, i+1)
		}
		limit := checkpoints[slices.IndexFunc(checkpoints, func(c int) bool { return c >= i })] + 1
		_, seq, _ := belay.ParseRecordID(r.Findings[0].Record)
		if int(seq) < i+1 || int(seq) > limit {
			rt.Fatalf("mutation %d of record %d: %s", what, i+1, show(r))
		}
	})
}

func flip(t *rapid.T, s string) string {
	b := []byte(s)
	b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= byte(rapid.IntRange(1, 127).Draw(t, "bits"))
	return string(b)
}

// flipName changes a letter of a name such that the commit stays one.
func flipName(t *rapid.T, s string) string {
	i := strings.IndexByte(s, ' ')
	return fmt.Sprintf("%s%c%s", s[:i], rapid.RuneFrom([]rune("abcxyz")).Draw(t, "letter"), s[i:])
}
