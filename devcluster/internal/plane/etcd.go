package plane

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startEtcd starts a one-member etcd and waits until it takes requests.
func (p *Plane) startEtcd(ctx context.Context, cfg Config) error {
	socket, err := p.dir.socket()
	if err != nil {
		return err
	}
	clients := url.URL{Scheme: "unix", Path: socket}
	// etcd wants addresses to advertise, even if a lone member has nobody to
	// tell. Nothing listens there.
	nowhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:1"}}

	ec := embed.NewConfig()
	ec.Name = "devcluster"
	ec.Dir = p.dir.file("etcd")
	ec.ListenClientUrls = []url.URL{clients}
	ec.AdvertiseClientUrls = nowhere
	ec.ListenPeerUrls = nil
	ec.AdvertisePeerUrls = nowhere
	ec.InitialCluster = ec.InitialClusterFromName(ec.Name)
	ec.UnsafeNoFsync = !cfg.Fsync
	// The only member elects itself when the first election times out.
	ec.TickMs = 10
	ec.ElectionMs = 100
	ec.EnableGRPCGateway = false
	ec.QuotaBackendBytes = 8 << 30
	ec.WarningUnaryRequestDuration = time.Second // the zero value warns of all
	ec.LogLevel = "warn"
	ec.LogOutputs = []string{"stderr"}
	if p.dir.logPath != "" {
		ec.LogOutputs = []string{p.dir.logPath}
	}
	etcd, err := embed.StartEtcd(ec)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	p.run("etcd", etcdGrace, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			etcd.Close()
			return nil
		case err := <-etcd.Err():
			return err
		case <-etcd.Server.StopNotify():
			return nil
		}
	})
	select {
	case <-etcd.Server.ReadyNotify():
		return nil
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return fmt.Errorf("etcd: not ready after %v: %w", time.Since(p.started).Round(time.Second), ctx.Err())
	}
}
