package main

import (
	"fmt"
	"html"
	"io"
	"math"
	"slices"
	"strings"
)

// panel is one diagram: lines over the number of applications, both axes
// logarithmic, so that what does not grow is flat and what grows in proportion
// rises by a decade a decade.
type panel struct {
	title, unit string
	curves      []curve
}

// curve is one line of a panel.
type curve struct {
	label, class string
	x, y         []float64
}

// Sizes of a picture, in its own units.
const (
	panelWidth, panelHeight   = 460, 300
	plotLeft, plotTop         = 76, 44
	plotWidth, plotHeight     = 230, 212
	pictureHead, pictureWidth = 62, 2 * panelWidth
	labelHeight               = 14
)

// style makes a picture readable on a light and on a dark page: it brings its own
// ground, and both sets of colours.
const style = `
svg { font-family: system-ui, sans-serif; font-size: 12px; }
.ground { fill: #ffffff; } text { fill: #1f2328; } .quiet { fill: #59636e; } .grid { stroke: #d8dee4; } .axis { stroke: #8b949e; }
.one { stroke: #0969da; fill: #0969da; } .all { stroke: #bc4c00; fill: #bc4c00; } .rest { stroke: #1a7f37; fill: #1a7f37; } .raw { stroke: #6e7781; fill: #6e7781; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .line.raw { stroke-width: 1.5; stroke-dasharray: 5 4; } text.label { stroke: none; }
.title { font-size: 14px; font-weight: 600; } .head { font-size: 17px; font-weight: 600; }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117; } text { fill: #e6edf3; } .quiet { fill: #9198a1; } .grid { stroke: #262c36; } .axis { stroke: #656c76; }
.one { stroke: #58a6ff; fill: #58a6ff; } .all { stroke: #f0883e; fill: #f0883e; } .rest { stroke: #3fb950; fill: #3fb950; } .raw { stroke: #9198a1; fill: #9198a1; }
}
`

// picture writes panels as SVG, two in a row.
func picture(out io.Writer, head, below string, panels []panel) error {
	var b strings.Builder
	height := pictureHead + panelHeight*((len(panels)+1)/2)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n", pictureWidth, height, html.EscapeString(head))
	fmt.Fprintf(&b, "<style>%s</style>\n", style)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", pictureWidth, height)
	fmt.Fprintf(&b, `<text class="head" x="20" y="28">%s</text><text class="quiet" x="20" y="48">%s</text>`+"\n", html.EscapeString(head), html.EscapeString(below))
	for i, p := range panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%2*panelWidth, pictureHead+i/2*panelHeight)
		p.draw(&b)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// draw writes the panel at the origin.
func (p panel) draw(b *strings.Builder) {
	var xs, ys []float64
	for _, c := range p.curves {
		xs, ys = append(xs, c.x...), append(ys, c.y...)
	}
	fmt.Fprintf(b, `<text class="title" x="20" y="24">%s</text>`+"\n", html.EscapeString(p.title))
	if len(xs) == 0 {
		return
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	x := logScale{xs[0], xs[len(xs)-1], plotLeft, plotLeft + plotWidth}
	low, high := decades(ys)
	y := logScale{low, high, plotTop + plotHeight, plotTop}
	for v := low; v <= high*1.01; v *= 10 {
		fmt.Fprintf(b, `<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="quiet" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, plotLeft+plotWidth, y.at(v), y.at(v), plotLeft-8, y.at(v)+4, p.tick(v))
	}
	for _, v := range xs {
		fmt.Fprintf(b, `<line class="axis" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="quiet" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x.at(v), x.at(v), plotTop+plotHeight, plotTop+plotHeight+5, x.at(v), plotTop+plotHeight+20, thousands(int(v)))
	}
	fmt.Fprintf(b, `<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/>`+"\n", plotLeft, plotLeft+plotWidth, plotTop+plotHeight, plotTop+plotHeight)
	p.lines(b, x, y)
}

// lines writes the curves and their labels, which stand at their ends and make
// room for one another.
func (p panel) lines(b *strings.Builder, x, y logScale) {
	type label struct {
		curve
		at float64
	}
	var labels []label
	for _, c := range p.curves {
		var points []string
		for i := range c.x {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x.at(c.x[i]), y.at(c.y[i])))
		}
		fmt.Fprintf(b, `<polyline class="line %s" points="%s"/>`+"\n", c.class, strings.Join(points, " "))
		for i := range c.x {
			fmt.Fprintf(b, `<circle class="%s" cx="%.1f" cy="%.1f" r="3"><title>%s, %s applications: %s</title></circle>`+"\n",
				c.class, x.at(c.x[i]), y.at(c.y[i]), html.EscapeString(c.label), thousands(int(c.x[i])), html.EscapeString(quantity(&c.y[i], p.unit)))
		}
		labels = append(labels, label{c, y.at(c.y[len(c.y)-1])})
	}
	slices.SortFunc(labels, func(a, b label) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	for i := range labels {
		if i > 0 {
			labels[i].at = max(labels[i].at, labels[i-1].at+labelHeight)
		}
		l := labels[i]
		fmt.Fprintf(b, `<text class="label %s" x="%d" y="%.1f">%s</text>`+"\n", l.class, plotLeft+plotWidth+10, l.at+4, html.EscapeString(l.label))
	}
}

// tick is a value at the axis.
func (p panel) tick(v float64) string {
	unit := strings.TrimPrefix(p.unit, "cpu ")
	switch {
	case unit == "ms" && v >= 1000:
		return thousands(int(v/1000)) + " s"
	case v >= 1:
		return strings.TrimSpace(thousands(int(math.Round(v))) + " " + unit)
	}
	return strings.TrimSpace(fmt.Sprintf("%.4g %s", v, unit))
}

// logScale maps values between two bounds to positions.
type logScale struct{ low, high, from, to float64 }

func (s logScale) at(v float64) float64 {
	if s.high <= s.low {
		return s.from
	}
	return s.from + (s.to-s.from)*math.Log(v/s.low)/math.Log(s.high/s.low)
}

// decades are powers of ten around values.
func decades(values []float64) (low, high float64) {
	low = math.Pow10(int(math.Floor(math.Log10(slices.Min(values)))))
	high = math.Pow10(int(math.Ceil(math.Log10(slices.Max(values)))))
	if high <= low {
		high = low * 10
	}
	return low, high
}
