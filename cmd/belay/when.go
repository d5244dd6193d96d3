package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
)

// span is when something happened, as flags say it.
type span struct{ since, from, to, on string }

func (s *span) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.since, "since", "", "not before: how long ago (90m, 24h, 7d, 2w), or a time as of --from")
	f.StringVar(&s.from, "from", "", "not before this time: 2026-11-24, \"2026-11-24 15:30\", RFC 3339, yesterday, tuesday")
	f.StringVar(&s.to, "to", "", "not after this time; of a day without a time, its end")
	f.StringVar(&s.on, "on", "", "on this day: 2026-11-24, today, yesterday, tuesday, \"last tuesday\"")
	cmd.MarkFlagsMutuallyExclusive("since", "from", "on")
	cmd.MarkFlagsMutuallyExclusive("to", "on")
}

// apply sets the bounds of a query.
func (s *span) apply(q *belay.RecordQuery, now time.Time) error {
	for _, b := range []struct {
		flag, value string
		from, to    bool
	}{{"since", s.since, true, false}, {"from", s.from, true, false}, {"to", s.to, false, true}, {"on", s.on, true, true}} {
		if b.value == "" {
			continue
		}
		at, day, err := parseWhen(b.value, now)
		if err != nil || b.flag == "on" && !day {
			hint := "write 24h, 7d, 2026-11-24, \"2026-11-24 15:30\", 2026-11-24T15:30:00Z, yesterday or tuesday"
			what := "no time that is known here"
			if b.flag == "on" {
				hint, what = "write 2026-11-24, today, yesterday, tuesday or \"last tuesday\"", "no day"
			}
			return &usage{message: fmt.Sprintf("--%s: %q is %s", b.flag, b.value, what), hint: hint}
		}
		if b.from {
			q.From = at
		}
		if b.to {
			q.To = at
			if day {
				q.To = at.AddDate(0, 0, 1)
			} else {
				q.To = at.Add(time.Microsecond) // what happened just then is not after it
			}
		}
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return &usage{message: fmt.Sprintf("the time ends (%s) before it begins (%s)", q.To.Format(time.DateTime), q.From.Format(time.DateTime)), hint: "check --from and --to"}
	}
	return nil
}

// parseWhen is a time as people write one, in the zone of now; day says that it
// is the beginning of a day that was meant as a whole.
func parseWhen(s string, now time.Time) (at time.Time, day bool, err error) {
	s = strings.TrimSpace(s)
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00"} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, false, nil
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return at, false, nil
		}
	}
	if at, err := time.ParseInLocation(time.DateOnly, s, now.Location()); err == nil {
		return at, true, nil
	}
	if ago, ok := parseAgo(s); ok {
		return now.Add(-ago), false, nil
	}
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	word := strings.ToLower(s)
	switch word {
	case "now":
		return now, false, nil
	case "today":
		return midnight, true, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), true, nil
	}
	word, last := strings.CutPrefix(word, "last ")
	for d := range 7 {
		name := strings.ToLower(time.Weekday(d).String())
		if word != name && word != name[:3] {
			continue
		}
		back := (int(now.Weekday()) - d + 7) % 7
		if last && back == 0 {
			back = 7
		}
		return midnight.AddDate(0, 0, -back), true, nil
	}
	return time.Time{}, false, fmt.Errorf("%q is no time", s)
}

// parseAgo is a duration, also one in days and weeks.
func parseAgo(s string) (time.Duration, bool) {
	if d, err := time.ParseDuration(s); err == nil {
		return d, d >= 0
	}
	for unit, size := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if number, ok := strings.CutSuffix(s, unit); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			return time.Duration(n) * size, err == nil
		}
	}
	return 0, false
}
