package plan

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func many(kind string, from, to int) []belay.ObjectID {
	var out []belay.ObjectID
	for i := from; i < to; i++ {
		out = append(out, id(kind, fmt.Sprintf("n%d", i)))
	}
	return out
}

func (w *world) keeps(ids ...belay.ObjectID) {
	for _, i := range ids {
		w.has(object(i, "1"))
	}
}

func (w *world) makes(ids ...belay.ObjectID) {
	for _, i := range ids {
		w.desired = append(w.desired, object(i, "1"))
	}
}

func (w *world) mark(change func(*belay.Live), ids ...belay.ObjectID) {
	for _, i := range ids {
		l := w.live[i]
		change(&l)
		w.live[i] = l
	}
}

func disable(l *belay.Live) { l.PruneDisabled = true }

func TestPruneLimit(t *testing.T) {
	cm := func(from, to int) []belay.ObjectID { return many("ConfigMap", from, to) }
	tests := []struct {
		name string
		set  func(w *world)
		held string // "" for not
	}{
		{"half of ten", func(w *world) { w.keeps(cm(0, 5)...); w.left(cm(5, 10)...) }, ""},
		{"more than half of ten", func(w *world) { w.keeps(cm(0, 4)...); w.left(cm(4, 10)...) }, "would delete 6 of its 10 objects; the limit is 50%"},
		{"more than half of nine", func(w *world) { w.keeps(cm(0, 1)...); w.left(cm(1, 9)...) }, ""},
		{"all of one", func(w *world) { w.left(cm(0, 1)...) }, "would delete its only object"},
		{"all of nine", func(w *world) { w.left(cm(0, 9)...) }, "would delete all of its 9 objects"},
		{"all of nine, and others made", func(w *world) { w.left(cm(0, 9)...); w.makes(many("Secret", 0, 9)...) }, "would delete all of its 9 objects"},
		{"all but what may not be pruned", func(w *world) { w.left(cm(0, 3)...); w.mark(disable, cm(0, 1)...) }, "would delete all of its 3 objects but 1 that belay.dev/prune keeps"},
		{"all but what moved to another application", func(w *world) { w.left(cm(0, 3)...); w.claims[cm(0, 1)[0]] = "other" }, "would delete all of its 2 objects"},
		{"all moved to another application", func(w *world) {
			w.left(cm(0, 2)...)
			for _, i := range cm(0, 2) {
				w.claims[i] = "other"
			}
		}, ""},
		{"all kept by prune disabled", func(w *world) { w.left(cm(0, 3)...); w.mark(disable, cm(0, 3)...) }, ""},
		{"all renamed", func(w *world) { w.left(cm(0, 4)...); w.makes(cm(4, 8)...) }, ""},
		{"twenty renamed", func(w *world) { w.left(cm(0, 20)...); w.makes(cm(20, 40)...) }, ""},
		{"all renamed but one", func(w *world) { w.left(cm(0, 4)...); w.makes(cm(4, 7)...) }, "would delete all of its 4 objects"},
		{"renamed into another namespace", func(w *world) {
			w.left(cm(0, 1)...)
			there := cm(0, 1)[0]
			there.Namespace = "elsewhere"
			w.makes(there)
		}, "would delete its only object"},
		{"renamed to what is denied", func(w *world) {
			w.left(cm(0, 1)...)
			w.makes(cm(1, 2)...)
			w.claimant[cm(1, 2)[0]] = "other"
		}, "would delete its only object"},
		{"volume claims renamed", func(w *world) {
			w.left(many("PersistentVolumeClaim", 0, 2)...)
			w.makes(many("PersistentVolumeClaim", 2, 4)...)
		}, "would delete all of its 2 objects"},
		{"a StatefulSet renamed", func(w *world) { w.left(id("StatefulSet", "a")); w.makes(id("StatefulSet", "b")) }, "would delete its only object"},
		{"a Deployment renamed", func(w *world) { w.left(id("Deployment", "a")); w.makes(id("Deployment", "b")) }, ""},
		{"renames and losses", func(w *world) { w.keeps(cm(0, 7)...); w.left(cm(7, 20)...); w.makes(cm(20, 24)...) },
			"would delete 13 of 24 objects, 4 of which are to be made in their place; the limit is 50%"},
		{"a small application that grows", func(w *world) { w.keeps(cm(0, 2)...); w.left(cm(2, 8)...); w.makes(many("Secret", 0, 3)...) }, "would delete 6 of its 8 objects; the limit is 50%"},
		{"deletions under way do not count", func(w *world) {
			w.keeps(cm(0, 5)...)
			w.left(cm(5, 15)...)
			w.mark(func(l *belay.Live) { l.Deleting = true }, cm(7, 15)...)
		}, ""},
		{"only deletions under way", func(w *world) { w.left(cm(0, 5)...); w.mark(func(l *belay.Live) { l.Deleting = true }, cm(0, 5)...) }, ""},
		{"no share, but all", func(w *world) { w.app.Spec.Sync.PruneLimit.Percent = 100; w.left(cm(0, 12)...) }, "would delete all of its 12 objects"},
		{"no share, nearly all", func(w *world) {
			w.app.Spec.Sync.PruneLimit.Percent = 100
			w.keeps(cm(0, 1)...)
			w.left(cm(1, 12)...)
		}, ""},
		{"a tenth", func(w *world) {
			w.app.Spec.Sync.PruneLimit.Percent = 10
			w.keeps(cm(0, 18)...)
			w.left(cm(18, 20)...)
		}, ""},
		{"more than a tenth", func(w *world) {
			w.app.Spec.Sync.PruneLimit.Percent = 10
			w.keeps(cm(0, 17)...)
			w.left(cm(17, 20)...)
		}, "would delete 3 of its 20 objects; the limit is 10%"},
		{"an application that left Git", func(w *world) { w.left(cm(0, 20)...); w.teardown = true }, ""},
		{"all of it unreadable", func(w *world) {
			w.left(cm(0, 20)...)
			for _, i := range cm(0, 20) {
				w.un = append(w.un, Unresolved{object(i, "1"), &belay.Error{Code: belay.CodeUnknownKind}})
			}
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			tt.set(w)
			p := w.build()
			got := ""
			if p.Held != nil {
				got = p.Held.Message
			}
			if got != tt.held {
				t.Fatalf("got  %q\nwant %q", got, tt.held)
			}
			if p.Held == nil {
				return
			}
			if p.Held.Code != belay.CodeHeld || p.Held.Application != "shop" || p.Held.Origin.File == "" {
				t.Errorf("held: %+v", p.Held)
			}
			token := Token(p.HeldActions)
			if !strings.Contains(p.Held.Hint, fmt.Sprintf("spec.sync.confirm: %q", token)) {
				t.Errorf("the hint %q does not tell the token %q", p.Held.Hint, token)
			}
			w.app.Spec.Sync.Confirm = token
			if p := w.build(); p.Held != nil || len(p.HeldActions) > 0 {
				t.Errorf("held though confirmed: %v", p.Held)
			}
			// The next accident is another one.
			w.left(id("ConfigMap", "one-more"))
			if p := w.build(); p.Held == nil {
				t.Error("the confirmation fits more than was confirmed")
			}
		})
	}
}

// A confirmation fits its set and what is left of it, and nothing else.
func TestToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 1, 30, rapid.ID).Draw(t, "names")
		token := TokenOf(names)
		if token != TokenOf(shuffled(t, names)) {
			t.Fatal("the order makes another token")
		}
		if !Covers(token, names) || !Covers(" "+token[:4]+"\n "+token[4:], names) {
			t.Fatal("does not fit its own set")
		}
		if left := names[rapid.IntRange(0, len(names)-1).Draw(t, "deleted"):]; !Covers(token, left) {
			t.Fatal("does not fit what is left")
		}
		other := rapid.StringMatching(`[A-Z]{6}`).Draw(t, "other")
		clash := slices.ContainsFunc(names, func(n string) bool { return TokenOf([]string{n}) == TokenOf([]string{other}) })
		if Covers(token, append(slices.Clone(names), other)) && !clash {
			t.Fatal("fits one more")
		}
		if Covers("", names) || Covers(token[1:], names) || Covers(token+"x", names) {
			t.Fatal("a damaged token fits")
		}
	})
}
