package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// audit reads the API server's audit log: what was asked is counted where it
// arrives. A request is in it before its answer is complete.
type audit struct{ path string }

// request is one line of the log that counts.
type request struct {
	agent    string
	user     string // whom the caller stands for, "" for itself
	verb     string // of the API: get, list, watch, create, update, patch, delete
	resource string // plural, with a subresource after a slash; or a path such as /version
}

func (r request) String() string { return r.verb + " " + r.resource }

func (r request) writes() bool {
	switch r.verb {
	case "get", "list", "watch":
		return false
	}
	return true
}

func (r request) patches() bool { return r.verb == "patch" }

// asks tells a request from the watches, which stay open and are opened again when
// an API server ends them.
func (r request) asks() bool { return r.verb != "watch" }

// mark is the present moment in the log: the end of its last whole line, as
// others may be writing one.
func (a audit) mark() (int64, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return 0, fmt.Errorf("read the audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("read the audit log: %w", err)
	}
	const longest = 64 << 10
	last := make([]byte, min(end, longest))
	if _, err := f.ReadAt(last, end-int64(len(last))); err != nil {
		return 0, fmt.Errorf("read the audit log: %w", err)
	}
	return end - int64(len(last)) + int64(bytes.LastIndexByte(last, '\n')+1), nil
}

// since returns the requests after a mark that keep accepts.
func (a audit) since(mark int64, keep func(request) bool) ([]request, error) {
	f, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	if _, err := f.Seek(mark, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	var out []request
	for r := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return out, nil // a line without an end is being written
		} else if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		req, counts, err := parseAudit(line)
		if err != nil {
			return nil, fmt.Errorf("read the audit log: %w", err)
		}
		if counts && keep(req) {
			out = append(out, req)
		}
	}
}

// parseAudit reads one event. Of those of a request the last one counts, or the
// first if it is a watch, which may stay open.
func parseAudit(line []byte) (req request, counts bool, err error) {
	var e struct {
		Stage, UserAgent, Verb, RequestURI string
		ObjectRef                          struct{ Resource, Subresource string }
		ImpersonatedUser                   struct{ Username string }
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return request{}, false, err
	}
	req = request{agent: e.UserAgent, user: e.ImpersonatedUser.Username, verb: e.Verb, resource: e.ObjectRef.Resource}
	if e.ObjectRef.Subresource != "" {
		req.resource += "/" + e.ObjectRef.Subresource
	}
	if req.resource == "" {
		req.resource, _, _ = strings.Cut(e.RequestURI, "?")
	}
	return req, (e.Stage == "ResponseStarted") == (e.Verb == "watch"), nil
}

// tally counts requests by verb and resource.
func tally(requests []request) map[string]int {
	out := map[string]int{}
	for _, r := range requests {
		out[r.String()]++
	}
	return out
}

func count(requests []request, keep func(request) bool) (n int) {
	for _, r := range requests {
		if keep(r) {
			n++
		}
	}
	return n
}
