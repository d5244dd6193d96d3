package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// SinceLatest is the resume point that leaves out everything that is past.
const SinceLatest = "latest"

// maxLine bounds a line of an event stream.
const maxLine = 4 << 20

// silence is how long a stream may be silent; the server gives a sign of life more often.
const silence = time.Minute

// EventQuery chooses events.
type EventQuery struct {
	// Since is a resume point or [SinceLatest]. Default: every event that the server still keeps.
	Since string
	// Applications and Types that are wanted; empty means all.
	Applications []string
	Types        []belay.EventType
	// Follow waits for more events; otherwise the newest one ends the stream.
	Follow bool
	// OnGap is told when events were lost. May be nil.
	OnGap func(Gap)
	// OnDisconnect is told why a stream that is followed broke off; it is
	// connected again all the same. May be nil.
	OnDisconnect func(error)
}

// Gap says that events were lost.
type Gap struct {
	// Missed counts the lost events, whatever the filter.
	Missed uint64 `json:"missed"`
	// Restarted is true when the server started anew, and how many are lost is not known.
	Restarted bool `json:"restarted"`
}

// Events yields events, oldest first. A stream that is followed goes on after
// the connection broke or the server was started anew, from where it was, until
// ctx ends or the caller stops; the first connection must succeed. The error, if
// any, comes last; the end of ctx is none.
func (c *Client) Events(ctx context.Context, q EventQuery) iter.Seq2[belay.Event, error] {
	return func(yield func(belay.Event, error) bool) {
		s := &subscription{client: c, query: q, last: q.Since}
		wait := c.retryMin
		for {
			got := s.got
			err := s.connect(ctx, func(e belay.Event) bool { return yield(e, nil) })
			switch {
			case errors.Is(err, errStopped) || ctx.Err() != nil:
				return
			case err == nil && !q.Follow:
				return
			case !s.connected || !q.Follow || permanent(err):
				yield(belay.Event{}, err)
				return
			}
			if s.got > got {
				wait = c.retryMin
			}
			if err == nil {
				err = errEnded
			}
			if q.OnDisconnect != nil {
				q.OnDisconnect(err)
			}
			select {
			case <-time.After(wait):
				wait = min(2*wait, c.retryMax)
			case <-ctx.Done():
				return
			}
		}
	}
}

// errEnded says why a stream that is followed broke off in good order.
var errEnded = errors.New("the server ended the stream")

// errStopped says that the caller wants no more.
var errStopped = errors.New("stopped")

// permanent reports whether the server's answer would be the same again.
func permanent(err error) bool {
	e, ok := errors.AsType[*belay.Error](err)
	return ok && e.Code != belay.CodeUnavailable && e.Code != belay.CodeInternal
}

// subscription is an event stream over any number of connections.
type subscription struct {
	client    *Client
	query     EventQuery
	last      string // resume point
	connected bool   // at least once
	got       int    // messages, to tell a connection that worked
}

// connect reads events of one connection until it ends. A nil error is an end in good order.
func (s *subscription) connect(ctx context.Context, yield func(belay.Event) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q := url.Values{}
	for _, a := range s.query.Applications {
		q.Add("application", a)
	}
	for _, t := range s.query.Types {
		q.Add("type", string(t))
	}
	if !s.query.Follow {
		q.Set("follow", "false")
	}
	if s.last != "" {
		q.Set("since", s.last)
	}
	// A connection whose other end is gone without a word stays silent for ever, before
	// the answer as well as within it.
	watchdog := time.AfterFunc(s.client.silence, func() { cancel(errSilent) })
	defer watchdog.Stop()
	resp, err := s.client.send(ctx, http.MethodGet, "/api/v1/events", q, http.Header{"Accept": {"text/event-stream"}}, nil)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSilent) {
			err = &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the server at %s took the question for events, and does not answer it", s.client.base), Hint: "ask it how it is with: belay status", Err: errSilent}
		}
		return err
	}
	defer discard(resp)
	if ct := resp.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") {
		return s.client.foreign(fmt.Errorf("its events are %q", ct))
	}
	s.connected = true
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var m message
	for lines.Scan() {
		watchdog.Reset(s.client.silence)
		if !m.line(lines.Bytes()) {
			continue
		}
		if err := s.take(&m, yield); err != nil {
			return err
		}
		m = message{}
	}
	if err := lines.Err(); err != nil {
		if errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
		return fmt.Errorf("read the event stream: %w", err)
	}
	return nil
}

var errSilent = errors.New("the server gave no sign of life for too long")

// take acts on one message.
func (s *subscription) take(m *message, yield func(belay.Event) bool) error {
	s.got++
	if m.data.Len() > 0 {
		switch m.event {
		case "", "message":
			var e belay.Event
			if err := json.Unmarshal(m.data.Bytes(), &e); err != nil {
				return s.client.foreign(fmt.Errorf("decode an event: %w", err))
			}
			// Noted before it is handed on: it is not to come twice.
			if m.hasID {
				s.last = m.id
			}
			if !yield(e) {
				return errStopped
			}
			return nil
		case "gap":
			var g Gap
			if err := json.Unmarshal(m.data.Bytes(), &g); err != nil {
				return s.client.foreign(fmt.Errorf("decode a gap: %w", err))
			}
			if s.query.OnGap != nil {
				s.query.OnGap(g)
			}
		}
	}
	if m.hasID {
		s.last = m.id
	}
	return nil
}

// message is one message of server-sent events, as far as it was read.
type message struct {
	event, id string
	hasID     bool
	data      bytes.Buffer
}

// line takes one line; it is true when that ended the message.
func (m *message) line(l []byte) bool {
	if len(l) == 0 {
		return true
	}
	field, value, _ := bytes.Cut(l, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "event":
		m.event = string(value)
	case "id":
		m.id, m.hasID = string(value), true
	case "data":
		if m.data.Len() > 0 {
			m.data.WriteByte('\n')
		}
		m.data.Write(value)
	}
	return false // also for comments and fields of no interest
}
