package kube

import (
	"slices"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

func stored(app, uid string, version uint64, deleting bool) *trimmed {
	id := belay.ObjectID{Kind: "ConfigMap", Namespace: "ns", Name: "x"}
	return &trimmed{ours: true, record: record{version: version, live: belay.Live{ID: id, UID: uid, Application: app, Deleting: deleting}}}
}

// An application that takes an object over knows that; the one that had it is told.
func TestWhoLostAnObjectIsTold(t *testing.T) {
	s := newStore()
	t1 := stored("blog", "u", 5, false)
	s.observed(t1)
	s.hold(t1.live.ID)
	if _, told := s.written(stored("shop", "u", 6, false), false); !slices.Equal(told, []string{"blog"}) {
		t.Errorf("after the answer: %v", told)
	}
	s.release(t1.live.ID, "shop", true)
	s.hold(t1.live.ID)
	s.observed(stored("blog", "u", 7, false)) // the watch is faster
	s.written(stored("blog", "u", 7, false), false)
	if told := s.release(t1.live.ID, "blog", true); !slices.Equal(told, []string{"shop"}) {
		t.Errorf("before the answer: %v", told)
	}
}

// What a watch that trails still tells of an object that we deleted is old.
func TestADeletionOfOurOwnIsNotOvertaken(t *testing.T) {
	s := newStore()
	t1 := stored("shop", "u", 5, false)
	id := t1.live.ID
	s.observed(t1)
	s.terminating(id, "u", "8")
	if told := s.observed(stored("shop", "u", 7, false)); told != nil {
		t.Errorf("from before the deletion it tells %v", told)
	}
	if l, _ := s.lookup(id); !l.Deleting || l.ResourceVersion != "8" {
		t.Errorf("%+v", l)
	}
	s.deleted(id, "u")
	for _, list := range []bool{false, true} {
		late := stored("shop", "u", 7, false)
		told := s.observed(late)
		if list {
			told = s.replace(place{kind: id.GroupKind()}, []*trimmed{late}, 7)
		}
		if _, ok := s.lookup(id); ok || told != nil {
			t.Errorf("list %t: it is back, and %v are told", list, told)
		}
	}
	if s.observed(stored("shop", "another", 9, false)); len(s.kinds) == 0 {
		t.Error("another one of that name is not taken in")
	}
	s.gone(stored("shop", "another", 10, false))
	if s.forget(id.GroupKind()); len(s.ended)+len(s.kinds)+len(s.apps) > 0 {
		t.Errorf("left: %+v", s)
	}

	// An API server may say so too early. It is believed for a while.
	s.observed(stored("shop", "u", 11, false))
	s.deleted(id, "u")
	s.ended[id] = ended{"u", time.Now()}
	if told := s.observed(stored("shop", "u", 12, false)); told == nil {
		t.Error("what is there is never seen again")
	}
	s.deleted(id, "u")
	if s.replace(place{kind: id.GroupKind()}, nil, 13); len(s.ended) > 0 {
		t.Error("it is remembered although no list names it")
	}
}

// The answer to a write may come after the object was deleted by somebody else.
func TestAnAnswerFromBeforeADeletion(t *testing.T) {
	for what, gone := range map[string]func(*store){
		"deleted":         func(s *store) { s.gone(stored("shop", "u", 7, false)) },
		"without a label": func(s *store) { x := stored("shop", "u", 7, false); x.ours = false; s.observed(x) },
		"not in a list":   func(s *store) { s.replace(place{kind: belay.Kind{Kind: "ConfigMap"}}, nil, 7) },
	} {
		s := newStore()
		id := stored("", "", 0, false).live.ID
		s.hold(id)
		gone(s)
		if _, told := s.written(stored("shop", "u", 6, false), false); len(s.kinds) > 0 || !slices.Equal(told, []string{"shop"}) {
			t.Errorf("%s: %+v, told %v", what, s.kinds, told)
		}
		if _, told := s.written(stored("shop", "v", 8, false), false); len(s.kinds) == 0 || len(told) > 0 {
			t.Errorf("%s, and made again: %+v, told %v", what, s.kinds, told)
		}
	}
}
