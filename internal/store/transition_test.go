package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// refusal is a change from a state that it must not start from.
type refusal struct {
	name    string
	prepare func(w *world) func() error
	want    error
}

func orderRefusals() []refusal {
	claim := func(name string, prepare func(w *world) *store.Claim) refusal {
		return refusal{"claim " + name, func(w *world) func() error {
			c := prepare(w)
			return func() error { return w.ClaimOrder(ctx, c, time.Minute) }
		}, store.ErrConflict}
	}
	// endings are claims that can be ended no more, or not by this holder.
	endings := map[string]func(w *world) *store.Claim{
		"an order that was never claimed": func(w *world) *store.Claim {
			c := newClaim(w.trusted())
			c.Fence = 1
			return c
		},
		"an order of fence 0 that was never claimed": func(w *world) *store.Claim { return newClaim(w.trusted()) },
		"an issued order": func(w *world) *store.Claim {
			c := w.claim(w.trusted())
			w.ok(w.FinishOrder(ctx, c, []byte("der")))
			return c
		},
		"a failed order": func(w *world) *store.Claim {
			c := w.claim(w.trusted())
			w.ok(w.FailOrder(ctx, c, acme.ServerInternal("broken")))
			return c
		},
		"an order that another took over": func(w *world) *store.Claim {
			c := w.claim(w.trusted())
			w.Advance(2 * time.Minute)
			taken, err := w.TakeClaims(ctx, time.Minute, 10)
			w.ok(err)
			if len(taken) != 1 || taken[0].Fence != 2 {
				w.t.Fatalf("taken over: %+v", taken)
			}
			return c
		},
		"an unknown order": func(w *world) *store.Claim {
			c := w.claim(w.trusted())
			c.OrderID = "unknown"
			return c
		},
	}
	var all []refusal
	for name, prepare := range endings {
		all = append(all,
			refusal{"finish " + name, func(w *world) func() error {
				c := prepare(w)
				c.Serial = newSerial()
				return func() error { return w.FinishOrder(ctx, c, []byte("der")) }
			}, store.ErrConflict},
			refusal{"fail " + name, func(w *world) func() error {
				c := prepare(w)
				return func() error { return w.FailOrder(ctx, c, acme.ServerInternal("broken")) }
			}, store.ErrConflict})
	}
	return append(all,
		claim("an unknown order", func(w *world) *store.Claim {
			c := newClaim(w.trusted())
			c.OrderID = "unknown"
			return c
		}),
		claim("a pending order", func(w *world) *store.Claim { o, _ := w.challenged(); return newClaim(o) }),
		claim("an order with one of two names validated", func(w *world) *store.Claim {
			o, authzs := w.place(newChallenged(w.account().ID, "a.test", "b.test"))
			w.validate(&authzs[1])
			return newClaim(o)
		}),
		claim("an order with a failed authorization", func(w *world) *store.Claim {
			o, a := w.challenged()
			w.fail(a)
			return newClaim(o)
		}),
		claim("an order with a deactivated authorization", func(w *world) *store.Claim {
			o, a := w.challenged()
			w.validate(a)
			w.ok(w.DeactivateAuthorization(ctx, a))
			return newClaim(o)
		}),
		claim("an order with an expired authorization", func(w *world) *store.Claim {
			o, a := w.challenged()
			w.ok(w.FinishValidation(ctx, w.respond(a), nil, time.Minute, nil))
			w.Advance(time.Minute)
			return newClaim(o)
		}),
		claim("an expired order", func(w *world) *store.Claim {
			o := w.trusted()
			w.Advance(time.Hour)
			return newClaim(o)
		}),
		claim("a claimed order", func(w *world) *store.Claim {
			o := w.trusted()
			w.claim(o)
			return newClaim(o)
		}),
		claim("an issued order", func(w *world) *store.Claim {
			o := w.trusted()
			w.ok(w.FinishOrder(ctx, w.claim(o), []byte("der")))
			return newClaim(o)
		}),
		claim("a failed order", func(w *world) *store.Claim {
			o := w.trusted()
			w.ok(w.FailOrder(ctx, w.claim(o), acme.ServerInternal("broken")))
			return newClaim(o)
		}),
		claim("a trusted order that gave an authorization up", func(w *world) *store.Claim {
			o := w.trusted()
			w.ok(w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]))
			return newClaim(o)
		}),
		claim("an order of a deactivated account", func(w *world) *store.Claim {
			o := w.trusted()
			w.ok(w.DeactivateAccount(ctx, "api:test", o.AccountID))
			return newClaim(o)
		}),
		claim("an order under an archived profile", func(w *world) *store.Claim {
			o := w.trusted()
			w.ok(w.ArchiveProfile(ctx, "api:test", "trust"))
			return newClaim(o)
		}),
		claim("an order under a changed profile", func(w *world) *store.Claim {
			o := w.trusted()
			_, err := w.UpdateProfile(ctx, "api:test", *w.rules("trust").Profile())
			w.ok(err)
			return newClaim(o)
		}),
		claim("an order of another account", func(w *world) *store.Claim {
			c := newClaim(w.trusted())
			c.AccountID = w.account().ID
			return c
		}),
		claim("an order of another profile", func(w *world) *store.Claim {
			c := newClaim(w.trusted())
			c.ProfileID = "challenge"
			return c
		}),
		refusal{"finish with a serial that is taken", func(w *world) func() error {
			c := w.claim(w.trusted())
			c.Serial = w.certificate()
			return func() error { return w.FinishOrder(ctx, c, []byte("der")) }
		}, errAny},
		refusal{"order for a deactivated account", func(w *world) func() error {
			a := w.account()
			w.ok(w.DeactivateAccount(ctx, "api:test", a.ID))
			return func() error { _, _, err := w.CreateOrder(ctx, newTrusted(a.ID)); return err }
		}, store.ErrConflict},
		refusal{"order for an unknown account", func(w *world) func() error {
			return func() error { _, _, err := w.CreateOrder(ctx, newTrusted("unknown")); return err }
		}, store.ErrConflict},
		refusal{"order under an archived profile", func(w *world) func() error {
			a := w.account()
			w.ok(w.ArchiveProfile(ctx, "api:test", "challenge"))
			return func() error { _, _, err := w.CreateOrder(ctx, newChallenged(a.ID, "a.test")); return err }
		}, store.ErrConflict},
		refusal{"order under a changed profile", func(w *world) func() error {
			a := w.account()
			_, err := w.UpdateProfile(ctx, "api:test", *w.rules("trust").Profile())
			w.ok(err)
			return func() error { _, _, err := w.CreateOrder(ctx, newTrusted(a.ID)); return err }
		}, store.ErrConflict},
		refusal{"give up an authorization of a trusted order twice", func(w *world) func() error {
			o := w.trusted()
			w.ok(w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]))
			return func() error { return w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]) }
		}, store.ErrConflict},
		refusal{"give up a trusted authorization that was given up", func(w *world) func() error {
			o := w.trusted()
			w.ok(w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]))
			o, _, err := w.Order(ctx, o.ID)
			w.ok(err)
			return func() error { return w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]) }
		}, store.ErrConflict},
		refusal{"give up a trusted authorization that expired", func(w *world) func() error {
			o := w.trusted()
			w.Advance(time.Hour)
			return func() error { return w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]) }
		}, store.ErrConflict},
	)
}

