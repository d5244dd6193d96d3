package belay

import (
	"errors"
	"strings"
)

// Code sorts errors for programs; people read Message and Hint.
type Code string

// The codes of [Error].
const (
	CodeInvalid     Code = "invalid"     // the declaration is wrong; only a commit mends it
	CodeNotFound    Code = "not-found"   // a thing named does not exist
	CodeDenied      Code = "denied"      // a Project does not allow it
	CodeForbidden   Code = "forbidden"   // the cluster's or the repository's access rules do not allow it
	CodeConflict    Code = "conflict"    // something that is not ours is in the way
	CodeImmutable   Code = "immutable"   // a field that cannot be changed in place
	CodeUnknownKind Code = "unknownKind" // the cluster does not serve the kind (yet)
	CodeNoNamespace Code = "noNamespace" // the namespace does not exist (yet)
	CodeTerminating Code = "terminating" // the namespace or object is being deleted
	CodeHeld        Code = "held"        // a limit holds it until it is confirmed in Git
	CodeHookFailed  Code = "hookFailed"  // a hook ran and failed; tried again as sync.retry says
	CodeUnavailable Code = "unavailable" // a cluster, repository or worker does not answer; tried again by itself
	CodeTimeout     Code = "timeout"     // a sync took longer than it may; another commit or a request begins anew
	CodeInternal    Code = "internal"    // a defect of Belay
)

// Error is an error as a user sees it. Message and Hint never hold secrets.
type Error struct {
	Code Code `json:"code" doc:"What kind of error it is, for programs."`
	// Message says what is wrong, in one sentence without the place.
	Message string `json:"message" doc:"What is wrong, in one sentence without the place."`
	// Hint says what to do; may be empty.
	Hint string `json:"hint,omitempty" doc:"What to do about it."`
	// Place it belongs to, as far as known.
	Origin      Origin `json:"origin,omitzero" doc:"The place in Git that it belongs to."`
	Application string `json:"application,omitempty" doc:"The application that it belongs to."`
	Object      string `json:"object,omitempty" doc:"The object that it belongs to."`
	// Err is the cause, for errors.Is; it is not shown.
	Err error `json:"-"`
}

// Error is "file:line: object: message (hint)".
func (e *Error) Error() string {
	var b strings.Builder
	if e.Origin.File != "" {
		b.WriteString(e.Origin.String() + ": ")
	}
	if e.Object != "" {
		b.WriteString(e.Object + ": ")
	}
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString(" (" + e.Hint + ")")
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf is the code of the first [Error] in err's chain, or CodeInternal.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}
