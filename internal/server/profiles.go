package server

import (
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"
)

// Profiles answers below /debug/pprof/ with profiles of this process. It is
// served on loopback alone, and like the API answers to no other name, nor to
// what a web site sends a browser to fetch: a trace takes time from the process.
// The command line is left out, because a URL in it may hold a token.
func Profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol) // asked with POST, too
	mux.HandleFunc("/debug/pprof/cmdline", http.NotFound)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		switch {
		case !loopbackHost(r.Host):
			http.Error(w, "this server does not answer to that host; name it as localhost or 127.0.0.1", http.StatusMisdirectedRequest)
		case r.Header.Get("Sec-Fetch-Site") == "cross-site":
			http.Error(w, "another site may not ask for profiles", http.StatusForbidden)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// How much of waiting is noted: what blocks longer than this, on average, and one
// in so many events of contention. Both are rare enough to cost little.
const (
	blockNoted    = 100 * time.Microsecond
	mutexFraction = 100
)

// NoteContention turns on the block and mutex profiles, for good.
func NoteContention() {
	runtime.SetBlockProfileRate(int(blockNoted))
	runtime.SetMutexProfileFraction(mutexFraction)
}
