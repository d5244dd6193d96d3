package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

// longestMessage bounds what is passed on of an API server's message, in bytes:
// some repeat whole pod templates.
const longestMessage = 700

// plainCause is the innermost text of an error, without URLs: those may carry
// credentials, and say nothing a user needs.
func plainCause(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		if s.Message == "unknown" && s.Code != 0 { // client-go's word for an answer without a reason
			return fmt.Sprintf("HTTP %d %s", s.Code, http.StatusText(int(s.Code)))
		}
		return shorten(s.Message, longestMessage)
	}
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	return shorten(err.Error(), longestMessage)
}

// apiError makes what the API server said into an error for people. The values
// are kept out of the message.
func (c *Cluster) apiError(err error, id belay.ObjectID, secrets []string) *belay.Error {
	if e, ok := errors.AsType[*belay.Error](err); ok {
		return e
	}
	e := classify(err, id)
	e.Err, e.Object = err, id.String()
	if id.Group == "" && id.Kind == "Secret" {
		e.Message = gotValue.ReplaceAllString(e.Message, "got another type")
		// A wrapped error is not shown, but whoever logs the chain would.
		e.Err = nil
	} else {
		e.Message = goValue.ReplaceAllString(e.Message, "$1")
	}
	e.Message = belay.Scrub(e.Message, secrets)
	if e.Code == belay.CodeUnavailable {
		e.Message = fmt.Sprintf("cluster %q: %s", c.name, e.Message)
	}
	return e
}

// writeError is apiError for a write. The API server names the user and the
// missing right; the hint says who that is, and what to do.
func (c *Cluster) writeError(permit belay.Permit, err error, id belay.ObjectID, secrets []string) *belay.Error {
	e := c.apiError(err, id, secrets)
	account, ok := permit.ServiceAccount()
	if !ok || e.Code != belay.CodeForbidden || !strings.Contains(e.Message, " cannot ") {
		return e
	}
	out := *e
	if strings.Contains(e.Message, " cannot impersonate ") {
		out.Hint = fmt.Sprintf("the Project asks for ServiceAccount %s/%s: allow Belay's own user the verb impersonate on serviceaccounts", account.Namespace, account.Name)
	} else {
		out.Hint = fmt.Sprintf("the Project writes as ServiceAccount %s/%s: bind a Role with this right to it, or change spec.serviceAccount of the Project",
			account.Namespace, account.Name)
	}
	return &out
}

// gotValue is how the API server repeats a value of a wrong type.
var gotValue = regexp.MustCompile(`got &?[a-zA-Z.]*\{.*\}|got [^,;]*`)

// goValue is how the API server names a value that is no text: as it stands in its
// own memory.
var goValue = regexp.MustCompile(`&?value\.valueUnstructured\{Value:([^{}]*)\}`)

func classify(err error, id belay.ObjectID) *belay.Error {
	var api apierrors.APIStatus
	if !errors.As(err, &api) {
		return &belay.Error{Code: belay.CodeUnavailable, Message: plainCause(err)}
	}
	s := api.Status()
	e := &belay.Error{Code: belay.CodeUnavailable, Message: shorten(s.Message, longestMessage)}
	switch {
	case webhookCannotBeCalled(s.Message):
		e.Hint = "the webhook must work, or its configuration must allow for its failure, before this can be applied"
	case (apierrors.IsInvalid(err) || s.Code == http.StatusUnprocessableEntity) && immutable(s): // the API server says so, or the webhook of a kind
		e.Code, e.Message = belay.CodeImmutable, causes(s)
		e.Hint = fmt.Sprintf("if it may be deleted and made anew, set spec.sync.recreate of the Application or annotate it %s: %s; else take the change back",
			belay.AnnotationRecreate, belay.Enabled)
	case strings.Contains(s.Message, "denied the request") || strings.Contains(s.Message, "denied request:"):
		e.Code, e.Hint = belay.CodeForbidden, "a policy of the cluster refuses it; change the manifest or the policy"
	case apierrors.IsInvalid(err) || s.Code == http.StatusUnprocessableEntity:
		e.Code, e.Message = belay.CodeInvalid, causes(s)
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || strings.Contains(s.Message, "because it is being terminated"):
		e.Code, e.Message = belay.CodeTerminating, fmt.Sprintf("namespace %q is being deleted", id.Namespace)
		e.Hint = "it is applied when the namespace is there again"
	case apierrors.IsForbidden(err):
		e.Code, e.Hint = belay.CodeForbidden, forbiddenHint(s.Message)
	case apierrors.IsUnauthorized(err):
		e.Code, e.Message = belay.CodeForbidden, "the cluster does not accept the credentials"
		e.Hint = "renew the credentials in the kubeconfig"
	case apierrors.IsNotFound(err):
		notFound(e, s, id)
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		e.Code = belay.CodeConflict
	case unfit(s):
		e.Code, e.Message = belay.CodeInvalid, unfitMessage(e.Message)
	}
	return e
}

