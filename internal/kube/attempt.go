package kube

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
)

// client-go tries ten times to open a watch when the server does not answer in
// time or closes the connection, and then says that the watch was opened and has
// ended. To whoever takes its word for that, a cluster that hangs answers for
// ever. So an attempt at a watch remembers what became of its requests, and fails
// with the last of them. That the server did not answer in time is enough once.

// attempt is one try to open a watch.
type attempt struct {
	mu  sync.Mutex
	err error
}

type attemptKey struct{}

func withAttempt(ctx context.Context) (context.Context, *attempt) {
	a := &attempt{}
	return context.WithValue(ctx, attemptKey{}, a), a
}

// errNoAnswer stands for a timeout before client-go, which would try again.
var errNoAnswer = errors.New("no answer")

// attempted sends a request, and notes how it went if it is of an attempt.
func attempted(req *http.Request, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	res, err := send(req)
	a, ok := req.Context().Value(attemptKey{}).(*attempt)
	if !ok || req.Context().Err() != nil {
		return res, err
	}
	a.mu.Lock()
	a.err = err
	a.mu.Unlock()
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return nil, errNoAnswer
	}
	return res, err
}

// failed is why the last request of the attempt had no answer.
func (a *attempt) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}
