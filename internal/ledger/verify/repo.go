package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// repo is a repository that is read: its objects, and never its settings.
type repo struct {
	gitDir string
	temp   string // to be removed, or ""
	// hidden is told with missing objects: that the clone is shallow or partial.
	hidden string
	env    []string
}

// branch is the branch of a writer.
type branch struct{ writer, ref, head string }

// isURL tells a URL, also of the form host:path, from a folder.
func isURL(s string) bool {
	if strings.Contains(s, "://") {
		return true
	}
	host, _, ok := strings.Cut(s, ":")
	return ok && !strings.ContainsAny(host, `/\`) && len(host) > 1
}

// clean is a URL or folder without credentials.
func clean(s string) string { return (*xec.Scrubber)(nil).String(s) }

// open finds the repository in a folder, or fetches the ledger's branches of a URL.
func open(ctx context.Context, where string, env []string) (*repo, error) {
	if isURL(where) {
		r := &repo{env: env}
		if err := r.fetched(ctx, where, "+"+record.BranchPrefix+"*:"+record.BranchPrefix+"*"); err != nil {
			r.close()
			return nil, err
		}
		return r, nil
	}
	abs, err := filepath.Abs(where)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{abs, filepath.Join(abs, ".git")} {
		if st, err := os.Stat(filepath.Join(dir, "objects")); err == nil && st.IsDir() {
			r := &repo{gitDir: dir, env: env}
			if _, err := os.Stat(filepath.Join(dir, "shallow")); err == nil {
				r.hidden = "the clone is shallow: \"git fetch --unshallow\" completes it"
			}
			return r, nil
		}
	}
	if _, err := os.Stat(abs); err != nil {
		return nil, fmt.Errorf("read the ledger: %w", err)
	}
	return nil, fmt.Errorf("%s is no Git repository: name the folder of the ledger (ledger.git in the data directory), a clone of it, or its URL", where)
}

func (r *repo) close() {
	if r.temp != "" {
		_ = os.RemoveAll(r.temp) // a folder of ours below the system's for such
	}
}

// fetched makes the repository a temporary one with refs of a remote.
func (r *repo) fetched(ctx context.Context, url string, refspecs ...string) error {
	dir, err := os.MkdirTemp("", "belay-verify-")
	if err != nil {
		return err
	}
	r.temp, r.gitDir = dir, dir
	if err := r.command("init", "--quiet", "--bare", "--template=", dir).Run(ctx); err != nil {
		return err
	}
	return r.fetch(ctx, url, refspecs...)
}

func (r *repo) fetch(ctx context.Context, url string, refspecs ...string) error {
	args := append([]string{"fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--", url}, refspecs...)
	c := r.command(args...)
	// To reach a remote, the settings, credential helpers and keys of whoever asks
	// are needed; the repository that is verified is not the one that is fetched into.
	c.Env = append([]string{"GIT_DIR=" + r.gitDir, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C"}, r.env...)
	c.Inherit = append(c.Inherit, "SSH_AUTH_SOCK", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "XDG_CONFIG_HOME", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "USER", "TMPDIR", "SSL_CERT_FILE", "GIT_SSL_CAINFO")
	if err := c.Run(ctx); err != nil {
		return fmt.Errorf("fetch %s: %w", clean(url), err)
	}
	return nil
}

// command is a git that stays within the repository, whatever that says: no
// replaced objects, no grafts, no commit graph, no fetching of what is missing.
func (r *repo) command(args ...string) xec.Command {
	return xec.Command{
		Path: "git", Args: args, Inherit: []string{"PATH", "HOME"}, Dir: r.gitDir,
		Env: []string{
			"GIT_DIR=" + r.gitDir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
			"GIT_NO_REPLACE_OBJECTS=1", "GIT_GRAFT_FILE=" + os.DevNull, "GIT_SHALLOW_FILE=" + os.DevNull, "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none",
			"GIT_OPTIONAL_LOCKS=0",
			"GIT_CONFIG_COUNT=3", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
			"GIT_CONFIG_KEY_1=core.commitGraph", "GIT_CONFIG_VALUE_1=false",
			"GIT_CONFIG_KEY_2=core.deltaBaseCacheLimit", "GIT_CONFIG_VALUE_2=256m",
		},
	}
}

const outputLimit = 1 << 30

// branches lists the writers. In a clone they may stand below refs/remotes.
func (r *repo) branches(ctx context.Context, report *Report) ([]branch, error) {
	var complaints bytes.Buffer
	c := r.command("for-each-ref", "--format=%(refname) %(objectname)", record.BranchPrefix, "refs/remotes/")
	c.Stderr = &complaints
	out, err := c.Output(ctx, outputLimit)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(complaints.String()) {
		if i := strings.Index(line, "refs/heads/ledger/"); i >= 0 {
			ref := strings.Trim(strings.Fields(line[i:])[0], "'\"!,")
			report.add(Finding{Check: CheckObjects, Writer: strings.TrimPrefix(ref, record.BranchPrefix), Message: "the branch cannot be read: " + strings.TrimSpace(line)})
		}
	}
	found := map[string]branch{}
	for line := range strings.Lines(string(out)) {
		ref, id, _ := strings.Cut(strings.TrimSpace(line), " ")
		writer, own := strings.CutPrefix(ref, record.BranchPrefix)
		if !own {
			remote := strings.TrimPrefix(ref, "refs/remotes/")
			var ok bool
			if _, writer, ok = strings.Cut(remote, "/ledger/"); !ok {
				continue
			}
		}
		b := branch{writer: writer, ref: ref, head: id}
		other, twice := found[writer]
		if !twice {
			found[writer] = b
			continue
		}
		// A clone has both when somebody checked one out: what contains the other counts.
		switch {
		case r.contains(ctx, b.head, other.head):
			found[writer] = b
		case !r.contains(ctx, other.head, b.head):
			report.add(Finding{Check: CheckRemote, Writer: writer, Message: fmt.Sprintf("%s and %s have different histories", other.ref, ref), Want: other.head, Got: id})
		}
	}
	list := make([]branch, 0, len(found))
	for _, b := range found {
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b branch) int { return strings.Compare(a.writer, b.writer) })
	return list, nil
}

// contains tells whether a commit is another one or follows it.
func (r *repo) contains(ctx context.Context, commit, ancestor string) bool {
	return commit == ancestor || r.command("merge-base", "--is-ancestor", ancestor, commit).Run(ctx) == nil
}

// chain lists the commits of a branch, oldest first. Where git cannot go on, the
// way is walked here, back to the first commit whose parent cannot be read.
func (r *repo) chain(ctx context.Context, objects *objects, head string) (ids []string, problem *Finding, err error) {
	out, err := r.command("rev-list", "--first-parent", "--reverse", head).Output(ctx, outputLimit)
	if err == nil {
		return strings.Fields(string(out)), nil, nil
	}
	if _, ok := errors.AsType[*xec.ExitError](err); !ok || ctx.Err() != nil {
		return nil, nil, err
	}
	for id, after := head, ""; id != ""; {
		var parent string
		var broken error
		err := objects.get([]string{id}, func(_ int, o object) {
			broken = o.err
			if o.err == nil {
				if c := parseCommit(id, o.data); len(c.parents) > 0 {
					parent = c.parents[0]
				}
			}
		})
		if err != nil {
			return nil, nil, err
		}
		if broken != nil {
			problem = &Finding{Check: CheckObjects, Message: "the commit before this one cannot be read: " + broken.Error(), Want: "commit " + id}
			if after == "" {
				problem.Message = "the newest commit of the branch cannot be read: " + broken.Error()
			}
			if r.hidden != "" {
				problem.Message += " (" + r.hidden + ")"
			}
			break
		}
		ids, after, id = append(ids, id), id, parent
	}
	slices.Reverse(ids)
	return ids, problem, nil
}
