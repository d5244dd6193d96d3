package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/belaydev/belay/internal/xec"
)

// build makes the repository in one stream: a first commit with all files, and a
// history in which each commit changes one of those that belong to no application.
func (b *repoBench) build(ctx context.Context) error {
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 1<<20)
		b.stream(buffered)
		_ = w.CloseWithError(buffered.Flush()) // git tells if it ended early
	}()
	err := xec.Command{
		Path: "git", Args: []string{"fast-import", "--quiet", "--done"}, Dir: b.repo.dir, Inherit: []string{"PATH"}, Stdin: r,
		Env: []string{"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C"},
	}.Run(ctx)
	_ = r.Close() // the stream ends with git
	if err != nil {
		return fmt.Errorf("make the repository: %w", err)
	}
	return nil
}

// perPart is how many files lie in one directory of an application's source.
const perPart = 20

func (b *repoBench) stream(w io.Writer) {
	commit := func(n int, subject string) {
		who := fmt.Sprintf("Bench <bench@example.org> %d +0000", 1_700_000_000+n)
		fmt.Fprintf(w, "commit refs/heads/main\nauthor %s\ncommitter %s\ndata %d\n%s\n", who, who, len(subject), subject)
	}
	file := func(name, text string) { fmt.Fprintf(w, "M 100644 inline %s\ndata %d\n%s\n", name, len(text), text) }
	commit(0, "Everything")
	left := b.o.files - 2*b.o.apps
	for i := range b.o.apps {
		name := fmt.Sprintf("service-%05d", i)
		file("belay/"+name+".yaml", fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec:\n"+
			"  source: {path: %s/deploy}\n  destination: {namespace: %s}\n", name, b.home(i), b.namespace(i)))
		for p, text := range b.manifest(i, "0") {
			file(p, text)
		}
		beside := left / (b.o.apps - i)
		left -= beside
		for n := range beside {
			file(b.beside(i, n), fmt.Sprintf("file %d of service %d\n", n, i))
		}
	}
	each := (b.o.files - 2*b.o.apps) / b.o.apps
	for n := 1; n < b.o.history; n++ {
		commit(n, fmt.Sprint("Change number ", n))
		file(b.beside(n*7919%b.o.apps, n/b.o.apps%each), fmt.Sprintf("changed by commit %d\n", n))
	}
	fmt.Fprintln(w, "done")
}

// beside is a file that no application reads.
func (b *repoBench) beside(i, n int) string {
	return fmt.Sprintf("%s/src/part-%d/file-%d.txt", b.home(i), n/perPart, n)
}

// head is the commit of main.
func (r *repository) head() (string, error) {
	id, err := os.ReadFile(filepath.Join(r.dir, "refs", "heads", "main"))
	if err != nil {
		return "", fmt.Errorf("read the branch: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
