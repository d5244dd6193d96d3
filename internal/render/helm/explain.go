package helm

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

var (
	// location is a place in a template as the engine writes it.
	location = regexp.MustCompile(`([^\s:()"]+/templates/[^\s:()"]+):(\d+)(?::\d+)?`)
	// tplText is the template that a chart passed to tpl: often a value.
	tplText = regexp.MustCompile(`(?s)(error during tpl function execution for|cannot parse template) "(?:[^"\\]|\\.)*"`)
	// expression is the code that failed.
	expression = regexp.MustCompile(`executing "[^"]*" at <(.*?)>:?`)
	nilField   = regexp.MustCompile(`nil pointer evaluating (?:interface \{\}|[\w.*{} ]+)\.(\w+)`)
	parsedText = regexp.MustCompile(`(parsing|invalid value|cannot unmarshal) "(?:[^"\\]|\\.)*"`)
)

// explain turns an error of the template engine into a problem at the innermost
// place: the engine gives the chain of templates that led there, one to a line.
func (r *run) explain(err error) {
	text := tplText.ReplaceAllString(err.Error(), "error in tpl")
	p := wire.Problem{File: r.root}
	locs := location.FindAllStringSubmatch(text, -1)
	secret := false
	for _, l := range locs {
		secret = secret || bytes.Contains(r.templateText[l[1]], []byte("Secret"))
	}
	var outer string
	if len(locs) > 0 {
		in := locs[len(locs)-1]
		p.File = r.templatePaths[in[1]]
		if p.File == "" {
			p.File = in[1]
		}
		if n, err := strconv.Atoi(in[2]); err == nil && !strings.HasSuffix(p.File, ".tgz") {
			p.Line = n
		}
		if out := locs[0]; out[1] != in[1] {
			outer = fmt.Sprintf("%s:%s", r.templatePaths[out[1]], out[2])
		}
	}
	p.Message = r.message(text)
	if m := nilField.FindStringSubmatch(p.Message); m != nil {
		p.Hint = fmt.Sprintf("set the value that should have a field %s, or guard it in the template", m[1])
	}
	if outer != "" {
		p.Message += ", used by " + outer
	}
	p.Message = belay.Scrub(p.Message, r.secrets(secret))
	if p.Message == "[redacted]" {
		p.Message = "the template failed with a message that is not shown, because it may repeat a secret value"
	}
	r.out.Fail(p)
}

// message is the last thing the engine says, with the code it says it of.
func (r *run) message(text string) string {
	const at, parse = "execution error at (", "parse error at ("
	for _, prefix := range []string{at, parse} {
		if i := strings.Index(text, prefix); i >= 0 {
			if _, msg, ok := strings.Cut(text[i:], "): "); ok {
				return clip(msg)
			}
		}
	}
	last := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !location.MatchString(line) && !strings.HasPrefix(line, "executing ") {
			last = line
		}
	}
	if last == "" {
		last = text
		if locs := location.FindAllStringIndex(text, -1); len(locs) > 0 {
			last = strings.TrimLeft(text[locs[len(locs)-1][1]:], ": ")
		}
		last = expression.ReplaceAllString(last, "<$1>:")
		return clip(last)
	}
	if m := expression.FindAllStringSubmatch(text, -1); len(m) > 0 {
		last = "<" + m[len(m)-1][1] + ">: " + last
	}
	return clip(last)
}

func clip(s string) string {
	s = strings.Join(strings.Fields(parsedText.ReplaceAllString(s, "$1 a value")), " ")
	const long = 300
	if len(s) > long {
		s = strings.ToValidUTF8(s[:long], "") + " …"
	}
	return s
}

// secrets lists what a message must not repeat. A template that makes a Secret
// can use any value and any small file for it.
func (r *run) secrets(all bool) []string {
	out := secretValues(r.user, all)
	for _, ch := range append(r.chart.Dependencies(), r.chart) {
		out = append(out, secretValues(ch.Values, all)...)
		if !all {
			continue
		}
		for _, f := range ch.Files {
			if len(f.Data) < 4096 {
				out = append(out, manifest.LineTexts(f.Data)...)
			}
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}
