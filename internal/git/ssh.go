package git

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// ssh readies the ssh client. A private key is handed to it by an agent inside
// this process: it is written to no disk and no environment.
func (r *remote) ssh(l location, auth Auth) error {
	options := []string{
		"BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ConnectTimeout=15",
		"ServerAliveInterval=10", "ServerAliveCountMax=3", "ForwardAgent=no", "ForwardX11=no",
		"ClearAllForwardings=yes", "PermitLocalCommand=no", "ControlMaster=no", "ControlPath=none",
	}
	if auth.Address.IsValid() { // its key is still that of the name
		options = append(options, "HostName="+auth.Address.String(), "HostKeyAlias="+l.host, "ProxyCommand=none", "ProxyJump=none")
	}
	cmd := "ssh"
	r.given = len(auth.SSHKey) > 0
	if len(auth.SSHKey) > 0 || len(auth.KnownHosts) > 0 {
		dir, err := r.tempDir()
		if err != nil {
			return err
		}
		if len(auth.KnownHosts) > 0 {
			name := filepath.Join(dir, "known_hosts")
			if err := os.WriteFile(name, append([]byte(nil), auth.KnownHosts...), 0o600); err != nil {
				return err
			}
			options = append(options, `UserKnownHostsFile="`+name+`"`, "GlobalKnownHostsFile="+os.DevNull)
		}
		if len(auth.SSHKey) > 0 {
			socket := filepath.Join(dir, "agent")
			if err := r.agent(socket, auth.SSHKey); err != nil {
				return err
			}
			// With a key of its own, nothing of the user's configuration counts.
			cmd += " -F none"
			options = append(options, "IdentityFile=none", `IdentityAgent="`+socket+`"`, "PasswordAuthentication=no")
			r.env = append(r.env, "SSH_AUTH_SOCK="+socket)
		}
	}
	var line strings.Builder
	line.WriteString(cmd)
	for _, o := range options {
		line.WriteString(" -o " + shellQuote(o))
	}
	r.env = append(r.env, "GIT_SSH_COMMAND="+line.String(), "GIT_SSH_VARIANT=ssh")
	return nil
}

// agent serves one key on a socket that only this user can reach.
func (r *remote) agent(socket string, key []byte) error {
	private, err := ssh.ParseRawPrivateKey(key)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return errors.New("the SSH key is protected by a passphrase; use one without")
	}
	if err != nil {
		return errors.New("the SSH key is not a private key in PEM") // the cause might quote it
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: private}); err != nil {
		return errors.New("the SSH key is of a kind that is not supported")
	}
	l, err := net.Listen("unix", socket) //nolint:noctx // a socket in a directory of our own is bound at once
	if err != nil {
		return fmt.Errorf("serve the SSH key: %w", err)
	}
	r.secrets = append(r.secrets, string(key))
	r.closers = append(r.closers, func() {
		l.Close()
		_ = ring.RemoveAll()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(ring, c) // ends when the client does
			}()
		}
	}()
	return nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
