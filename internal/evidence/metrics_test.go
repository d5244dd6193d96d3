package evidence

import (
	"fmt"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

func TestFewDataAreSaidToBeFew(t *testing.T) {
	h := newHistory()
	prev := "c0"
	for i := range 12 {
		id := fmt.Sprintf("c%d", i+1)
		h.wait(time.Hour).deploy("web", prev, belay.Succeeded, h.commit(id, ada, grace))
		prev = id
		m := h.report(Scope{}).Metrics[0]
		if few := i+1 < 10; (m.LeadTime.P90 == nil) != few || (m.Failures.Share == nil) != few {
			t.Errorf("with %d changes: %+v", i+1, m)
		}
	}
	empty := newHistory().report(Scope{}).Metrics
	if len(empty) != 1 || empty[0].FrequencyText() != "none" || empty[0].LeadTime.MedianText() != "none" || empty[0].LeadTime.P90Text() != "none" || empty[0].Failures.Text() != "none" {
		t.Errorf("of nothing: %+v", empty)
	}
	three := Times{Count: 3, Median: new(60.0)}
	if got := three.P90Text(); got != "none (of 3)" {
		t.Errorf("P90 of three is %q", got)
	}
}

func TestFrequencyText(t *testing.T) {
	for _, tt := range []struct {
		changes int
		days    float64
		want    string
	}{{0, 30, "none"}, {1, 30, "1 in 30 days"}, {9, 7, "9 in 7 days"}, {3, 1, "3 in 1d"}, {2, .5, "2 in 12h"}, {60, 30, "2 a day"}, {45, 30, "1.5 a day"}, {12, 30, "2.8 a week"}, {10, 90, "3.3 a month"}} {
		m := Metrics{Days: tt.days, Frequency: Frequency{Changes: tt.changes, PerDay: float64(tt.changes) / tt.days}}
		if got := m.FrequencyText(); got != tt.want {
			t.Errorf("%d in %v days are %q, want %q", tt.changes, tt.days, got, tt.want)
		}
	}
}

func TestQuantiles(t *testing.T) {
	v := func(n int) []float64 {
		var out []float64
		for i := range n {
			out = append(out, float64(n-i))
		}
		return out
	}
	for _, tt := range []struct {
		n           int
		median, p90 float64
	}{{1, 1, 0}, {2, 1.5, 0}, {3, 2, 0}, {10, 5.5, 9}, {11, 6, 10}, {100, 50.5, 90}} {
		q := timesOf(v(tt.n))
		p90 := 0.0
		if q.P90 != nil {
			p90 = *q.P90
		}
		if *q.Median != tt.median || p90 != tt.p90 {
			t.Errorf("of 1 to %d: median %v, p90 %v", tt.n, *q.Median, p90)
		}
	}
}

func TestDuration(t *testing.T) {
	for want, s := range map[string]float64{"0s": 0, "42s": 42, "1m": 60, "9m 30s": 570, "17m": 1020, "3h 20m": 12000, "4d 2h": 98 * 3600, "45d": 45*86400 + 7200} {
		if got := Duration(s); got != want {
			t.Errorf("%v seconds are %q, want %q", s, got, want)
		}
	}
}
