package footprint

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestIdlerRestsWhenNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rests atomic.Int32
		i := NewIdler(10*time.Second, time.Minute, func() { rests.Add(1) })
		expect := func(want int32) {
			t.Helper()
			synctest.Wait()
			if n := rests.Load(); n != want {
				t.Errorf("rested %d times, want %d", n, want)
			}
		}
		pass := func(d time.Duration) { <-time.After(d) }
		pass(time.Hour)
		expect(0) // nothing happened yet
		for range 5 {
			i.Touch()
			pass(9 * time.Second)
		}
		expect(0)
		pass(2 * time.Second)
		expect(1)
		pass(time.Hour)
		expect(1) // and nothing since
		i.Touch()
		pass(11 * time.Second)
		expect(2)
		i.Touch()
		pass(11 * time.Second)
		expect(2) // too soon after the last
		pass(time.Minute)
		expect(3)
		i.Touch()
		i.End()
		pass(time.Hour)
		expect(3)
	})
}
