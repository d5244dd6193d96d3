// Package registry asks Helm repositories and OCI registries what versions there
// are, which digest each has now, and for the bytes behind a digest. What it
// returns for a digest was checked against it.
//
// It must not know what is followed or when, what the bytes mean, or where they
// are kept: that is source's. It writes nothing to disk.
package registry

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/belaydev/belay"
)

// Limits of what a server may send.
const (
	MaxIndex    = 96 << 20
	MaxManifest = 4 << 20
	MaxContent  = 64 << 20
)

const (
	listTimeout  = 45 * time.Second
	fetchTimeout = 5 * time.Minute
)

// Auth are the credentials of a server. The zero value is none.
type Auth struct {
	// Username for basic authentication; without one the password is a bearer token.
	Username string
	Password []byte
	// CA are PEM certificates that HTTPS trusts beside the system's.
	CA []byte
}

// Options say how a server is reached.
type Options struct {
	// Auth is asked before each conversation; may be nil.
	Auth func(context.Context) (Auth, error)
	// PlainHTTP speaks HTTP without TLS with an OCI registry.
	PlainHTTP bool
	// Guard refuses addresses, after names were resolved; may be nil.
	Guard func(netip.Addr) error
	// UserAgent names the program to the server.
	UserAgent string
}

// conversation is a client for a few requests with one set of credentials.
type conversation struct {
	client *http.Client
	auth   Auth
	agent  string
}

func (o Options) converse(ctx context.Context, repo string) (*conversation, error) {
	c := &conversation{agent: o.UserAgent}
	if o.Auth != nil {
		var err error
		if c.auth, err = o.Auth(ctx); err != nil {
			return nil, noCredentials(repo, err)
		}
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxResponseHeaderBytes = 1 << 20
	t.ResponseHeaderTimeout = listTimeout
	t.DisableKeepAlives = true // a look is a few requests in half a minute
	if len(c.auth.CA) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(c.auth.CA) {
			return nil, problem(repo, belay.CodeInvalid, "its CA holds no PEM certificate", "mend spec.auth.ca of the Repository", nil)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	if o.Guard != nil {
		guard(t, o.Guard)
	}
	c.client = &http.Client{Transport: t}
	return c, nil
}

// guard has every address asked for before it is connected to, redirects
// included. A proxy of the environment is the administrator's own choice.
func guard(t *http.Transport, refuse func(netip.Addr) error) {
	var mu sync.Mutex
	proxies := map[string]bool{}
	t.Proxy = func(r *http.Request) (*url.URL, error) {
		u, err := http.ProxyFromEnvironment(r)
		if u != nil {
			mu.Lock()
			defer mu.Unlock()
			proxies[canonical(u)] = true
		}
		return u, err
	}
	checked := &net.Dialer{Timeout: 30 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return refuse(at.Addr().Unmap())
	}}
	plain := &net.Dialer{Timeout: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		proxy := proxies[address]
		mu.Unlock()
		if proxy {
			return plain.DialContext(ctx, network, address)
		}
		return checked.DialContext(ctx, network, address)
	}
}

func canonical(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443", "socks5": "1080"}[u.Scheme])
}

// problem is an error of a repository. The cause is kept for errors.Is and not shown.
func problem(repo string, code belay.Code, message, hint string, cause error) *belay.Error {
	return &belay.Error{Code: code, Message: "repository " + repo + ": " + message, Hint: hint, Origin: belay.Origin{Repo: repo}, Err: cause}
}

const checkAuth = "check spec.auth of the Repository"

func noCredentials(repo string, err error) error {
	e := problem(repo, belay.CodeForbidden, "", checkAuth, err)
	why := err.Error()
	if cause, ok := errors.AsType[*belay.Error](err); ok {
		e.Code, why = cause.Code, cause.Message
		if cause.Hint != "" {
			e.Hint = cause.Hint
		}
	}
	e.Message += "credentials: " + why
	return e
}

// unreachable words why a server did not answer. URLs are left out: those a
// server redirects to hold signatures.
func unreachable(repo string, err error) error {
	if be, ok := errors.AsType[*belay.Error](err); ok {
		if be.Origin.Repo != "" {
			return be
		}
		return problem(repo, be.Code, be.Message, be.Hint, err)
	}
	for {
		ue, ok := errors.AsType[*url.Error](err)
		if !ok {
			break
		}
		err = ue.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return problem(repo, belay.CodeUnavailable, "did not answer in time", "", err)
	case isCertificate(err):
		return problem(repo, belay.CodeUnavailable, "its certificate is not trusted: "+err.Error(), "set spec.auth.ca of the Repository", err)
	case strings.Contains(err.Error(), "gave HTTP response to HTTPS client"):
		return problem(repo, belay.CodeUnavailable, "speaks HTTP without TLS", "set spec.plainHTTP of the Repository, or give the registry a certificate", err)
	}
	return problem(repo, belay.CodeUnavailable, "cannot be reached: "+query.ReplaceAllString(err.Error(), ""), "", err)
}

// query is the part of a URL that a signature stands in.
var query = regexp.MustCompile(`\?[^\s"]*`)

func isCertificate(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// status words an HTTP status that is no success. what is what was asked for.
func status(repo string, code int, what string, given bool) error {
	switch code {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint := checkAuth
		if !given {
			hint = "declare a Repository with this URL and its credentials"
		}
		return problem(repo, belay.CodeForbidden, fmt.Sprintf("refuses %s: HTTP status %d", what, code), hint, nil)
	case http.StatusNotFound, http.StatusGone:
		return problem(repo, belay.CodeNotFound, "has no "+what, "", nil)
	}
	return problem(repo, belay.CodeUnavailable, fmt.Sprintf("answers HTTP status %d for %s", code, what), "", nil)
}

// read reads at most limit bytes of what.
func read(repo, what string, r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, unreachable(repo, err)
	}
	if int64(len(b)) > limit {
		return nil, TooBig(repo, what, limit)
	}
	return b, nil
}

// TooBig is the error of content that is over a limit.
func TooBig(repo, what string, limit int64) error {
	return problem(repo, belay.CodeInvalid, fmt.Sprintf("%s is bigger than %d MiB", what, limit>>20), "keep charts and artifacts small", nil)
}

// Digest of content, as registries write it.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// verify holds content against the digest that was promised for it.
func verify(repo, what, digest string, b []byte) error {
	if got := Digest(b); got != digest {
		return problem(repo, belay.CodeInvalid, fmt.Sprintf("%s has the digest %.19s…, and %.19s… was promised", what, got, digest),
			"it was changed on the way or on the server: publish it again", nil)
	}
	return nil
}

// IsDigest says whether a ref is a digest.
func IsDigest(s string) bool {
	h, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(h) == 64 && strings.Trim(h, "0123456789abcdef") == ""
}
