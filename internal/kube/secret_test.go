package kube_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/kube"
)

// Nothing else is called so: other tests of the control plane are looked at too.
const (
	planted      = "planted-value-7391"
	plantedLater = "planted-later-7391"
)

func TestSecretsAreNeverRead(t *testing.T) {
	f := begin(t)
	spy := &spy{forbidden: []string{planted, base64.StdEncoding.EncodeToString([]byte(planted)), plantedLater, base64.StdEncoding.EncodeToString([]byte(plantedLater))}}
	f = newFixture(t, f.cp, f.namespace, func(o *kube.Options) { o.Config.Wrap(spy.wrap) })
	f.run()
	f.awaitReady()
	f.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "Secret"}})
	o := f.object("shop", fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"token","namespace":"$NS"},"stringData":{"key":%q}}`, planted))
	live := f.mustCreate("shop", o)
	f.patch(secrets, "token", "kubectl-edit", fmt.Sprintf(`{"stringData":{"key":%q}}`, plantedLater))
	drifted := f.awaitLive(o.ID, "the drift", func(l belay.Live) bool { return l.Fingerprint != live.Fingerprint })
	healed := f.mustUpdate("shop", o, drifted, "kubectl-edit")
	if healed.Fingerprint != live.Fingerprint {
		t.Error("not healed")
	}
	if strings.Contains(fmt.Sprintf("%+v", healed), planted) {
		t.Error("the value is known")
	}
	wantError(t, f.mustFail(o, live), belay.CodeImmutable)
	if err := f.Delete(t.Context(), f.permit("shop", o.ID), healed); err != nil {
		t.Fatal(err)
	}
	next := newFixture(t, f.cp, f.namespace, func(o *kube.Options) { o.Config.Wrap(spy.wrap) })
	next.run()
	next.awaitReady()
	spy.check(t)
}

// mustFail applies a Secret whose type cannot change.
func (f *fixture) mustFail(o belay.Object, live belay.Live) error {
	f.t.Helper()
	changed := f.object("shop", strings.Replace(string(o.Raw), `"kind":"Secret"`, `"kind":"Secret","type":"kubernetes.io/tls"`, 1))
	_, err := f.update("shop", changed, live)
	return err
}

// spy reads along what the API server answers.
type spy struct {
	forbidden []string
	mu        sync.Mutex
	answers   []*answer
}

type answer struct {
	io.ReadCloser
	spy  *spy
	what string
	body bytes.Buffer
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (s *spy) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := next.RoundTrip(r)
		if err == nil {
			a := &answer{ReadCloser: res.Body, spy: s, what: r.Method + " " + r.URL.String() + " " + r.Header.Get("Accept")}
			res.Body = a
			s.mu.Lock()
			s.answers = append(s.answers, a)
			s.mu.Unlock()
		}
		return res, err
	})
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.spy.mu.Lock()
	defer a.spy.mu.Unlock()
	a.body.Write(p[:n])
	return n, err
}

func (s *spy) check(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	secrets := 0
	for _, a := range s.answers {
		if strings.Contains(a.what, "/secrets") {
			secrets++
			if !strings.Contains(a.what, "as=PartialObjectMetadata") {
				t.Errorf("not asked for metadata: %s", a.what)
			}
		}
		for _, f := range s.forbidden {
			if bytes.Contains(a.body.Bytes(), []byte(f)) {
				t.Errorf("the value came back: %s", a.what)
			}
		}
	}
	if secrets < 6 {
		t.Errorf("%d answers about Secrets were read", secrets)
	}
}

func TestErrorsHideSecretValues(t *testing.T) {
	f := begin(t)
	for _, data := range []string{
		`"data":{"key":"` + planted + `"}`,             // no base64
		`"stringData":{"key":[1,"` + planted + `"]}`,   // no text
		`"stringData":{"key":73917391739173}`,          // no text
		`"stringData":{"key":{"x":"` + planted + `"}}`, // no text
		`"type":"kubernetes.io/tls","stringData":{"key":"` + planted + `"}`,
		`"stringData":{"bad key ` + `!":"` + planted + `"}`,
	} {
		o := f.object("shop", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"token","namespace":"$NS"},`+data+`}`)
		_, err := f.create("shop", o)
		wantError(t, err, belay.CodeInvalid, "Secret "+f.namespace+"/token")
		for e := err; e != nil; {
			if strings.Contains(e.Error(), planted) || strings.Contains(e.Error(), "7391739") {
				t.Errorf("%s: the error holds the value: %v", data, e)
			}
			u, ok := e.(interface{ Unwrap() error })
			if !ok {
				break
			}
			e = u.Unwrap()
		}
		_, _, err = f.preview(belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
		if err == nil || strings.Contains(err.Error(), planted) || strings.Contains(err.Error(), "7391739") {
			t.Errorf("%s: preview: %v", data, err)
		}
	}
}

func TestSecretValue(t *testing.T) {
	f := begin(t)
	f.make(secrets, "somebody", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"git","namespace":"$NS"},"stringData":{"password":"`+planted+`"}}`)
	ref := belay.SecretReference{Namespace: f.namespace, Name: "git", Key: "password"}
	got, err := f.SecretValue(t.Context(), ref)
	if err != nil || string(got) != planted {
		t.Errorf("%q, %v", got, err)
	}
	_, err = f.SecretValue(t.Context(), belay.SecretReference{Namespace: f.namespace, Name: "git", Key: "token"})
	wantError(t, err, belay.CodeNotFound, `"token"`)
	_, err = f.SecretValue(t.Context(), belay.SecretReference{Namespace: f.namespace, Name: "none", Key: "token"})
	wantError(t, err, belay.CodeNotFound, "Secret "+f.namespace+"/none")
}
