package acmeserver

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// challengesFor returns the challenges of a profile that can prove control of an
// identifier.
func challengesFor(p *policy.Profile, id acme.Identifier) []acme.ChallengeType {
	var types []acme.ChallengeType
	for _, name := range p.ChallengeTypes {
		if t := acme.ChallengeType(name); t.Proves(id) {
			types = append(types, t)
		}
	}
	return types
}

// newAuthorizations says what each identifier needs: control of its own name, or
// of the ancestor that the client offers when the profile takes that.
func newAuthorizations(p *policy.Profile, ids []acme.Identifier, ancestors []string) ([]store.NewAuthorization, error) {
	list := make([]store.NewAuthorization, len(ids))
	var problems []*acme.Problem
	for i, id := range ids {
		a, err := newAuthorization(p, id, ancestors[i])
		var problem *acme.Problem
		if errors.As(err, &problem) {
			problems = append(problems, problem.For(id))
			continue
		}
		if err != nil {
			return nil, err
		}
		list[i] = a
	}
	if len(problems) > 0 {
		return nil, acme.Compound(problems)
	}
	return list, nil
}

// newAuthorization prepares the authorization that an identifier needs. Only
// dns-01 proves control of the names below one.
func newAuthorization(p *policy.Profile, id acme.Identifier, ancestor string) (a store.NewAuthorization, err error) {
	a = store.NewAuthorization{Identifier: id.Base(), Wildcard: id.Wildcard(), Offered: challengesFor(p, id)}
	if p.SubdomainAuth && id.Type == acme.DNS {
		a.Covering = above(a.Identifier.Value)
		if ancestor != "" {
			a.Identifier.Value, a.Subdomains, a.Offered = ancestor, true, []acme.ChallengeType{acme.DNS01}
		}
	}
	if len(a.Offered) == 0 {
		return a, acme.RejectedIdentifier("no challenge of profile %q can prove control of %s", p.ID, id.Value)
	}
	a.Token, err = acme.NewToken(rand.Reader)
	return a, err
}

// above returns the domains above a name.
func above(name string) []string {
	var list []string
	for {
		_, parent, found := strings.Cut(name, ".")
		if !found {
			return list
		}
		list = append(list, parent)
		name = parent
	}
}

// newAuthz makes an authorization before there is an order (RFC 8555, Section
// 7.4.1). It is there for profiles whose authorizations may be used again.
func (s *Server) newAuthz(r *request) (*response, error) {
	var req acme.AuthorizationRequest
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	id, err := acme.ParseIdentifier(string(req.Identifier.Type), req.Identifier.Value)
	if err != nil {
		return nil, err
	}
	if id.Wildcard() {
		return nil, acme.Malformed("a wildcard name cannot be authorized before it is ordered")
	}
	rules, keys, err := s.mayOrder(r, []acme.Identifier{id})
	if err != nil {
		return nil, err
	}
	p := rules.Profile()
	if !preauthorizes(p) {
		return nil, noSuch("resource")
	}
	ancestor := ""
	if req.Identifier.SubdomainAuthAllowed && id.Type == acme.DNS {
		ancestor = id.Value
	}
	want, err := newAuthorization(p, id, ancestor)
	if err != nil {
		return nil, err
	}
	a, _, err := s.cfg.Store.CreateAuthorization(r.Context(), store.NewOrder{
		AccountID: r.account.ID, ProfileID: p.ID, ProfileRevision: p.Revision, EABKeys: keys,
		Authorizations: []store.NewAuthorization{want}, AuthzTTL: s.cfg.AuthzTTL, ReuseFor: reuseFor(p),
	})
	if errors.Is(err, store.ErrConflict) {
		return nil, acme.Unauthorized("the account or the profile changed meanwhile; ask again")
	}
	if err != nil {
		return nil, err
	}
	resp := s.authorizationResponse(r, a)
	resp.location = r.resourceURL("authz", a.ID)
	resp.status = http.StatusCreated // also when it was there before: clients take no other answer
	return resp, nil
}

// preauthorizes reports whether authorizations made without an order are of use.
func preauthorizes(p *policy.Profile) bool {
	return p.AuthMode == policy.Challenge && p.AuthzReuseSeconds > 0
}

func reuseFor(p *policy.Profile) time.Duration {
	return time.Duration(p.AuthzReuseSeconds) * time.Second
}

