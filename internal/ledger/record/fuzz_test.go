package record

import (
	"bytes"
	"path"
	"strings"
	"testing"
)

// Records come from ledgers of others, too. Whatever the bytes are, what is read
// is written the same from then on, and below the directory of the ledger.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"writer":"a","seq":1,"event":{"time":"2026-01-02T03:04:05Z","type":"syncStarted","application":"web","cluster":"local","detail":{"objects":[]}}}`))
	f.Add([]byte(`{"format":1,"writer":"../x","seq":2,"event":{"time":"2026-01-02T03:04:05.123456789Z","type":"revision","repo":"/a/../../b","ref":"..","revision":"c"}}`))
	f.Add([]byte(`{"format":1,"seq":3,"event":{"type":"hold","application":"..","cluster":".git","detail":{"hold":{"application":"a"}}}}`))
	f.Add([]byte(`{"format":1,"seq":4,"event":{"type":"leader","repo":"` + "\xff" + `","object":"a/b","message":"\ud800"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		e, err := Encode(r, nil)
		if err != nil {
			return
		}
		for _, file := range e.Files {
			name := strings.TrimSuffix(file.Path, "/")
			if path.Clean(name) != name || path.IsAbs(name) || strings.HasPrefix(name, "..") || strings.Contains("/"+strings.ToLower(name)+"/", "/.git/") || strings.ContainsAny(name, "\x00\n") {
				t.Fatalf("%q is written to %q", b, file.Path)
			}
		}
		again, err := Decode(e.Files[0].Data)
		if err != nil {
			t.Fatalf("%q is read, and %q is not: %v", b, e.Files[0].Data, err)
		}
		twice, err := Encode(again, nil)
		if err != nil || !bytes.Equal(twice.Files[0].Data, e.Files[0].Data) || twice.Message != e.Message {
			t.Fatalf("%q became %q, %v", e.Files[0].Data, twice.Files[0].Data, err)
		}
	})
}
