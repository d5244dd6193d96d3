package window

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// crossings are moments at which clocks are set, each in its own way.
var crossings = []struct{ zone, at string }{
	{"UTC", "2026-03-01T00:00:00Z"},
	{"Europe/Berlin", "2026-03-29T01:00:00Z"},
	{"Europe/Berlin", "2026-10-25T01:00:00Z"},
	{"America/New_York", "2026-03-08T07:00:00Z"},
	{"America/New_York", "2026-11-01T06:00:00Z"},
	{"America/Sao_Paulo", "2018-11-04T03:00:00Z"},   // midnight is skipped
	{"America/Sao_Paulo", "2018-02-18T02:00:00Z"},   // midnight comes twice
	{"America/St_Johns", "2006-10-29T02:31:00Z"},    // back over midnight, a minute after it
	{"Australia/Lord_Howe", "2026-04-04T15:00:00Z"}, // by half an hour
	{"Australia/Lord_Howe", "2026-10-03T15:30:00Z"},
	{"Pacific/Apia", "2011-12-30T10:00:00Z"}, // a day is skipped
	{"Asia/Kathmandu", "2026-05-31T18:15:00Z"},
}

// fields are a schedule and what it was made of.
type fields struct {
	text               string
	minute, hour       map[int]bool
	dom, month, dow    map[int]bool
	anyHour            bool
	anyDom, anyWeekday bool
}

func drawFields(t *rapid.T, near time.Time) fields {
	f := fields{}
	draw := func(label string, low, high, around int) (text string, set map[int]bool, open bool) {
		set = map[int]bool{}
		switch rapid.IntRange(0, 3).Draw(t, label) {
		case 0:
			for i := low; i <= high; i++ {
				set[i] = true
			}
			return "*", set, true
		case 1:
			set[min(max(around, low), high)] = true
			return fmt.Sprint(min(max(around, low), high)), set, false
		case 2:
			step := rapid.IntRange(2, 20).Draw(t, label+" step")
			for i := low; i <= high; i += step {
				set[i] = true
			}
			return fmt.Sprintf("*/%d", step), set, false
		default:
			values := rapid.SliceOfNDistinct(rapid.IntRange(low, high), 1, 4, rapid.ID).Draw(t, label+" values")
			var texts []string
			for _, v := range values {
				set[v] = true
				texts = append(texts, fmt.Sprint(v))
			}
			return strings.Join(texts, ","), set, false
		}
	}
	var texts [5]string
	hour := (near.Hour() + rapid.IntRange(-2, 2).Draw(t, "hours off") + 24) % 24
	texts[0], f.minute, _ = draw("minute", 0, 59, near.Minute())
	texts[1], f.hour, f.anyHour = draw("hour", 0, 23, hour)
	texts[2], f.dom, f.anyDom = draw("day of month", 1, 31, near.Day())
	texts[3], f.month, _ = draw("month", 1, 12, int(near.Month()))
	texts[4], f.dow, f.anyWeekday = draw("day of week", 0, 6, int(near.Weekday()))
	f.text = strings.Join(texts[:], " ")
	return f
}

func (f *fields) match(shown time.Time) bool {
	dom, dow := f.dom[shown.Day()], f.dow[int(shown.Weekday())]
	day := dom && dow
	if !f.anyDom && !f.anyWeekday {
		day = dom || dow
	}
	return f.minute[shown.Minute()] && f.hour[shown.Hour()] && f.month[int(shown.Month())] && day
}

// clock is what clocks show, as if it were UTC.
func clock(t time.Time, loc *time.Location) time.Time {
	y, m, d := t.In(loc).Date()
	return time.Date(y, m, d, t.In(loc).Hour(), t.In(loc).Minute(), 0, 0, time.UTC)
}

// begins watches the clock, minute by minute.
func (f *fields) begins(from, to time.Time, loc *time.Location) (out []time.Time) {
	seen := map[time.Time]bool{}
	before := clock(from.Add(-48*time.Hour), loc)
	for t := from.Add(-48 * time.Hour); !t.After(to); t = t.Add(time.Minute) {
		shown := clock(t, loc)
		begin := f.match(shown) && (f.anyHour || !seen[shown])
		for skipped := before.Add(time.Minute); skipped.Before(shown); skipped = skipped.Add(time.Minute) {
			begin = begin || !f.anyHour && f.match(skipped)
		}
		seen[shown] = true
		before = shown
		if begin && !t.Before(from) {
			out = append(out, t)
		}
	}
	return out
}

func TestBeginningsAreThoseOfAWatchedClock(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(crossings).Draw(t, "crossing")
		loc, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, _ := time.Parse(time.RFC3339, c.at)
		f := drawFields(t, at.In(loc))
		length := time.Duration(rapid.IntRange(1, 600).Draw(t, "length")) * time.Minute
		from := at.Add(-time.Duration(rapid.IntRange(-30*60, 40*60).Draw(t, "minutes before")) * time.Minute)
		to := from.Add(45 * time.Hour)
		s, err := ParseSchedule(f.text)
		if err != nil {
			if err.Error() != "no month has such a day" || len(f.begins(from, to, loc)) > 0 {
				t.Fatalf("%q: %v", f.text, err)
			}
			return
		}
		want := f.begins(from.Add(-length), to, loc)
		var got []time.Time
		for b := s.Next(from.Add(-length).Add(-time.Nanosecond), loc); !b.IsZero() && !b.After(to); b = s.Next(b, loc) {
			got = append(got, b.UTC())
		}
		if !slices.EqualFunc(want, got, time.Time.Equal) {
			t.Fatalf("%q in %s from %s:\nwant %v\n got %v", f.text, c.zone, from, want, got)
		}
		w := Window{schedule: s, length: length, zone: loc}
		moment := from.Add(time.Duration(rapid.IntRange(0, 40*60*60).Draw(t, "seconds")) * time.Second)
		inside := slices.ContainsFunc(want, func(b time.Time) bool { return !b.After(moment) && moment.Before(b.Add(length)) })
		if until, open := w.open(moment); open != inside || open && !until.After(moment) {
			t.Fatalf("%q for %s in %s is open at %s: %v until %s, want %v", f.text, length, c.zone, moment, open, until, inside)
		}
	})
}

