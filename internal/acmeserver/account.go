package acmeserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

const (
	maxContacts      = 10
	maxContactLength = 320
	ordersPerPage    = 100
)

// newAccount makes or finds the account of a key (RFC 8555, Section 7.3).
func (s *Server) newAccount(r *request) (*response, error) {
	var req acme.AccountRequest
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	existing, err := s.cfg.Store.AccountByKey(r.Context(), r.key)
	switch {
	case err == nil:
		return s.existingAccount(r, existing, &req)
	case !errors.Is(err, store.ErrNotFound):
		return nil, err
	case req.OnlyReturnExisting:
		return nil, acme.AccountDoesNotExist("no account has this key")
	}
	rules, err := s.rules(r)
	if err != nil {
		return nil, err
	}
	if err := s.mayOpenAccount(r, rules, &req); err != nil {
		return nil, err
	}
	kid, err := s.verifyEAB(r, &req)
	if err != nil {
		return nil, err
	}
	account, created, err := s.cfg.Store.CreateAccount(r.Context(), store.NewAccount{
		Key: r.key, Contacts: req.Contact, TermsAgreed: s.cfg.TermsURL != "" && req.TermsOfServiceAgreed, EABKeyID: kid,
		Source: source(r.RemoteAddr),
	})
	if err != nil {
		return nil, eabProblem(err)
	}
	if !created {
		// The same request raced with itself.
		return s.existingAccount(r, account, &req)
	}
	resp := s.accountResponse(r, account, req.ExternalAccountBinding)
	resp.status = http.StatusCreated
	return resp, nil
}

// source returns the addresses that one holder may be taken to have: an IPv4
// address, or the /64 of an IPv6 address. It goes by the connection, never by
// headers, which anybody can write; the zero Prefix when it has no address.
func source(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 64
	if addr.Is4() {
		bits = 32
	}
	return netip.PrefixFrom(addr, bits).Masked()
}

// mayOpenAccount checks what a new account needs.
func (s *Server) mayOpenAccount(r *request, rules *policy.Rules, req *acme.AccountRequest) error {
	if err := pki.CheckKey(r.key.Public()); err != nil {
		return acme.BadPublicKey("the account key is refused: %v", err)
	}
	if err := s.cfg.Blocked.Check(r.key.Public()); err != nil {
		return acme.BadPublicKey("the account key is refused: %v", err)
	}
	if err := checkContacts(req.Contact); err != nil {
		return err
	}
	if s.cfg.TermsURL != "" && !req.TermsOfServiceAgreed {
		p := acme.UserActionRequired("the terms of service at %s must be agreed to", s.cfg.TermsURL)
		p.Instance = s.cfg.TermsURL
		p.Links = []acme.Link{{Rel: "terms-of-service", URL: s.cfg.TermsURL}}
		return p
	}
	if !hasEAB(req) && (s.cfg.EABRequired || rules.Profile().EABRequired) {
		return acme.ExternalAccountRequired("profile %q makes accounts only with an external account binding; "+
			"ask its operator for a key (certctl eab create)", r.profile)
	}
	return nil
}

// existingAccount answers with the account that the key has. An external account
// binding that came along is bound, since the answer to an earlier one may have
// been lost.
func (s *Server) existingAccount(r *request, account *acme.Account, req *acme.AccountRequest) (*response, error) {
	if account.Status() != acme.StatusValid {
		return nil, deactivated()
	}
	if req.OnlyReturnExisting {
		return s.accountResponse(r, account, nil), nil
	}
	kid, err := s.verifyEAB(r, req)
	if err != nil {
		return nil, err
	}
	if kid != "" {
		err := s.cfg.Store.BindEABKey(r.Context(), audit.Account(account.ID), account.ID, kid)
		if errors.Is(err, store.ErrConflict) {
			return nil, deactivated()
		}
		if err != nil {
			return nil, eabProblem(err)
		}
	}
	return s.accountResponse(r, account, req.ExternalAccountBinding), nil
}

// hasEAB reports whether the request has an external account binding; null means
// that it has none.
func hasEAB(req *acme.AccountRequest) bool {
	return len(req.ExternalAccountBinding) > 0 && string(req.ExternalAccountBinding) != "null"
}

// verifyEAB checks the external account binding, if there is one, and returns
// the id of its key (RFC 8555, Section 7.3.4).
func (s *Server) verifyEAB(r *request, req *acme.AccountRequest) (kid string, err error) {
	if !hasEAB(req) {
		return "", nil
	}
	eab, err := acme.ParseEAB(req.ExternalAccountBinding)
	if err != nil {
		return "", err
	}
	secret, err := s.cfg.Store.EABSecret(r.Context(), eab.KeyID)
	if err != nil {
		return "", eabProblem(err)
	}
	return eab.KeyID, eab.Verify(secret, r.key, r.url)
}

func eabProblem(err error) error {
	if errors.Is(err, store.ErrEABKey) {
		return acme.Unauthorized("the external account binding names a key that is unknown, disabled, expired, or bound to another account already")
	}
	return err
}

