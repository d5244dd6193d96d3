package git

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// inherited are the variables that git and its helpers get from this process:
// where programs and settings are, and how to reach the network.
var inherited = []string{
	"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR",
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK", "KRB5CCNAME", "KRB5_CONFIG",
}

// transports are the only ones allowed, redirects and helpers included.
const transports = "file:git:http:https:ssh"

// settings hold for every git.
var settings = []setting{
	{"core.hooksPath", os.DevNull},
	{"core.fsmonitor", "false"},
	{"core.bigFileThreshold", "33m"}, // larger blobs are streamed, so that one cannot fill the memory
	{"protocol.version", "2"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"fetch.unpackLimit", "1"}, // a pack appears as a whole or not at all
	{"fetch.recurseSubmodules", "false"},
	{"fetch.writeCommitGraph", "false"},
	{"transfer.bundleURI", "false"},
	{"log.showSignature", "false"},
	{"http.lowSpeedLimit", "100"},
	{"http.lowSpeedTime", "30"},
}

// setting is one line of git's configuration.
type setting struct{ key, value string }

// command is a git command in an environment of its own.
func command(env []string, args ...string) xec.Command {
	return configured(env, settings, args...)
}

func configured(env []string, config []setting, args ...string) xec.Command {
	e := []string{
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=" + os.DevNull,
		"GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_ASKPASS=",
		"SSH_ASKPASS=",
		"SSH_ASKPASS_REQUIRE=never",
		"GIT_OPTIONAL_LOCKS=0",
		"GIT_LITERAL_PATHSPECS=1",
		"GIT_NO_REPLACE_OBJECTS=1",
		"GIT_NO_LAZY_FETCH=1",
		"GIT_ALLOW_PROTOCOL=" + transports,
		"LC_ALL=C",
		"GIT_CONFIG_COUNT=" + strconv.Itoa(len(config)),
	}
	for i, s := range config {
		e = append(e, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s.key), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s.value))
	}
	return xec.Command{Path: "git", Args: args, Env: append(e, env...), Inherit: inherited, Name: "git " + args[0]}
}

// userSettings are what the machine's and the user's own configuration say about
// reaching servers. Everything else in it is left out: aliases, filters, hooks.
func userSettings() []setting {
	userConfig.once.Do(func() {
		for _, scope := range []string{"--system", "--global"} {
			c := xec.Command{Path: "git", Inherit: append([]string{"GIT_CONFIG_SYSTEM", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM"}, inherited...),
				Env: []string{"LC_ALL=C"}, Dir: os.TempDir(),
				Args: []string{"config", scope, "--includes", "-z", "--get-regexp", `^(credential|http|safe)\.`}}
			out, err := c.Output(context.Background(), 1<<20)
			if err != nil {
				continue // no such file, or nothing in it
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
				key, value, hasValue := strings.Cut(line, "\n")
				if !hasValue {
					value = "true"
				}
				if key != "" {
					userConfig.settings = append(userConfig.settings, setting{key, value})
				}
			}
		}
	})
	return userConfig.settings
}

var userConfig struct {
	once     sync.Once
	settings []setting
}

// remote is what one command that talks to the remote needs.
type remote struct {
	env     []string
	config  []setting
	secrets []string
	closers []func()
	// given is true when there are credentials of our own, for hints.
	given bool
}

func (r *remote) close() {
	for _, f := range slices.Backward(r.closers) {
		f()
	}
}

// credentials readies the transport of m. close must be called when the command
// has ended.
func (m *Mirror) credentials(ctx context.Context) (*remote, error) {
	var auth Auth
	if m.o.Auth != nil {
		var err error
		if auth, err = m.o.Auth(ctx); err != nil {
			return nil, m.noCredentials(err)
		}
	}
	l, err := parseURL(m.url)
	if err != nil {
		return nil, err
	}
	r := &remote{config: append([]setting(nil), settings...)}
	switch l.scheme {
	case "http", "https":
		err = r.http(l, auth)
	case "ssh":
		err = r.ssh(l, auth)
	case "file":
		err = r.file()
	}
	if err != nil {
		r.close()
		return nil, m.noCredentials(err)
	}
	return r, nil
}

// noCredentials is the error of a repository whose credentials cannot be had.
func (m *Mirror) noCredentials(err error) error {
	e := &belay.Error{Code: belay.CodeForbidden, Origin: belay.Origin{Repo: m.display}, Err: err, Hint: checkAuth}
	why := err.Error()
	if cause, ok := errors.AsType[*belay.Error](err); ok {
		e.Code, why = cause.Code, cause.Message
		if cause.Hint != "" {
			e.Hint = cause.Hint
		}
	}
	e.Message = "repository " + m.display + ": credentials: " + why
	if e.Code == belay.CodeDenied { // it is not about them
		e.Message = "repository " + m.display + ": " + why
	}
	return e
}

// tempDir is private, outside the data directory, and gone after the command.
// Nothing secret is written there.
func (r *remote) tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "belay-git-") // mode 0700
	if err != nil {
		return "", err
	}
	r.closers = append(r.closers, func() { os.RemoveAll(dir) })
	return dir, nil
}

