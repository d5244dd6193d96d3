package main

import (
	"testing"
	"time"

	"github.com/belaydev/belay"
)

func TestTimesAreAsPeopleWriteThem(t *testing.T) {
	zone := time.FixedZone("here", 3600)
	now := time.Date(2026, 11, 26, 15, 4, 5, 0, zone) // a Thursday
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, zone) }
	for s, want := range map[string]struct {
		at  time.Time
		day bool
	}{
		"2026-11-24":                {day(24), true},
		"2026-11-24 15:30":          {day(24).Add(15*time.Hour + 30*time.Minute), false},
		"2026-11-24T15:30:07":       {day(24).Add(15*time.Hour + 30*time.Minute + 7*time.Second), false},
		"2026-11-24T15:30:00Z":      {day(24).Add(16*time.Hour + 30*time.Minute), false},
		"2026-11-24T15:30:00.5Z":    {day(24).Add(16*time.Hour + 30*time.Minute + time.Second/2), false},
		"2026-11-24T15:30+02:00":    {day(24).Add(14*time.Hour + 30*time.Minute), false},
		"90m":                       {now.Add(-90 * time.Minute), false},
		"24h":                       {now.Add(-24 * time.Hour), false},
		"7d":                        {now.Add(-7 * 24 * time.Hour), false},
		"2w":                        {now.Add(-14 * 24 * time.Hour), false},
		"today":                     {day(26), true},
		"Yesterday":                 {day(25), true},
		"tuesday":                   {day(24), true},
		"last tuesday":              {day(24), true},
		"thu":                       {day(26), true},
		"last thursday":             {day(19), true},
		"Friday":                    {day(20), true},
		"now":                       {now, false},
		"  2026-11-24  ":            {day(24), true},
		"2026-11-24T00:00:00+01:00": {day(24), false},
	} {
		at, whole, err := parseWhen(s, now)
		if err != nil || !at.Equal(want.at) || whole != want.day {
			t.Errorf("%q is %v %v %v, want %v %v", s, at, whole, err, want.at, want.day)
		}
	}
	for _, s := range []string{"", "soon", "-5h", "5x", "2026-13-01", "last", "last week", "d"} {
		if at, _, err := parseWhen(s, now); err == nil {
			t.Errorf("%q is %v", s, at)
		}
	}
}

func TestASpanIsAsItsFlagsSay(t *testing.T) {
	now := time.Date(2026, 11, 26, 15, 4, 5, 0, time.UTC)
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		s        span
		from, to time.Time
		fails    bool
	}{
		{s: span{}},
		{s: span{on: "tuesday"}, from: day(24), to: day(25)},
		{s: span{from: "2026-11-20", to: "2026-11-24"}, from: day(20), to: day(25)},
		{s: span{since: "7d"}, from: now.AddDate(0, 0, -7)},
		{s: span{to: "2026-11-24T12:00:00Z"}, to: day(24).Add(12*time.Hour + time.Microsecond)},
		{s: span{on: "24h"}, fails: true},
		{s: span{from: "today", to: "yesterday"}, fails: true},
		{s: span{since: "soon"}, fails: true},
	} {
		var q belay.RecordQuery
		err := c.s.apply(&q, now)
		if c.fails != (err != nil) {
			t.Errorf("%+v: %v", c.s, err)
		}
		if !c.fails && (!q.From.Equal(c.from) || !q.To.Equal(c.to)) {
			t.Errorf("%+v is from %v to %v", c.s, q.From, q.To)
		}
	}
}
