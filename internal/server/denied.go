package server

import (
	"net"
	"net/http"
)

// Denial is a request that was turned away for what it is, whatever it asked.
type Denial struct {
	// From is the address that it came from, Method and Path what it asked.
	From, Method, Path string
	// Why it was turned away.
	Why string
}

// denied tells of a denial, where somebody listens.
func denied(tell func(Denial), r *http.Request, why string) {
	if tell == nil {
		return
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		from = r.RemoteAddr
	}
	tell(Denial{From: from, Method: r.Method, Path: r.URL.Path, Why: why})
}
