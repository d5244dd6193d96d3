package render

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Sealer knows files that are encrypted value by value. It works in this process:
// workers see what a Sealed shows, and no more.
type Sealer interface {
	// Seal takes an encrypted file apart without any key; nil is a file that is not
	// encrypted. An error says what is wrong with an encrypted one.
	Seal(path string, data []byte) (Sealed, error)
	// Open decrypts what Seal gave, with the keys of a project; nil is a project that
	// has none. The error is a [*belay.Error].
	Open(ctx context.Context, project string, keys *belay.Decryption, file Sealed) (Opened, error)
	// Encrypted reports whether a text has an encrypted value that was not sealed.
	Encrypted(text []byte) bool
}

// Sealed is an encrypted file with a mark in the place of each encrypted value;
// see [belay.SealedPrefix].
type Sealed interface {
	Text() []byte
	Marks() []string
}

// Opened is what a Sealed stands for. It goes into Secrets and nowhere else.
type Opened struct {
	// Values are what the marks stand for.
	Values map[string]string
	// Whole is the decrypted file, for those who pass on the file as a whole.
	Whole string
}

// sealedFile is an encrypted file that a render has read.
type sealedFile struct {
	path   string
	file   Sealed
	opened *Opened
	err    error
}

// unsealer puts the values of encrypted files into Secrets, once a worker has
// rendered them with marks. It opens no file that no Secret needs.
type unsealer struct {
	ctx    context.Context
	sealer Sealer
	req    *Request
	files  []*sealedFile
	marks  map[string]*sealedFile
}

func newUnsealer(ctx context.Context, sealer Sealer, req *Request, files map[string]Sealed) *unsealer {
	u := &unsealer{ctx: ctx, sealer: sealer, req: req, marks: map[string]*sealedFile{}}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		f := &sealedFile{path: p, file: files[p]}
		u.files = append(u.files, f)
		for _, m := range f.file.Marks() {
			u.marks[m] = f
		}
	}
	return u
}

// open decrypts a file the first time it is needed.
func (u *unsealer) open(f *sealedFile) (*Opened, error) {
	if f.opened == nil && f.err == nil {
		o, err := u.sealer.Open(u.ctx, u.req.Project, u.req.Decryption, f.file)
		f.opened, f.err = &o, err
	}
	return f.opened, f.err
}

var (
	// sealMark is a mark in a text.
	sealMark = regexp.MustCompile(belay.SealedPrefix + `[0-9a-f]{32}`)
	// remnant is what is left of a mark that a template changed.
	remnant = regexp.MustCompile(`(?i)` + belay.SealedPrefix + `[0-9a-f]*`)
	// encoded is a stretch of base64 that is long enough for a mark; wrapped is one in
	// lines, as Kustomize writes it.
	encoded = regexp.MustCompile(`[A-Za-z0-9+/]{56,}={0,2}`)
	wrapped = regexp.MustCompile(`[A-Za-z0-9+/\r\n]{56,}={0,2}`)
)

// maxEncodings is how deep base64 in base64 is looked into: the credentials of a
// registry have it twice.
const maxEncodings = 3

// has reports whether a text has anything of a mark in it, also in base64.
func has(text string, depth int) bool {
	if remnant.MatchString(text) {
		return true
	}
	if depth == 0 {
		return false
	}
	inside := func(run string) bool {
		inner, err := base64.StdEncoding.DecodeString(run)
		return err == nil && has(string(inner), depth-1)
	}
	return slices.ContainsFunc(encoded.FindAllString(text, -1), inside) || slices.ContainsFunc(wrapped.FindAllString(text, -1), inside)
}

// fieldError is what is wrong with one field of an object.
type fieldError struct{ field, message, hint string }

func (e *fieldError) Error() string { return e.field + " " + e.message }

// apply gives the manifest of an object with the values in it. Only the data of a
// Secret may hold any. The error is a [*fieldError] or that of a file.
func (u *unsealer) apply(o *belay.Object) (json.RawMessage, error) {
	if o.Sensitive() && u.sealer.Encrypted(o.Raw) {
		return nil, &fieldError{"it", "holds a value that is encrypted with SOPS, in a file that SOPS did not write",
			"encrypt the file that the value stands in with the sops command"}
	}
	if len(u.files) == 0 {
		return o.Raw, nil
	}
	var m map[string]any
	dec := json.NewDecoder(bytes.NewReader(o.Raw))
	dec.UseNumber()
	if err := dec.Decode(&m); err != nil {
		return nil, errors.New("not a JSON object") // it was parsed before
	}
	filled := false
	if o.Sensitive() {
		for field, put := range map[string]func(string) (string, error){"data": u.data, "stringData": u.text} {
			some, err := u.values(m, field, put)
			if err != nil {
				return nil, err
			}
			filled = filled || some
		}
	}
	if err := u.elsewhere(o, m); err != nil {
		return nil, err
	}
	if !filled {
		return o.Raw, nil
	}
	return json.Marshal(m)
}

