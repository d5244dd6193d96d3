package kube

import (
	"testing"
	"time"
)

// Only a stream that ended before its time is a reason to ask which cluster it is: at
// rest nothing is asked.
func TestAStreamThatBroke(t *testing.T) {
	long, short := int64(600), int64(1)
	var s streaming
	if s.again(); s.broke {
		t.Error("the first one broke")
	}
	s.begin(&long)
	if s.again(); !s.broke {
		t.Error("one that ended at once did not break")
	}
	if s.again(); !s.broke {
		t.Error("it is forgotten before another one is open")
	}
	s.begin(&short)
	if s.again(); s.broke {
		t.Error("one that lasted as long as it was to broke")
	}
	s.began, s.lasts = time.Now().Add(-time.Hour), time.Minute
	if s.again(); s.broke {
		t.Error("one that lasted longer broke")
	}
}

func TestAHistoryThatWasSetBack(t *testing.T) {
	for _, step := range []struct {
		newest, version uint64
		want            bool
	}{{0, 5, false}, {5, 5, false}, {5, 9, false}, {9, 5, true}, {9, 0, false}} { // 0 is no version
		c, err := New(Options{Name: "prod", Config: &Config{Host: "https://127.0.0.1:1"}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.setBack(step.newest, step.version); got != step.want {
			t.Errorf("from %d to %d it is set back: %t", step.newest, step.version, got)
		}
		select {
		case <-c.moved:
			if !step.want {
				t.Errorf("from %d to %d the connection ends", step.newest, step.version)
			}
		default:
			if step.want {
				t.Errorf("from %d to %d the connection goes on", step.newest, step.version)
			}
		}
	}
}
