package window

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A Schedule is five cron fields: minute, hour, day of month, month, day of week.
// Where both days are given either may fit, as in every cron.
type Schedule struct{ bits *cron.SpecSchedule }

// star is the bit by which the parser marks a field that was left open.
const star = 1 << 63

// ParseSchedule reads five cron fields.
func ParseSchedule(s string) (Schedule, error) {
	switch {
	case strings.Contains(s, "TZ="):
		return Schedule{}, errors.New("a schedule has no time zone in it")
	case strings.HasPrefix(s, "@"):
		return Schedule{}, errors.New("a schedule has five fields, not a name")
	}
	fields := strings.Fields(s)
	if len(fields) == 5 {
		fields[4] = sundays(fields[4])
	}
	parsed, err := cron.ParseStandard(strings.Join(fields, " "))
	if err != nil {
		return Schedule{}, err
	}
	bits, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return Schedule{}, errors.New("a schedule has five fields")
	}
	out := Schedule{bits}
	if out.never() {
		return Schedule{}, errors.New("no month has such a day")
	}
	return out, nil
}

// weekdays are the names of days, which begin with Sunday.
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// sundays writes days of the week in which Sunday is the last day (7, 5-7, fri-sun),
// as crontab(5) allows, so that it is the first: the parser knows no other.
func sundays(field string) string {
	var out []string
	for item := range strings.SplitSeq(field, ",") {
		days, every, stepped := strings.Cut(item, "/")
		from, to, isRange := strings.Cut(days, "-")
		first, step := slices.Index(weekdays, strings.ToLower(from)), 1
		if n, err := strconv.Atoi(from); err == nil {
			first = n
		}
		if stepped {
			step, _ = strconv.Atoi(every) // what is no number the parser refuses
		}
		switch {
		case item == "7":
			item = "0"
		case isRange && (to == "7" || strings.EqualFold(to, "sun") && first > 0) && first >= 0 && first <= 7 && step > 0 && step <= 7:
			for day := first; day <= 7; day += step {
				out = append(out, strconv.Itoa(day%7))
			}
			continue
		}
		out = append(out, item)
	}
	return strings.Join(out, ",")
}

// never says whether no month of the schedule has a day of the schedule.
func (s Schedule) never() bool {
	if s.bits.Dow&star == 0 { // there is one in any month
		return false
	}
	for month := time.January; month <= time.December; month++ {
		last := time.Date(2028, month+1, 0, 0, 0, 0, 0, time.UTC).Day() // of a leap year
		for day := 1; day <= last; day++ {
			if s.bits.Month&(1<<month) != 0 && s.bits.Dom&(1<<day) != 0 {
				return false
			}
		}
	}
	return true
}

// on says whether the schedule has times on a date.
func (s Schedule) on(date time.Time) bool {
	if s.bits.Month&(1<<date.Month()) == 0 {
		return false
	}
	dom, dow := s.bits.Dom&(1<<date.Day()) != 0, s.bits.Dow&(1<<date.Weekday()) != 0
	if s.bits.Dom&star != 0 || s.bits.Dow&star != 0 {
		return dom && dow
	}
	return dom || dow
}

// horizon is more than the days between any two 29ths of February.
const horizon = 9 * 366

// Next is the first time after a moment at which the clocks of a place show a
// time of the schedule; zero if there is none for years.
//
// Clocks are set forward and back. A time that they skip counts at the moment at
// which they skip it, so that no window is lost. A time that they show twice
// counts the first time. Where the hour is left open, as in "*/15 * * * *", the
// schedule follows the clock as it runs: a skipped time is left out, and one
// shown twice counts twice.
func (s Schedule) Next(after time.Time, loc *time.Location) time.Time {
	if at := s.nextPlain(after, loc); !at.IsZero() {
		return at
	}
	y, m, d := after.In(loc).Date()
	// A day earlier, for what began late; a day later, for clocks set back over midnight.
	first, found := time.Date(y, m, d-1, 0, 0, 0, 0, time.UTC), time.Time{}
	last := horizon
	for i := 0; i <= last; i++ {
		date := first.AddDate(0, 0, i)
		if !s.on(date) {
			continue
		}
		if at := s.nextOn(date, after, loc); !at.IsZero() {
			if found.IsZero() {
				last = i + 1
			}
			found = earlier(found, at)
		}
	}
	return found
}

// settled is how far from a change of the clocks it makes no difference any more:
// more than they were ever changed by, and than any is from UTC.
const settled = 27 * time.Hour

// nextPlain is Next where clocks are not changed anywhere near; else zero.
func (s Schedule) nextPlain(after time.Time, loc *time.Location) time.Time {
	local := after.In(loc)
	begin, end := local.ZoneBounds()
	if !begin.IsZero() && after.Sub(begin) < settled {
		return time.Time{}
	}
	offset := offsetOf(local)
	shown := s.bits.Next(after.UTC().Add(offset))
	if shown.IsZero() {
		return time.Time{}
	}
	at := shown.Add(-offset).In(loc)
	if !end.IsZero() && at.Add(settled).After(end) {
		return time.Time{}
	}
	return at
}

// nextOn is the first time after a moment among those of one date.
func (s Schedule) nextOn(date, after time.Time, loc *time.Location) (found time.Time) {
	everyHour := s.bits.Hour&star != 0
	least, most := offsets(date, loc)
	for hour := range 24 {
		if s.bits.Hour&(1<<hour) == 0 {
			continue
		}
		for minute := range 60 {
			shown := date.Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
			switch {
			case s.bits.Minute&(1<<minute) == 0 || !shown.Add(-least).After(after):
				continue
			case !found.IsZero() && !shown.Add(-most).Before(found):
				return found
			}
			times, skipped := instants(shown, loc)
			switch {
			case skipped && everyHour:
				continue
			case !everyHour:
				times = times[:1]
			}
			for _, at := range times {
				if at.After(after) {
					found = earlier(found, at)
				}
			}
		}
	}
	return found
}

// offsets are the least and the most that clocks of a place are ahead of UTC
// around a date.
func offsets(date time.Time, loc *time.Location) (least, most time.Duration) {
	from, to := date.Add(-settled), date.Add(24*time.Hour+settled)
	least = offsetOf(from.In(loc))
	most = least
	for t := from.In(loc); ; {
		_, end := t.ZoneBounds()
		if end.IsZero() || end.After(to) {
			return least, most
		}
		t = end.In(loc)
		least, most = min(least, offsetOf(t)), max(most, offsetOf(t))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// instants are the moments at which the clocks of a place show a time, which is
// given as if it were UTC: one, or two where they are set back. Where they skip
// it, it is the moment at which they do.
func instants(shown time.Time, loc *time.Location) (at []time.Time, skipped bool) {
	for t := shown.Add(-settled).In(loc); ; {
		begin, end := t.ZoneBounds()
		offset := offsetOf(t)
		if x := shown.Add(-offset); (begin.IsZero() || !x.Before(begin)) && (end.IsZero() || x.Before(end)) {
			at = append(at, x.In(loc))
		}
		if end.IsZero() || end.After(shown.Add(settled)) {
			return at, false
		}
		t = end.In(loc)
		if !shown.Before(end.Add(offset)) && shown.Before(end.Add(offsetOf(t))) {
			return []time.Time{t}, true
		}
	}
}

func offsetOf(t time.Time) time.Duration {
	_, seconds := t.Zone()
	return time.Duration(seconds) * time.Second
}
