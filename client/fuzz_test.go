package client

import (
	"bytes"
	"testing"
)

// An event stream of any content ends messages only at blank lines, and keeps
// what was data.
func FuzzEventStream(f *testing.F) {
	f.Add([]byte("event: event\nid: 1\ndata: {\"seq\":1}\n\n: comment\n\ndata: a\ndata: b\n\n"))
	f.Add([]byte("data\n:\n\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var m message
		for line := range bytes.SplitSeq(stream, []byte("\n")) {
			if ended := m.line(line); ended != (len(line) == 0) {
				t.Fatalf("the line %q ends a message: %v", line, ended)
			}
			if len(line) == 0 {
				m = message{}
			}
			if m.data.Len() > len(stream) {
				t.Fatal("more data than there was")
			}
		}
	})
}
