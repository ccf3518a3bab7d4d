package acmeserver

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

const (
	maxIdentifiers = 100
	// raceTries bounds how often a request that lost a race looks again.
	raceTries = 5
	// raceWait is how long it waits before, times the tries made: what the winner
	// changed leaves the caches a moment after it was committed.
	raceWait = 5 * time.Millisecond
)

// again reports whether a request is to look again after an error, and waits
// before it does.
func again(r *request, err error, try int) bool {
	if !errors.Is(err, store.ErrConflict) || try >= raceTries {
		return false
	}
	select {
	case <-time.After(time.Duration(try) * raceWait):
		return true
	case <-r.Context().Done():
		return false
	}
}

// newOrder makes an order (RFC 8555, Section 7.4).
func (s *Server) newOrder(r *request) (*response, error) {
	var req acme.OrderRequest
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	ids, ancestors, err := parseIdentifiers(req.Identifiers)
	if err != nil {
		return nil, err
	}
	if req.NotBefore != nil && req.NotBefore.IsZero() || req.NotAfter != nil && req.NotAfter.IsZero() {
		return nil, acme.Malformed("no certificate is for the year 1") // nor is that time the absence of one
	}
	if err := s.selectProfile(r, req.Profile); err != nil {
		return nil, err
	}
	replaces, serial := "", ""
	if req.Replaces != "" && s.cfg.ARIPollInterval > 0 { // else the field means nothing to us
		replaces = req.Replaces
		if serial, err = s.replaced(r, replaces, ids); err != nil {
			return nil, err
		}
	}
	for try := 1; ; try++ {
		rules, keys, err := s.mayOrder(r, ids)
		if err == nil {
			_, _, err = s.validity(rules.Profile(), timeOf(req.NotBefore), timeOf(req.NotAfter), s.cfg.Store.Now())
		}
		if err != nil {
			return nil, err
		}
		p := rules.Profile()
		n := store.NewOrder{
			AccountID: r.account.ID, ProfileID: r.profile, ProfileRevision: p.Revision, EABKeys: keys,
			Identifiers: ids, NotBefore: timeOf(req.NotBefore), NotAfter: timeOf(req.NotAfter),
			Replaces: replaces, ReplacesSerial: serial, OrderTTL: s.cfg.OrderTTL, AuthzTTL: s.cfg.AuthzTTL,
			Trusted:  p.AuthMode == policy.TrustAuthenticated,
			ReuseFor: reuseFor(p),
		}
		if !n.Trusted {
			if n.Authorizations, err = newAuthorizations(p, ids, ancestors); err != nil {
				return nil, err
			}
		}
		order, authzs, err := s.cfg.Store.CreateOrder(r.Context(), n)
		if again(r, err, try) {
			continue // the profile changed: judge under the new one
		}
		if err != nil {
			return nil, err
		}
		resp := s.orderResponse(r, order, authzs)
		resp.status = http.StatusCreated
		return resp, nil
	}
}

// timeOf returns a time that was asked for in the form in which it is kept.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Second)
}

// selectProfile takes up the profile that the order asks for
// (draft-ietf-acme-profiles, Section 4), if the directory offers it.
func (s *Server) selectProfile(r *request, name string) error {
	if name == "" || name == r.profile {
		return nil
	}
	rules, err := s.rules(r)
	if err != nil {
		return err
	}
	if !slices.Contains(rules.Profile().OfferedProfiles, name) {
		return acme.InvalidProfile("this directory does not offer the profile %.80q", name)
	}
	r.profile = name
	if _, err = s.rules(r); err != nil {
		return acme.InvalidProfile("the profile %q is no longer there", name)
	}
	return nil
}