// checkContacts takes mailto addresses, one each, without header fields
// (RFC 8555, Section 7.3).
func checkContacts(contacts []string) error {
	if len(contacts) > maxContacts {
		return acme.InvalidContact("%d contacts are more than %d", len(contacts), maxContacts)
	}
	for _, contact := range contacts {
		if len(contact) > maxContactLength {
			return acme.InvalidContact("a contact has more than %d bytes", maxContactLength)
		}
		u, err := url.Parse(contact)
		if err != nil {
			return acme.InvalidContact("the contact %q is not a URL", contact)
		}
		if u.Scheme != "mailto" {
			return acme.UnsupportedContact("the contact %q is not a mailto URL, the only kind supported", contact)
		}
		if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
			return acme.InvalidContact("the contact %q has header fields", contact)
		}
		address, err := mail.ParseAddress(u.Opaque)
		if err != nil || address.Name != "" || address.Address != u.Opaque || strings.ContainsAny(u.Opaque, ",<>") {
			return acme.InvalidContact("the contact %q is not one mail address", contact)
		}
	}
	return nil
}

func (s *Server) accountResponse(r *request, account *acme.Account, eab json.RawMessage) *response {
	at := r.accountURL(account.ID)
	return &response{location: at, body: &acme.AccountObject{
		Status:                 account.Status(),
		Contact:                account.Contacts,
		TermsOfServiceAgreed:   !account.TermsAgreedAt.IsZero(),
		ExternalAccountBinding: eab,
		Orders:                 r.origin + "/acme/orders/" + account.ID,
	}}
}

// account reads, updates or deactivates an account (RFC 8555, Sections 7.3.2 and
// 7.3.6). An update that changes nothing is an update.
func (s *Server) account(r *request) (*response, error) {
	if r.args[0] != r.account.ID {
		return nil, acme.Unauthorized("this is not the account that signed the request")
	}
	if len(r.payload) == 0 {
		return s.accountResponse(r, r.account, nil), nil
	}
	var req acme.AccountRequest
	if err := acme.UnmarshalPayload(r.payload, &req); err != nil {
		return nil, err
	}
	var err error
	if req.Status == acme.StatusDeactivated {
		err = s.cfg.Store.DeactivateAccount(r.Context(), audit.Account(r.account.ID), r.account.ID)
	} else {
		// Any other status is ignored (RFC 8555, Section 7.3.2).
		err = s.updateAccount(r, &req)
	}
	if errors.Is(err, store.ErrConflict) {
		return nil, deactivated()
	}
	if err != nil {
		return nil, err
	}
	account, err := s.cfg.Store.Account(r.Context(), r.account.ID)
	if err != nil {
		return nil, err
	}
	return s.accountResponse(r, account, nil), nil
}

func (s *Server) updateAccount(r *request, req *acme.AccountRequest) error {
	if req.Contact != nil {
		if err := checkContacts(req.Contact); err != nil {
			return err
		}
		if err := s.cfg.Store.UpdateContacts(r.Context(), r.account.ID, req.Contact); err != nil {
			return err
		}
	}
	if req.TermsOfServiceAgreed && s.cfg.TermsURL != "" && r.account.TermsAgreedAt.IsZero() {
		return s.cfg.Store.AgreeTerms(r.Context(), r.account.ID)
	}
	return nil
}

// orders lists the orders of an account, newest first, in pages
// (RFC 8555, Section 7.1.2.1). The page after an order is at
// /acme/orders/{account}~{order}.
func (s *Server) orders(r *request) (*response, error) {
	id, before, _ := strings.Cut(r.args[0], "~")
	if id != r.account.ID {
		return nil, acme.Unauthorized("these are not orders of the account that signed the request")
	}
	if len(r.payload) > 0 {
		return nil, notAsGet()
	}
	refs, err := s.cfg.Store.OrderRefs(r.Context(), id, before, ordersPerPage+1)
	if err != nil {
		return nil, err
	}
	resp := &response{}
	if len(refs) > ordersPerPage {
		refs = refs[:ordersPerPage]
		resp.links = []acme.Link{{Rel: "next", URL: r.origin + "/acme/orders/" + id + "~" + refs[len(refs)-1].ID}}
	}
	list := acme.OrdersList{Orders: make([]string, len(refs))}
	for i, ref := range refs {
		list.Orders[i] = r.origin + "/acme/profile/" + ref.ProfileID + "/order/" + ref.ID
	}
	resp.body = &list
	return resp, nil
}

// keyChange gives the account a new key (RFC 8555, Section 7.3.5).
func (s *Server) keyChange(r *request) (*response, error) {
	newKey, err := acme.ParseKeyChange(r.payload, r.url, r.jws.KeyID, r.key)
	if err != nil {
		return nil, err
	}
	if err := pki.CheckKey(newKey.Public()); err != nil {
		return nil, acme.BadPublicKey("the new account key is refused: %v", err)
	}
	err = s.cfg.Store.ChangeKey(r.Context(), r.account.ID, r.account.Key, newKey)
	switch {
	case errors.Is(err, store.ErrExists):
		return nil, s.keyTaken(r, newKey)
	case errors.Is(err, store.ErrConflict):
		p := acme.Malformed("the account's key was changed by another request meanwhile")
		p.Status = http.StatusConflict
		p.Location = r.accountURL(r.account.ID)
		return nil, p
	case err != nil:
		return nil, err
	}
	account, err := s.cfg.Store.Account(r.Context(), r.account.ID)
	if err != nil {
		return nil, err
	}
	return s.accountResponse(r, account, nil), nil
}

// keyTaken names the account that has the key already, in the Location of a 409.
func (s *Server) keyTaken(r *request, key *acme.Key) error {
	other, err := s.cfg.Store.AccountByKey(r.Context(), key)
	if err != nil {
		return err
	}
	p := acme.Malformed("the new key is that of an account already")
	p.Status = http.StatusConflict
	p.Location = r.accountURL(other.ID)
	return p
}
