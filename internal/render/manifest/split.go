// Package manifest takes YAML and JSON files apart into Kubernetes manifests as
// kubectl understands them, keeps track of lines, and words what is wrong
// without repeating values.
//
// It is pure: it must not know where the bytes come from.
package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Doc is one document of a file.
type Doc struct {
	// Line is the line of the file, from 1, on which the content begins: the
	// first that is neither blank nor a comment.
	Line int
	// Text of the document, without the separator.
	Text []byte
	// start is the line of the file on which Text begins.
	start int
	// json is set when Text is JSON and must not be read as YAML.
	json bool
}

var bom = []byte("\xef\xbb\xbf")

// Split takes a YAML stream apart. Documents without content are left out.
func Split(data []byte) []Doc {
	data = bytes.TrimPrefix(data, bom)
	var docs []Doc
	cur := Doc{start: 1}
	begin := 0 // of the current document in data
	line := 1
	flush := func(end int) {
		if cur.Line > 0 {
			cur.Text = data[begin:end]
			docs = append(docs, cur)
		}
	}
	for off := 0; off < len(data); line++ {
		next := len(data)
		if i := bytes.IndexByte(data[off:], '\n'); i >= 0 {
			next = off + i + 1
		}
		text := data[off:next]
		switch {
		case marker(text, "---"):
			flush(off)
			begin = off + 3
			cur = Doc{start: line}
			if content(text[3:]) {
				cur.Line = line
			}
		case marker(text, "..."):
			flush(off)
			begin = next
			cur = Doc{start: line + 1}
		case cur.Line == 0 && text[0] == '%': // a directive: it is for the parser, not for us
			begin = next
			cur = Doc{start: line + 1}
		case cur.Line == 0 && content(text):
			cur.Line = line
		}
		off = next
	}
	flush(len(data))
	return docs
}

// marker reports whether a line is a document marker: only at its very
// beginning, and only when nothing or white space follows.
func marker(line []byte, m string) bool {
	if len(line) < 3 || string(line[:3]) != m {
		return false
	}
	return len(line) == 3 || line[3] == ' ' || line[3] == '\t' || line[3] == '\r' || line[3] == '\n'
}

func content(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#'
}

// SplitJSON takes a stream of JSON values apart. What was read before the
// error comes back with it.
func SplitJSON(data []byte) ([]Doc, error) {
	data = bytes.TrimPrefix(data, bom)
	var docs []Doc
	dec := json.NewDecoder(bytes.NewReader(data))
	line, seen := 1, 0
	for {
		from := int(dec.InputOffset())
		var raw json.RawMessage
		if err := dec.Decode(&raw); errors.Is(err, io.EOF) {
			return docs, nil
		} else if err != nil {
			return docs, jsonError(data, err)
		}
		for from < len(data) && (data[from] <= ' ') {
			from++
		}
		line += bytes.Count(data[seen:from], []byte("\n"))
		seen = from
		docs = append(docs, Doc{Line: line, Text: raw, start: line, json: true})
	}
}

func jsonError(data []byte, err error) *Error {
	e := &Error{Problem: "not valid JSON: it ends too early", Line: 1 + bytes.Count(bytes.TrimRight(data, " \t\r\n"), []byte("\n"))}
	if se, ok := errors.AsType[*json.SyntaxError](err); ok && se.Offset > 0 && se.Offset <= int64(len(data)) {
		e.Line = 1 + bytes.Count(data[:se.Offset-1], []byte("\n"))
		if se.Error() != "unexpected end of JSON input" {
			e.Problem = "not valid JSON: " + se.Error() // names one character at most
		}
	}
	return e
}

// One is a document that is a whole text, such as a part of a template's output.
func One(text []byte) Doc { return Doc{Line: 1, Text: text, start: 1} }
