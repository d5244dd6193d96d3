// Package window says when syncs may run: it reads the windows of a Project and
// compares them with a moment.
//
// It is a function of windows and a time. It must not know what a sync is, and it
// never looks at the clock.
package window

import (
	"fmt"
	"slices"
	"time"

	"github.com/belaydev/belay"
)

// A Window is a [belay.Window] that was read.
type Window struct {
	belay.Window
	schedule Schedule
	length   time.Duration
	zone     *time.Location
}

// Compile reads the windows of a project.
func Compile(windows []belay.Window) ([]*Window, error) {
	out := make([]*Window, 0, len(windows))
	for _, w := range windows {
		s, err := ParseSchedule(w.Schedule)
		if err != nil {
			return nil, fmt.Errorf("window %q: %w", w.Schedule, err)
		}
		length, err := time.ParseDuration(w.Duration)
		if err != nil {
			return nil, fmt.Errorf("window %q: %w", w.Schedule, err)
		}
		zone, err := time.LoadLocation(w.TimeZone)
		if err != nil {
			return nil, fmt.Errorf("window %q: %w", w.Schedule, err)
		}
		out = append(out, &Window{Window: w, schedule: s, length: length, zone: zone})
	}
	return out, nil
}

// next is when the window begins after a moment; zero if never.
func (w *Window) next(after time.Time) time.Time { return w.schedule.Next(after, w.zone) }

// chained bounds how many beginnings within one another are followed. Whoever
// asks again at the end that is given then learns more.
const chained = 20

// open says whether a moment is within the window, and until when it then is
// without a break.
func (w *Window) open(t time.Time) (until time.Time, ok bool) {
	begin := w.next(t.Add(-w.length))
	if begin.IsZero() || begin.After(t) {
		return time.Time{}, false
	}
	until = begin.Add(w.length)
	for range chained {
		begin = w.next(begin)
		if begin.IsZero() || begin.After(until) {
			break
		}
		until = begin.Add(w.length)
	}
	return until, true
}

// String is the window as messages name it.
func (w *Window) String() string {
	s := fmt.Sprintf("%s window %q for %s", w.Kind, w.Schedule, w.Duration)
	if w.TimeZone != "" && w.TimeZone != "UTC" {
		s += " in " + w.TimeZone
	}
	if w.Reason != "" {
		s += ": " + w.Reason
	}
	return s
}

// A Verdict says whether a sync may run.
type Verdict struct {
	Open bool
	// By is the window that is in the way, or of several that are not open the one
	// that will be first.
	By *Window
	// Opens is when it may run, for all that is known now; zero if never.
	Opens time.Time
}

// Reason says why not, and when; empty if it may run.
func (v Verdict) Reason() string {
	if v.Open {
		return ""
	}
	when := "for a window, but none will open"
	if !v.Opens.IsZero() {
		when = "until " + v.Opens.In(v.By.zone).Format("2006-01-02 15:04 MST")
	}
	if v.By.Kind == belay.WindowDeny {
		return fmt.Sprintf("waits %s, because of the %s", when, v.By)
	}
	return fmt.Sprintf("waits %s, for the %s", when, v.By)
}

// Decide says whether a sync of an application may run at a moment: in no deny
// window and, where there are allow windows for it, in one of them. asked is true
// for a sync that somebody asked for. It is let through by windows with Manual:
// by each such deny window, and by allow windows if all of them have it.
func Decide(windows []*Window, application, cluster string, asked bool, now time.Time) Verdict {
	var deny, allow []*Window
	for _, w := range windows {
		switch {
		case !fits(w.Applications, application) || !fits(w.Clusters, cluster):
		case w.Kind == belay.WindowAllow:
			allow = append(allow, w)
		case !asked || !w.Manual:
			deny = append(deny, w)
		}
	}
	if asked && !slices.ContainsFunc(allow, func(w *Window) bool { return !w.Manual }) {
		allow = nil
	}
	by, until := closed(deny, allow, now)
	if by == nil {
		return Verdict{Open: true}
	}
	v := Verdict{By: by}
	for range steps {
		if until.IsZero() {
			return v
		}
		v.Opens = until
		var next *Window
		if next, until = closed(deny, allow, until); next == nil {
			return v
		}
	}
	v.Opens = time.Time{}
	return v
}

// steps bounds the search for a moment at which a sync may run.
const steps = 50

// closed is the window that keeps syncs from running at a moment, and when that
// ends; nil if they may run.
func closed(deny, allow []*Window, t time.Time) (by *Window, until time.Time) {
	for _, w := range deny {
		if end, ok := w.open(t); ok && end.After(until) {
			by, until = w, end
		}
	}
	if by != nil || len(allow) == 0 {
		return by, until
	}
	for _, w := range allow {
		if _, ok := w.open(t); ok {
			return nil, time.Time{}
		}
	}
	for _, w := range allow {
		if begin := w.next(t); by == nil || !begin.IsZero() && (until.IsZero() || begin.Before(until)) {
			by, until = w, begin
		}
	}
	return by, until
}

// fits says whether globs, none for all, fit a name.
func fits(globs []string, name string) bool {
	return len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool { return belay.MatchGlob(g, name) })
}