func authorizationRefusals() []refusal {
	// ended are authorizations that are no longer pending, under the lease of a
	// validation that was begun before.
	ended := map[string]func(w *world) *store.Validation{
		"a valid": func(w *world) *store.Validation {
			_, a := w.challenged()
			v := w.respond(a)
			w.ok(w.FinishValidation(ctx, v, nil, time.Hour, nil))
			return v
		},
		"a failed": func(w *world) *store.Validation {
			_, a := w.challenged()
			v := w.respond(a)
			w.ok(w.FinishValidation(ctx, v, acme.Unauthorized("wrong"), time.Hour, nil))
			return v
		},
		"a deactivated": func(w *world) *store.Validation {
			_, a := w.challenged()
			v := w.respond(a)
			w.ok(w.DeactivateAuthorization(ctx, a))
			return v
		},
		"an expired": func(w *world) *store.Validation {
			_, a := w.challenged()
			v := w.respond(a)
			w.Advance(time.Hour)
			return v
		},
		"a deactivated account's": func(w *world) *store.Validation {
			o, a := w.challenged()
			v := w.respond(a)
			w.ok(w.DeactivateAccount(ctx, "api:test", o.AccountID))
			return v
		},
		"an unknown": func(w *world) *store.Validation {
			_, a := w.challenged()
			v := w.respond(a)
			v.Authorization.ID = "unknown"
			return v
		},
	}
	var all []refusal
	for name, prepare := range ended {
		all = append(all,
			refusal{"respond to " + name + " authorization", func(w *world) func() error {
				v := prepare(w)
				return func() error {
					_, err := w.RespondChallenge(ctx, &v.Authorization, acme.HTTP01, time.Minute)
					return err
				}
			}, store.ErrConflict},
			refusal{"validate " + name + " authorization", func(w *world) func() error {
				v := prepare(w)
				return func() error { return w.FinishValidation(ctx, v, nil, time.Hour, nil) }
			}, store.ErrConflict})
		if name != "an expired" { // a problem may still be told
			all = append(all, refusal{"fail " + name + " authorization", func(w *world) func() error {
				v := prepare(w)
				return func() error { return w.FinishValidation(ctx, v, acme.Unauthorized("wrong"), time.Hour, nil) }
			}, store.ErrConflict}, refusal{"retry " + name + " authorization", func(w *world) func() error {
				v := prepare(w)
				return func() error { return w.RetryValidation(ctx, v, 2*time.Minute) }
			}, store.ErrConflict})
		}
		if name != "a valid" {
			all = append(all, refusal{"deactivate " + name + " authorization", func(w *world) func() error {
				v := prepare(w)
				return func() error { return w.DeactivateAuthorization(ctx, &v.Authorization) }
			}, store.ErrConflict})
		}
	}
	lost := func(w *world) *store.Validation {
		_, a := w.challenged()
		v := w.respond(a)
		w.Advance(2 * time.Minute)
		taken, err := w.TakeValidations(ctx, acme.HTTP01, time.Minute, 10, nil)
		w.ok(err)
		if len(taken) != 1 || taken[0].Fence != 2 || taken[0].Attempt != 2 {
			w.t.Fatalf("taken: %+v", taken)
		}
		return v
	}
	return append(all,
		refusal{"respond twice", func(w *world) func() error {
			_, a := w.challenged()
			w.respond(a)
			return func() error { _, err := w.RespondChallenge(ctx, a, acme.HTTP01, time.Minute); return err }
		}, store.ErrConflict},
		refusal{"validate under a lost lease", func(w *world) func() error {
			v := lost(w)
			return func() error { return w.FinishValidation(ctx, v, nil, time.Hour, nil) }
		}, store.ErrConflict},
		refusal{"fail a validation under a lost lease", func(w *world) func() error {
			v := lost(w)
			return func() error { return w.FinishValidation(ctx, v, acme.Unauthorized("wrong"), time.Hour, nil) }
		}, store.ErrConflict},
		refusal{"retry under a lost lease", func(w *world) func() error {
			v := lost(w)
			return func() error { return w.RetryValidation(ctx, v, time.Hour) }
		}, store.ErrConflict},
	)
}

