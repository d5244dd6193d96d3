package window

import (
	"testing"
	"time"
)

// A schedule of any text is refused, or its next time is later and is found soon.
func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"0 22 * * 5", "*/5 1-3 29 2 *", "0 0 31 4,6 *", "@daily", "TZ=UTC 0 0 * * *", "60 * * * *", "0 0 30 2 1", "0-59/1 * ? * SUN"} {
		f.Add(s, int64(1_700_000_000), "Europe/Berlin")
	}
	f.Fuzz(func(t *testing.T, text string, at int64, zone string) {
		s, err := ParseSchedule(text)
		if err != nil || at < 0 || at > 1<<34 {
			return
		}
		loc, err := time.LoadLocation(zone)
		if err != nil {
			loc = time.UTC
		}
		after := time.Unix(at, 0)
		if next := s.Next(after, loc); !next.IsZero() && !next.After(after) {
			t.Fatalf("the time after %v is %v", after, next)
		}
	})
}
