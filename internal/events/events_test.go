package events

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/belaydev/belay"
	"pgregory.net/rapid"
)

func TestPublishNumbersAndTimesEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4)
		for i := range 3 {
			b.Publish(belay.Event{Message: strconv.Itoa(i)})
		}
		got, missed, err := b.After(t.Context(), 0)
		if err != nil || missed != 0 || len(got) != 3 {
			t.Fatalf("After(0) = %v, %d, %v", got, missed, err)
		}
		for i, e := range got {
			if e.Seq != uint64(i+1) || e.Message != strconv.Itoa(i) || e.Time.IsZero() {
				t.Errorf("event %d is %+v", i, e)
			}
		}
		if b.Latest() != 3 {
			t.Errorf("Latest() = %d", b.Latest())
		}
	})
}

func TestAfterWaitsForTheNextEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(4)
		b.Publish(belay.Event{Message: "old"})
		got := make(chan belay.Event)
		for range 3 { // all that wait are woken
			go func() {
				es, _, err := b.After(t.Context(), 1)
				if err != nil {
					t.Error(err)
				}
				got <- es[0]
			}()
		}
		synctest.Wait()
		b.Publish(belay.Event{Message: "new"})
		for range 3 {
			if e := <-got; e.Message != "new" || e.Seq != 2 {
				t.Errorf("woken with %+v", e)
			}
		}
	})
}

func TestAfterEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := New(1).After(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("After with a cancelled context: %v", err)
	}
}

func TestAResumePointOfAnotherLifeStartsAtTheOldest(t *testing.T) {
	b := New(4)
	b.Publish(belay.Event{})
	got, _, err := b.After(t.Context(), 4711)
	if err != nil || len(got) != 1 || got[0].Seq != 1 {
		t.Errorf("After(4711) = %v, %v", got, err)
	}
}

func TestEpochsDiffer(t *testing.T) {
	if a, b := New(1).Epoch(), New(1).Epoch(); a == b || a == "" {
		t.Errorf("epochs %q and %q", a, b)
	}
}

// Whatever is published and however slowly it is read: a reader sees every
// event once and in order, or is told exactly how many it missed.
func TestReadersSeeOrMissEveryEvent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New(rapid.IntRange(1, 400).Draw(t, "size"))
		var pos, published, seen uint64
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			for range rapid.IntRange(0, 300).Draw(t, "publish") {
				b.Publish(belay.Event{})
				published++
			}
			for range rapid.IntRange(0, 3).Draw(t, "reads") {
				if pos == published {
					break
				}
				es, missed, err := b.After(context.Background(), pos)
				if err != nil || len(es) == 0 {
					t.Fatalf("After(%d) of %d = %v, %v", pos, published, es, err)
				}
				if es[0].Seq != pos+missed+1 {
					t.Fatalf("after %d, missed %d, came %d", pos, missed, es[0].Seq)
				}
				for i, e := range es {
					if e.Seq != es[0].Seq+uint64(i) {
						t.Fatalf("event %d has Seq %d after %d", i, e.Seq, es[0].Seq)
					}
				}
				seen += missed + uint64(len(es))
				pos = es[len(es)-1].Seq
				if seen != pos {
					t.Fatalf("accounted for %d events at position %d", seen, pos)
				}
			}
		}
	})
}

func TestASlowReaderNeverHoldsUpPublishers(t *testing.T) {
	b := New(8)
	ctx, cancel := context.WithCancel(t.Context())
	var readers, publishers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			var pos, accounted uint64
			for {
				es, missed, err := b.After(ctx, pos)
				if err != nil {
					if accounted != pos {
						t.Errorf("accounted for %d of %d", accounted, pos)
					}
					return
				}
				accounted += missed + uint64(len(es))
				pos = es[len(es)-1].Seq
			}
		})
	}
	for range 4 {
		publishers.Go(func() {
			for range 2000 {
				b.Publish(belay.Event{})
			}
		})
	}
	publishers.Wait()
	cancel()
	readers.Wait()
	if b.Latest() != 8000 {
		t.Errorf("Latest() = %d", b.Latest())
	}
}
