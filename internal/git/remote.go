package git

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/belaydev/belay"
)

// Remote is a repository elsewhere that a local bare one is pushed to and fetched
// from. The local one is somebody else's: only refs that are named are touched.
type Remote struct {
	m *Mirror
}

// NewRemote makes a Remote of the bare repository at dir. It does not talk to it.
func NewRemote(dir, url string, auth func(context.Context) (Auth, error)) (*Remote, error) {
	l, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	o := Options{Auth: auth, ListTimeout: DefaultListTimeout, FetchTimeout: DefaultFetchTimeout}
	return &Remote{&Mirror{dir: dir, url: l.fetchURL(), display: l.display(), o: o, logger: slog.New(slog.DiscardHandler)}}, nil
}

// String is the URL, without credentials.
func (r *Remote) String() string { return r.m.display }

// Fetch fetches refspecs. Refs on this side that one of them covers and that the
// remote has no more are removed.
func (r *Remote) Fetch(ctx context.Context, refspecs ...string) error {
	ctx, cancel := withTimeout(ctx, r.m.o.FetchTimeout)
	defer cancel()
	return advised(r.m.fetchInto(ctx, r.m.dir, append(refspecs, refspecs[0])...)) // twice: it prunes
}

// Push pushes refspecs, and never by force: [ErrMoved] means that a branch there
// has commits that are not here. Any other error is a [belay.Error].
func (r *Remote) Push(ctx context.Context, refspecs ...string) error {
	ctx, cancel := withTimeout(ctx, r.m.o.FetchTimeout)
	defer cancel()
	c, err := r.m.credentials(ctx)
	if err != nil {
		return r.m.explain(err, false)
	}
	defer c.close()
	cmd := c.command(r.m, append([]string{"push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules", "--no-signed", "--", r.m.url}, refspecs...)...)
	// Who is told to end lets go of what it locked on a remote of this machine.
	cmd.Grace = time.Second
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(ctx); err != nil {
		return advised(r.m.notPushed(err, out.String(), refspecs[0], c.given))
	}
	return nil
}

// advised gives errors the hints of a remote that no definition declares.
func advised(err error) error {
	e, ok := errors.AsType[*belay.Error](err)
	if !ok {
		return err
	}
	c := *e
	switch c.Code {
	case belay.CodeDenied:
		c.Hint = "let the user that pushes make and move branches there, and protect nothing but against force"
	case belay.CodeForbidden, belay.CodeNotFound:
		c.Hint = "check the URL, and what git finds for it as the user that runs belay: credential helper, SSH key, known_hosts"
	}
	return &c
}
