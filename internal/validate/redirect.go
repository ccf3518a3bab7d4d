package validate

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/certctl/certctl/internal/acme"
)

// A hop is one request of an http-01 probe: the first, or one that a redirect
// asked for.
type hop struct {
	url     *url.URL
	name    string     // the host, when it is a DNS name
	addr    netip.Addr // the host, when it is an IP address
	port    uint16     // that is dialled
	number  int        // redirects so far
	foreign bool       // the host is not the identifier's, or a foreign host led here
	entry   string     // the first foreign host, as the identifier's server named it
}

func (h *hop) redirected() bool { return h.number > 0 }

func (h *hop) host() string {
	if h.addr.IsValid() {
		return h.addr.String()
	}
	return h.name
}

// String is the URL as the client may read it. A query or path that the
// identifier's server put into a redirect is part of its answer and left out.
func (h *hop) String() string {
	if !h.redirected() {
		return clip(h.url.String(), maxNameInText)
	}
	return clip(fmt.Sprintf("%s://%s (redirect %d)", h.url.Scheme, h.url.Host, h.number), maxNameInText)
}

// firstHop is the request of RFC 8555, Section 8.3. Its URL has no port, so
// neither has its Host field (RFC 8738, Section 5 wants the bare address):
// where HTTP01Port is not 80, it stands for the place to which port 80 leads.
func (pr *probe) firstHop() *hop {
	host := pr.name
	if pr.addr.Is6() {
		host = "[" + pr.addr.String() + "]"
	} else if pr.addr.IsValid() {
		host = pr.addr.String()
	}
	return &hop{
		url:  &url.URL{Scheme: "http", Host: host, Path: wellKnown + pr.Token},
		name: pr.name,
		addr: pr.addr,
		port: pr.httpPort,
	}
}

// follow decides where a redirect leads, or why it is not followed.
func (pr *probe) follow(from *hop, a *answer, number int) (*hop, *failure) {
	to, reason := pr.redirect(from, a.location, number)
	if reason != "" {
		pr.trace.add(StepRedirect, a.location, a.addr.String(), "refused: %s", reason)
		return nil, failf(acme.ErrIncorrectResponse, "%s at %v: status %d with a redirect that is not followed: %s",
			from, a.addr, a.status, reason)
	}
	pr.trace.add(StepRedirect, to.url.String(), a.addr.String(), "redirect %d", number)
	return to, nil
}

// redirect resolves the Location of the hop's answer and applies the rules:
// http and https, known ports, no user, the same host or one that is allowed,
// and not endlessly.
func (pr *probe) redirect(from *hop, location string, number int) (to *hop, reason string) {
	if number > maxRedirects {
		return nil, fmt.Sprintf("more than %d redirects", maxRedirects)
	}
	if location == "" {
		return nil, "it has no Location"
	}
	u, err := from.url.Parse(location)
	switch {
	case err != nil:
		return nil, "its Location is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, "its scheme is neither http nor https"
	case u.User != nil:
		return nil, "its URL names a user"
	case u.Opaque != "" || u.Hostname() == "":
		return nil, "its URL names no host"
	}
	to = &hop{url: u, number: number, foreign: from.foreign, entry: from.entry}
	if reason := pr.setPort(to); reason != "" {
		return nil, reason
	}
	if reason := pr.setHost(to); reason != "" {
		return nil, reason
	}
	u.Fragment, u.RawFragment = "", ""
	return to, ""
}

// setPort finds the port to dial. A URL without a port means where the
// configuration says that this scheme is served, like the first request.
func (pr *probe) setPort(to *hop) (reason string) {
	text := to.url.Port()
	if text == "" && strings.HasSuffix(to.url.Host, ":") {
		return "its port is empty"
	}
	switch {
	case text == "" && to.url.Scheme == "http":
		to.port = pr.httpPort
		return ""
	case text == "":
		to.port = pr.tlsPort
		return ""
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "its port is not a port"
	}
	to.port = uint16(n)
	switch to.port {
	case defaultHTTPPort, defaultTLSPort, pr.httpPort, pr.tlsPort:
		return ""
	}
	return "its port is not one of those that validation uses"
}

// setHost brings the host of a redirect into canonical form and decides
// whether it may be asked.
func (pr *probe) setHost(to *hop) (reason string) {
	text, port := to.url.Hostname(), to.url.Port()
	if addr, err := netip.ParseAddr(text); err == nil {
		if addr.Zone() != "" {
			return "its address has a zone"
		}
		to.addr = addr.Unmap()
	} else {
		id, err := acme.ParseIdentifier(string(acme.DNS), strings.TrimSuffix(strings.ToLower(text), "."))
		if err != nil || id.Wildcard() {
			return "its host is not a name that can be looked up"
		}
		to.name = id.Value
	}
	same := to.name == pr.name && to.addr == pr.addr
	if !same && (pr.RedirectAllowed == nil || !pr.RedirectAllowed(to.host())) {
		return fmt.Sprintf("it leads to the host %s, which this profile does not allow", clip(to.host(), maxQuoted))
	}
	if !same && !to.foreign {
		to.foreign, to.entry = true, to.host()
	}
	to.url.Host = to.host()
	if to.addr.Is6() {
		to.url.Host = "[" + to.host() + "]"
	}
	if port != "" {
		to.url.Host = net.JoinHostPort(to.host(), port)
	}
	return ""
}

// told is the failure of a hop as the client may know it. What another host
// than the identifier's did is not told: whoever answers for a name could
// otherwise find out what names, ports and pages the CA can reach.
func (pr *probe) told(h *hop, f *failure) *failure {
	if f == nil || !h.foreign {
		return f
	}
	return failf(acme.ErrUnauthorized,
		"%s redirects to the host %s, from where the key authorization was not received; the trace of this validation says why",
		pr.firstHop(), clip(h.entry, maxQuoted)).orRetry(f.retry)
}