// helper answers git's question for a user and password from its environment.
// As a credential helper it is asked only by the host it is set for, and only
// when that host wants to know: not after a redirect to another one.
const helper = `!f() { test "$1" = get || return 0; printf 'username=%s\npassword=%s\n' "$BELAY_GIT_USERNAME" "$BELAY_GIT_PASSWORD"; }; f`

func (r *remote) http(l location, auth Auth) error {
	password := strings.TrimRight(string(auth.Password), "\r\n")
	r.given = password != ""
	for _, s := range userSettings() {
		switch {
		case strings.HasPrefix(s.key, "http."):
			if strings.HasSuffix(s.key, "extraheader") {
				_, value, _ := strings.Cut(s.value, ":")
				r.secrets = append(r.secrets, value)
			}
			r.config = append(r.config, s)
		case strings.HasPrefix(s.key, "credential.") && password == "":
			r.config = append(r.config, s)
		}
	}
	if auth.Address.IsValid() {
		port := l.port
		if port == "" {
			port = defaultPort[l.scheme]
		}
		at := auth.Address.String()
		if auth.Address.Is6() {
			at = "[" + at + "]"
		}
		r.config = append(r.config, setting{"http.followRedirects", "false"}, setting{"http.curloptResolve", l.host + ":" + port + ":" + at})
	}
	origin := l.scheme + "://" + l.hostPort()
	username := auth.Username
	if username == "" {
		username = l.user
	}
	switch {
	case password != "":
		if strings.ContainsAny(username+password, "\n\x00") {
			return fmt.Errorf("the user name or password has several lines; it must have one")
		}
		if username == "" {
			username = "git"
		}
		r.config = append(r.config, setting{"credential.helper", ""}, setting{"credential." + origin + ".helper", helper})
		r.env = append(r.env, "BELAY_GIT_USERNAME="+username, "BELAY_GIT_PASSWORD="+password)
		r.secrets = append(r.secrets, password)
	case username != "":
		r.config = append(r.config, setting{"credential." + origin + ".username", username})
	}
	if len(auth.CA) > 0 {
		dir, err := r.tempDir()
		if err != nil {
			return err
		}
		bundle := filepath.Join(dir, "ca.pem")
		if err := os.WriteFile(bundle, append(append([]byte(nil), auth.CA...), systemCA()...), 0o600); err != nil {
			return err
		}
		r.config = append(r.config, setting{"http.sslCAInfo", bundle})
	}
	return nil
}

// systemCA is the system's own bundle, because git's setting replaces it.
func systemCA() []byte {
	for _, f := range []string{
		os.Getenv("SSL_CERT_FILE"),
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Alpine
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora
		"/etc/ssl/ca-bundle.pem",             // openSUSE
		"/etc/ssl/cert.pem",                  // macOS, BSD
	} {
		if f == "" {
			continue
		}
		if b, err := os.ReadFile(f); err == nil {
			return append([]byte("\n"), b...)
		}
	}
	return nil
}

// file lets the user's own safe.directory hold for a repository on this machine.
// Git passes configuration in the environment on to no other repository, so it
// has to be in a file.
func (r *remote) file() error {
	var b strings.Builder
	for _, s := range userSettings() {
		if s.key == "safe.directory" {
			fmt.Fprintf(&b, "[safe]\n\tdirectory = %s\n", strconv.Quote(s.value))
		}
	}
	if b.Len() == 0 {
		return nil
	}
	dir, err := r.tempDir()
	if err != nil {
		return err
	}
	name := filepath.Join(dir, "config")
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		return err
	}
	r.env = append(r.env, "GIT_CONFIG_GLOBAL="+name)
	return nil
}

// command is a git command that talks to the remote.
func (r *remote) command(m *Mirror, args ...string) xec.Command {
	c := configured(append([]string{"GIT_DIR=" + m.dir}, r.env...), r.config, args...)
	c.Dir, c.Secrets = m.dir, r.secrets
	return c
}
