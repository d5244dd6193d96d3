package sops_test

import (
	"bytes"
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay/internal/sops"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

// Whatever a file is, taking it apart ends, and leaves no ciphertext in what is shown.
func FuzzParse(f *testing.F) {
	key := sopstest.Age(f)
	for file, s := range samples {
		f.Add(file, []byte(sopstest.Encrypt(f, file, s.content, "", key)))
	}
	f.Add("s.env", []byte("a=ENC[AES256_GCM,data:a,iv:a,tag:a,type:str]\nsops_age__list_9__map_enc=x\nsops_mac=x\n"))
	f.Add("s.yaml", []byte("sops:\n  mac: ENC[AES256_GCM,data:a,iv:a,tag:a,type:str]\n  age: 1\n  lastmodified: x\n"))
	keys := sops.Keys{Age: [][]byte{key.Private}}
	f.Fuzz(func(t *testing.T, file string, data []byte) {
		got, err := sops.Parse(file, data)
		if err != nil || got == nil {
			return
		}
		if sops.Ciphertext(got.Text()) {
			t.Errorf("the text has ciphertext: %q", got.Text())
		}
		o, err := got.Open(t.Context(), keys)
		if err == nil && len(o.Values) == 0 && len(got.Marks()) > 0 {
			t.Error("marks without values")
		}
	})
}

// A file that somebody changed anywhere either cannot be opened or holds what it held.
func TestChangedFilesHoldNothingElse(t *testing.T) {
	key := sopstest.Age(t)
	keys := sops.Keys{Age: [][]byte{key.Private}}
	opened := 0
	for file, s := range samples {
		good := []byte(sopstest.Encrypt(t, file, s.content, "", key))
		want, err := parse(t, file, string(good)).Open(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		rapid.Check(t, func(t *rapid.T) {
			bad := bytes.Clone(good)
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				i, j := rapid.IntRange(0, len(bad)-1).Draw(t, "at"), rapid.IntRange(0, 12).Draw(t, "length")
				part := bad[i:min(i+j, len(bad))]
				switch rapid.IntRange(0, 2).Draw(t, "kind") {
				case 0: // cut
					bad = append(bytes.Clone(bad[:i]), bad[i+len(part):]...)
				case 1: // double
					bad = append(append(bytes.Clone(bad[:i]), part...), bad[i:]...)
				case 2:
					bad[i] ^= byte(rapid.IntRange(1, 127).Draw(t, "bits"))
				}
				if len(bad) == 0 {
					return
				}
			}
			f, err := sops.Parse(file, bad)
			if err != nil || f == nil {
				return
			}
			if sops.Ciphertext(f.Text()) {
				t.Errorf("the text has ciphertext: %q", f.Text())
			}
			o, err := f.Open(context.Background(), keys)
			if err != nil {
				return
			}
			opened++
			held := map[string]bool{}
			for _, v := range want.Values {
				held[v] = true
			}
			for _, v := range o.Values {
				if !held[v] && v != o.Whole {
					t.Errorf("it holds %q", v)
				}
			}
		})
	}
	if opened == 0 {
		t.Error("no change was harmless: nothing was tried")
	}
}
