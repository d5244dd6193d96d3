package report

import (
	"fmt"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/evidence"
)

// chart is how many deployments began over time, as bars.
type chart struct {
	Width           int
	Bars            []bar
	From, To, Label string
}

// bar is what began in one step of time: in units of a hundredth of the height.
type bar struct {
	X, Good, GoodY, Bad, BadY int
	Title                     string
}

// mostBars is how many fit.
const mostBars = 93

// newChart counts deployments by day, or by more where the period is long; nil
// where there is nothing to see.
func newChart(r *evidence.Report, m moment) *chart {
	days := int(r.Period.Days() + .99)
	if days < 2 || r.Summary.Deployments == 0 {
		return nil
	}
	step, name := 1, "day"
	if days > mostBars {
		step, name = 7, "week"
	}
	for days/step > mostBars {
		step *= 2
		name = fmt.Sprintf("%d weeks", step/7)
	}
	n := (days + step - 1) / step
	start := func(i int) time.Time { return r.Period.From.AddDate(0, 0, i*step) }
	good, bad := make([]int, n), make([]int, n)
	for _, x := range r.Changes {
		for _, d := range x.Deliveries {
			at := d.Started
			if at.IsZero() {
				at = d.Ended
			}
			i := max(0, min(n-1, int(at.Sub(r.Period.From).Hours()/24)/step))
			// A day that summer time made shorter or longer moves the edge by an hour.
			for i > 0 && at.Before(start(i)) {
				i--
			}
			for i < n-1 && !at.Before(start(i+1)) {
				i++
			}
			if d.Result == belay.Failed || d.Trouble != "" {
				bad[i]++
			} else {
				good[i]++
			}
		}
	}
	most := 1
	for i := range n {
		most = max(most, good[i]+bad[i])
	}
	c := &chart{Width: n * 10, From: m.day(r.Period.From), To: m.day(r.Period.To.Add(-time.Second)),
		Label: fmt.Sprintf("Deployments per %s, at most %d; red: failed, degraded or rolled back", name, most)}
	for i := range n {
		b := bar{X: i*10 + 1, Good: height(good[i], most), Bad: height(bad[i], most), Title: fmt.Sprintf("%s: %d, of them %d failed", m.day(start(i)), good[i]+bad[i], bad[i])}
		b.GoodY = 99 - b.Good
		b.BadY = b.GoodY - b.Bad
		c.Bars = append(c.Bars, b)
	}
	return c
}

// height is that of a bar: something is never nothing.
func height(n, most int) int {
	if n == 0 {
		return 0
	}
	return max(2, n*94/most)
}

func (m moment) day(t time.Time) string { return t.In(m.zone).Format("2 Jan 2006") }
