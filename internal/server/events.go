package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// sinceLatest is the resume point that leaves out everything that is past.
const sinceLatest = "latest"

// retryMillis is how long clients wait before they connect again.
const retryMillis = 1000

// eventsInput is the query of an event stream.
type eventsInput struct {
	LastEventID string            `header:"Last-Event-ID" doc:"Resume after this event; clients of event streams send it by themselves. It wins over since." maxLength:"64"`
	Since       string            `query:"since" doc:"Resume after the event with this id or sequence number; latest leaves out what is past. Default: every event that is still kept." maxLength:"64"`
	Application []string          `query:"application,explode" doc:"Only events of these applications; repeat it for several."`
	Type        []belay.EventType `query:"type,explode" doc:"Only events of these types; repeat it for several."`
	Follow      bool              `query:"follow" doc:"Wait for more events; otherwise the stream ends with the newest." default:"true"`
}

// Gap tells a reader of the event stream that it did not get every event.
type Gap struct {
	Missed    uint64 `json:"missed" doc:"How many events are lost, filters aside."`
	Restarted bool   `json:"restarted" doc:"Whether the server started anew since the event to resume after; how many events are lost is not known then."`
}

func (s *Server) registerEvents(api huma.API) {
	registry := api.OpenAPI().Components.Schemas
	schemaOf[belay.Event](registry)
	schemaOf[Gap](registry)
	op := huma.Operation{
		OperationID: "stream-events", Method: http.MethodGet, Path: "/api/v1/events", Tags: []string{tagEvents},
		Summary: "Stream of events",
		Description: "Server-sent events. The data of each message is an Event as JSON, its id the point to resume after. " +
			"A message of the event type \"gap\", whose data is a Gap, says that events were lost because the reader was slow, " +
			"was away for too long, or the server started anew. Comments keep a silent stream alive.",
		Responses: map[string]*huma.Response{
			"200": {Description: "Events until the client or the server ends the stream", Content: map[string]*huma.MediaType{
				"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString, Description: "Messages of server-sent events with an Event as data, or a Gap."}},
			}},
			"default": problemResponse(),
		},
	}
	huma.Register(api, op, func(_ context.Context, in *eventsInput) (*huma.StreamResponse, error) {
		if err := checkTypes(in.Type); err != nil {
			return nil, newProblem(err)
		}
		point, err := s.parseResumePoint(in)
		if err != nil {
			return nil, newProblem(err)
		}
		return &huma.StreamResponse{Body: func(ctx huma.Context) {
			r, w := humago.Unwrap(ctx)
			st := &stream{server: s, in: in, w: w, rc: http.NewResponseController(w)}
			st.run(r.Context(), point)
		}}, nil
	})
}

// resumePoint is the id of the event with that number in this life of the process.
func (s *Server) resumePoint(seq uint64) string {
	return s.Events.Epoch() + "-" + strconv.FormatUint(seq, 10)
}

// start is where a stream begins.
type start struct {
	seq uint64
	// restarted is true for a resume point of another life of the process.
	restarted bool
}

func (s *Server) parseResumePoint(in *eventsInput) (start, error) {
	id := in.LastEventID
	if id == "" {
		id = in.Since
	}
	switch id {
	case "":
		return start{}, nil
	case sinceLatest:
		return start{seq: s.Events.Latest()}, nil
	}
	epoch, number, ok := strings.Cut(id, "-")
	if !ok {
		epoch, number = s.Events.Epoch(), id
	}
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return start{}, &belay.Error{Code: belay.CodeInvalid, Message: "the resume point is neither the id of an event nor a sequence number nor latest"}
	}
	if epoch != s.Events.Epoch() || seq > s.Events.Latest() {
		return start{restarted: true}, nil
	}
	return start{seq: seq}, nil
}

// stream writes events to one client.
type stream struct {
	server *Server
	in     *eventsInput
	w      http.ResponseWriter
	rc     *http.ResponseController
	buf    bytes.Buffer
}

// run writes events until the client is gone, the server drains, or, unless it
// follows, there are no more.
func (st *stream) run(ctx context.Context, from start) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-st.server.draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	h := st.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // a proxy that buffers would hold events back
	_ = st.rc.SetReadDeadline(time.Time{})

	// The first message has an id and no data: clients note it as the point to
	// resume after even before anything happens.
	fmt.Fprintf(&st.buf, "retry: %d\nid: %s\n\n", retryMillis, st.server.resumePoint(from.seq))
	if from.restarted {
		st.gap(Gap{Restarted: true})
	}
	last := st.server.Events.Latest()
	for seq := from.seq; st.flush() == nil; {
		if !st.in.Follow && seq >= last {
			return
		}
		events, missed, err := st.next(ctx, seq)
		if err != nil {
			return
		}
		if len(events) == 0 {
			st.buf.WriteString(": alive\n\n")
			continue
		}
		if missed > 0 {
			st.gap(Gap{Missed: missed})
		}
		for i := range events {
			st.event(&events[i])
		}
		if end := events[len(events)-1].Seq; end > seq {
			seq = end
		}
		if st.buf.Len() == 0 {
			// Everything was filtered out; still, nothing up to here is missing.
			fmt.Fprintf(&st.buf, "id: %s\n\n", st.server.resumePoint(seq))
		}
	}
}

// next waits for events, but no longer than until a sign of life is due; then there are none.
func (st *stream) next(ctx context.Context, seq uint64) ([]belay.Event, uint64, error) {
	beat, cancel := context.WithTimeout(ctx, st.server.Heartbeat)
	defer cancel()
	events, missed, err := st.server.Events.After(beat, seq)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		return nil, 0, nil
	}
	return events, missed, err
}

func (st *stream) event(e *belay.Event) {
	if len(st.in.Application) > 0 && !slices.Contains(st.in.Application, e.Application) ||
		len(st.in.Type) > 0 && !slices.Contains(st.in.Type, e.Type) {
		return
	}
	// No event type is named on the wire: browsers take one called "error" for
	// their own, and Belay has events of that type.
	fmt.Fprintf(&st.buf, "id: %s\n", st.server.resumePoint(e.Seq))
	st.data(e)
}

func (st *stream) gap(g Gap) {
	st.buf.WriteString("event: gap\n")
	st.data(g)
}

func (st *stream) data(v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings, numbers and times of this century always encode
	}
	fmt.Fprintf(&st.buf, "data: %s\n\n", raw)
}

// flush sends what was written. A client that takes nothing for a while is given up.
func (st *stream) flush() error {
	_ = st.rc.SetWriteDeadline(time.Now().Add(st.server.Patience))
	if _, err := st.w.Write(st.buf.Bytes()); err != nil {
		return err
	}
	st.buf.Reset()
	return st.rc.Flush()
}
