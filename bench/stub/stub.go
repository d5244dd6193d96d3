// Package stub serves many clusters' API servers from one small process: enough of
// each for Belay to deliver to, so that what many clusters cost Belay can be
// measured on a machine that could not hold their control planes.
//
// A stub knows discovery, lists, watches (with the initial events and bookmarks
// that reflectors ask for), server-side apply with the managed fields of one
// manager, and deletion, over TLS and HTTP/2. It has no defaults, validation,
// admission, conflicts between managers, controllers, garbage collection, access
// rules or protobuf, and it keeps everything in memory. It must not know Belay.
package stub

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Clusters are stubs on loopback, each with an address of its own.
type Clusters struct {
	authority string // of all certificates, PEM
	clusters  []*cluster
	servers   []*http.Server
	done      sync.WaitGroup
}

// Serve starts n stubs.
func Serve(ctx context.Context, n int) (*Clusters, error) {
	cert, authority, err := certificate()
	if err != nil {
		return nil, err
	}
	s := &Clusters{authority: authority}
	for i := range n {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("serve stub %d: %w", i, err)
		}
		c := newCluster(i, l.Addr().String())
		srv := &http.Server{Handler: c, ReadHeaderTimeout: time.Minute, TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
			ErrorLog: log.New(io.Discard, "", 0)}
		s.clusters, s.servers = append(s.clusters, c), append(s.servers, srv)
		s.done.Go(func() { _ = srv.ServeTLS(&listener{l, c.hang}, "", "") }) // it ends with Close
	}
	return s, nil
}

// Close ends them.
func (s *Clusters) Close() {
	for i, srv := range s.servers {
		s.clusters[i].hang.end()
		_ = srv.Close() // nobody is left to be told
	}
	s.done.Wait()
}

// Name of a stub: its context in the kubeconfig.
func Name(i int) string { return fmt.Sprintf("cluster-%03d", i) }

// Kubeconfig names all of them.
func (s *Clusters) Kubeconfig() string {
	var clusters, contexts strings.Builder
	ca := base64.StdEncoding.EncodeToString([]byte(s.authority))
	for i, c := range s.clusters {
		fmt.Fprintf(&clusters, "- name: %s\n  cluster: {server: \"https://%s\", certificate-authority-data: %s}\n", Name(i), c.address, ca)
		fmt.Fprintf(&contexts, "- name: %s\n  context: {cluster: %s, user: bench}\n", Name(i), Name(i))
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Config\ncurrent-context: %s\nusers:\n- name: bench\n  user: {token: none}\nclusters:\n%scontexts:\n%s", Name(0), &clusters, &contexts)
}

// Handler lets another process ask: GET /counts gives the [Counts] of all stubs
// together, POST /hang?cluster=N has one hang from now on, and GET /value?cluster=N&namespace=S&value=V
// answers as soon as a ConfigMap of the namespace has the value.
func (s *Clusters) Handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.counts()) })
	m.HandleFunc("POST /hang", func(w http.ResponseWriter, r *http.Request) {
		if c := s.of(w, r); c != nil {
			c.hang.begin()
		}
	})
	m.HandleFunc("GET /value", func(w http.ResponseWriter, r *http.Request) {
		c := s.of(w, r)
		if c == nil {
			return
		}
		at, ok := c.await(r.Context(), r.FormValue("namespace"), r.FormValue("value"))
		if !ok {
			http.Error(w, "it never came", http.StatusRequestTimeout)
			return
		}
		writeJSON(w, http.StatusOK, at)
	})
	return m
}

func (s *Clusters) of(w http.ResponseWriter, r *http.Request) *cluster {
	i, err := strconv.Atoi(r.FormValue("cluster"))
	if err != nil || i < 0 || i >= len(s.clusters) {
		http.Error(w, "no such cluster", http.StatusNotFound)
		return nil
	}
	return s.clusters[i]
}

// Counts are what was asked for and what is there.
type Counts struct {
	// Requests by verb, as an audit log names them. A watch counts when it begins.
	Requests map[string]int `json:"requests"`
	Objects  int            `json:"objects"`
	// Watches that are open.
	Watches int `json:"watches"`
	// Unknown are requests that a stub has no answer for.
	Unknown []string `json:"unknown,omitempty"`
}

func (s *Clusters) counts() Counts {
	sum := Counts{Requests: map[string]int{}}
	for _, c := range s.clusters {
		c.mu.Lock()
		for verb, n := range c.requests {
			sum.Requests[verb] += n
		}
		sum.Objects += len(c.objects)
		sum.Watches += len(c.watchers)
		sum.Unknown = append(sum.Unknown, c.unknown...)
		c.mu.Unlock()
	}
	return sum
}

// listener gives connections on which nothing is said any more once a stub hangs.
type listener struct {
	net.Listener
	hang *gate
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{c, l.hang}, nil
}

type conn struct {
	net.Conn
	hang *gate
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.hang.pass()
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.hang.pass()
	return c.Conn.Write(b)
}

// gate holds up who passes, from its beginning until its end.
type gate struct {
	mu     sync.Mutex
	closed chan struct{} // nil while it is open
	over   bool
}

func (g *gate) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil && !g.over {
		g.closed = make(chan struct{})
	}
}

func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over = true; g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed != nil {
		<-closed
	}
}

// certificate is one for 127.0.0.1 that signs itself.
func certificate() (tls.Certificate, string, error) {
	fail := func(err error) (tls.Certificate, string, error) {
		return tls.Certificate{}, "", fmt.Errorf("make a certificate: %w", err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stub"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return fail(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), nil
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // values made here
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(b) // who asked may be gone
}

var errNoObject = errors.New("not an object")