// parseIdentifiers reads the names of an order, and for each the ancestor that
// the client offers to prove control of (RFC 9444, Section 4.3); "" is none. A
// name asked for twice counts once.
func parseIdentifiers(asked []acme.OrderRequestIdentifier) (ids []acme.Identifier, ancestors []string, err error) {
	if len(asked) == 0 {
		return nil, nil, acme.Malformed("the order names no identifier")
	}
	if len(asked) > maxIdentifiers {
		return nil, nil, acme.Malformed("the order has %d identifiers, more than %d", len(asked), maxIdentifiers)
	}
	seen := make(map[acme.Identifier]bool, len(asked))
	var problems []*acme.Problem
	for _, a := range asked {
		id, ancestor, err := parseIdentifier(a)
		var p *acme.Problem
		if errors.As(err, &p) {
			problems = append(problems, p.For(a.Identifier))
			continue
		}
		if !seen[id] {
			seen[id] = true
			ids, ancestors = append(ids, id), append(ancestors, ancestor)
		}
	}
	if len(problems) > 0 {
		return nil, nil, acme.Compound(problems)
	}
	return ids, ancestors, nil
}

func parseIdentifier(asked acme.OrderRequestIdentifier) (id acme.Identifier, ancestor string, err error) {
	id, err = acme.ParseIdentifier(string(asked.Type), asked.Value)
	if err != nil || asked.AncestorDomain == "" {
		return id, "", err
	}
	above, err := acme.ParseIdentifier(string(acme.DNS), asked.AncestorDomain)
	if err != nil {
		return id, "", err
	}
	if id.Type != acme.DNS || above.Wildcard() || !strings.HasSuffix(id.Base().Value, "."+above.Value) {
		return id, "", acme.Malformed("%.80q is not a domain above %s", asked.AncestorDomain, id.Value)
	}
	return id, above.Value, nil
}

// mayOrder judges an order by the profile as it is now. It is asked when the order
// is made and again when it is finalized. keys are the account's external account
// keys that it went by, nil where the profile requires none.
func (s *Server) mayOrder(r *request, ids []acme.Identifier) (rules *policy.Rules, keys []string, err error) {
	if rules, err = s.rules(r); err != nil {
		return nil, nil, err
	}
	grants, err := s.cfg.Store.Grants(r.Context(), r.account.ID)
	if err != nil {
		return nil, nil, err
	}
	if err := policy.Authorize(rules, ids, grants); err != nil {
		return nil, nil, err
	}
	if rules.Profile().EABRequired {
		keys = make([]string, len(grants))
		for i := range grants {
			keys[i] = grants[i].KeyID
		}
	}
	signer, err := s.issuer(rules.Profile())
	if err != nil {
		return nil, nil, err
	}
	names, ips := split(ids)
	if err := signer.CheckNames(names, ips); err != nil {
		return nil, nil, acme.RejectedIdentifier("%v", err)
	}
	return rules, keys, nil
}

// validity computes the life of a certificate that was ordered at the time given.
// Dates that the client asked for are judged by when it asked.
func (s *Server) validity(p *policy.Profile, notBefore, notAfter, ordered time.Time) (nb, na time.Time, err error) {
	signer, err := s.issuer(p)
	if err != nil {
		return nb, na, err
	}
	now := s.cfg.Store.Now()
	if notBefore.IsZero() && notAfter.IsZero() {
		ordered = now
	}
	nb, na, err = p.Validity(notBefore, notAfter, ordered, signer.NotAfter())
	if err == nil && !na.After(now) {
		err = acme.Malformed("the notAfter that was asked for, %s, has passed", na.Format(time.RFC3339))
	}
	return nb, na, err
}

// rules returns the profile that the URL names.
func (s *Server) rules(r *request) (*policy.Rules, error) {
	rules, err := s.cfg.Store.Profile(r.Context(), r.profile)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noSuch("profile")
	}
	return rules, err
}

func (s *Server) issuer(p *policy.Profile) (*issuer.Local, error) {
	signer, ok := s.cfg.Issuers[p.IssuerID]
	if !ok {
		return nil, acme.ServerInternal("the issuer of profile %q is not there", p.ID)
	}
	return signer, nil
}