// authorization reads or deactivates an authorization
// (RFC 8555, Sections 7.5 and 7.5.2).
func (s *Server) authorization(r *request) (*response, error) {
	a, err := s.ownAuthorization(r)
	if err != nil || len(r.payload) == 0 {
		return s.authorizationResponse(r, a), err
	}
	var req acme.AuthorizationUpdate
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	if req.Status != acme.StatusDeactivated {
		return nil, acme.Malformed("an authorization can only be deactivated, not made %.40q", req.Status)
	}
	// The authorizations of a trusted order are one row: giving up others of them at
	// the same time makes this one lose as often as there are others.
	for range maxIdentifiers {
		if status := a.Status(s.cfg.Store.Now()); status != acme.StatusValid && status != acme.StatusPending {
			break
		}
		if err := s.deactivate(r, a); err != nil && !errors.Is(err, store.ErrConflict) {
			return nil, err
		}
		if a, err = s.ownAuthorization(r); err != nil {
			return nil, err
		}
	}
	if status := a.Status(s.cfg.Store.Now()); status != acme.StatusDeactivated {
		return nil, acme.Malformed("the authorization is %s and cannot be deactivated", status)
	}
	return s.authorizationResponse(r, a), nil
}

func (s *Server) deactivate(r *request, a *acme.Authorization) error {
	if !a.Trusted {
		return s.cfg.Store.DeactivateAuthorization(r.Context(), a)
	}
	order, _, err := s.cfg.Store.Order(r.Context(), a.OrderID)
	if err != nil {
		return err
	}
	return s.cfg.Store.DeactivateTrustedAuthz(r.Context(), order, a.ID)
}

// ownAuthorization returns the authorization in the URL if it is the account's and
// the profile's.
func (s *Server) ownAuthorization(r *request) (*acme.Authorization, error) {
	a, err := s.cfg.Store.Authorization(r.Context(), r.args[0])
	if errors.Is(err, store.ErrNotFound) || err == nil && (a.AccountID != r.account.ID || a.ProfileID != r.profile) {
		return nil, noSuch("authorization")
	}
	return a, err
}

func (s *Server) authorizationResponse(r *request, a *acme.Authorization) *response {
	if a == nil {
		return nil
	}
	status := a.Status(s.cfg.Store.Now())
	o := &acme.AuthorizationObject{
		Identifier: a.Identifier,
		Status:     status,
		Expires:    a.ExpiresAt,
		Challenges: []acme.ChallengeObject{},
		Wildcard:   a.Wildcard,

		SubdomainAuthAllowed: a.Subdomains,
	}
	for _, c := range a.Challenges() {
		o.Challenges = append(o.Challenges, *challengeObject(r, a, &c))
	}
	resp := &response{body: o}
	if status == acme.StatusPending && a.Attempted != "" {
		resp.retryAfter = time.Second
	}
	return resp
}

func challengeObject(r *request, a *acme.Authorization, c *acme.Challenge) *acme.ChallengeObject {
	return &acme.ChallengeObject{
		Type:      c.Type,
		URL:       r.resourceURL("challenge", a.ID, string(c.Type)),
		Status:    c.Status(),
		Validated: c.ValidatedAt.Truncate(time.Second),
		Error:     c.Problem,
		Token:     c.Token,
	}
}

// challenge reads a challenge, or takes the client's word that it is ready and
// starts the validation (RFC 8555, Section 7.5.1). Said again it changes nothing.
func (s *Server) challenge(r *request) (*response, error) {
	a, err := s.ownAuthorization(r)
	if err != nil {
		return nil, err
	}
	t := acme.ChallengeType(r.args[1])
	if _, ok := a.Challenge(t); !ok {
		return nil, noSuch("challenge")
	}
	if len(r.payload) > 0 {
		var ready struct{}
		if err := acme.UnmarshalPayload(r.payload, &ready); err != nil {
			return nil, err
		}
		if a, err = s.respond(r, a, t); err != nil {
			return nil, err
		}
	}
	c, ok := a.Challenge(t)
	if !ok {
		return nil, noSuch("challenge")
	}
	resp := &response{
		body: challengeObject(r, a, &c),
		// RFC 8555, Section 7.5.1.
		links: []acme.Link{{Rel: "up", URL: r.resourceURL("authz", a.ID)}},
	}
	if c.Status() == acme.StatusProcessing {
		resp.retryAfter = time.Second
	}
	return resp, nil
}

// respond starts the validation of a pending authorization and returns the
// authorization as it then is.
func (s *Server) respond(r *request, a *acme.Authorization, t acme.ChallengeType) (*acme.Authorization, error) {
	if a.Status(s.cfg.Store.Now()) != acme.StatusPending || a.Attempted != "" {
		return a, s.cfg.Store.CountResponse(r.Context(), a.ID)
	}
	rules, err := s.rules(r)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(rules.Profile().ChallengeTypes, string(t)) {
		return nil, acme.Malformed("profile %q no longer offers %s", r.profile, t)
	}
	v, err := s.cfg.Store.RespondChallenge(r.Context(), a, t, lifecycle.ValidationLease)
	if errors.Is(err, store.ErrConflict) {
		return s.ownAuthorization(r)
	}
	if err != nil {
		return nil, err
	}
	s.cfg.Lifecycle.Validate(v)
	return &v.Authorization, nil
}
