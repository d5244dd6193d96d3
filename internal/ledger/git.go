package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// localTimeout bounds a git command that stays on this machine.
const localTimeout = 5 * time.Minute

// settings hold for every git that works on the ledger.
var settings = [][2]string{
	{"core.hooksPath", os.DevNull},
	{"core.fsmonitor", "false"},
	// Git before 2.36 knows the second and third only.
	{"core.fsync", "all"},
	{"core.fsyncMethod", "fsync"},
	{"core.fsyncObjectFiles", "true"},
	{"core.logAllRefUpdates", "false"},
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"pack.threads", "1"},
	{"pack.writeBitmaps", "false"},
	{"repack.writeBitmaps", "false"},
}

// repo is the bare repository on disk.
type repo struct{ dir string }

// command is a git in an environment of its own: no settings of the machine.
func (r repo) command(args ...string) xec.Command {
	env := []string{
		"GIT_DIR=" + r.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_OPTIONAL_LOCKS=0", "GIT_LITERAL_PATHSPECS=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_DEFAULT_HASH=sha1", "GIT_DEFAULT_REF_FORMAT=files",
		"GIT_ALLOW_PROTOCOL=none", "LC_ALL=C", "GIT_CONFIG_COUNT=" + strconv.Itoa(len(settings)),
	}
	for i, s := range settings {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return xec.Command{Path: "git", Args: args, Env: env, Inherit: []string{"PATH", "HOME", "TMPDIR"}, Dir: r.dir, Name: "git " + args[0]}
}

// output runs a git and returns what it says. It is not cut short when ctx ends:
// that would leave half of a change behind, and it is bounded anyway.
func (r repo) output(ctx context.Context, stdin []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), localTimeout)
	defer cancel()
	c := r.command(args...)
	if stdin != nil {
		c.Stdin = bytes.NewReader(stdin)
	}
	return c.Output(ctx, 256<<20)
}

// create makes the repository if there is none, or half of one.
func (r repo) create(ctx context.Context, ref string) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	// Of a process that was killed while it made the repository; nobody else makes it.
	for _, name := range []string{"HEAD.lock", "config.lock"} {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !r.complete() {
		for _, name := range []string{"HEAD", "config"} { // empty after a crash: init would not mend them
			if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		// No template: no hooks and no description of this machine.
		if _, err := r.output(ctx, nil, "init", "--quiet", "--bare", "--template="); err != nil {
			return err
		}
	}
	// A branch that exists, so that plain git shows something.
	if head, err := os.ReadFile(filepath.Join(r.dir, "HEAD")); err != nil || strings.TrimSpace(string(head)) != "ref: "+ref {
		if _, err := r.output(ctx, nil, "symbolic-ref", "HEAD", ref); err != nil {
			return err
		}
	}
	return errors.Join(syncPath(r.dir), syncPath(filepath.Dir(r.dir)))
}

// complete is true of what needs no init. A full disk must not keep a ledger from
// being opened that is there.
func (r repo) complete() bool {
	for _, name := range []string{"HEAD", "config"} {
		if st, err := os.Stat(filepath.Join(r.dir, name)); err != nil || st.Size() == 0 {
			return false
		}
	}
	for _, name := range []string{"objects", "objects/pack", "refs", "refs/heads"} {
		if st, err := os.Stat(filepath.Join(r.dir, name)); err != nil || !st.IsDir() {
			return false
		}
	}
	return true
}

// clean removes what a killed git left behind. No git works on the ledger then.
func (r repo) clean() {
	remove := func(path string) { _ = os.Remove(path) } // the next start tries again
	_ = filepath.WalkDir(r.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // what cannot be listed is left to the next start
		}
		if d.IsDir() {
			return nil
		}
		name, pack := d.Name(), filepath.Base(filepath.Dir(p)) == "pack"
		base, isPack := strings.CutSuffix(p, ".pack")
		switch {
		case strings.HasSuffix(name, ".lock"), strings.HasPrefix(name, "tmp_"), strings.HasPrefix(name, ".tmp-"):
			remove(p)
		case pack && isPack:
			if _, err := os.Stat(base + ".idx"); errors.Is(err, fs.ErrNotExist) { // half of one: nothing refers to it
				remove(p)
			}
		}
		return nil
	})
}

// unlock removes what keeps our own ref from being moved: nobody else moves it.
func (r repo) unlock(ref string) {
	_ = os.Remove(filepath.Join(r.dir, filepath.FromSlash(ref)) + ".lock") // there is none as a rule
}

// tip reads a ref of ours, "" if there is none.
func (r repo) tip(ref string) (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, filepath.FromSlash(ref)))
	if errors.Is(err, fs.ErrNotExist) {
		return r.packed(ref)
	}
	id := strings.TrimSpace(string(b))
	if err == nil && !validID(id) {
		err = fmt.Errorf("%s holds %.60q, which is no commit", ref, id)
	}
	return id, err
}

// packed looks for a ref among those that somebody's git gc packed.
func (r repo) packed(ref string) (string, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, "packed-refs"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	for line := range strings.Lines(string(b)) {
		if id, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref && validID(id) {
			return id, nil
		}
	}
	return "", err
}

func validID(id string) bool {
	return len(id) == 40 && strings.Trim(id, "0123456789abcdef") == ""
}

// durable makes what git renamed into place outlast a power cut: git itself
// syncs files, and no directory.
func (r repo) durable(ref string) error {
	path := filepath.Join(r.dir, filepath.FromSlash(ref))
	err := syncPath(path)
	if errors.Is(err, fs.ErrNotExist) { // somebody's git gc packed it, and synced that
		return syncPath(filepath.Join(r.dir, "objects", "pack"))
	}
	return errors.Join(err, syncPath(filepath.Join(r.dir, "objects", "pack")), syncPath(filepath.Dir(path)))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// objects reads the named objects; what does not exist is nil.
func (r repo) objects(ctx context.Context, names []string) ([][]byte, error) {
	if len(names) == 0 {
		return nil, nil
	}
	out, err := r.output(ctx, []byte(strings.Join(names, "\n")+"\n"), "cat-file", "--batch")
	if err != nil {
		return nil, err
	}
	in := bufio.NewReader(bytes.NewReader(out))
	all := make([][]byte, len(names))
	for i, name := range names {
		if all[i], err = answer(in, name); err != nil {
			return nil, err
		}
	}
	return all, nil
}
