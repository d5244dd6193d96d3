package source

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// strangerAuth is how a Git repository is reached that nobody declared: at an
// address that was looked at, over a transport that can be held to it, and with
// no credentials but those that the user of this process has for its host.
func (h *Hub) strangerAuth(ctx context.Context, url string) (git.Auth, error) {
	scheme, host, err := git.Host(url)
	if err != nil {
		return git.Auth{}, err
	}
	if scheme != "https" && scheme != "http" && scheme != "ssh" {
		return git.Auth{}, &belay.Error{Code: belay.CodeDenied, Message: fmt.Sprintf("%s:// is not for repositories that only files name", scheme),
			Hint: "use https://, or declare a Repository with this URL"}
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return git.Auth{}, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("the host %s has no address", host), Err: err, Hint: "check the URL"}
	}
	for _, a := range addrs {
		if err := refuseLocal(a.Unmap()); err != nil {
			return git.Auth{}, err
		}
	}
	return git.Auth{Address: addrs[0].Unmap()}, nil
}

// refuseLocal refuses the addresses of this machine and of the network around it.
func refuseLocal(a netip.Addr) error {
	if !local(a.Unmap()) {
		return nil
	}
	return &belay.Error{Code: belay.CodeDenied, Message: fmt.Sprintf("the address %s is one of the local network", a),
		Hint: "declare a Repository with this URL if it may be reached"}
}

// sharedSpace is what carriers and clouds use inside (RFC 6598); zero is "this network".
var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10")
	zero        = netip.MustParsePrefix("0.0.0.0/8")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
)

func local(a netip.Addr) bool {
	if nat64.Contains(a) {
		b := a.As16()
		a = netip.AddrFrom4([4]byte(b[12:]))
	}
	return !a.IsValid() || a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() ||
		a.IsInterfaceLocalMulticast() || a.IsMulticast() || a.IsUnspecified() || sharedSpace.Contains(a) || zero.Contains(a)
}
