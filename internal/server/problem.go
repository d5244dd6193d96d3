package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/belaydev/belay"
	"github.com/danielgtaylor/huma/v2"
)

// problemType is the media type of RFC 9457.
const problemType = "application/problem+json"

// problem is an error as the API answers it: a [belay.Error] that is also an
// RFC 9457 problem.
type problem struct {
	Title  string `json:"title" doc:"The HTTP status in words."`
	Status int    `json:"status" doc:"The HTTP status."`
	Detail string `json:"detail" doc:"The message with its place, for clients that know RFC 9457 only."`

	Code        belay.Code   `json:"code" doc:"What kind of error it is, for programs." example:"not-found"`
	Message     string       `json:"message" doc:"What is wrong, in one sentence without the place."`
	Hint        string       `json:"hint,omitempty" doc:"What to do about it."`
	Origin      belay.Origin `json:"origin,omitzero" doc:"The place in Git that it belongs to."`
	Application string       `json:"application,omitempty" doc:"The application that it belongs to."`
	Object      string       `json:"object,omitempty" doc:"The object that it belongs to."`
}

// Error is the message with its place.
func (p *problem) Error() string { return p.Detail }

// GetStatus makes huma answer with that status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType makes huma answer with the problem's media type.
func (p *problem) ContentType(string) string { return problemType }

// newProblem makes a problem of any error. One that is no [belay.Error] is a
// defect, but for a context's end.
func newProblem(err error) *problem {
	if p, ok := errors.AsType[*problem](err); ok {
		return p
	}
	e, ok := errors.AsType[*belay.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded):
		e = &belay.Error{Code: belay.CodeUnavailable, Message: "the answer took too long", Hint: "try again, or ask for less at once"}
	default:
		e = &belay.Error{Code: belay.CodeInternal, Message: err.Error()}
	}
	return problemOf(statusOf(e.Code), *e)
}

func problemOf(status int, e belay.Error) *problem {
	p := &problem{
		Title: http.StatusText(status), Status: status,
		Code: e.Code, Message: e.Message, Hint: e.Hint, Origin: e.Origin, Application: e.Application, Object: e.Object,
	}
	e.Hint = ""
	p.Detail = e.Error()
	return p
}

// statusOf is the HTTP status that says most nearly what a code says.
func statusOf(c belay.Code) int {
	switch c {
	case belay.CodeInvalid, belay.CodeUnknownKind, belay.CodeNoNamespace:
		return http.StatusUnprocessableEntity
	case belay.CodeNotFound:
		return http.StatusNotFound
	case belay.CodeDenied, belay.CodeForbidden:
		return http.StatusForbidden
	case belay.CodeConflict, belay.CodeImmutable, belay.CodeTerminating, belay.CodeHeld:
		return http.StatusConflict
	case belay.CodeUnavailable:
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// fromHuma turns huma's own errors into problems. The values they quote are
// left out: a request's body may hold Secrets.
func fromHuma(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	code := belay.CodeInvalid
	if m.Status >= http.StatusInternalServerError {
		code = belay.CodeInternal
	}
	e := belay.Error{Code: code, Message: m.Detail}
	var details []string
	for _, d := range m.Errors {
		switch {
		case d.Location == "body" && m.Status == http.StatusBadRequest:
			details = append(details, "the body is not the JSON this operation takes")
		case d.Location != "":
			details = append(details, d.Location+": "+d.Message)
		default:
			details = append(details, d.Message)
		}
	}
	if len(details) > 0 {
		e.Message += ": " + strings.Join(details, "; ")
	}
	if m.Status < http.StatusInternalServerError {
		e.Hint = "the API is described at /docs"
	}
	return problemOf(m.Status, e), nil
}

// refuse answers outside of huma.
func refuse(w http.ResponseWriter, status int, code belay.Code, hint, format string, args ...any) {
	body, err := json.Marshal(problemOf(status, belay.Error{Code: code, Message: fmt.Sprintf(format, args...), Hint: hint}))
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	w.Header().Set("Content-Type", problemType)
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client may be gone
}
