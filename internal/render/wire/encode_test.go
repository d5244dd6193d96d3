package wire_test

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// sent writes a frame and reads it back.
func sent(t *rapid.T, write func(*bytes.Buffer) error) wire.Frame {
	t.Helper()
	var buf bytes.Buffer
	if err := write(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(&buf, 1<<24)
	if err != nil || buf.Len() > 0 {
		t.Fatal(err, buf.Len())
	}
	return f
}

// broken cuts the head of a frame, or adds to it, and wants that to be an error.
func broken(t *rapid.T, f wire.Frame, decode func(wire.Frame) error) {
	t.Helper()
	for _, head := range [][]byte{f.Head[:rapid.IntRange(0, len(f.Head)-1).Draw(t, "cut")], append(slices.Clone(f.Head), 0)} {
		err := decode(wire.Frame{Type: f.Type, Head: head, Body: f.Body})
		if _, ok := errors.AsType[*wire.ProtocolError](err); !ok {
			t.Fatalf("a head of %d instead of %d bytes: %v", len(head), len(f.Head), err)
		}
	}
}

func paths(t *rapid.T, label string) []string {
	return rapid.SliceOfN(rapid.StringMatching(`[a-zä/.]{0,9}`), 0, 5).Draw(t, label)
}

func TestQuestionsComeBackAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := wire.Question{Stat: paths(t, "stat"), List: paths(t, "list"), Read: paths(t, "read")}
		f := sent(t, func(b *bytes.Buffer) error { return wire.WriteQuestion(b, q) })
		got, err := f.Question()
		if err != nil || !slices.Equal(got.Stat, q.Stat) || !slices.Equal(got.List, q.List) || !slices.Equal(got.Read, q.Read) {
			t.Fatalf("%+v: %+v %v", q, got, err)
		}
		broken(t, f, func(f wire.Frame) error { _, err := f.Question(); return err })
	})
}

func TestAQuestionHasItsLimit(t *testing.T) {
	var buf bytes.Buffer
	if err := wire.WriteQuestion(&buf, wire.Question{Stat: slices.Repeat([]string{"a"}, 1001)}); err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(&buf, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Question(); err == nil {
		t.Error("1001 paths in one question")
	}
}

func drawAnswers(t *rapid.T) wire.Answers {
	item := rapid.Custom(func(t *rapid.T) wire.Item {
		it := wire.Item{Dir: rapid.Bool().Draw(t, "dir"), Size: rapid.Int64Min(0).Draw(t, "size")}
		if rapid.Bool().Draw(t, "failed") {
			it.Error = &wire.PathError{Path: rapid.String().Draw(t, "path"), Reason: rapid.String().Draw(t, "reason"), Missing: rapid.Bool().Draw(t, "missing")}
		}
		for _, name := range paths(t, "entries") {
			it.Entries = append(it.Entries, wire.Entry{Name: name, Dir: rapid.Bool().Draw(t, "dir of entry"), Submodule: rapid.Bool().Draw(t, "submodule")})
		}
		return it
	})
	return wire.Answers{Items: rapid.SliceOfN(item, 1, 4).Draw(t, "items")}
}

func TestAnswersComeBackAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAnswers(t)
		f := sent(t, func(b *bytes.Buffer) error { return wire.WriteAnswers(b, &a) })
		got, err := f.Answers()
		if err != nil || !reflect.DeepEqual(*got, a) {
			t.Fatalf("%+v: %+v %v", a, got, err)
		}
		broken(t, f, func(f wire.Frame) error { _, err := f.Answers(); return err })
	})
}

func TestOutputsComeBackAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := wire.Output{Kind: rapid.String().Draw(t, "kind"), UsesCapabilities: rapid.Bool().Draw(t, "capabilities"), Retire: rapid.Bool().Draw(t, "retire")}
		for _, file := range paths(t, "docs") {
			o.Add(file, rapid.IntRange(0, 1<<40).Draw(t, "line"), []byte(rapid.String().Draw(t, "manifest")))
		}
		for _, w := range paths(t, "warnings") {
			o.Warn("%s", w)
		}
		o.Unfit = append(o.Unfit, rapid.SliceOf(rapid.IntRange(0, 1<<20)).Draw(t, "unfit")...)
		for _, m := range paths(t, "problems") {
			o.Fail(wire.Problem{Code: belay.CodeNotFound, File: m, Line: 3, Object: m, Message: m, Hint: m, Definition: true})
		}
		f := sent(t, func(b *bytes.Buffer) error { return wire.WriteOutput(b, &o) })
		got, err := f.Output()
		if err != nil || len(got.Docs) != len(o.Docs) {
			t.Fatal(got, err)
		}
		for i := range o.Docs {
			if string(got.Docs[i].Manifest) != string(o.Docs[i].Manifest) {
				t.Fatalf("manifest %d is %q, want %q", i, got.Docs[i].Manifest, o.Docs[i].Manifest)
			}
			got.Docs[i].Manifest = o.Docs[i].Manifest // a nil is as good as nothing
		}
		if !reflect.DeepEqual(*got, o) {
			t.Fatalf("%+v, want %+v", *got, o)
		}
		broken(t, f, func(f wire.Frame) error { _, err := f.Output(); return err })
	})
}