// Whatever the windows, the time that is given for the opening is the first at
// which a sync may run.
func TestOpensIsTheFirstTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(crossings).Draw(t, "crossing")
		loc, _ := time.LoadLocation(c.zone)
		now, _ := time.Parse(time.RFC3339, c.at)
		var ws []belay.Window
		for i := range rapid.IntRange(0, 4).Draw(t, "windows") {
			ws = append(ws, belay.Window{
				Kind:     rapid.SampledFrom([]string{belay.WindowAllow, belay.WindowDeny}).Draw(t, fmt.Sprint("kind", i)),
				Schedule: drawFields(t, now.In(loc)).text, TimeZone: c.zone, Manual: rapid.Bool().Draw(t, fmt.Sprint("manual", i)),
				Duration: rapid.SampledFrom([]string{"1m", "90m", "7h", "26h"}).Draw(t, fmt.Sprint("duration", i)),
			})
		}
		windows, err := Compile(ws)
		if err != nil {
			return // some drawn schedule has no day
		}
		asked := rapid.Bool().Draw(t, "asked")
		may := func(at time.Time) bool {
			allows, inAllow, forced := 0, false, true
			for _, w := range windows {
				_, open := w.open(at)
				if w.Kind == belay.WindowDeny && open && (!asked || !w.Manual) {
					return false
				}
				if w.Kind == belay.WindowAllow {
					allows++
					inAllow = inAllow || open
					forced = forced && w.Manual
				}
			}
			return allows == 0 || inAllow || asked && forced
		}
		v := Decide(windows, "a", "c", asked, now)
		if v.Open != may(now) || v.Open != (v.Reason() == "") {
			t.Fatalf("open is %v, reason %q, want %v", v.Open, v.Reason(), may(now))
		}
		if v.Open || v.Opens.IsZero() {
			return
		}
		for at := now; at.Before(v.Opens) && at.Before(now.Add(12*time.Hour)); at = at.Add(time.Minute) {
			if may(at) {
				t.Fatalf("said to open at %s, but it may run at %s", v.Opens, at)
			}
		}
		if !may(v.Opens) {
			t.Fatalf("does not open at %s", v.Opens)
		}
	})
}

func TestReasons(t *testing.T) {
	t.Parallel()
	windows, err := Compile([]belay.Window{
		{Kind: "deny", Schedule: "0 22 * * 5", Duration: "60h", TimeZone: "Europe/Berlin", Reason: "no changes over the weekend"},
		{Kind: "allow", Schedule: "0 9 * * 1-5", Duration: "8h", Applications: []string{"web-*"}, Clusters: []string{"production"}},
		{Kind: "deny", Schedule: "0 0 * * *", Duration: "24h", Applications: []string{"frozen"}, Reason: "retired"},
	})
	if err != nil {
		t.Fatal(err)
	}
	friday, thursday := time.Date(2026, 11, 27, 23, 0, 0, 0, time.UTC), time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		app, cluster string
		now          time.Time
		want         string
	}{
		{"db", "production", thursday, ""},
		{"db", "production", friday, `waits until 2026-11-30 10:00 CET, because of the deny window "0 22 * * 5" for 60h in Europe/Berlin: no changes over the weekend`},
		{"web-a", "staging", thursday, ""},
		{"web-a", "production", thursday, `waits until 2026-11-27 09:00 UTC, for the allow window "0 9 * * 1-5" for 8h`},
		{"web-a", "production", friday, `waits until 2026-11-30 10:00 CET, because of the deny window "0 22 * * 5" for 60h in Europe/Berlin: no changes over the weekend`},
		{"frozen", "production", thursday, `waits for a window, but none will open, because of the deny window "0 0 * * *" for 24h: retired`},
	} {
		if got := Decide(windows, c.app, c.cluster, false, c.now).Reason(); got != c.want {
			t.Errorf("%s on %s at %s:\n got %q\nwant %q", c.app, c.cluster, c.now, got, c.want)
		}
	}
}

func TestWrongSchedules(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "* * * *", "@daily", "@every 5m", "TZ=UTC 0 0 * * *", "0 0 31 2 *", "0 0 30 2,2 *", "61 * * * *"} {
		if _, err := ParseSchedule(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	leap, err := ParseSchedule("0 12 29 2 *")
	if err != nil {
		t.Fatal(err)
	}
	if got := leap.Next(time.Date(2096, 3, 1, 0, 0, 0, 0, time.UTC), time.UTC); got != time.Date(2104, 2, 29, 12, 0, 0, 0, time.UTC) {
		t.Errorf("the leap day after 2096 is %s", got)
	}
}