// webhookCannotBeCalled recognizes an admission webhook that is broken, as
// opposed to one that says no.
func webhookCannotBeCalled(message string) bool {
	return strings.Contains(message, "failed calling webhook") || strings.Contains(message, "failed to call webhook")
}

func forbiddenHint(message string) string {
	switch {
	case strings.Contains(message, "exceeded quota"):
		return "raise the quota, or ask for less"
	case strings.Contains(message, "cannot "):
		return "grant it to Belay's user in the cluster"
	}
	return ""
}

func notFound(e *belay.Error, s metav1.Status, id belay.ObjectID) {
	d := s.Details
	switch {
	case d != nil && d.Kind == "namespaces" && d.Group == "" && id.GroupKind() != (belay.Kind{Kind: "Namespace"}):
		e.Code, e.Message = belay.CodeNoNamespace, fmt.Sprintf("namespace %q does not exist", d.Name)
		e.Hint = "declare it, or have it created by setting spec.sync.createNamespace"
	case strings.Contains(s.Message, "could not find the requested resource"), s.Message == "404 page not found":
		e.Code, e.Message = belay.CodeUnknownKind, fmt.Sprintf("the cluster does not serve %s", id.GroupKind())
		e.Hint = "check apiVersion and kind, or install the CustomResourceDefinition first"
	default:
		e.Code = belay.CodeNotFound
	}
}

// unfit recognizes what the API server could not even read as an object of the
// kind. It gives no reason then, and claims to be at fault itself (500).
func unfit(s metav1.Status) bool {
	if s.Code == http.StatusBadRequest || s.Code == http.StatusRequestEntityTooLarge || s.Code == http.StatusUnsupportedMediaType {
		return true
	}
	for _, sign := range []string{"failed to create typed patch object", "failed to convert new object", "unable to convert unstructured object",
		"failed to create typed live object", "failed to update object (Create", "field not declared in schema"} {
		if strings.Contains(s.Message, sign) {
			return true
		}
	}
	return false
}

var typedPatch = regexp.MustCompile(`^failed to create typed patch object \([^)]*\): `)

func unfitMessage(m string) string {
	m = typedPatch.ReplaceAllString(m, "")
	if _, rest, ok := strings.Cut(m, "error decoding from json: "); ok {
		return rest
	}
	return m
}

// causes lists the fields that are wrong, each once.
func causes(s metav1.Status) string {
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return shorten(s.Message, longestMessage)
	}
	var out []string
	for _, c := range s.Details.Causes {
		line := shortValue(c.Message)
		if c.Field != "" && c.Field != "<nil>" {
			line = c.Field + ": " + line
		}
		if !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return shorten(strings.Join(out, "; "), longestMessage)
}

// shortValue cuts a long value out of `Invalid value: VALUE: reason`.
func shortValue(m string) string {
	const intro = "Invalid value: "
	rest, ok := strings.CutPrefix(m, intro)
	if !ok || len(rest) < 160 {
		return m
	}
	if i := strings.LastIndex(rest, ": "); i >= 0 {
		return rest[i+2:]
	}
	return m
}

// immutableSigns are how the API server says that a field cannot be changed in
// place, and how custom kinds say it: there the words are those of whoever wrote the
// rule or the webhook.
var immutableSigns = []string{"is immutable", "are immutable", "immutable field", "may not change once set", "cannot change roleRef",
	"updates to statefulset spec for fields other than", "updates to parameters are forbidden", "updates to provisioner are forbidden",
	"pod updates may not change fields other than", "may not be changed", "must not be changed", "cannot be changed", "may not be modified", "cannot be modified"}

func immutable(s metav1.Status) bool {
	says := func(m string) bool {
		m = strings.ToLower(m)
		return slices.ContainsFunc(immutableSigns, func(sign string) bool { return strings.Contains(m, strings.ToLower(sign)) })
	}
	if s.Details == nil || len(s.Details.Causes) == 0 {
		return says(s.Message)
	}
	for _, c := range s.Details.Causes {
		if says(c.Message) {
			return true
		}
	}
	return false
}

func shorten(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + " …"
}