// values fills the values of data or stringData.
func (u *unsealer) values(m map[string]any, field string, put func(string) (string, error)) (some bool, err error) {
	values, _ := m[field].(map[string]any)
	for _, k := range slices.Sorted(maps.Keys(values)) {
		s, ok := values[k].(string)
		if !ok || !has(s, maxEncodings) {
			continue
		}
		filled, err := put(s)
		if fe, ok := errors.AsType[*fieldError](err); ok {
			fe.field = field + "." + k
		}
		if err != nil {
			return false, err
		}
		values[k], some = filled, true
	}
	return some, nil
}

// data fills a value of data. A mark as it is stands for what was base64 before it
// was encrypted; one inside of base64 for a text.
func (u *unsealer) data(s string) (string, error) {
	if !remnant.MatchString(s) {
		if inner, err := base64.StdEncoding.DecodeString(s); err == nil {
			filled, err := u.text(string(inner))
			return base64.StdEncoding.EncodeToString([]byte(filled)), err
		}
	}
	filled, err := u.text(s)
	if filled == belay.EncryptedValue { // so that it is what data has to be
		filled = base64.StdEncoding.EncodeToString([]byte(filled))
	}
	return filled, err
}

// text fills a text: an encrypted file as a whole, or marks anywhere in it.
func (u *unsealer) text(s string) (string, error) {
	for _, f := range u.files {
		if s == string(f.file.Text()) {
			o, err := u.open(f)
			if err != nil {
				return "", err
			}
			return o.Whole, nil
		}
	}
	return u.fill(s, maxEncodings)
}

// fill replaces the marks in a text, also those in base64 within it. In JSON the
// values are escaped; what else a text is is not known.
func (u *unsealer) fill(s string, depth int) (string, error) {
	var failed error
	fail := func(err error) string {
		failed = cmpError(failed, err)
		return ""
	}
	if depth > 0 {
		recode := func(run string) string {
			inner, err := base64.StdEncoding.DecodeString(run)
			if err != nil || !has(string(inner), depth-1) {
				return run
			}
			filled, err := u.fill(string(inner), depth-1)
			if err != nil {
				return fail(err)
			}
			return base64.StdEncoding.EncodeToString([]byte(filled))
		}
		s = encoded.ReplaceAllStringFunc(wrapped.ReplaceAllStringFunc(s, recode), recode)
	}
	if remnant.MatchString(sealMark.ReplaceAllString(s, "")) {
		return "", errChanged()
	}
	escape := func(v string) string { return v }
	if t := strings.TrimSpace(s); len(t) > 0 && (t[0] == '{' || t[0] == '[') && json.Valid([]byte(t)) {
		escape = jsonEscape
	}
	s = sealMark.ReplaceAllStringFunc(s, func(m string) string {
		f := u.marks[m]
		if f == nil {
			return fail(errChanged())
		}
		o, err := u.open(f)
		if err != nil {
			return fail(err)
		}
		return escape(o.Values[m])
	})
	return s, failed
}

func errChanged() error {
	return &fieldError{"", "has an encrypted value that a template cut or changed",
		"pass the value on as it is: templates see a mark in its place, and the value itself is put in after they ran"}
}

func cmpError(first, next error) error {
	if first != nil {
		return first
	}
	return next
}

func jsonEscape(v string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a text always encodes
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`)
}

// elsewhere finds a mark where none may be.
func (u *unsealer) elsewhere(o *belay.Object, m map[string]any) error {
	var found error
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if at == "" && o.Sensitive() && (k == "data" || k == "stringData") {
					continue
				}
				if has(k, 0) {
					walk(at+" (a key)", k)
				}
				walk(strings.TrimPrefix(at+"."+k, "."), v[k])
			}
		case []any:
			for i, e := range v {
				walk(fmt.Sprintf("%s[%d]", at, i), e)
			}
		case string:
			if found != nil || !has(v, maxEncodings) {
				return
			}
			from := "an encrypted file"
			if f := u.marks[sealMark.FindString(v)]; f != nil {
				from = "the encrypted file " + f.path
			}
			found = &fieldError{at, "has a value of " + from + ", which may only stand in the data of a Secret",
				"move it into a Secret: everything else is shown to whoever may look"}
		}
	}
	walk("", m)
	return found
}
