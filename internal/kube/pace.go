package kube

import (
	"context"
	"time"
)

// A reflector opens a stream again at once when the one before broke in the middle
// of a list, or when the server no longer has the version that it asked for. With a
// server or a proxy that does so each time, it would ask without a pause.

// pace holds back attempts that follow each other closely.
type pace struct {
	began time.Time // the last attempt
	quick int       // how many in a row came close after the one before
}

const (
	// paceFree are attempts without a pause: one to go on, one to list anew.
	paceFree = 2
	// paceApart is how far apart attempts are that need no pace.
	paceApart = time.Minute
)

// wait returns when the next attempt may begin.
func (p *pace) wait(ctx context.Context) error {
	since := time.Since(p.began)
	if p.began.IsZero() || since >= paceApart {
		p.quick = 0
	} else {
		p.quick++
	}
	if p.quick > paceFree {
		delay := min(firstBackoff<<min(p.quick-paceFree-1, 10), maxBackoff)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jittered(delay) - since):
		}
	}
	p.began = time.Now()
	return nil
}
