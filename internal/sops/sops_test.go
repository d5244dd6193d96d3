package sops_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/sops"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

func parse(t *testing.T, file, content string) *sops.File {
	t.Helper()
	f, err := sops.Parse(file, []byte(content))
	if err != nil || f == nil {
		t.Fatalf("parse %s: %v %v", file, f, err)
	}
	return f
}

var samples = map[string]struct{ content, text string }{
	"s.yaml": {"# the token\napiVersion: v1\nkind: Secret\nmetadata:\n    name: token\nstringData:\n    password: \"hunter: 22\"\n    port: 5432\n    on: true\n    many:\n        - one-secret\n        - {deep: two-secret}\n---\nkind: Other\nvalue: three-secret\n", "three-secret"},
	"s.json": {`{"user": "ada-lovelace", "n": 1.5, "list": ["x-secret"]}`, "ada-lovelace"},
	"s.env":  {"USER=ada-lovelace\nKEY=line one-secret\\nline two\n", "USER"},
	"s.ini":  {"[db]\nuser = ada-lovelace\n", ""},
	"s.key":  {"-----BEGIN KEY-----\nada-lovelace\n", ""},
}

func TestFilesOfEveryFormat(t *testing.T) {
	ageKey, pgpKey, other := sopstest.Age(t), sopstest.PGP(t), sopstest.Age(t)
	for file, s := range samples {
		for kind, key := range map[string]sopstest.Key{"age": ageKey, "pgp": pgpKey} {
			t.Run(file+" "+kind, func(t *testing.T) {
				encrypted := sopstest.Encrypt(t, file, s.content, "", key)
				f := parse(t, "apps/"+file, encrypted)
				if sops.Ciphertext(f.Text()) || bytes.Contains(f.Text(), []byte("sops:")) || bytes.Contains(f.Text(), []byte("sops_")) {
					t.Errorf("the text has more than marks:\n%s", f.Text())
				}
				// Digits alone could stand in a digest by chance.
				for _, secret := range []string{"hunter", "secret", "lovelace", ": 5432"} {
					if bytes.Contains(f.Text(), []byte(secret)) {
						t.Errorf("the text has a value:\n%s", f.Text())
					}
				}
				if _, err := f.Open(t.Context(), sops.Keys{Age: [][]byte{other.Private}}); belay.CodeOf(err) != belay.CodeUnavailable ||
					!strings.Contains(err.Error(), "no key fits") || !strings.Contains(err.Error(), key.Public) {
					t.Errorf("with another key: %v", err)
				}
				o, err := f.Open(t.Context(), sops.Keys{Age: [][]byte{other.Private, ageKey.Private}, PGP: [][]byte{pgpKey.Private}})
				if err != nil {
					t.Fatal(err)
				}
				if len(o.Values) != len(f.Marks()) {
					t.Errorf("%d values for %d marks", len(o.Values), len(f.Marks()))
				}
				// The marks of the text are all that keeps it from being the file.
				plain := string(f.Text())
				for m, v := range o.Values {
					if !strings.Contains(plain, m) {
						t.Errorf("the mark %s is not in the text", m)
					}
					plain = strings.ReplaceAll(plain, m, v)
				}
				for _, want := range regexp.MustCompile(`[\w.-]+`).FindAllString(s.content, -1) {
					if !strings.Contains(plain, want) {
						t.Errorf("%q is missing in\n%s", want, plain)
					}
				}
				if file == "s.yaml" {
					if got := strings.Split(plain, "\n")[6]; got != "    password: hunter: 22" {
						t.Errorf("line 7 is %q", got)
					}
				}
			})
		}
	}
}

// A mark is the same with and without keys, and as long as nobody encrypts the
// value anew.
func TestMarksFollowTheCiphertext(t *testing.T) {
	key := sopstest.Age(t)
	a := sopstest.Encrypt(t, "a.yaml", "k: value-one\n", "", key)
	if x, y := parse(t, "a.yaml", a), parse(t, "b/c.yaml", a); x.Marks()[0] != y.Marks()[0] {
		t.Error("the mark depends on the name of the file")
	}
	if b := sopstest.Encrypt(t, "a.yaml", "k: value-one\n", "", key); parse(t, "a.yaml", a).Marks()[0] == parse(t, "a.yaml", b).Marks()[0] {
		t.Error("two ciphertexts have one mark: it says that their values are the same")
	}
}

