package git

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"syscall"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// cause is what git, curl or ssh say, and what that means to a person.
type cause struct {
	pattern *regexp.Regexp
	code    belay.Code
	message string
	// hint for when there are credentials of our own; bare for when there are none.
	hint, bare string
}

// pathOfRemote stands in a hint for the path of the repository.
const pathOfRemote = "PATH"

func words(p string) *regexp.Regexp { return regexp.MustCompile("(?i)" + p) }

const (
	declareAuth = "declare a Repository with auth for this URL"
	checkAuth   = "check the auth of its Repository"
	unreached   = "check that the server runs and can be reached from here; belay serve looks again by itself"
)

// causes in the order in which they are looked for: the more particular first.
var causes = []cause{
	{words(`REMOTE HOST IDENTIFICATION HAS CHANGED`), belay.CodeForbidden, "the server shows another host key than the known one",
		"find out why before you trust it; then replace the key in knownHosts", "find out why before you trust it; then replace the key in known_hosts"},
	{words(`Host key verification failed|No \S+ host key is known`), belay.CodeForbidden, "the host key of the server is not known",
		"put the output of ssh-keyscan, once verified, into knownHosts of its Repository", "declare a Repository with auth.knownHosts, or add the key to the known_hosts of the user that runs belay"},
	{words(`detected dubious ownership`), belay.CodeForbidden, "it belongs to another user of this machine",
		"run belay as its owner, or allow it and start belay again: git config --global --add safe.directory " + pathOfRemote, ""},
	{words(`Authentication failed|could not read (Username|Password)|terminal prompts disabled|returned error: 401|HTTP Basic: Access denied`), belay.CodeForbidden,
		"the server refuses the user name or password", checkAuth + ": user name, password or token, and whether it has expired", declareAuth},
	{words(`Permission denied \(|Too many authentication failures|no matching host key|sign_and_send_pubkey|Permission to \S+ denied`), belay.CodeForbidden,
		"the server refuses the SSH key", checkAuth + ": the key, and whether it may read this repository", declareAuth},
	{words(`returned error: 403`), belay.CodeForbidden, "the server refuses access", checkAuth + ": whether it may read this repository", declareAuth},
	{words(`could not resolve host|name or service not known|temporary failure in name resolution|nodename nor servname`), belay.CodeUnavailable,
		"the name of the server cannot be resolved", "check the URL for a typing error, and DNS", ""},
	{words(`SSL certificate problem|certificate verif|unable to get local issuer|self.signed certificate|SSL: no alternative certificate|certificate subject name`), belay.CodeForbidden,
		"the certificate of the server is not trusted", "give the authority's certificate as auth.ca of a Repository for this URL", ""},
	{words(`gnutls_handshake|SSL_ERROR|SSL_connect|TLS connect|wrong version number|TLS connection|An unexpected TLS packet`), belay.CodeUnavailable,
		"no TLS connection to the server", "check that the port speaks HTTPS", ""},
	{words(`repository '.*' not found|repository not found|does not appear to be a git repository|returned error: 404|returned error: 410|` +
		`no such file or directory|project you were looking for could not be found|not a git repository|access denied or repository not exported|does not exist`), belay.CodeNotFound,
		"there is no such repository", "check the URL, and whether the credentials may see it: many servers say so when they may not", "check the URL; a private repository needs a Repository with auth"},
	{words(`transport '.*' not allowed|unable to find remote helper|is not allowed`), belay.CodeInvalid, "the transport is not allowed", urlForms, ""},
	{words(`connection refused|failed to connect|could not connect|no route to host|network is unreachable`), belay.CodeUnavailable, "no connection to the server", unreached, ""},
	{words(`timed out|operation too slow|timeout`), belay.CodeUnavailable, "the server does not answer", unreached, ""},
	{words(`returned error: 429`), belay.CodeUnavailable, "the server asks for fewer requests", "poll less often: give its Repository a longer interval", ""},
	{words(`returned error: 5\d\d`), belay.CodeUnavailable, "the server has a problem", unreached, ""},
	{words(`No space left on device|Disk quota exceeded`), belay.CodeUnavailable, "the disk is full", "make room in the data directory", ""},
	{words(`mismatched algorithms|unsupported object format|unknown object format`), belay.CodeInvalid, "it uses SHA-256 object ids, which are not supported", "", ""},
	{words(`not our ref|couldn't find remote ref|did not contain|unadvertised object`), belay.CodeNotFound, "the server does not give this commit away", "name a branch or tag that has it", ""},
	{words(`connection reset|early EOF|unexpected disconnect|RPC failed|hung up unexpectedly|Empty reply|connection closed|broken pipe|unexpected eof`), belay.CodeUnavailable,
		"the connection was cut", unreached, ""},
}

// explain turns an error of a command into one for people: which repository,
// what is wrong, what to do. The command's own words stay in the chain.
func (m *Mirror) explain(err error, given bool) error {
	if e, ok := errors.AsType[*belay.Error](err); ok {
		return e
	}
	e := &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: m.display}, Err: err}
	x, isExit := errors.AsType[*xec.ExitError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		e.Message, e.Hint = "the server does not answer in time", unreached
		if p := progressOf(x); p != "" {
			e.Message += ": " + p
		}
	case errors.Is(err, context.Canceled):
		e.Message = "interrupted"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Message, e.Hint = "the disk is full", "make room in the data directory"
	case isExit:
		m.fromStderr(e, x, given)
	default:
		e.Message = err.Error()
	}
	e.Message = "repository " + m.display + ": " + e.Message
	return e
}

func (m *Mirror) fromStderr(e *belay.Error, x *xec.ExitError, given bool) {
	for _, c := range causes {
		if !c.pattern.MatchString(x.Stderr) {
			continue
		}
		e.Code, e.Message, e.Hint = c.code, c.message, c.hint
		if !given && c.bare != "" {
			e.Hint = c.bare
		}
		if path, ok := strings.CutPrefix(Key(m.url), "file://"); ok {
			e.Hint = strings.ReplaceAll(e.Hint, pathOfRemote, path)
			if e.Code == belay.CodeNotFound {
				e.Hint = "check the path"
			}
		}
		return
	}
	e.Message, e.Hint = x.Name+": "+telling(x), unreached
}

// telling is the line of standard error that says most.
func telling(x *xec.ExitError) string {
	for _, prefix := range []string{"fatal: ", "ERROR: ", "error: ", "remote: "} {
		for line := range strings.Lines(x.Stderr) {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok && rest != "" {
				return rest
			}
		}
	}
	text := strings.TrimPrefix(x.Error(), x.Name+": ")
	return text
}

func progressOf(x *xec.ExitError) string {
	if x == nil || strings.TrimSpace(x.Stderr) == "" {
		return ""
	}
	return telling(x)
}
