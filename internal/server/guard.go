package server

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// guard lets through what was meant for this server: requests that name a
// loopback host, so that no web site can reach it by a DNS name of its own, and
// no request across origins that would change something. It also bounds the
// time of a request, survives a handler's panic, and answers unknown paths as
// the API answers errors.
func (s *Server) guard(mux *http.ServeMux) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: w}
		start := time.Now()
		defer func() {
			if p := recover(); p != nil {
				s.Log.Error("a request failed by a defect", "method", r.Method, "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if rec.status != 0 {
					panic(http.ErrAbortHandler) // what was sent cannot be taken back
				}
				refuse(rec, http.StatusInternalServerError, belay.CodeInternal, "the server's log has more", "a defect of the server")
			}
			s.Log.Debug("request", "method", r.Method, "path", r.URL.Path, "status", rec.status, "duration", time.Since(start))
		}()
		h := rec.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		// Streams set their own; the error is of writers that know no deadlines.
		_ = http.NewResponseController(w).SetWriteDeadline(start.Add(planTimeout + bodyTimeout + writeTimeout))

		if !loopbackHost(r.Host) {
			denied(s.Denied, r, fmt.Sprintf("this server does not answer to the host %.100q", r.Host))
			refuse(rec, http.StatusMisdirectedRequest, belay.CodeForbidden,
				"name it as localhost or 127.0.0.1; it answers to no other name until there is access control",
				"this server does not answer to the host %q", r.Host)
			return
		}
		if err := crossOrigin.Check(r); err != nil {
			denied(s.Denied, r, fmt.Sprintf("a request from another origin, %.100q, may not change anything", r.Header.Get("Origin")))
			refuse(rec, http.StatusForbidden, belay.CodeForbidden, "", "a request from another origin may not change anything")
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" {
			s.unknown(mux, rec, r)
			return
		}
		mux.ServeHTTP(rec, r)
	})
}

// loopbackHost reports whether a Host header names this machine's loopback interface.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// unknown answers what no route fits: the multiplexer says why.
func (s *Server) unknown(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) {
	probe := &discard{header: http.Header{}}
	mux.ServeHTTP(probe, r)
	switch probe.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", probe.header.Get("Allow"))
		refuse(w, probe.status, belay.CodeInvalid, "allowed is "+probe.header.Get("Allow"), "%s is not possible on %s", r.Method, r.URL.Path)
	case http.StatusNotFound:
		refuse(w, probe.status, belay.CodeNotFound, "the API is described at /docs", "there is nothing at %s", r.URL.Path)
	default: // a redirect to the clean form of the path
		maps.Copy(w.Header(), probe.header)
		w.WriteHeader(probe.status)
	}
}

// discard keeps the head of an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }

// recorder notes the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(b)
}

// Unwrap gives http.ResponseController what it needs.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