func otherRefusals() []refusal {
	gone := func(name string, change func(w *world, a *acme.Account) error, want error) refusal {
		return refusal{name + " a deactivated account", func(w *world) func() error {
			a := w.account()
			w.ok(w.DeactivateAccount(ctx, "api:test", a.ID))
			return func() error { return change(w, a) }
		}, want}
	}
	unknown := func(name string, change func(w *world) error, want error) refusal {
		return refusal{name, func(w *world) func() error { return func() error { return change(w) } }, want}
	}
	return []refusal{
		gone("update", func(w *world, a *acme.Account) error {
			return w.UpdateContacts(ctx, a.ID, []string{"mailto:x@example.com"})
		}, store.ErrConflict),
		gone("agree for", func(w *world, a *acme.Account) error { return w.AgreeTerms(ctx, a.ID) }, store.ErrConflict),
		gone("deactivate", func(w *world, a *acme.Account) error { return w.DeactivateAccount(ctx, "api:test", a.ID) }, store.ErrConflict),
		gone("roll the key of", func(w *world, a *acme.Account) error { return w.ChangeKey(ctx, a.ID, a.Key, newKey()) }, store.ErrConflict),
		{"bind a deactivated account", func(w *world) func() error {
			a, kid := w.account(), w.eabKey(false)
			w.ok(w.DeactivateAccount(ctx, "api:test", a.ID))
			return func() error { return w.BindEABKey(ctx, "api:test", a.ID, kid) }
		}, store.ErrConflict},
		unknown("deactivate an unknown account", func(w *world) error { return w.DeactivateAccount(ctx, "api:test", "unknown") }, store.ErrNotFound),
		unknown("update an unknown account", func(w *world) error { return w.UpdateContacts(ctx, "unknown", nil) }, store.ErrConflict),
		unknown("bind an unknown account", func(w *world) error { return w.BindEABKey(ctx, "api:test", "unknown", "kid") }, store.ErrNotFound),
		unknown("archive an unknown profile", func(w *world) error { return w.ArchiveProfile(ctx, "api:test", "unknown") }, store.ErrNotFound),
		unknown("create a profile twice", func(w *world) error {
			_, err := w.CreateProfile(ctx, "api:test", profile("trust", policy.Challenge))
			return err
		}, store.ErrExists),
		{"create a profile that is archived", func(w *world) func() error {
			w.ok(w.ArchiveProfile(ctx, "api:test", "trust"))
			return func() error {
				_, err := w.CreateProfile(ctx, "api:test", profile("trust", policy.Challenge))
				return err
			}
		}, store.ErrExists},
		{"update a profile that is archived", func(w *world) func() error {
			p := *w.rules("trust").Profile()
			w.ok(w.ArchiveProfile(ctx, "api:test", "trust"))
			return func() error { _, err := w.UpdateProfile(ctx, "api:test", p); return err }
		}, store.ErrConflict},
		{"update a profile from an old revision", func(w *world) func() error {
			p := *w.rules("trust").Profile()
			_, err := w.UpdateProfile(ctx, "api:test", p)
			w.ok(err)
			return func() error { _, err := w.UpdateProfile(ctx, "api:test", p); return err }
		}, store.ErrConflict},
		{"roll from a key that was rolled before", func(w *world) func() error {
			a := w.account()
			w.ok(w.ChangeKey(ctx, a.ID, a.Key, newKey()))
			return func() error { return w.ChangeKey(ctx, a.ID, a.Key, newKey()) }
		}, store.ErrConflict},
		{"roll to the key of another account", func(w *world) func() error {
			a, b := w.account(), w.account()
			return func() error { return w.ChangeKey(ctx, a.ID, a.Key, b.Key) }
		}, store.ErrExists},
		{"revoke twice", func(w *world) func() error {
			serial := w.certificate()
			w.ok(w.RevokeCertificate(ctx, "api:test", serial, 1))
			return func() error { return w.RevokeCertificate(ctx, "api:test", serial, 4) }
		}, store.ErrConflict},
		unknown("revoke an unknown certificate", func(w *world) error { return w.RevokeCertificate(ctx, "api:test", newSerial(), 1) }, store.ErrConflict),
		{"publish a CRL of the same number", func(w *world) func() error {
			crl := store.CRL{Number: 7, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin}
			w.ok(w.PublishCRL(ctx, "iss", crl))
			crl.DER = []byte("another")
			return func() error { return w.PublishCRL(ctx, "iss", crl) }
		}, store.ErrConflict},
		{"publish a CRL of a lower number", func(w *world) func() error {
			w.ok(w.PublishCRL(ctx, "iss", store.CRL{Number: 7, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin}))
			return func() error {
				return w.PublishCRL(ctx, "iss", store.CRL{Number: 6, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin})
			}
		}, store.ErrConflict},
		{"create an issuer twice", func(w *world) func() error {
			w.ok(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss"}, map[string][]byte{"iss/key": {1}}))
			return func() error {
				return w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss"}, map[string][]byte{"iss/key": {2}, "iss/other": {3}})
			}
		}, store.ErrExists},
		{"create an issuer with a key that is there", func(w *world) func() error {
			_, err := w.EnsureSecret(ctx, "iss/key", func() ([]byte, error) { return []byte{1}, nil })
			w.ok(err)
			return func() error {
				return w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss"}, map[string][]byte{"iss/key": {2}})
			}
		}, store.ErrExists},
		{"add a chain twice", func(w *world) func() error {
			own, other := w.issuerChains()
			w.issuer(own)
			w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, false))
			return func() error { return w.AddIssuerChain(ctx, "api:test", "iss", other, true) }
		}, store.ErrExists},
		{"add a chain to an unknown issuer", func(w *world) func() error {
			_, other := w.issuerChains()
			return func() error { return w.AddIssuerChain(ctx, "api:test", "unknown", other, false) }
		}, store.ErrNotFound},
		{"remove a chain of another issuer", func(w *world) func() error {
			own, other := w.issuerChains()
			w.issuer(own)
			w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, true))
			return func() error { return w.RemoveIssuerChain(ctx, "api:test", "unknown", other.ID()) }
		}, store.ErrNotFound},
		unknown("remove an unknown chain", func(w *world) error { return w.RemoveIssuerChain(ctx, "api:test", "iss", "unknown") }, store.ErrNotFound),
		{"make a chain of another issuer the default", func(w *world) func() error {
			own, other := w.issuerChains()
			w.issuer(own)
			w.ok(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "other"}, nil))
			w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, false))
			return func() error { return w.SetDefaultChain(ctx, "api:test", "other", other.ID()) }
		}, store.ErrNotFound},
		{"make the default chain the default", func(w *world) func() error {
			own, other := w.issuerChains()
			w.issuer(own)
			w.ok(w.AddIssuerChain(ctx, "api:test", "iss", other, true))
			return func() error { return w.SetDefaultChain(ctx, "api:test", "iss", other.ID()) }
		}, store.ErrConflict},
		{"make the own chain the default, which it is", func(w *world) func() error {
			own, _ := w.issuerChains()
			w.issuer(own)
			return func() error { return w.SetDefaultChain(ctx, "api:test", "iss", store.OwnChain) }
		}, store.ErrConflict},
		{"create an EAB key twice", func(w *world) func() error {
			kid := w.eabKey(true)
			return func() error { return w.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: kid}, []byte("other")) }
		}, store.ErrExists},
		unknown("disable an unknown EAB key", func(w *world) error { return w.DisableEABKey(ctx, "api:test", "unknown") }, store.ErrNotFound),
		{"disable an EAB key twice", func(w *world) func() error {
			kid := w.eabKey(true)
			w.ok(w.DisableEABKey(ctx, "api:test", kid))
			return func() error { return w.DisableEABKey(ctx, "api:test", kid) }
		}, store.ErrNotFound},
		{"bind a disabled EAB key", func(w *world) func() error {
			a, kid := w.account(), w.eabKey(true)
			w.ok(w.DisableEABKey(ctx, "api:test", kid))
			return func() error { return w.BindEABKey(ctx, "api:test", a.ID, kid) }
		}, store.ErrEABKey},
		{"bind an expired EAB key", func(w *world) func() error {
			a, at := w.account(), begin.Add(time.Minute)
			w.ok(w.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: "kid", Reusable: true, ExpiresAt: &at}, []byte("hmac")))
			w.Advance(time.Minute)
			return func() error { return w.BindEABKey(ctx, "api:test", a.ID, "kid") }
		}, store.ErrEABKey},
		{"bind a single-use EAB key to a second account", func(w *world) func() error {
			a, b, kid := w.account(), w.account(), w.eabKey(false)
			w.ok(w.BindEABKey(ctx, "api:test", a.ID, kid))
			return func() error { return w.BindEABKey(ctx, "api:test", b.ID, kid) }
		}, store.ErrEABKey},
		{"create an account with an EAB key that is used up", func(w *world) func() error {
			a, kid := w.account(), w.eabKey(false)
			w.ok(w.BindEABKey(ctx, "api:test", a.ID, kid))
			return func() error {
				_, _, err := w.CreateAccount(ctx, store.NewAccount{Key: newKey(), EABKeyID: kid})
				return err
			}
		}, store.ErrEABKey},
		{"create an API key of a name that is taken", func(w *world) func() error {
			w.ok(w.CreateAPIKey(ctx, "api:test", "key", "hash", store.RoleAuditor))
			return func() error { return w.CreateAPIKey(ctx, "api:test", "key", "other", store.RoleAdmin) }
		}, store.ErrExists},
		{"create an API key that is taken", func(w *world) func() error {
			w.ok(w.CreateAPIKey(ctx, "api:test", "key", "hash", store.RoleAuditor))
			return func() error { return w.CreateAPIKey(ctx, "api:test", "other", "hash", store.RoleAdmin) }
		}, store.ErrExists},
		{"disable an API key twice", func(w *world) func() error {
			w.ok(w.CreateAPIKey(ctx, "api:test", "key", "hash", store.RoleAuditor))
			w.ok(w.DisableAPIKey(ctx, "api:test", "key"))
			return func() error { return w.DisableAPIKey(ctx, "api:test", "key") }
		}, store.ErrNotFound},
	}
}

