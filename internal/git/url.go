package git

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// location is a repository's URL, taken apart.
type location struct {
	raw    string
	scheme string // file, git, http, https, ssh
	scp    bool   // written as user@host:path
	user   string
	host   string // lower case
	port   string // "" where it is the scheme's own
	path   string // clean, with a leading slash
}

var (
	scpForm     = regexp.MustCompile(`^(?:([^@/:\s]+)@)?(\[[0-9A-Fa-f:.]+\]|[^@/:\s\[\]]+):([^\s].*)$`)
	defaultPort = map[string]string{"http": "80", "https": "443", "ssh": "22", "git": "9418"}
)

func invalidURL(raw, why, hint string) error {
	return &belay.Error{Code: belay.CodeInvalid, Hint: hint,
		Message: "repository " + (*xec.Scrubber)(nil).String(raw) + ": " + why}
}

const urlForms = "use https://host/path, ssh://git@host/path, git@host:path, file:///path or an absolute path"

func parseURL(raw string) (location, error) {
	if strings.HasPrefix(raw, "-") || strings.ContainsAny(raw, "\n\r\x00") || strings.TrimSpace(raw) != raw || raw == "" {
		return location{}, invalidURL(raw, "not a URL", urlForms)
	}
	if strings.HasPrefix(raw, "/") {
		return location{raw: raw, scheme: "file", path: path.Clean(raw)}, nil
	}
	if !strings.Contains(raw, "://") {
		m := scpForm.FindStringSubmatch(raw)
		// "ext::sh -c …" and its like name a helper to run, not a host.
		if m == nil || strings.HasPrefix(m[3], ":") || strings.HasPrefix(m[2], "-") || strings.HasPrefix(m[1], "-") {
			return location{}, invalidURL(raw, "not a URL", urlForms)
		}
		host := strings.Trim(strings.ToLower(m[2]), "[]")
		return location{raw: raw, scheme: "ssh", scp: true, user: m[1], host: host, path: path.Clean("/" + m[3])}, nil
	}
	u, err := url.Parse(raw)
	if err != nil { // the cause quotes the URL, and nobody knows where a password in it ends
		scheme, rest, _ := strings.Cut(raw, "://")
		return location{}, invalidURL(scheme+"://"+rest[strings.LastIndexByte(rest, '@')+1:], "not a URL", urlForms)
	}
	l := location{raw: raw, scheme: strings.ToLower(u.Scheme), user: u.User.Username(),
		host: strings.ToLower(u.Hostname()), port: u.Port(), path: path.Clean("/" + u.Path)}
	switch l.scheme {
	case "git+ssh", "ssh+git":
		l.scheme = "ssh"
	case "file", "git", "http", "https", "ssh":
	default:
		return location{}, invalidURL(raw, "the scheme "+l.scheme+" is not supported", urlForms)
	}
	if _, has := u.User.Password(); has {
		return location{}, invalidURL(raw, "the URL holds a password", "remove it and declare a Repository whose auth refers to it")
	}
	if l.port == defaultPort[l.scheme] {
		l.port = ""
	}
	if l.scheme != "file" && (l.host == "" || strings.HasPrefix(l.host, "-") || strings.HasPrefix(l.user, "-")) {
		return location{}, invalidURL(raw, "no host", urlForms)
	}
	return l, nil
}

func (l location) hostPort() string {
	h := l.host
	if strings.Contains(h, ":") {
		h = "[" + h + "]"
	}
	if l.port != "" {
		h += ":" + l.port
	}
	return h
}

// fetchURL is what git gets. For HTTP it has no user: a token is often given as
// one, and credentials go another way.
func (l location) fetchURL() string {
	if l.user == "" || l.scheme == "ssh" || l.scheme == "file" {
		return l.raw
	}
	scheme, rest, _ := strings.Cut(l.raw, "://")
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	return scheme + "://" + rest[strings.LastIndexByte(authority, '@')+1:]
}

func (l location) display() string { return l.fetchURL() }

// trimmed is the path without the suffix that servers do without.
func (l location) trimmed() string { return strings.TrimSuffix(l.path, ".git") }

// Key is the identity of a repository: equal for spellings of its URL that
// differ in the case of scheme and host, a trailing slash, a default port, the
// user of HTTP, .git at the end (not for files, where it may be another
// directory), or ssh:// against host:path.
func Key(raw string) string {
	l, err := parseURL(raw)
	if err != nil {
		return raw
	}
	switch l.scheme {
	case "file":
		return "file://" + l.path
	case "ssh":
		user := l.user
		if user == "" {
			user = "git"
		}
		return "ssh://" + user + "@" + l.hostPort() + l.trimmed()
	}
	return l.scheme + "://" + l.hostPort() + l.trimmed()
}

// Alike says whether two URLs may well mean one repository: as [Key], and
// whatever the transport, user and port. For things that cost little when wrong.
func Alike(a, b string) bool {
	la, errA := parseURL(a)
	lb, errB := parseURL(b)
	if errA != nil || errB != nil {
		return a == b
	}
	return la.host == lb.host && la.trimmed() == lb.trimmed()
}

// CleanURL is the URL without credentials, or the error that says why it is none.
func CleanURL(raw string) (string, error) {
	l, err := parseURL(raw)
	if err != nil {
		return "", err
	}
	return l.display(), nil
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// DirName is a directory name for the mirror of a repository: readable, and
// different for different keys.
func DirName(raw string) string {
	key := Key(raw)
	sum := sha256.Sum256([]byte(key))
	_, name, ok := strings.Cut(key, "://")
	if !ok {
		name = "repository"
	}
	if i := strings.LastIndexByte(name, '@'); i >= 0 {
		name = name[i+1:]
	}
	name = strings.Trim(unsafeName.ReplaceAllString(strings.TrimSuffix(name, ".git"), "-"), "-.")
	if len(name) > 60 {
		name = name[len(name)-60:]
	}
	return name + "-" + hex.EncodeToString(sum[:6]) + ".git"
}

// Host is the host that a URL leads to, and the scheme; empty for a repository on
// this machine.
func Host(raw string) (scheme, host string, err error) {
	l, err := parseURL(raw)
	return l.scheme, l.host, err
}
