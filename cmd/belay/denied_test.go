package main

import (
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
)

// However many requests are denied, the ledger gets few, and their number.
func TestDenialsAreCounted(t *testing.T) {
	var got []belay.Event
	now := time.Unix(1000, 0)
	d := &denials{publish: func(ev belay.Event) { got = append(got, ev) }, now: func() time.Time { return now }}
	for range 1000 {
		d.denied(server.Denial{From: "127.0.0.1", Method: "POST", Path: "/api/v1/sync\n" + strings.Repeat("x", 5000), Why: "another origin"})
	}
	if len(got) != denialsAtOnce {
		t.Fatalf("%d of 1000 at once are on the record, want %d", len(got), denialsAtOnce)
	}
	if ev := got[0]; ev.Actor != "127.0.0.1" || len(ev.Message) > 300 || strings.Contains(ev.Message, "\n") || !strings.Contains(ev.Message, "another origin") {
		t.Errorf("recorded: %+v", ev)
	}
	now = now.Add(denialInterval)
	d.denied(server.Denial{From: "127.0.0.1", Method: "GET", Path: "/", Why: "no"})
	if last := got[len(got)-1].Message; len(got) != denialsAtOnce+1 || !strings.Contains(last, "990 more were denied before") {
		t.Errorf("after a while: %d, %q", len(got), last)
	}
}

func TestDefaultWriters(t *testing.T) {
	for _, instance := range []string{"", "two", "A_b/c..d", strings.Repeat("x", 90)} {
		name := defaultWriter(instance)
		if err := checkWriterName(name); err != nil {
			t.Errorf("instance %q: %v", instance, err)
		}
	}
	if defaultWriter("") == defaultWriter("two") {
		t.Error("two instances on one host share a name")
	}
}