func (w *world) rules(id string) *policy.Rules {
	w.t.Helper()
	rules, err := w.Store.Profile(ctx, id)
	w.ok(err)
	return rules
}

// A transition names the state that it starts from: from any other it is refused
// and changes nothing.
func TestRefusedTransitionsChangeNothing(t *testing.T) {
	for _, r := range slices.Concat(orderRefusals(), authorizationRefusals(), otherRefusals()) {
		t.Run(r.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				change := r.prepare(w)
				before := w.Dump(t)
				err := change()
				if r.want == errAny && err != nil {
					err = errAny
				}
				if !errors.Is(err, r.want) {
					t.Errorf("got %v, want %v", err, r.want)
				}
				if after := w.Dump(t); after != before {
					t.Errorf("the refused change changed something:\n%s", diff(before, after))
				}
				w.check(t)
			})
		})
	}
}

// Of callers that race for a transition exactly one wins.
func TestRacesHaveOneWinner(t *testing.T) {
	const racers = 32
	for name, race := range map[string]struct {
		prepare func(w *world) func(i int) (won bool, err error)
		loser   error
		event   audit.Action
	}{
		"CreateAccount with one key": {func(w *world) func(int) (bool, error) {
			key := newKey()
			return func(int) (bool, error) {
				a, created, err := w.CreateAccount(ctx, store.NewAccount{Key: key})
				if err == nil && a.Key.Thumbprint() != key.Thumbprint() {
					err = errors.New("another account")
				}
				return created, err
			}
		}, nil, audit.AccountCreated},
		"ChangeKey from one key": {func(w *world) func(int) (bool, error) {
			a := w.account()
			return func(int) (bool, error) { return won(w.ChangeKey(ctx, a.ID, a.Key, newKey())) }
		}, store.ErrConflict, audit.AccountKeyRolled},
		"ChangeKey to one key": {func(w *world) func(int) (bool, error) {
			accounts, to := make([]*acme.Account, racers), newKey()
			for i := range accounts {
				accounts[i] = w.account()
			}
			return func(i int) (bool, error) { return won(w.ChangeKey(ctx, accounts[i].ID, accounts[i].Key, to)) }
		}, store.ErrExists, audit.AccountKeyRolled},
		"DeactivateAccount": {func(w *world) func(int) (bool, error) {
			a := w.account()
			return func(int) (bool, error) { return won(w.DeactivateAccount(ctx, "api:test", a.ID)) }
		}, store.ErrConflict, audit.AccountDeactivated},
		"ClaimOrder": {func(w *world) func(int) (bool, error) {
			o := w.trusted()
			return func(int) (bool, error) { return won(w.ClaimOrder(ctx, newClaim(o), time.Minute)) }
		}, store.ErrConflict, audit.OrderFinalized},
		"ClaimOrder of a validated order": {func(w *world) func(int) (bool, error) {
			o, a := w.challenged()
			w.validate(a)
			return func(int) (bool, error) { return won(w.ClaimOrder(ctx, newClaim(o), time.Minute)) }
		}, store.ErrConflict, audit.OrderFinalized},
		"FinishOrder by all who ever held the lease": {func(w *world) func(int) (bool, error) {
			claims := []*store.Claim{w.claim(w.trusted())}
			for range racers - 1 {
				w.Advance(2 * time.Minute)
				taken, err := w.TakeClaims(ctx, time.Minute, 1)
				w.ok(err)
				claims = append(claims, &taken[0])
			}
			return func(i int) (bool, error) {
				ok, err := won(w.FinishOrder(ctx, claims[i], []byte("der")))
				if ok && i != racers-1 {
					err = errors.New("an old fence finished the order")
				}
				return ok, err
			}
		}, store.ErrConflict, audit.CertificateIssued},
		"FinishOrder against FailOrder": {func(w *world) func(int) (bool, error) {
			c := w.claim(w.trusted())
			return func(i int) (bool, error) {
				if i%2 == 0 {
					return won(w.FailOrder(ctx, c, acme.ServerInternal("broken")))
				}
				return won(w.FinishOrder(ctx, c, []byte("der")))
			}
		}, store.ErrConflict, ""},
		"TakeClaims": {func(w *world) func(int) (bool, error) {
			w.claim(w.trusted())
			w.Advance(2 * time.Minute)
			return func(int) (bool, error) {
				taken, err := w.TakeClaims(ctx, time.Minute, 10)
				return len(taken) == 1, err
			}
		}, nil, ""},
		"RespondChallenge": {func(w *world) func(int) (bool, error) {
			_, a := w.challenged()
			return func(int) (bool, error) {
				_, err := w.RespondChallenge(ctx, a, acme.HTTP01, time.Minute)
				return won(err)
			}
		}, store.ErrConflict, audit.ChallengeProcessing},
		"TakeValidations": {func(w *world) func(int) (bool, error) {
			_, a := w.challenged()
			w.respond(a)
			w.Advance(2 * time.Minute)
			return func(int) (bool, error) {
				taken, err := w.TakeValidations(ctx, acme.HTTP01, time.Minute, 10, nil)
				return len(taken) == 1, err
			}
		}, nil, ""},
		"FinishValidation both ways": {func(w *world) func(int) (bool, error) {
			_, a := w.challenged()
			v := w.respond(a)
			return func(i int) (bool, error) {
				var p *acme.Problem
				if i%2 == 0 {
					p = acme.Unauthorized("wrong")
				}
				return won(w.FinishValidation(ctx, v, p, time.Hour, nil))
			}
		}, store.ErrConflict, audit.ChallengeCompleted},
		"DeactivateAuthorization": {func(w *world) func(int) (bool, error) {
			_, a := w.challenged()
			return func(int) (bool, error) { return won(w.DeactivateAuthorization(ctx, a)) }
		}, store.ErrConflict, audit.AuthorizationDeactivated},
		"DeactivateTrustedAuthz": {func(w *world) func(int) (bool, error) {
			o := w.trusted()
			return func(int) (bool, error) { return won(w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0])) }
		}, store.ErrConflict, audit.AuthorizationDeactivated},
		"a single-use EAB key": {func(w *world) func(int) (bool, error) {
			kid := w.eabKey(false)
			return func(int) (bool, error) {
				_, _, err := w.CreateAccount(ctx, store.NewAccount{Key: newKey(), EABKeyID: kid})
				return won(err)
			}
		}, store.ErrEABKey, audit.AccountEABBound},
		"RevokeCertificate": {func(w *world) func(int) (bool, error) {
			serial := w.certificate()
			return func(int) (bool, error) { return won(w.RevokeCertificate(ctx, "api:test", serial, 1)) }
		}, store.ErrConflict, audit.CertificateRevoked},
		"PublishCRL of one number": {func(w *world) func(int) (bool, error) {
			return func(int) (bool, error) {
				return won(w.PublishCRL(ctx, "iss", store.CRL{Number: 1, DER: []byte("crl"), ThisUpdate: begin, NextUpdate: begin}))
			}
		}, store.ErrConflict, audit.CRLPublished},
		"UpdateProfile from one revision": {func(w *world) func(int) (bool, error) {
			p := *w.rules("trust").Profile()
			return func(int) (bool, error) {
				_, err := w.UpdateProfile(ctx, "api:test", p)
				return won(err)
			}
		}, store.ErrConflict, audit.ProfileUpdated},
		"CreateIssuer": {func(w *world) func(int) (bool, error) {
			return func(i int) (bool, error) {
				return won(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss"}, map[string][]byte{"iss/key": {byte(i)}}))
			}
		}, store.ErrExists, audit.IssuerCreated},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				run := race.prepare(w)
				events := w.events(race.event)
				wins := make([]bool, racers)
				errs := together(racers, func(i int) (err error) {
					wins[i], err = run(i)
					return err
				})
				winners := 0
				for i, err := range errs {
					switch {
					case wins[i]:
						winners++
						w.ok(err)
					case !errors.Is(err, race.loser) || (err == nil) != (race.loser == nil):
						t.Errorf("a loser was told %v, want %v", err, race.loser)
					}
				}
				if winners != 1 {
					t.Errorf("%d winners", winners)
				}
				if race.event != "" && w.events(race.event) != events+1 {
					t.Errorf("%d events %s, want one", w.events(race.event)-events, race.event)
				}
				w.check(t)
			})
		})
	}
}