// A job brings the answers to its first questions, which must fit.
func TestJobsComeBackAsSent(t *testing.T) {
	j := wire.Job{Application: "shop", Source: belay.Source{Path: "apps/shop.yaml"}, Namespace: "prod"}
	missing := wire.Item{Error: &wire.PathError{Path: "x", Missing: true, Reason: "no such file"}}
	a, data, err := wire.Ahead(&j, func(q wire.Question) (a wire.Answers, data [][]byte, _ error) {
		for _, p := range slices.Concat(q.Stat, q.List) {
			if a.Items = append(a.Items, missing); p == "apps/shop.yaml" {
				a.Items[len(a.Items)-1] = wire.Item{}
			}
		}
		for _, p := range q.Read {
			a.Items, data = append(a.Items, missing), append(data, nil)
			if p == "apps/shop.yaml" {
				a.Items[len(a.Items)-1], data[len(data)-1] = wire.Item{Size: 4}, []byte("text")
			}
		}
		return a, data, nil
	})
	if err != nil || len(a.Items) != 6 { // itself, Chart.yaml, three kustomizations; then it is read
		t.Fatalf("%d answers: %v", len(a.Items), err)
	}
	var buf bytes.Buffer
	if err := wire.WriteJob(&buf, &j, &a, data...); err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(&buf, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	counted := &counter{}
	known := wire.Remember(counted)
	got, err := f.Job(known)
	if err != nil || !reflect.DeepEqual(*got, j) {
		t.Errorf("%+v %v", got, err)
	}
	if c := known.Read("apps/shop.yaml")[0]; string(c.Data) != "text" || counted.n != 0 {
		t.Errorf("%q after %d questions", c.Data, counted.n)
	}
	for what, broken := range map[string]wire.Frame{
		"a head without its last byte": {Type: f.Type, Head: f.Head[:len(f.Head)-1], Body: f.Body},
		"a body without its last byte": {Type: f.Type, Head: f.Head, Body: f.Body[:len(f.Body)-1]},
		"a body with one more":         {Type: f.Type, Head: f.Head, Body: append(slices.Clone(f.Body), 'x')},
	} {
		if _, err := broken.Job(wire.Remember(counted)); err == nil {
			t.Error(what)
		}
	}
}

func FuzzHeads(f *testing.F) {
	f.Add([]byte{0, 0, 0})
	f.Add([]byte("\x05plain\x00\x01\x01x\x00\x02\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, head []byte) {
		for _, typ := range []wire.Type{wire.JobFrame, wire.Ask, wire.Answer, wire.Done} {
			frame := wire.Frame{Type: typ, Head: head, Body: []byte("{}")}
			switch typ {
			case wire.JobFrame:
				_, _ = frame.Job(wire.Remember(&counter{}))
			case wire.Ask:
				if q, err := frame.Question(); err == nil && q.Len() > 1000 {
					t.Error("a question of", q.Len())
				}
			case wire.Answer:
				_, _ = frame.Answers()
			case wire.Done:
				if o, err := frame.Output(); err == nil && o.Size() != 2 {
					t.Errorf("manifests of %d bytes in a body of 2", o.Size())
				}
			}
		}
	})
}

// How often a worker has to ask is what a small render costs most.
func TestMemoryAsksForNothingTwice(t *testing.T) {
	counted := &counter{}
	m := wire.Remember(counted)
	m.Learn(wire.Question{Stat: []string{"gone"}, Read: []string{"known"}},
		wire.Seen{Stats: []wire.Stat{{Err: &wire.PathError{Path: "gone", Missing: true}}}, Contents: []wire.Content{{Data: []byte("text")}}})
	if c := m.Read("known", "gone", "./known"); string(c[0].Data) != "text" || c[1].Err == nil || string(c[2].Data) != "text" {
		t.Error(c)
	}
	if st := m.Stat("known"); st[0].Err != nil || st[0].Dir {
		t.Error(st)
	}
	if counted.n != 0 {
		t.Errorf("%d questions about what was known", counted.n)
	}
	for range 2 {
		seen := m.Look(wire.Question{Stat: []string{"a", "a", "known"}, List: []string{"dir"}, Read: []string{"b", "b", "known"}})
		if len(seen.Stats) != 3 || len(seen.Listings) != 1 || len(seen.Contents) != 3 || string(seen.Contents[1].Data) != "b" {
			t.Error(seen)
		}
	}
	if c := m.Read("dir"); !c[0].Dir || c[0].Err == nil {
		t.Error("a directory was read", c)
	}
	if counted.n != 1 || counted.paths != 3 {
		t.Errorf("%d questions about %d paths, want one about three", counted.n, counted.paths)
	}
}

// counter is a Tree of files that hold their names.
type counter struct{ n, paths int }

func (c *counter) Look(q wire.Question) (seen wire.Seen) {
	c.n, c.paths = c.n+1, c.paths+q.Len()
	for range q.Stat {
		seen.Stats = append(seen.Stats, wire.Stat{})
	}
	for range q.List {
		seen.Listings = append(seen.Listings, wire.Listing{})
	}
	for _, p := range q.Read {
		seen.Contents = append(seen.Contents, wire.Content{Data: []byte(p)})
	}
	return seen
}
func (c *counter) Stat(p ...string) []wire.Stat    { return c.Look(wire.Question{Stat: p}).Stats }
func (c *counter) List(p ...string) []wire.Listing { return c.Look(wire.Question{List: p}).Listings }
func (c *counter) Read(p ...string) []wire.Content { return c.Look(wire.Question{Read: p}).Contents }