func split(ids []acme.Identifier) (names []string, ips []netip.Addr) {
	for _, id := range ids {
		if id.Type == acme.IP {
			ips = append(ips, netip.MustParseAddr(id.Value))
		} else {
			names = append(names, id.Value)
		}
	}
	return names, ips
}

// order reads an order (RFC 8555, Section 7.4).
func (s *Server) order(r *request) (*response, error) {
	if len(r.payload) > 0 {
		return nil, notAsGet()
	}
	order, authzs, err := s.ownOrder(r)
	if err != nil {
		return nil, err
	}
	return s.orderResponse(r, order, authzs), nil
}

// ownOrder returns the order in the URL if it is the account's and the profile's.
func (s *Server) ownOrder(r *request) (*acme.Order, []acme.Authorization, error) {
	order, authzs, err := s.cfg.Store.Order(r.Context(), r.args[0])
	if errors.Is(err, store.ErrNotFound) || err == nil && (order.AccountID != r.account.ID || order.ProfileID != r.profile) {
		return nil, nil, noSuch("order")
	}
	return order, authzs, err
}

// finalize issues the order's certificate for a CSR (RFC 8555, Section 7.4). Sent
// again with the same CSR it answers with the order as it is: some clients poll
// that way.
func (s *Server) finalize(r *request) (*response, error) {
	var req acme.FinalizeRequest
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	hash := sha256.Sum256(req.CSR)
	for try := 1; ; try++ {
		order, authzs, err := s.ownOrder(r)
		if err != nil {
			return nil, err
		}
		switch status := order.Status(authzs, s.cfg.Store.Now()); {
		case status == acme.StatusReady:
		case !order.ClaimedAt.IsZero() && bytes.Equal(order.CSRHash, hash[:]):
			return s.orderResponse(r, order, authzs), nil
		default:
			return nil, notReady(order, status)
		}
		done, err := s.claim(r, order, authzs, req.CSR, hash[:])
		if again(r, err, try) {
			continue // another finalize won, or the profile changed
		}
		if err != nil {
			return nil, err
		}
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, store.ErrConflict) {
				s.cfg.Log.Error("order stays claimed and will be taken up again", "order", order.ID, "error", err)
			}
		case <-time.After(s.cfg.FinalizeWait):
		}
		order, authzs, err = s.cfg.Store.Order(r.Context(), order.ID)
		if err != nil {
			return nil, err
		}
		return s.orderResponse(r, order, authzs), nil
	}
}

func notReady(order *acme.Order, status acme.Status) error {
	p := acme.OrderNotReady("the order is %s, not ready", status)
	if order.Problem != nil {
		p.Subproblems = []*acme.Problem{order.Problem}
	}
	return p
}

// stillOffered refuses what was validated by a challenge type that the profile
// has given up since.
func stillOffered(p *policy.Profile, order *acme.Order, authzs []acme.Authorization) error {
	for i := range authzs {
		a := &authzs[i]
		ofAncestor := a.Identifier != order.Identifiers[i].Base()
		if !slices.Contains(p.ChallengeTypes, string(a.Attempted)) || ofAncestor && !p.SubdomainAuth {
			return acme.Unauthorized("profile %q no longer takes what %s proved of %s; make a new order and validate its names",
				p.ID, a.Attempted, a.Identifier.Value)
		}
	}
	return nil
}

// keyIsFree refuses a certificate for the key of any account (RFC 8555, Section
// 11.1), and for a key that is known to be compromised.
func (s *Server) keyIsFree(r *request, key crypto.PublicKey) error {
	if err := s.cfg.Blocked.Check(key); err != nil {
		return acme.BadCSR("the CSR's key is refused: %v", err)
	}
	account, blocked, err := s.cfg.Store.KeyInUse(r.Context(), key)
	switch {
	case err != nil:
		return err
	case blocked:
		return acme.BadCSR("the CSR's key was reported compromised; make a new one")
	case account:
		return acme.BadCSR("the CSR's key is that of an account; make a key of its own for the certificate")
	}
	return nil
}