func won(err error) (bool, error) { return err == nil, err }

// EnsureSecret stores one of the secrets that racing callers made, and all get
// that one.
func TestEnsureSecretMakesOne(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		got := make([]byte, 32)
		for _, err := range together(len(got), func(i int) error {
			secret, err := s.EnsureSecret(ctx, "shared", func() ([]byte, error) { return []byte{byte(i + 1)}, nil })
			if err == nil {
				got[i] = secret[0]
			}
			return err
		}) {
			if err != nil {
				t.Error(err)
			}
		}
		if got[0] == 0 || strings.Count(string(got), string(got[:1])) != len(got) {
			t.Errorf("the callers got %v", got)
		}
	})
}

// newAccount with a known key answers with its account and binds an EAB key that
// came along, as often as it is sent (RFC 8555, Section 7.3.1).
func TestNewAccountAgain(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		n := store.NewAccount{Key: newKey(), Contacts: []string{"mailto:a@example.com"}}
		first, created, err := w.CreateAccount(ctx, n)
		w.ok(err)
		if !created || first.BoundExternally || !first.TermsAgreedAt.IsZero() {
			t.Errorf("first: %+v, created %v", first, created)
		}
		n.Contacts, n.TermsAgreed = nil, true
		second, created, err := w.CreateAccount(ctx, n)
		w.ok(err)
		if created || second.ID != first.ID || len(second.Contacts) != 1 || !second.TermsAgreedAt.IsZero() {
			t.Errorf("second: %+v, created %v", second, created)
		}
		n.EABKeyID = w.eabKey(false)
		for range 2 {
			bound, created, err := w.CreateAccount(ctx, n)
			w.ok(err)
			if created || !bound.BoundExternally {
				t.Errorf("with a binding: %+v, created %v", bound, created)
			}
		}
		if n := w.events(audit.AccountEABBound); n != 1 {
			t.Errorf("%d bindings in the log, want 1", n)
		}
		w.ok(w.DeactivateAccount(ctx, "api:test", first.ID))
		n.EABKeyID = w.eabKey(true)
		gone, created, err := w.CreateAccount(ctx, n)
		w.ok(err)
		if created || gone.Status() != acme.StatusDeactivated {
			t.Errorf("after its end: %+v, created %v", gone, created)
		}
		if n := w.events(audit.AccountEABBound); n != 1 {
			t.Errorf("%d bindings in the log: a deactivated account was bound", n)
		}
	})
}

