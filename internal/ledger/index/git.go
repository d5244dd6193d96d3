package index

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// maxObject bounds what is read of one file of the ledger.
const maxObject = 64 << 20

// command is git on the ledger, reading only and with no settings of the machine.
func command(dir string, args ...string) xec.Command {
	config := [][2]string{
		{"core.hooksPath", os.DevNull}, {"core.fsmonitor", "false"}, {"gc.auto", "0"}, {"log.showSignature", "false"},
		{"core.deltaBaseCacheLimit", "64m"}, {"safe.directory", "*"},
	}
	env := []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_ATTR_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0",
		"GIT_LITERAL_PATHSPECS=1", "GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "LC_ALL=C", "GIT_DIR=" + dir,
		"GIT_CONFIG_COUNT=" + strconv.Itoa(len(config)),
	}
	for i, s := range config {
		env = append(env, fmt.Sprintf("GIT_CONFIG_KEY_%d=%s", i, s[0]), fmt.Sprintf("GIT_CONFIG_VALUE_%d=%s", i, s[1]))
	}
	return xec.Command{Path: "git", Args: args, Env: env, Inherit: []string{"PATH", "HOME"}, Dir: dir, Name: "git " + args[0]}
}

// refState is everything that says where branches are, read without a process: the
// same twice means that no branch moved in between.
func refState(dir string) (string, error) {
	common := dir
	if b, err := os.ReadFile(filepath.Join(dir, "commondir")); err == nil {
		common = filepath.Join(dir, strings.TrimSpace(string(b)))
	}
	var b strings.Builder
	file := func(path string) error {
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // packed or moved meanwhile: then packed-refs has it
		}
		if err != nil {
			return fmt.Errorf("read the branches of the ledger: %w", err)
		}
		b.WriteString(path + "\x00" + string(raw) + "\x00")
		return nil
	}
	for _, root := range []string{"refs/heads/ledger", "refs/remotes"} {
		err := filepath.WalkDir(filepath.Join(common, root), func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
				return err
			}
			return file(path)
		})
		if err != nil {
			return "", fmt.Errorf("read the branches of the ledger: %w", err)
		}
	}
	// After the loose ones: a ref is written to the packed before its file goes.
	for _, name := range []string{"packed-refs", "reftable/tables.list"} {
		if err := file(filepath.Join(common, name)); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

// tips are the newest commits of the writers: of their own branches, or of those
// that a clone has of a remote where these are ahead.
func (x *Index) tips(ctx context.Context) (map[string]string, error) {
	out, err := command(x.ledger, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/ledger", "refs/remotes").Output(ctx, maxObject)
	if err != nil {
		return nil, err
	}
	tips := map[string]string{}
	for line := range strings.Lines(string(out)) {
		hash, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		writer, own := strings.CutPrefix(ref, record.BranchPrefix)
		if !own {
			_, rest, _ := strings.Cut(strings.TrimPrefix(ref, "refs/remotes/"), "/")
			var ok bool
			if writer, ok = strings.CutPrefix(rest, "ledger/"); !ok {
				continue
			}
		}
		if record.CheckWriter(writer) != nil {
			continue
		}
		if have := tips[writer]; have == "" {
			tips[writer] = hash
		} else if have != hash {
			ahead, err := x.ancestor(ctx, have, hash)
			if err != nil {
				return nil, err
			}
			if ahead {
				tips[writer] = hash
			}
		}
	}
	return tips, nil
}

func (x *Index) ancestor(ctx context.Context, early, late string) (bool, error) {
	err := command(x.ledger, "merge-base", "--is-ancestor", early, late).Run(ctx)
	if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 1 {
		return false, nil
	}
	return err == nil, err
}

// reader is a `git cat-file --batch`.
type reader struct {
	p   *xec.Process
	out *bufio.Reader
}

func (x *Index) reader(ctx context.Context) (*reader, error) {
	c := command(x.ledger, "cat-file", "--batch")
	c.Pipes = true
	p, err := c.Start(ctx)
	if err != nil {
		return nil, err
	}
	return &reader{p, bufio.NewReaderSize(p.Stdout, 256<<10)}, nil
}

// close ends it; it is asked nothing more.
func (r *reader) close() {
	r.p.Kill()
	_ = r.p.Stdin.Close()
	_ = r.p.Stdout.Close()
	_ = r.p.Wait() // how a killed one ended says nothing
}

// request asks for the file of a commit. Answers come in the same order.
func (r *reader) request(commit, path string) error {
	_, err := io.WriteString(r.p.Stdin, commit+":"+path+"\n")
	return err
}

// answer is the next file, nil where there is none.
func (r *reader) answer() ([]byte, error) {
	line, err := r.out.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("read from git cat-file: %w", err)
	}
	line = strings.TrimSuffix(line, "\n")
	if strings.HasSuffix(line, " missing") {
		return nil, nil
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return nil, fmt.Errorf("git cat-file answers %q", line)
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("git cat-file answers %q", line)
	}
	if fields[1] != "blob" || size > maxObject {
		_, err := io.CopyN(io.Discard, r.out, size+1)
		return nil, err
	}
	data := make([]byte, size+1)
	if _, err := io.ReadFull(r.out, data); err != nil {
		return nil, fmt.Errorf("read from git cat-file: %w", err)
	}
	return data[:size], nil
}

// read asks for one file and waits for it.
func (r *reader) read(commit, path string) ([]byte, error) {
	if err := r.request(commit, path); err != nil {
		return nil, fmt.Errorf("write to git cat-file: %w", err)
	}
	return r.answer()
}
