package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/belaydev/belay"
)

// Listen opens a TCP listener on a loopback address, "127.0.0.1:8180" or
// "localhost:0". Any other address is refused, because whoever reaches the API
// may use it. A host name must resolve to loopback addresses only.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	return listenLoopback(ctx, addr, "--listen", "127.0.0.1:8180", "whoever reaches the API may use it, as there is no access control yet")
}

// ListenProfiles opens a TCP listener on a loopback address for [Profiles].
func ListenProfiles(ctx context.Context, addr string) (net.Listener, error) {
	return listenLoopback(ctx, addr, "--pprof-listen", "127.0.0.1:6060", "whoever reaches profiles sees the inside of the process and can slow it down")
}

// listenLoopback listens on an address that the option flag named; danger is why
// no other address will do.
func listenLoopback(ctx context.Context, addr, flag, example, danger string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("the address %q of %s is not of the form host:port", addr, flag),
			Hint: "use for example " + example, Err: err}
	}
	ip, err := loopback(ctx, addr, host, example, danger)
	if err != nil {
		return nil, err
	}
	// The address that was checked is the one listened on: a name is not resolved twice.
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", net.JoinHostPort(ip.String(), port))
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cannot listen on %q: %v", addr, cause(err)),
			Hint: "another server may be running there; name another address with " + flag, Err: err}
	}
	return l, nil
}

// cause is what went wrong, without the address that an OpError repeats.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// loopback returns the address that host stands for.
func loopback(ctx context.Context, addr, host, example, danger string) (netip.Addr, error) {
	refuse := func(why string) error {
		return &belay.Error{Code: belay.CodeDenied, Message: fmt.Sprintf("refusing to listen on %q: %s", addr, why),
			Hint: danger + ": listen on a loopback address such as " + example +
				" and reach it from elsewhere through \"ssh -L\" or \"kubectl port-forward\""}
	}
	if host == "" {
		return netip.Addr{}, refuse("an address without a host means every interface")
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Unmap().IsUnspecified() {
			return netip.Addr{}, refuse("that means every interface")
		}
		if !ip.Unmap().IsLoopback() {
			return netip.Addr{}, refuse("that is not a loopback address")
		}
		return ip.Unmap(), nil
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("cannot listen on %q: the host name %q does not resolve", addr, host),
			Hint: "use for example " + example, Err: err}
	}
	var pick netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if !ip.IsLoopback() {
			return netip.Addr{}, refuse(fmt.Sprintf("%s is %s, which is not a loopback address", host, ip))
		}
		if !pick.IsValid() || ip.Is4() && !pick.Is4() {
			pick = ip
		}
	}
	if !pick.IsValid() {
		return netip.Addr{}, refuse(fmt.Sprintf("%s has no address", host))
	}
	return pick, nil
}
