// Command gen writes the reference of the definitions and their JSON Schemas,
// both of which are made from the Go types. It must not know of a field what
// package catalog does not tell.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	out := flag.String("out", "../../docs/reference", "`directory` to write to")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// write makes the generated files below dir equal to outputs, and removes
// schemas of kinds that are no more.
func write(dir string) error {
	files, err := outputs()
	if err != nil {
		return err
	}
	schemas := filepath.Join(dir, "schemas")
	if err := os.MkdirAll(schemas, 0o777); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(schemas, "*.json"))
	if err != nil {
		return err
	}
	for _, p := range old {
		if _, ok := files["schemas/"+filepath.Base(p)]; !ok {
			if err := os.Remove(p); err != nil {
				return err
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), files[name], 0o666); err != nil {
			return err
		}
	}
	return nil
}