// What DeactivateAccount leaves: open orders are invalid, authorizations are
// deactivated, and what was claimed ends as it will.
func TestDeactivateAccountEndsWhatIsOpen(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		pending, pendingAuthz := w.place(newChallenged(account, "a.test"))
		ready, readyAuthz := w.place(newChallenged(account, "b.test"))
		w.validate(&readyAuthz[0])
		trusted, _ := w.place(newTrusted(account))
		claimed, _ := w.place(newTrusted(account))
		claim := w.claim(claimed)
		issued, _ := w.place(newTrusted(account))
		w.ok(w.FinishOrder(ctx, w.claim(issued), []byte("der")))
		other := w.trusted()

		w.ok(w.DeactivateAccount(ctx, "api:test", account))
		for id, want := range map[string]acme.Status{pending.ID: acme.StatusInvalid, ready.ID: acme.StatusInvalid, trusted.ID: acme.StatusInvalid,
			claimed.ID: acme.StatusProcessing, issued.ID: acme.StatusValid, other.ID: acme.StatusReady} {
			if got := w.orderStatus(id); got != want {
				t.Errorf("order %s is %s, want %s", id, got, want)
			}
		}
		for _, id := range []string{pendingAuthz[0].ID, readyAuthz[0].ID} {
			if a, err := w.Authorization(ctx, id); err != nil || a.Status(w.Now()) != acme.StatusDeactivated {
				t.Errorf("authorization %v, %v", a, err)
			}
		}
		w.ok(w.FinishOrder(ctx, claim, []byte("der")))
		w.check(t)
	})
}

