package acmeserver

import (
	"net/http"

	"github.com/certctl/certctl/internal/acme"
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
	return &response{body: &acme.Directory{
		NewNonce:   at + "/new-nonce",
		NewAccount: at + "/new-account",
		NewOrder:   at + "/new-order",
		RevokeCert: at + "/revoke-cert",
		KeyChange:  at + "/key-change",
		Meta: &acme.Meta{
			TermsOfService:          s.cfg.TermsURL,
			Website:                 s.cfg.Website,
			CAAIdentities:           s.cfg.CAAIdentities,
			ExternalAccountRequired: s.cfg.EABRequired || rules.Profile().EABRequired,
		},
	}}, nil
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
