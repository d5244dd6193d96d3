package source

import (
	"context"
	"sync"
	"time"
)

// poller is what all kinds of remotes have in common: each is looked at now and
// then, later after failures, and by one at a time.
type poller struct {
	h    *Hub
	wake chan struct{} // looked at soon
	turn chan struct{} // one token: who has it looks at the remote

	mu       sync.Mutex
	interval time.Duration
	refs     map[string]bool // followed
	cancel   context.CancelFunc
	err      error // of the last look
	looked   time.Time
	// failures in a row; looks that were begun, and the last one that ended.
	failures     int
	news         bool // are expected
	begun, ended uint64
}

// init makes the poller one of a hub.
func (p *poller) init(h *Hub) {
	p.h, p.interval = h, h.o.Interval
	p.wake, p.turn = make(chan struct{}, 1), make(chan struct{}, 1)
}

// every sets the time between looks; the hub's own if it is not positive. Called
// with p.mu.
func (p *poller) every(d time.Duration) {
	p.interval = p.h.o.Interval
	if d > 0 {
		p.interval = d
	}
}

func (p *poller) followed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.refs) > 0
}

// poll begins to look now and then, unless that is under way. Called with h.mu.
func (p *poller) poll(ctx context.Context, look func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		return
	}
	ctx, p.cancel = context.WithCancel(ctx)
	p.h.wg.Go(func() { p.loop(ctx, look) })
}

// stop ends the loop.
func (p *poller) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

// unfollow follows nothing any more.
func (p *poller) unfollow() {
	p.stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refs = nil
}

// poke has the remote looked at at once, backoff or not. One that comes while
// it is being looked at has it looked at again. News are expected where somebody
// says that just this remote has some.
func (p *poller) poke(news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = 0
	p.news = p.news || news
	p.nudge()
}

func (p *poller) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *poller) loop(ctx context.Context, look func(context.Context) error) {
	for {
		_ = look(ctx) // how it went is in the status, and somebody was told
		p.mu.Lock()
		d := p.h.delay(p.interval, p.failures)
		p.mu.Unlock()
		timer, stop := p.h.o.Clock.Timer(d)
		select {
		case <-ctx.Done():
			stop()
			return
		case <-p.wake:
			stop()
		case <-timer:
		}
	}
}

// unlook makes the remote one that was never looked at. Called with p.mu.
func (p *poller) unlook() {
	p.err, p.looked = nil, time.Time{}
	p.failures, p.begun, p.ended = 0, 0, 0
}
