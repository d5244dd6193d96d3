// Package git keeps bare mirrors of repositories and reads objects, refs and
// history from them. It is the only package that runs git: the command line
// brings every transport and credential helper, and one long-lived
// `git cat-file --batch-command` reads objects at the price of a pipe.
//
// Every git runs in an environment of its own: no hooks, no prompts, no settings
// of the machine but those that say how to reach a server, and no transport but
// file, git, http, https and ssh. Credentials come as values, live for one
// command, and stand on no command line, in no mirror and in no error.
//
// It must not know what the repositories are for: no definitions, no refs that
// are followed, no schedule. That is source's.
package git

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// Defaults of [Options].
const (
	DefaultMaxBlob       = 32 << 20
	DefaultListTimeout   = 30 * time.Second
	DefaultFetchTimeout  = 15 * time.Minute
	defaultReaders       = 2
	defaultReaderIdle    = 30 * time.Second
	maxOutput            = 256 << 20 // refs and logs: more is not a repository we can serve
	localCommandsTimeout = time.Minute
)

// Auth are the credentials of a repository. The zero value is none: then the
// credential helpers, SSH agent and SSH configuration of the user this process
// runs as are used.
type Auth struct {
	// Username for HTTP; "git" by default.
	Username string
	// Password or token for HTTP.
	Password []byte
	// SSHKey is a private key without a passphrase, in PEM.
	SSHKey []byte
	// KnownHosts are known_hosts lines; the system's files by default.
	KnownHosts []byte
	// CA are PEM certificates that HTTPS trusts beside the system's.
	CA []byte
	// Address is where the host is reached, whatever its name means by then, and no
	// redirect is followed; the zero value leaves both to git.
	Address netip.Addr
}

// Options of Open. The zero value works.
type Options struct {
	// Auth is asked before each command that talks to the remote.
	Auth func(context.Context) (Auth, error)
	// Cache of objects, to be shared between mirrors; one of 64 MiB by default.
	Cache *Cache
	// Logger hears of what was healed. Discarded by default.
	Logger *slog.Logger
	// MaxBlob is the size in bytes from which a file is refused; 32 MiB by default.
	MaxBlob int64
	// ListTimeout and FetchTimeout bound a conversation with the remote; 30 seconds
	// and 15 minutes by default. Within a fetch, 30 seconds of silence are enough
	// to give up.
	ListTimeout, FetchTimeout time.Duration
}

// Mirror is a bare mirror of one repository: all its branches and tags. Its
// methods may be called by several goroutines. Fetch and Tidy of one mirror
// exclude each other, across processes too; nothing waits for them to read.
type Mirror struct {
	dir     string
	url     string // as fetched from, without credentials
	display string
	o       Options
	logger  *slog.Logger
	ctx     context.Context // of the readers
	cancel  context.CancelFunc

	write      chan struct{} // one token: who has it may change the mirror
	lockedFile *os.File      // of the holder of write
	swap       sync.RWMutex  // held for writing while the directory is exchanged
	broken     atomic.Bool

	readers readers
}

// Open opens the mirror at dir, and makes an empty one if there is none. It does
// not talk to the remote. A damaged mirror opens as well; Fetch heals it.
func Open(ctx context.Context, dir, url string, o Options) (*Mirror, error) {
	l, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	if o.Cache == nil {
		o.Cache = NewCache(64 << 20)
	}
	if o.MaxBlob <= 0 {
		o.MaxBlob = DefaultMaxBlob
	}
	if o.ListTimeout <= 0 {
		o.ListTimeout = DefaultListTimeout
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = DefaultFetchTimeout
	}
	m := &Mirror{dir: dir, url: l.fetchURL(), display: l.display(), o: o, logger: o.Logger, write: make(chan struct{}, 1)}
	if m.logger == nil {
		m.logger = slog.New(slog.DiscardHandler)
	}
	if !looksLikeMirror(dir) {
		if err := m.prepare(ctx); err != nil {
			return nil, fmt.Errorf("open the mirror of %s: %w", m.display, err)
		}
	}
	m.ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.readers.slots = make(chan struct{}, defaultReaders)
	return m, nil
}

// prepare makes the mirror where there is none, or none that can be used.
func (m *Mirror) prepare(ctx context.Context) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	if err := m.recoverSwap(); err != nil {
		return err
	}
	if looksLikeMirror(m.dir) { // another process was faster
		return nil
	}
	if _, err := os.Stat(m.dir); err == nil {
		m.logger.Warn("mirror damaged, made anew", "repo", m.display)
	}
	return m.initAt(ctx, m.dir)
}

// Close ends the readers. The mirror stays on disk.
func (m *Mirror) Close() {
	m.readers.close()
	m.cancel()
}

// URL of the repository, without credentials.
func (m *Mirror) URL() string { return m.display }

// Dir of the mirror.
func (m *Mirror) Dir() string { return m.dir }

// Broken is true after an object was found to be missing or damaged. The next
// Fetch makes the mirror anew.
func (m *Mirror) Broken() bool { return m.broken.Load() }

// looksLikeMirror is the cheapest sign that there is a repository.
func looksLikeMirror(dir string) bool {
	head, err := os.ReadFile(filepath.Join(dir, "HEAD"))
	if err != nil || len(head) == 0 {
		return false
	}
	config, err := os.Stat(filepath.Join(dir, "config"))
	if err != nil || config.Size() == 0 {
		return false
	}
	for _, d := range []string{"objects", "refs"} {
		if st, err := os.Stat(filepath.Join(dir, d)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// initAt makes an empty bare repository in place of whatever is at dir.
func (m *Mirror) initAt(ctx context.Context, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	// No template: no hooks and no description of this machine.
	c := command(nil, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", dir)
	c.Dir = filepath.Dir(dir)
	return c.Run(ctx)
}

// local is a git command that stays on this machine.
func (m *Mirror) local(args ...string) xec.Command {
	c := command([]string{"GIT_DIR=" + m.dir}, args...)
	c.Dir = m.dir
	return c
}

// output runs a local command.
func (m *Mirror) output(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, localCommandsTimeout,
		fmt.Errorf("no answer within %s: %w", localCommandsTimeout, context.DeadlineExceeded))
	defer cancel()
	m.swap.RLock()
	defer m.swap.RUnlock()
	return m.local(args...).Output(ctx, maxOutput)
}
