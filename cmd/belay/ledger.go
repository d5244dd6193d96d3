package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/version"
)

// ledgerDir is the ledger within the data directory.
const ledgerDir = "ledger.git"

// ledgerKey is the key in the data directory that is made where none is given.
const ledgerKey = "ledger.key"

// ledgerOptions are the flags of the ledger.
type ledgerOptions struct {
	writer, remote string
	keys           []string
}

func (o *ledgerOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.writer, "ledger-writer", "", "name of this server in the ledger; its records are on the branch ledger/NAME (default: the name of the host)")
	f.StringVar(&o.remote, "ledger-remote", "", "URL of a repository that the ledger is pushed to, with the credentials that git finds, and fetched from when it was lost")
	f.StringArrayVar(&o.keys, "ledger-key", nil, "file with the SSH private key that signs the ledger's checkpoints (default: made in --data); repeat it with the key before, so that the old one signs the new one")
}

// checkWriterName says what is wrong with the name of a writer, if anything is.
func checkWriterName(name string) error {
	if err := record.CheckWriter(name); err != nil {
		return usageError("--ledger-writer: " + err.Error())
	}
	return nil
}

// open opens the ledger of a server.
func (o *ledgerOptions) open(ctx context.Context, data *dataDir, instance string, log *slog.Logger) (*ledger.Ledger, error) {
	writer := o.writer
	if writer == "" {
		writer = defaultWriter(instance)
	}
	if err := checkWriterName(writer); err != nil {
		return nil, err
	}
	lo := ledger.Options{Dir: filepath.Join(data.path, ledgerDir), Writer: writer, Logger: log.With("component", "ledger")}
	var err error
	if lo.Key, lo.OldKeys, err = o.readKeys(filepath.Join(data.path, ledgerKey)); err != nil {
		return nil, err
	}
	if o.remote != "" {
		url := o.remote
		if !strings.Contains(url, ":") { // a path, and the server does not depend on where it was started
			if url, err = filepath.Abs(url); err != nil {
				return nil, fmt.Errorf("find --ledger-remote: %w", err)
			}
		}
		if lo.Remote, err = git.NewRemote(lo.Dir, url, nil); err != nil {
			return nil, err
		}
	}
	return ledger.Open(ctx, lo)
}

// readKeys reads the key to sign with and those that are at hand beside it. own is
// the one in the data directory.
func (o *ledgerOptions) readKeys(own string) (key *ledger.Key, old []*ledger.Key, err error) {
	if len(o.keys) == 0 {
		if key, err = ledger.MakeKey(own); err != nil && belay.CodeOf(err) == belay.CodeInternal {
			err = &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the key of the ledger cannot be made: %v", err),
				Hint: "check the disk of the data directory, or give a key with --ledger-key", Err: err}
		}
		return key, nil, err
	}
	for _, path := range o.keys {
		k, err := ledger.ReadKey(path)
		if err != nil {
			return nil, nil, err
		}
		old = append(old, k)
	}
	if k, err := ledger.ReadKey(own); err == nil { // it was in use before one was given
		old = append(old, k)
	}
	return old[0], old[1:], nil
}

// defaultWriter is the host's name, with that of the instance where there are
// several on one host, as far as it fits.
func defaultWriter(instance string) string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	if instance != "" {
		host += "." + instance
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	name = strings.Join(strings.FieldsFunc(name, func(r rune) bool { return r == '.' }), ".")
	name = strings.TrimSuffix(strings.Trim(name[:min(len(name), 63)], "-."), ".lock")
	return cmp.Or(name, "belay")
}

// started is the first event of a life of the server.
func (s *serving) started(o *serveOptions) belay.Event {
	flags := []string{"--repo " + s.parts.repo, "--ref " + o.ref, "--path " + cleanPath(o.path)}
	add := func(set bool, flag string) {
		if set {
			flags = append(flags, flag)
		}
	}
	add(o.instance != "", "--instance "+o.instance)
	add(o.onlyCluster != "", "--only-cluster "+o.onlyCluster)
	add(o.ownCredentials, "--own-credentials")
	for _, ns := range o.namespaces {
		add(true, "--namespace "+ns)
	}
	for _, p := range o.plugins {
		add(true, "--allow-exec-plugin "+p)
	}
	add(o.election.elect, "--leader-elect")
	add(o.ledger.remote != "", "--ledger-remote "+withoutToken(o.ledger.remote))
	add(o.signing.signers != "", "--config-signers "+o.signing.signers)
	add(o.signing.require, "--require-signed-config")
	add(o.commits.key != "", "--commit-signing-key "+o.commits.key)
	return belay.Event{Type: belay.EventStarted, Repo: s.parts.repo, Ref: o.ref,
		Message: fmt.Sprintf("belay %s started with %s", version.Get().Version, strings.Join(flags, " "))}
}

// takeOver puts on the record that this process leads, with what the one that led
// before held. Neither may keep it from working: what is on no record is held by
// nobody, and that is said.
func (s *serving) takeOver(ctx context.Context) {
	ev := belay.Event{Type: belay.EventLeader, Repo: s.parts.repo, Object: s.group, Message: s.lease.Identity() + " leads"}
	from, err := s.ledger.Inherit(ctx, withoutToken(ev.Repo), ev.Object)
	if err != nil {
		s.log.Error("what the server that led before held may not be held any more", "error", err)
	}
	if from != "" {
		ev.Message += ", after " + from
	}
	if _, err := s.recorder.Record(ctx, ev); err != nil {
		s.recorder.Publish(ev) // as soon as it can be written
	}
}

// ledgerProblems are what keeps the ledger from being written or pushed.
func ledgerProblems(l *ledger.Ledger) (out []belay.Error) {
	st := l.Stats()
	for _, e := range []*belay.Error{st.Problem, st.Remote} {
		if e != nil {
			out = append(out, *e)
		}
	}
	return out
}

// closeTimeout is how long the end of a server waits for its ledger.
const closeTimeout = 30 * time.Second

func (s *serving) closeLedger(ctx context.Context) error {
	s.recorder.Publish(belay.Event{Type: belay.EventStopped, Message: "belay stopped"})
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	return s.ledger.Close(ctx)
}
