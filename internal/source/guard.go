package source

import (
	"fmt"
	"net/netip"

	"github.com/belaydev/belay"
)

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