// claim judges order and CSR once more, records what will be signed and has it
// signed. The channel tells when that is done; the request need not live so long.
func (s *Server) claim(r *request, order *acme.Order, authzs []acme.Authorization, der, hash []byte) (<-chan error, error) {
	ids := order.Names()
	var gone *acme.Problem
	if _, err := s.rules(r); errors.As(err, &gone) {
		// draft-ietf-acme-profiles, Section 4.
		return nil, acme.InvalidProfile("nothing is issued under the profile %q any more", r.profile)
	}
	rules, keys, err := s.mayOrder(r, ids)
	if err != nil {
		return nil, err
	}
	p := rules.Profile()
	if order.Trusted() && p.AuthMode != policy.TrustAuthenticated {
		return nil, acme.Unauthorized("profile %q no longer trusts its accounts; make a new order and validate its names", p.ID)
	}
	if err := stillOffered(p, order, authzs); err != nil {
		return nil, err
	}
	signer, err := s.issuer(p)
	if err != nil {
		return nil, err
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		return nil, acme.BadCSR("%v", err)
	}
	if err := policy.MatchCSR(csr, ids, p.KeyTypes, r.key.Public(), signer.Chain()[0].PublicKey, signer.Root().PublicKey); err != nil {
		return nil, err
	}
	if err := s.keyIsFree(r, csr.PublicKey); err != nil {
		return nil, err
	}
	c := &store.Claim{
		OrderID: order.ID, AccountID: order.AccountID, ProfileID: order.ProfileID, ProfileRevision: p.Revision,
		Identifiers: ids, IssuerID: p.IssuerID, CSR: der, CSRHash: hash, EABKeys: keys,
	}
	if c.Serial, err = pki.NewSerial(rand.Reader); err != nil {
		return nil, err
	}
	if c.NotBefore, c.NotAfter, err = s.validity(p, order.NotBefore, order.NotAfter, order.CreatedAt); err != nil {
		return nil, err
	}
	c.Pointers = signer.Pointers(c.Serial)
	if !p.PublishesRevocation(s.cfg.Store.Now(), c.NotBefore, c.NotAfter) {
		c.Pointers = c.Pointers.WithoutRevocation()
	}
	if err := s.cfg.Lifecycle.CheckCAA(r.Context(), p, order, authzs); err != nil {
		return nil, err
	}
	if err := s.cfg.Store.ClaimOrder(r.Context(), c, lifecycle.ClaimLease); err != nil {
		return nil, err
	}
	return s.cfg.Lifecycle.Begin(r.Context(), c, p, csr), nil
}

// orderResponse is the order object (RFC 8555, Section 7.1.3) with its Location,
// which cert-manager polls after finalize.
func (s *Server) orderResponse(r *request, order *acme.Order, authzs []acme.Authorization) *response {
	status := order.Status(authzs, s.cfg.Store.Now())
	o := &acme.OrderObject{
		Status:      status,
		Expires:     order.ExpiresAt,
		Identifiers: order.Names(),
		NotBefore:   order.NotBefore,
		NotAfter:    order.NotAfter,
		Error:       order.Problem,
		Replaces:    order.Replaces,
		Profile:     order.ProfileID,
		Finalize:    r.resourceURL("finalize", order.ID),
	}
	for _, id := range order.AuthzIDs() {
		o.Authorizations = append(o.Authorizations, r.resourceURL("authz", id))
	}
	resp := &response{body: o, location: r.resourceURL("order", order.ID)}
	switch status {
	case acme.StatusValid:
		o.Certificate = r.resourceURL("cert", order.Serial)
	case acme.StatusProcessing:
		resp.retryAfter = time.Second
	}
	return resp
}
