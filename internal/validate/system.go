package validate

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

const (
	resolvConf = "/etc/resolv.conf"
	hostsFile  = "/etc/hosts"
)

// systemResolver asks the servers of a resolv.conf file and knows the names of
// a hosts file. Both files are read anew for each question, so a change needs
// no restart. Search domains do not apply: identifiers are complete names.
func systemResolver(resolvConf, hostsFile string) *resolver {
	return &resolver{
		servers:  func() ([]string, error) { return systemServers(resolvConf) },
		hosts:    func(name string) []netip.Addr { return systemHosts(hostsFile, name) },
		exchange: exchange,
	}
}

// systemServers returns the name servers of a resolv.conf file, or this host's
// when there are none (resolv.conf(5)).
func systemServers(file string) ([]string, error) {
	content, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	config, err := dns.ClientConfigFromReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	var servers []string
	for _, s := range config.Servers {
		servers = append(servers, net.JoinHostPort(s, config.Port))
	}
	if len(servers) == 0 {
		servers = []string{net.JoinHostPort("127.0.0.1", defaultDNSPort)}
	}
	return servers, nil
}

// systemHosts returns the addresses that a hosts file gives a name. The names
// localhost and those below it are always this host's (RFC 6761, Section 6.3).
func systemHosts(file, name string) []netip.Addr {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	var addrs []netip.Addr
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || addr.Zone() != "" {
			continue
		}
		for _, alias := range fields[1:] {
			if strings.EqualFold(strings.TrimSuffix(alias, "."), name) {
				addrs = append(addrs, addr.Unmap())
				break
			}
		}
	}
	return addrs
}
