// Command image writes the container image of Belay as an OCI archive, without a
// container runtime and without a registry: the root file system comes from Debian
// packages, or from a base that is named.
//
//	image --out FILE --version V --time RFC3339 ARCH=DIR...
//	image --unpack ARCH --to DIR FILE
//
// DIR holds tars/*.tar, each a file system or a part of one, and belay, the binary;
// packages.txt, if it is there, goes into the image. The same input makes the same
// image, to the byte.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("image", flag.ContinueOnError)
	out := f.String("out", "bin/belay-image.tar", "file to write")
	version := f.String("version", "devel", "version of the image, its tag")
	stamp := f.String("time", "", "time of everything in the image, RFC 3339")
	arch, to := f.String("unpack", "", "architecture to unpack"), f.String("to", "", "directory to unpack to")
	if err := f.Parse(args); err != nil {
		return err
	}
	if *arch != "" {
		if f.NArg() != 1 || *to == "" {
			return errors.New("--unpack needs --to DIR and one image")
		}
		return unpack(f.Arg(0), *arch, *to)
	}
	at, err := time.Parse(time.RFC3339, *stamp)
	if err != nil {
		return fmt.Errorf("--time: %w", err)
	}
	if f.NArg() == 0 {
		return errors.New("name at least one ARCH=DIR")
	}
	l := &layout{version: *version, created: at.UTC(), blobs: map[string][]byte{}}
	for _, arg := range f.Args() {
		arch, dir, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q is not of the form ARCH=DIR", arg)
		}
		if err := l.add(arch, dir); err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
	}
	return l.write(*out)
}

// add makes the image of one architecture.
func (l *layout) add(arch, dir string) error {
	base, err := baseTree(dir)
	if err != nil {
		return err
	}
	if missing := base.unresolved(); len(missing) > 0 {
		return fmt.Errorf("libraries are missing: %s", strings.Join(missing, ", "))
	}
	binary, err := os.ReadFile(filepath.Join(dir, "belay"))
	if err != nil {
		return err
	}
	top := tree{}
	top.dir("usr/local/bin", 0o755, 0)
	top.file("usr/local/bin/belay", 0o755, binary)
	return l.image(arch, base, top)
}
