package kube

import (
	"net/http"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/belaydev/belay"
)

// hanging is a server that takes requests and does not answer in time.
type hanging struct{ asked int }

func (h *hanging) RoundTrip(*http.Request) (*http.Response, error) {
	h.asked++
	return nil, noTimeError{}
}

type noTimeError struct{}

func (noTimeError) Error() string   { return "TLS handshake timeout" }
func (noTimeError) Timeout() bool   { return true }
func (noTimeError) Temporary() bool { return true }

// Such a server has not opened a watch, whatever the library makes of it.
func TestWatchWithoutAnAnswerIsNotOpen(t *testing.T) {
	for _, whole := range []bool{true, false} {
		server := &hanging{}
		c, err := New(Options{Name: "silent", Config: &rest.Config{Host: "http://cluster.test", Transport: server}})
		if err != nil {
			t.Fatal(err)
		}
		w := &watch{resource: coreResource("configmaps", "ConfigMap", true)}
		c.watches = map[place]*watch{{kind: belay.Kind{Kind: "ConfigMap"}}: w}
		s := &source{cluster: c, watch: w, whole: whole}
		if stream, err := s.WatchWithContext(t.Context(), metav1.ListOptions{}); err == nil {
			stream.Stop()
			t.Error("the watch counts as open")
		}
		if !w.offline || w.err == "" || c.offline == "" {
			t.Errorf("nobody is told: the watch is offline: %v, with %q; the cluster: %q", w.offline, w.err, c.offline)
		}
		if server.asked != 1 {
			t.Errorf("it was asked %d times", server.asked)
		}
	}
}
