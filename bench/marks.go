package main

import (
	"fmt"
	"strconv"
)

// mark is what a figure should not exceed, or be exactly.
type mark struct {
	key string
	// ratio is of Belay to the raw loop; else the figure is Belay's.
	ratio bool
	// limit for a fleet of so many applications.
	limit func(apps int) float64
	// exact means equal to the limit, and not at most.
	exact bool
	// from and upTo bound the sizes of fleets that it is for; 0 is no bound. A ratio
	// says little of a small fleet, whose start is most of its rollout.
	from, upTo int
}

func fixed(v float64) func(int) float64 { return func(int) float64 { return v } }

func each(n float64) func(int) float64 { return func(apps int) float64 { return n * float64(apps) } }

var marks = []mark{
	{key: "rollout.wall", ratio: true, limit: fixed(1.3), from: 1000},
	{key: "rollout.patches", limit: each(float64(len(resources))), exact: true},
	{key: "one.p50", limit: fixed(150), upTo: 1000},
	{key: "one.p99", limit: fixed(500), upTo: 1000},
	{key: "one.patches", limit: fixed(1), exact: true},
	{key: "one.renders", limit: fixed(1), exact: true},
	{key: "all.wall", ratio: true, limit: fixed(1.3), from: 1000},
	{key: "all.patches", limit: each(1), exact: true},
	{key: "drift.p50", limit: fixed(100)},
	{key: "rest.requests", limit: fixed(0), exact: true},
	{key: "rest.cpu", limit: fixed(0.5), upTo: 10_000},
	{key: "memory.rest", limit: memoryLimit},
	{key: "memory.restarted", limit: memoryLimit},
	{key: "restart.wall", limit: fixed(15), upTo: 10_000},
	{key: "restart.writes", limit: fixed(0), exact: true},
	{key: "restart.renders", limit: fixed(0), exact: true},
}

// memoryLimit is 150 MB for up to 1,000 applications and 600 MB for up to 10,000.
func memoryLimit(apps int) float64 {
	if apps <= 1000 {
		return 150
	}
	return 600
}

// markOf finds the mark of a figure.
func markOf(key string) (mark, bool) {
	for _, m := range marks {
		if m.key == key {
			return m, true
		}
	}
	return mark{}, false
}

// counts tells whether the mark is for fleets of this size.
func (m mark) counts(apps int) bool {
	return apps >= m.from && (m.upTo == 0 || apps <= m.upTo)
}

// text is the mark for a fleet of so many applications.
func (m mark) text(apps int) string {
	v := m.limit(apps)
	var s string
	switch unit := unitOf(m.key); {
	case m.ratio:
		s = fmt.Sprintf("≤ %.1f ×", v)
	case m.exact:
		s = "= " + thousands(int(v))
	default:
		s = "≤ " + strconv.FormatFloat(v, 'f', -1, 64) + " " + unit
	}
	switch {
	case m.counts(apps):
		return s
	case apps < m.from:
		return fmt.Sprintf("(%s from %s on)", s, thousands(m.from))
	default:
		return fmt.Sprintf("(%s up to %s)", s, thousands(m.upTo))
	}
}

// page is the mark in a table that has several sizes.
func (m mark) page() string {
	size := max(m.from, m.upTo)
	s := m.text(size)
	switch {
	case m.exact && m.limit(2) != m.limit(1):
		return fmt.Sprintf("= %s each", thousands(int(m.limit(1))))
	case m.from > 0:
		return fmt.Sprintf("%s from %s on", s, thousands(m.from))
	case m.upTo > 0:
		return fmt.Sprintf("%s up to %s", s, thousands(m.upTo))
	case m.limit(1) != m.limit(10_000):
		return fmt.Sprintf("%s up to 1,000, %s above", m.text(1), m.text(10_000))
	}
	return s
}

// Verdicts on a figure.
const (
	verdictOK   = "ok"
	verdictOver = "over"
)

// verdict says whether a result keeps the mark; "" if it was not measured, or the
// mark is not for it.
func (m mark) verdict(r *result) string {
	if !m.counts(r.Applications) {
		return ""
	}
	f := r.Figures[m.key]
	v := f.Belay
	if m.ratio {
		if x, ok := f.ratio(); ok {
			v = &x
		} else {
			v = nil
		}
	}
	if v == nil {
		return ""
	}
	limit := m.limit(r.Applications)
	if (m.exact && *v == limit) || (!m.exact && *v <= limit) {
		return verdictOK
	}
	return verdictOver
}

// growthRow is a figure that is looked at across sizes.
type growthRow struct {
	key, label string
	// each divides by the number of applications.
	each bool
	// most is how much more it may be in the largest fleet than in the smallest; 0
	// has no mark.
	most float64
}

var growthRows = []growthRow{
	{"one.p50", "Commit to one application, median", false, 1.5},
	{"one.cpu", "  CPU of Belay", false, 0},
	{"one.requests", "  requests", false, 1},
	{"one.renders", "  renders", false, 1},
	{"all.wall", "Commit to all, an application", true, 0},
	{"all.cpu", "  CPU of Belay", true, 0},
	{"all.requests", "  requests", true, 1},
	{"rollout.wall", "First rollout, an application", true, 0},
	{"drift.p50", "Edit by hand until healed, median", false, 1.5},
	{"rest.requests", "At rest: requests", false, 1},
	{"memory.rest", "  memory, an application", true, 0},
	{"restart.wall", "Restart, an application", true, 0},
}

// unit of the value: seconds and megabytes of one application are thousandths.
func (g growthRow) unit() string {
	u := unitOf(g.key)
	if !g.each {
		return u
	}
	switch u {
	case "s", "cpu s":
		return "ms"
	case "MB":
		return "kB"
	}
	return u
}

func (g growthRow) of(r *result) *float64 {
	v := r.Figures[g.key].Belay
	if v == nil || !g.each {
		return v
	}
	n := *v / float64(r.Applications)
	if unitOf(g.key) != "" {
		n *= 1000
	}
	return &n
}
