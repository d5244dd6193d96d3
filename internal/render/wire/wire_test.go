package wire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/belaydev/belay/internal/render/wire"
)

func drawFrame(t *rapid.T) (wire.Type, map[string]string, [][]byte) {
	return wire.Type(rapid.IntRange(int(wire.Setup), int(wire.Done)).Draw(t, "type")),
		rapid.MapOf(rapid.String(), rapid.String()).Draw(t, "head"),
		rapid.SliceOf(rapid.SliceOf(rapid.Byte())).Draw(t, "body")
}

func TestFramesComeBackAsSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var buf bytes.Buffer
		type sent struct {
			typ  wire.Type
			head map[string]string
			body []byte
		}
		var all []sent
		for range rapid.IntRange(0, 5).Draw(t, "frames") {
			typ, head, body := drawFrame(t)
			if err := wire.Write(&buf, typ, head, body...); err != nil {
				t.Fatal(err)
			}
			all = append(all, sent{typ, head, slices.Concat(body...)})
		}
		r := iotest.HalfReader(&buf)
		for _, want := range all {
			f, err := wire.Read(r, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			var head map[string]string
			if err := f.Decode(want.typ, &head); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(head, want.head) || !bytes.Equal(f.Body, want.body) {
				t.Fatalf("got %v %x, want %v %x", head, f.Body, want.head, want.body)
			}
		}
		if _, err := wire.Read(r, 1<<20); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last frame: %v", err)
		}
	})
}

func TestCutFramesAreNotWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var buf bytes.Buffer
		typ, head, body := drawFrame(t)
		if err := wire.Write(&buf, typ, head, body...); err != nil {
			t.Fatal(err)
		}
		n := rapid.IntRange(1, buf.Len()-1).Draw(t, "cut")
		if _, err := wire.Read(bytes.NewReader(buf.Bytes()[:n]), 1<<20); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut at %d of %d: %v", n, buf.Len(), err)
		}
	})
}

func TestLimitCountsHeadAndBody(t *testing.T) {
	var buf bytes.Buffer
	if err := wire.Write(&buf, wire.Done, "head", make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	size := int64(len(`"head"`) + 100)
	if _, err := wire.Read(bytes.NewReader(buf.Bytes()), size); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	_, err := wire.Read(bytes.NewReader(buf.Bytes()), size-1)
	if tl, ok := errors.AsType[*wire.TooLargeError](err); !ok || tl.Type != wire.Done || tl.Size != uint64(size) {
		t.Errorf("above the limit: %v", err)
	}
}

// A length costs memory only as the bytes arrive.
func TestAnnouncedLengthCostsNothing(t *testing.T) {
	frame := []byte{byte(wire.Done), 0, 0, 0, 0}
	frame = binary.BigEndian.AppendUint64(frame, 1<<40)
	allocated := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := wire.Read(bytes.NewReader(frame), 1<<50); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if allocated > 4<<20 {
		t.Errorf("%d bytes for a terabyte that never came", allocated)
	}
}

func FuzzRead(f *testing.F) {
	var buf bytes.Buffer
	out := wire.Output{Kind: "plain"}
	out.Add("a.yaml", 1, []byte(`{"a":1}`))
	if err := wire.WriteOutput(&buf, &out); err != nil {
		f.Fatal(err)
	}
	f.Add(buf.Bytes())
	f.Add([]byte{byte(wire.Ask), 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, '{', '}'})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		frame, err := wire.Read(bytes.NewReader(data), 1<<16)
		if err != nil {
			return
		}
		if int64(len(frame.Head)+len(frame.Body)) > 1<<16 {
			t.Error("larger than allowed")
		}
		o, err := frame.Output()
		if err != nil {
			return
		}
		var n int
		for _, d := range o.Docs {
			n += len(d.Manifest)
		}
		if n != len(frame.Body) {
			t.Errorf("manifests of %d bytes in a body of %d", n, len(frame.Body))
		}
	})
}

// parent answers questions about files named after their content.
func parent(r io.Reader, w io.Writer) error {
	for {
		f, err := wire.Read(r, 1<<20)
		if err != nil {
			return err
		}
		q, err := f.Question()
		if err != nil {
			return err
		}
		var a wire.Answers
		var data [][]byte
		for _, p := range slices.Concat(q.Stat, q.List, q.Read) {
			if p == "missing" {
				a.Items = append(a.Items, wire.Item{Error: &wire.PathError{Path: p, Missing: true, Reason: "no such file"}})
				data = append(data, nil)
				continue
			}
			a.Items = append(a.Items, wire.Item{Dir: true, Size: int64(len(p)), Entries: []wire.Entry{{Name: p}}})
			data = append(data, []byte(p))
		}
		data = data[len(q.Stat)+len(q.List):]
		if err := wire.WriteAnswers(w, &a, data...); err != nil {
			return err
		}
	}
}

func TestPipeTreeKeepsOrder(t *testing.T) {
	qr, qw := io.Pipe()
	ar, aw := io.Pipe()
	go func() { aw.CloseWithError(parent(qr, aw)) }()
	tree := wire.NewPipeTree(ar, qw, 1<<20)
	paths := []string{"missing"}
	for i := range 2500 { // more than one question holds
		paths = append(paths, fmt.Sprintf("dir/../file-%d", i))
	}
	contents, stats, lists := tree.Read(paths...), tree.Stat(paths...), tree.List(paths...)
	for i := range paths {
		want := fmt.Sprintf("file-%d", i-1)
		if i == 0 {
			for _, err := range []error{contents[0].Err, stats[0].Err, lists[0].Err} {
				if err == nil || err.Error() != "missing: no such file" {
					t.Errorf("missing: %v", err)
				}
			}
			continue
		}
		if string(contents[i].Data) != want || contents[i].Err != nil || !stats[i].Dir || lists[i].Entries[0].Name != want {
			t.Fatalf("path %d: %q %v %v", i, contents[i].Data, stats[i], lists[i])
		}
	}
	qr.Close()
	defer func() {
		if _, ok := recover().(wire.BrokenError); !ok {
			t.Error("a dead parent is no Broken")
		}
	}()
	tree.Read("x")
}
