package record_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// Whatever strangers put into an event: the record comes back whole, its message
// has the trailers that it should have and no other, and its author is one line.
func TestRecordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SampledFrom([]string{"", "a\n\nBelay-Event: forged", "<x>", "Ada <ada@example.org>", "..", "a/b", "\x00", "\xff", "%"}), rapid.String())
		ev := belay.Event{Type: rapid.SampledFrom(belay.EventTypes()).Draw(t, "type"), Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "time"), 123456789).UTC(),
			Application: text.Draw(t, "application"), Cluster: text.Draw(t, "cluster"), Object: text.Draw(t, "object"), Actor: text.Draw(t, "actor"),
			Message: text.Draw(t, "message"), Reason: text.Draw(t, "reason"), Repo: text.Draw(t, "repo"), Ref: text.Draw(t, "ref"), Seq: 7,
			Detail: &belay.Detail{Commits: []belay.Commit{{ID: "abc", Subject: text.Draw(t, "subject"), Author: text.Draw(t, "author"), Approvers: []string{text.Draw(t, "approver")}}}}}
		r := belay.Record{Writer: "main", Seq: rapid.Uint64Range(1, 1<<40).Draw(t, "seq"), Event: ev}
		e, err := record.Encode(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		back, err := record.Decode(e.Files[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		again, err := record.Encode(back, nil)
		if err != nil {
			t.Fatal(err)
		}
		x, _ := json.Marshal(e)
		y, _ := json.Marshal(again)
		if string(x) != string(y) {
			t.Fatalf("%s\nbecame\n%s", x, y)
		}
		if n := strings.Count("\n"+e.Message, "\nBelay-Event: "); n != 1 {
			t.Fatalf("%d trailers Belay-Event in\n%s", n, e.Message)
		}
		if strings.ContainsAny(e.Author, "\n\x00") || strings.Count(e.Author, "<") != 1 || strings.Count(e.Author, ">") != 1 {
			t.Fatalf("author %q", e.Author)
		}
		for _, f := range e.Files {
			for segment := range strings.SplitSeq(strings.TrimSuffix(f.Path, "/"), "/") {
				if _, ok := record.Unescape(strings.TrimSuffix(segment, ".json")); !ok {
					t.Fatalf("path %q does not tell what it stands for", f.Path)
				}
				if segment == "" || segment == "." || segment == ".." {
					t.Fatalf("path %q", f.Path)
				}
			}
		}
	})
}

func TestRecordIDs(t *testing.T) {
	for s, want := range map[string]struct {
		writer string
		seq    uint64
		ok     bool
	}{"12": {"", 12, true}, "eu/3": {"eu", 3, true}, "": {}, "0": {}, "/3": {}, "01": {}, "x": {}, "a/b": {}, "-1": {}, "3f2a9c1": {}} {
		writer, seq, ok := belay.ParseRecordID(s)
		if ok != want.ok || ok && (writer != want.writer || seq != want.seq) {
			t.Errorf("ParseRecordID(%q) = %q, %d, %v", s, writer, seq, ok)
		}
	}
}
