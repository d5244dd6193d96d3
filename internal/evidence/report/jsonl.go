package report

import (
	"bufio"
	"encoding/json"
	"io"

	"github.com/belaydev/belay/internal/evidence"
)

// kind is in front of every line, so that each can be read by itself.
type kind struct {
	Version int    `json:"version"`
	Type    string `json:"type"` // report, exception, change or metrics
}

// JSONL writes one object a line: the report itself, then each exception, each
// change and the figures of each scope.
func JSONL(w io.Writer, r *evidence.Report, src Source) error {
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	of := func(typ string) kind { return kind{evidence.Version, typ} }
	err := enc.Encode(struct {
		kind
		Period      evidence.Period       `json:"period"`
		Zone        string                `json:"zone"`
		Scope       evidence.Scope        `json:"scope"`
		Source      Source                `json:"source"`
		Heads       []evidence.Head       `json:"heads"`
		Summary     evidence.Summary      `json:"summary"`
		Definitions []evidence.Definition `json:"definitions"`
		Limits      []string              `json:"limits"`
	}{of("report"), r.Period, Zone(r.Period), r.Scope, src, r.Heads, r.Summary, definitions(), evidence.Limits()})
	for i := 0; err == nil && i < len(r.Exceptions); i++ {
		err = enc.Encode(exceptionLine{of("exception"), &r.Exceptions[i]})
	}
	for i := 0; err == nil && i < len(r.Changes); i++ {
		err = enc.Encode(changeLine{of("change"), r.Changes[i]})
	}
	for i := 0; err == nil && i < len(r.Metrics); i++ {
		err = enc.Encode(metricsLine{of("metrics"), &r.Metrics[i]})
	}
	if err != nil {
		return err
	}
	return buf.Flush()
}

type exceptionLine struct {
	kind
	*evidence.Exception
}

type changeLine struct {
	kind
	*evidence.Change
}

type metricsLine struct {
	kind
	*evidence.Metrics
}

// definitions are those of figures and of exceptions.
func definitions() []evidence.Definition {
	out := evidence.MetricDefinitions()
	for _, k := range evidence.ExceptionKinds() {
		d := k.KindDefinition()
		out = append(out, evidence.Definition{Name: string(k), Text: d.Name + ". " + d.Text})
	}
	return out
}
