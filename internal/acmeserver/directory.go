package acmeserver

import (
	"net/http"
	"net/url"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
)

// directory answers with the URLs of a profile (RFC 8555, Section 7.1.1).
func (s *Server) directory(r *request) (*response, error) {
	if len(r.payload) > 0 {
		return nil, notAsGet()
	}
	rules, err := s.rules(r)
	if err != nil {
		return nil, err
	}
	at := r.origin + r.prefix
	renewalInfo := ""
	if s.cfg.ARIPollInterval > 0 {
		renewalInfo = r.origin + "/acme/profile/" + r.profile + "/renewal-info"
	}
	p := rules.Profile()
	newAuthz := ""
	if preauthorizes(p) {
		newAuthz = at + "/new-authz"
	}
	return &response{body: &acme.Directory{
		NewNonce:    at + "/new-nonce",
		NewAccount:  at + "/new-account",
		NewOrder:    at + "/new-order",
		NewAuthz:    newAuthz,
		RevokeCert:  at + "/revoke-cert",
		KeyChange:   at + "/key-change",
		RenewalInfo: renewalInfo,
		Meta: &acme.Meta{
			TermsOfService:          s.cfg.TermsURL,
			Website:                 s.cfg.Website,
			CAAIdentities:           s.cfg.CAAIdentities,
			ExternalAccountRequired: s.cfg.EABRequired || p.EABRequired,
			SubdomainAuthAllowed:    p.SubdomainAuth,
			Profiles:                s.offered(r, p),
		},
	}}, nil
}

// offered returns the profiles that an order may select, each with a URL that
// describes it: in line, since there is no page for it
// (draft-ietf-acme-profiles, Section 3). It is nil when there is no choice.
func (s *Server) offered(r *request, p *policy.Profile) map[string]string {
	if len(p.OfferedProfiles) == 0 {
		return nil
	}
	all := map[string]string{p.ID: describe(p)}
	for _, id := range p.OfferedProfiles {
		if rules, err := s.cfg.Store.Profile(r.Context(), id); err == nil {
			all[id] = describe(rules.Profile())
		}
	}
	return all
}

func describe(p *policy.Profile) string {
	return "data:text/plain;charset=utf-8," + url.PathEscape(p.Name)
}

// newNonce answers with a nonce in its header (RFC 8555, Section 7.2): 200 to
// HEAD, 204 to GET.
func (s *Server) newNonce(r *request) (*response, error) {
	if len(r.payload) > 0 {
		return nil, notAsGet()
	}
	if r.Method == http.MethodGet {
		return &response{status: http.StatusNoContent}, nil
	}
	return &response{}, nil
}

func notAsGet() error {
	return acme.Malformed("the payload must be empty: this resource can only be read")
}