func TestOnlyWhatIsEncryptedIsTouched(t *testing.T) {
	key := sopstest.Age(t)
	content := "apiVersion: v1\nkind: Secret\nmetadata:\n    name: plain-name\nstringData:\n    k: value-one\n"
	f := parse(t, "a.yaml", sopstest.Encrypt(t, "a.yaml", content, "^(data|stringData)$", key))
	if got := string(f.Text()); !strings.HasPrefix(got, "apiVersion: v1\nkind: Secret\nmetadata:\n    name: plain-name\nstringData:\n    k: belay-sops-") || len(f.Marks()) != 1 {
		t.Errorf("text %q, marks %v", got, f.Marks())
	}
}

// mac is the line of an encrypted file with its MAC.
func mac(file string) string {
	_, rest, _ := strings.Cut(file, "mac: ")
	line, _, _ := strings.Cut(rest, "\n")
	return "mac: " + line
}

func TestTamperedFiles(t *testing.T) {
	key := sopstest.Age(t)
	keys := sops.Keys{Age: [][]byte{key.Private}}
	content := "a: value-one\nb: value-two\nc_unencrypted: clear\n"
	good := sopstest.Encrypt(t, "a.yaml", content, "", key)
	lines := strings.Split(good, "\n")
	value := func(i int) string { return strings.SplitN(lines[i], ": ", 2)[1] }
	for name, bad := range map[string]string{
		"values swapped":        strings.NewReplacer(value(0), value(1), value(1), value(0)).Replace(good),
		"a clear value changed": strings.Replace(good, "clear", "other", 1),
		"a value removed":       strings.Join(lines[1:], "\n"),
		"a value added":         "z_unencrypted: more\n" + good,
		"another MAC":           strings.Replace(good, mac(good), mac(sopstest.Encrypt(t, "a.yaml", content, "", key)), 1),
	} {
		t.Run(name, func(t *testing.T) {
			f, err := sops.Parse("a.yaml", []byte(bad))
			if err != nil || f == nil {
				t.Fatalf("not even parsed: %v", err)
			}
			_, err = f.Open(t.Context(), keys)
			if belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), "a.yaml: it was changed after SOPS encrypted it") {
				t.Errorf("error %v", err)
			}
			if strings.Contains(err.Error(), "value-") {
				t.Errorf("the error repeats a value: %v", err)
			}
		})
	}
	if _, err := parse(t, "a.yaml", good).Open(t.Context(), keys); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

func TestOtherFilesAreNoneOfOurs(t *testing.T) {
	enc := "ENC[AES256_GCM,data:aaaa,iv:aaaa,tag:aaaa,type:str]"
	for name, content := range map[string]string{
		"values.yaml":  "sops: yes, we use it\nexample: " + enc + "\n",
		"README.md":    "sops:\n  write " + enc + "\n",
		"t.yaml":       "{{ if .Values.sops }}\nsops:\n  x: " + enc + "\n{{ end }}\n",
		"bomb.yaml":    "sops: {mac: " + enc + "}\n---\na: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g]\n",
		"deep.yaml":    "sops: {mac: " + enc + "}\na: " + strings.Repeat("[", 100_000) + "\n",
		"brace.json":   `{"sops": "` + enc,
		"nothing.yaml": "a: b\n",
	} {
		if f, err := sops.Parse(name, []byte(content)); err != nil || f != nil {
			t.Errorf("%s: %v %v", name, f, err)
		}
	}
	key := sopstest.Age(t)
	huge := sopstest.Encrypt(t, "a.yaml", "a: value-one\nb_unencrypted: "+strings.Repeat("x", 5<<20)+"\n", "", key)
	if _, err := sops.Parse("a.yaml", []byte(huge)); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("a huge file: %v", err)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	key, pgpKey := sopstest.Age(t), sopstest.PGP(t)
	f := parse(t, "a.yaml", sopstest.Encrypt(t, "a.yaml", "a: value-one\n", "", key))
	for want, k := range map[string]sops.Keys{
		"spec.decryption.age[1] is not an age private key": {Age: [][]byte{key.Private, []byte(key.Public)}},
		"spec.decryption.pgp[0] is not an armored":         {PGP: [][]byte{key.Private}},
		"no key fits": {PGP: [][]byte{pgpKey.Private}},
	} {
		_, err := f.Open(t.Context(), k)
		if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if err != nil && strings.Contains(err.Error(), strings.Fields(string(key.Private))[3]) {
			t.Errorf("the error repeats a key: %v", err)
		}
	}
	// Keys of the environment are nobody's.
	t.Setenv("SOPS_AGE_KEY", string(key.Private))
	if _, err := f.Open(t.Context(), sops.Keys{}); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("a key of the environment was used: %v", err)
	}
}