// A row that every request needs is cached; none is told after it has changed,
// also when the change was committed and yet reported as failed.
func TestCachesNeverTellWhatWasChanged(t *testing.T) {
	for _, faulty := range []bool{false, true} {
		t.Run(fmt.Sprint("faulty ", faulty), func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				a, kid := w.account(), w.eabKey(true)
				w.ok(w.BindEABKey(ctx, "api:test", a.ID, kid))
				w.ok(w.CreateAPIKey(ctx, "api:test", "key", "hash", store.RoleAdmin))
				w.profile("archived", policy.Challenge)
				warm := func() (contacts, grants int, deactivated, apiKey, archived bool, revision int64, thumbprint string) {
					account, err := w.Account(ctx, a.ID)
					w.ok(err)
					g, err := w.Grants(ctx, a.ID)
					w.ok(err)
					_, keyErr := w.APIKeyByKey(ctx, "hash")
					_, profileErr := w.Store.Profile(ctx, "archived")
					return len(account.Contacts), len(g), account.Status() == acme.StatusDeactivated, keyErr == nil,
						errors.Is(profileErr, store.ErrNotFound), w.rules("trust").Profile().Revision, account.Key.Thumbprint()
				}
				to := newKey()
				changes := []func() error{
					func() error { return w.UpdateContacts(ctx, a.ID, []string{"mailto:a@example.com"}) },
					func() error { return w.ChangeKey(ctx, a.ID, a.Key, to) },
					func() error { return w.DisableEABKey(ctx, "api:test", kid) },
					func() error { return w.DisableAPIKey(ctx, "api:test", "key") },
					func() error { return w.ArchiveProfile(ctx, "api:test", "archived") },
					func() error {
						_, err := w.UpdateProfile(ctx, "api:test", *w.rules("trust").Profile())
						return err
					},
					func() error { return w.DeactivateAccount(ctx, "api:test", a.ID) },
				}
				warm()
				for _, change := range changes {
					if faulty {
						failed := false
						w.Fault(func(committed bool) error {
							if committed && !failed {
								failed = true
								return errors.New("the connection is broken")
							}
							return nil
						})
					}
					if err := change(); err != nil && !faulty {
						t.Fatal(err)
					}
					w.Fault(nil)
				}
				contacts, grants, deactivated, apiKey, archived, revision, thumbprint := warm()
				if contacts != 1 || grants != 0 || !deactivated || apiKey || !archived || revision != 2 || thumbprint != to.Thumbprint() {
					t.Errorf("faulty %v: contacts %d, grants %d, deactivated %v, API key %v, archived %v, revision %d, new key %v",
						faulty, contacts, grants, deactivated, apiKey, archived, revision, thumbprint == to.Thumbprint())
				}
			})
		})
	}
}

// An authorization that expired while it was validated is not tried again: what
// would be found out could not be recorded.
func TestAnExpiredAuthorizationIsNotValidatedAgain(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		_, fresh := w.challenged()
		w.respond(fresh)
		n := newChallenged(fresh.AccountID, "b.test")
		n.AuthzTTL = 90 * time.Second
		_, expired := w.place(n)
		w.respond(&expired[0])
		w.Advance(2 * time.Minute)
		taken, err := s.TakeValidations(ctx, acme.HTTP01, time.Minute, 10, nil)
		w.ok(err)
		if len(taken) != 1 || taken[0].Authorization.ID != fresh.ID {
			t.Errorf("taken: %+v", taken)
		}
		if taken, err := s.TakeValidations(ctx, "dns-01", time.Minute, 10, nil); err != nil || len(taken) != 0 {
			t.Errorf("of another challenge: %+v, %v", taken, err)
		}
	})
}
