package gittest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/belaydev/belay/internal/xec"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSH serves the bare repositories below a directory over SSH, to one key.
type SSH struct {
	// URL of the server; a repository is URL + "/name.git".
	URL string
	// Addr is host:port.
	Addr string
	// Key is the private key that may log in, in OpenSSH's PEM format.
	Key []byte
	// KnownHosts is the known_hosts line of the server.
	KnownHosts []byte

	t      testing.TB
	root   string
	config *ssh.ServerConfig
	ctx    context.Context
	cancel context.CancelFunc
	l      net.Listener
	wg     sync.WaitGroup
}

// NewSSHKey is a fresh private key in PEM with its public half.
func NewSSHKey(t testing.TB) (private []byte, public ssh.PublicKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "gittest")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block), signer.PublicKey()
}

// ServeSSH serves root until the test ends.
func ServeSSH(t testing.TB, root string) *SSH {
	t.Helper()
	s := &SSH{t: t, root: root, Addr: "127.0.0.1:0"}
	private, public := NewSSHKey(t)
	s.Key = private
	hostPEM, _ := NewSSHKey(t)
	host, err := ssh.ParsePrivateKey(hostPEM)
	if err != nil {
		t.Fatal(err)
	}
	s.config = &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if string(key.Marshal()) != string(public.Marshal()) {
				return nil, errors.New("unknown key")
			}
			return nil, nil
		},
	}
	s.config.AddHostKey(host)
	s.Start()
	s.URL = "ssh://git@" + s.Addr
	s.KnownHosts = []byte(knownhosts.Line([]string{s.Addr}, host.PublicKey()) + "\n")
	t.Cleanup(s.Stop)
	return s
}

// Start serves again after Stop, at the same address.
func (s *SSH) Start() {
	s.t.Helper()
	l := listen(s.t, s.Addr)
	s.l, s.Addr = l, l.Addr().String()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { s.connection(c) })
		}
	})
}

// Stop ends every connection and refuses new ones until Start.
func (s *SSH) Stop() {
	s.l.Close()
	s.cancel()
	s.wg.Wait()
}

func (s *SSH) connection(c net.Conn) {
	defer context.AfterFunc(s.ctx, func() { c.Close() })()
	defer c.Close()
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	defer conn.Close()
	s.wg.Go(func() { ssh.DiscardRequests(requests) })
	for nc := range channels {
		if nc.ChannelType() != "session" {
			nc.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		s.wg.Go(func() { s.session(ch, reqs) })
	}
}

// session runs the one command that is asked for, as git-shell would.
func (s *SSH) session(ch ssh.Channel, reqs <-chan *ssh.Request) {
	defer ch.Close()
	env := gitEnv()
	for req := range reqs {
		switch req.Type {
		case "env":
			var v struct{ Name, Value string }
			if ssh.Unmarshal(req.Payload, &v) == nil && v.Name == "GIT_PROTOCOL" {
				env = append(env, v.Name+"="+v.Value)
			}
			req.Reply(true, nil)
		case "exec":
			var v struct{ Command string }
			if err := ssh.Unmarshal(req.Payload, &v); err != nil {
				req.Reply(false, nil)
				return
			}
			req.Reply(true, nil)
			status := s.exec(ch, v.Command, env)
			ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{status}))
			return
		default:
			req.Reply(false, nil)
		}
	}
}

func (s *SSH) exec(ch ssh.Channel, command string, env []string) uint32 {
	verb, arg, _ := strings.Cut(command, " ")
	if verb != "git-upload-pack" && verb != "git-receive-pack" {
		io.WriteString(ch.Stderr(), "gittest: not a git command\n")
		return 128
	}
	dir := filepath.Join(s.root, filepath.Clean("/"+strings.Trim(arg, "'")))
	p, err := xec.Command{
		Path: "git", Args: []string{strings.TrimPrefix(verb, "git-"), dir}, Env: env, Inherit: []string{"PATH"},
		Pipes: true, Stderr: ch.Stderr(),
	}.Start(s.ctx)
	if err != nil {
		return 128
	}
	go func() { // ends when the channel does
		io.Copy(p.Stdin, ch)
		p.Stdin.Close()
	}()
	io.Copy(ch, p.Stdout)
	p.Stdout.Close()
	if err := p.Wait(); err != nil {
		if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code > 0 {
			return uint32(e.Code)
		}
		return 128
	}
	return 0
}
