// Package sops reads files that were encrypted with SOPS. A file is taken apart
// without any key: what a renderer gets to see has a mark in the place of each
// encrypted value, which says nothing of it. Keys are needed only to learn what the
// marks stand for.
//
// It must not know renders, objects or where keys are kept, and it never looks for
// keys by itself: not in the environment, not in a home directory, not in an agent.
package sops

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	storejson "github.com/getsops/sops/v3/stores/json"
	storeyaml "github.com/getsops/sops/v3/stores/yaml"
	"github.com/sirupsen/logrus"
	yaml3 "go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

const (
	// maxSize of an encrypted file. A Secret holds 1 MiB at most.
	maxSize = 4 << 20
	// maxKeys is how many keys a file may be encrypted for: each costs an attempt.
	maxKeys = 100
)

func init() {
	// The library would repeat comments of files on standard error.
	for _, l := range logging.Loggers {
		l.SetOutput(io.Discard)
		l.SetLevel(logrus.PanicLevel)
	}
}

type format int

const (
	formatYAML format = iota
	formatJSON
	formatDotenv
	formatINI
	formatBinary
)

// File is an encrypted file that was taken apart.
type File struct {
	path   string
	format format
	data   []byte
	tree   sops.Tree
	text   []byte
	marks  []string
	// leaves are the marks of the values of the tree, in order; "" for a clear one.
	leaves []string
}

// Path of the file in its repository.
func (f *File) Path() string { return f.path }

// Text is the file as a renderer may see it: decrypted but for the values, and
// without what SOPS added. Lines stay where they are in YAML.
func (f *File) Text() []byte { return f.text }

// Marks are what stands in Text for values.
func (f *File) Marks() []string { return f.marks }

// value is an encrypted value in a file.
var value = regexp.MustCompile(`ENC\[AES256_GCM,data:[^,\]]*,iv:[^,\]]*,tag:[^,\]]*,type:[a-z]+\]`)

// Ciphertext reports whether a text has a value that SOPS encrypted.
func Ciphertext(text []byte) bool {
	return bytes.Contains(text, []byte("ENC[AES256_GCM,")) && value.Match(text)
}

// Parse takes an encrypted file apart. It is nil for a file that SOPS did not
// encrypt, whatever it is. It needs no key, and verifies nothing.
func Parse(file string, data []byte) (*File, error) {
	if !bytes.Contains(data, []byte("sops")) || !Ciphertext(data) {
		return nil, nil
	}
	fm, ok := detect(file, data)
	if !ok {
		return nil, nil
	}
	if len(data) > maxSize {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("it is encrypted with SOPS and larger than %d MiB", maxSize>>20),
			Hint: "split it; a Secret holds 1 MiB at most", Origin: belay.Origin{File: file}}
	}
	if fm == formatYAML && !plainYAML(data) || (fm == formatDotenv || fm == formatINI) && !plainLines(data) {
		return nil, nil
	}
	tree, err := fm.load(data)
	if err != nil || len(tree.Branches) == 0 || tree.Metadata.MessageAuthenticationCode == "" {
		return nil, nil //nolint:nilerr // SOPS did not make it, so it is some other file
	}
	if n := tree.Metadata.MasterKeyCount(); n > maxKeys {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("it is encrypted for %d keys, more than %d", n, maxKeys),
			Origin: belay.Origin{File: file}}
	}
	f := &File{path: file, format: fm, data: data, tree: tree}
	if err := f.seal(); err != nil {
		return nil, nil //nolint:nilerr // as above
	}
	return f, nil
}

// load reads a file. A panic of the library, which was made for files of friends, is
// an error.
func (f format) load(data []byte) (tree sops.Tree, err error) {
	defer func() {
		if r := recover(); r != nil { // its text may repeat values
			err = fmt.Errorf("the library gave up on it (%T)", r)
		}
	}()
	return f.store().LoadEncryptedFile(data)
}

var (
	yamlMeta   = regexp.MustCompile(`(?m)^["']?sops["']?:`)
	dotenvMeta = regexp.MustCompile(`(?m)^sops_mac=`)
	iniMeta    = regexp.MustCompile(`(?m)^\[sops\]`)
)

// detect tells the format by the content; the name decides where several would do.
func detect(file string, data []byte) (format, bool) {
	ext := path.Ext(file)
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		var m map[string]json.RawMessage
		if json.Unmarshal(data, &m) != nil || m["sops"] == nil {
			return 0, false
		}
		switch ext {
		case ".json":
			return formatJSON, true
		case ".yaml", ".yml":
			return formatYAML, true
		}
		if len(m) == 2 && m["data"] != nil {
			return formatBinary, true
		}
		return formatJSON, true
	}
	switch {
	case dotenvMeta.Match(data):
		return formatDotenv, true
	case iniMeta.Match(data):
		return formatINI, true
	case yamlMeta.Match(data):
		return formatYAML, true
	}
	return 0, false
}

// plainYAML reports whether YAML has no aliases. What SOPS writes has none, and
// the library follows them without an end.
func plainYAML(data []byte) bool {
	dec := yaml3.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml3.Node
		switch err := dec.Decode(&n); {
		case err == io.EOF: //nolint:errorlint // the decoder does not wrap it
			return true
		case err != nil:
			return false
		case aliased(&n):
			return false
		}
	}
}

// nested is a name that stands for something deep, in formats that know no depth.
var nested = regexp.MustCompile(`(__(map|list)_[^\n=]*){10}`)

// plainLines reports whether the lines that SOPS adds to an env or INI file are as
// many and as simple as it makes them: the library takes them apart with an effort
// that grows faster than they do.
func plainLines(data []byte) bool {
	return bytes.Count(data, []byte("\nsops_"))+bytes.Count(data, []byte("__map_")) <= 20*maxKeys && !nested.Match(data)
}

func aliased(n *yaml3.Node) bool {
	if n.Kind == yaml3.AliasNode {
		return true
	}
	return slices.ContainsFunc(n.Content, aliased)
}

func (f format) store() sops.Store {
	switch f {
	case formatJSON:
		return storejson.NewStore(&config.JSONStoreConfig{Indent: -1})
	case formatDotenv:
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case formatINI:
		return ini.NewStore(&config.INIStoreConfig{})
	case formatBinary:
		return storejson.NewBinaryStore(&config.JSONBinaryStoreConfig{})
	}
	return storeyaml.NewStore(&config.YAMLStoreConfig{})
}

// Recipients are the keys that the file is encrypted for: public keys,
// fingerprints, names of keys in a key service. None of them is secret.
func (f *File) Recipients() []string {
	var out []string
	for _, group := range f.tree.Metadata.KeyGroups {
		for _, k := range group {
			out = append(out, strings.TrimSpace(k.TypeToIdentifier()+" "+k.ToString()))
		}
	}
	return out
}
