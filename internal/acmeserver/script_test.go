package acmeserver_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

// TestScripts runs the scripts in testdata, whose language testdata/README.md
// tells, each in a world of its own, and then asks whether they left out a
// resource, an error type or a status code.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	t.Run("all", func(t *testing.T) {
		for _, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
				t.Parallel()
				runScript(t, file)
			})
		}
	})
	var want []string
	for _, name := range acmeserver.ResourceNames() {
		want = append(want, name+" ok", name+" failed")
	}
	for _, kind := range answerable {
		want = append(want, "problem "+kind)
	}
	for _, status := range []int{200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 415, 421, 429} {
		want = append(want, fmt.Sprintf("status %d", status))
	}
	missing := slices.DeleteFunc(want, covered.has)
	if len(missing) > 0 && !t.Failed() {
		t.Errorf("no script shows: %q", missing)
	}
}

// answerable are the error types that the surface can answer with, or show in a
// challenge: all but serverInternal, which is never to be seen.
var answerable = []string{
	"accountDoesNotExist", "alreadyReplaced", "alreadyRevoked", "badCSR", "badNonce", "badPublicKey", "badRevocationReason", "badSignatureAlgorithm",
	"caa", "compound", "connection", "dns", "externalAccountRequired", "incorrectResponse", "invalidContact", "invalidProfile", "malformed",
	"orderNotReady", "rateLimited", "rejectedIdentifier", "tls", "unauthorized", "unsupportedContact", "unsupportedIdentifier",
	"userActionRequired",
}

// script is one script under way.
type script struct {
	*wire
	where   string // file and line
	set     settings
	vars    map[string]string
	keys    map[string]crypto.Signer // of CSRs
	forged  []string                 // for the next request
	last    *exchange
	checked bool // the status of the last answer was asked for
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{vars: map[string]string{}, keys: map[string]crypto.Signer{}, checked: true}
	s.vars["deep"] = strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)
	s.vars["names100"], s.vars["names101"] = manyNames(100), manyNames(101)
	started := false
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		s.where = fmt.Sprintf("%s:%d", filepath.Base(file), i+1)
		word, rest, _ := strings.Cut(line, " ")
		if word == "config" {
			s.configure(t, rest)
			continue
		}
		if !started {
			s.wire = newWire(newWorld(t, s.set))
			s.vars["origin"] = s.http.URL
			started = true
		}
		run, ok := commands[word]
		if !ok {
			t.Fatalf("%s: no command is called %q", s.where, word)
		}
		t.Log(s.where, line)
		run(s, s.expand(rest))
	}
	s.settle()
	s.Check()
}

func manyNames(n int) string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf(`{"type":"dns","value":"n%d.test"}`, i)
	}
	return "[" + strings.Join(ids, ",") + "]"
}

// configure sets what the world has to be made with.
func (s *script) configure(t *testing.T, line string) {
	name, value, _ := strings.Cut(line, "=")
	switch name {
	case "terms":
		s.set.terms = value
	case "eab-required":
		s.set.eabRequired = true
	case "no-default":
		s.set.noDefault = true
	case "ca-permits":
		s.set.permitted = strings.Split(value, ",")
	case "orders-per-hour":
		s.set.limits.Orders = policy.Limit{Burst: number(t, value), Period: time.Hour}
	case "new-accounts-per-hour":
		s.set.limits.NewAccounts = policy.Limit{Burst: number(t, value), Period: time.Hour}
	case "account-changes-per-hour":
		s.set.limits.AccountChanges = policy.Limit{Burst: number(t, value), Period: time.Hour}
	case "key-changes-per-hour":
		s.set.limits.KeyChanges = policy.Limit{Burst: number(t, value), Period: time.Hour}
	case "open-orders":
		s.set.limits.OpenOrders = number(t, value)
	default:
		t.Fatalf("%s: no setting is called %q", s.where, name)
	}
}

func number(t *testing.T, text string) int {
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var variable = regexp.MustCompile(`\$[a-z][a-z0-9_]*`)

// expand puts in the values of variables. A name that is none stays: JSON paths
// begin with $ too.
func (s *script) expand(text string) string {
	return variable.ReplaceAllStringFunc(text, func(name string) string {
		if value, ok := s.vars[name[1:]]; ok {
			return value
		}
		s.fatalf("there is no %s", name)
		return ""
	})
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	answer := ""
	if s.last != nil {
		answer = fmt.Sprintf("\nthe last answer: %d %v\n%s", s.last.status, s.last.header, s.last.body)
	}
	s.t.Fatalf("%s: %s%s", s.where, fmt.Sprintf(format, args...), answer)
}

func (s *script) want(ok bool, format string, args ...any) {
	s.t.Helper()
	if !ok {
		s.fatalf(format, args...)
	}
}

// settle ends the look at the last answer: one whose status was not asked for has
// to be a success.
func (s *script) settle() {
	s.t.Helper()
	if !s.checked && s.last.status >= 400 {
		s.fatalf("refused, and the script does not expect it")
	}
	s.want(len(s.forged) == 0 || s.last == nil || s.checked, "forgeries without a request")
	s.checked = true
}

// request sends a request: PATH [as|with ACTOR [PAYLOAD]].
func (s *script) request(method, line string) {
	s.t.Helper()
	s.settle()
	to, rest, _ := strings.Cut(line, " ")
	e := &exchange{method: method, to: to, forgeries: s.forged}
	s.forged = nil
	if how, rest, signed := strings.Cut(rest, " "); signed {
		name, payload, _ := strings.Cut(rest, " ")
		s.want(how == "as" || how == "with", "a request is signed as an account or with a key, not %q", how)
		e.as, e.byKey, e.payload = s.actor(name), how == "with", payload
	}
	s.last, s.checked = s.do(e), false
}

var commands = map[string]func(s *script, line string){
	"GET":     func(s *script, line string) { s.request("GET", line) },
	"HEAD":    func(s *script, line string) { s.request("HEAD", line) },
	"PUT":     func(s *script, line string) { s.request("PUT", line) },
	"DELETE":  func(s *script, line string) { s.request("DELETE", line) },
	"OPTIONS": func(s *script, line string) { s.request("OPTIONS", line) },
	"POST":    func(s *script, line string) { s.request("POST", line) },
	"forge": func(s *script, line string) {
		s.settle()
		s.forged = append(s.forged, line)
	},

	"status":     (*script).expectStatus,
	"problem":    (*script).expectProblem,
	"subproblem": (*script).expectSubproblem,
	"header":     (*script).expectHeader,
	"json":       (*script).expectJSON,
	"detail": func(s *script, line string) {
		text, _ := strings.CutPrefix(line, "contains ")
		s.want(strings.Contains(s.last.text("detail"), text), "the detail does not contain %q", text)
	},
	"names": (*script).expectNames,
	"save":  (*script).save,
	"wait":  (*script).wait,

	"key":       (*script).makeKey,
	"account":   (*script).makeAccount,
	"rename":    (*script).rename,
	"csr":       (*script).makeCSR,
	"eabjws":    (*script).makeEAB,
	"keychange": (*script).makeKeyChange,

	"probe":   (*script).setOutcome,
	"caa":     func(s *script, line string) { s.forbidden.Store(line == "forbidden") },
	"advance": (*script).advance,
	"profile": (*script).patchProfile,
	"archive": func(s *script, id string) { s.ok(s.store.ArchiveProfile(ctx, "test", id)) },
	"eabkey":  (*script).makeEABKey,
	"dates":   (*script).makeDates,
	"swap":    (*script).swapProfile,
	"foreign": (*script).makeForeign,
	"orders":  (*script).makeOrders,
	"disable": func(s *script, kid string) { s.ok(s.store.DisableEABKey(ctx, "test", kid)) },

	"chain":         (*script).addChain,
	"unchain":       (*script).removeChain,
	"default-chain": (*script).setDefaultChain,
	"through":       (*script).expectThrough,
}

func (s *script) expectStatus(line string) {
	s.want(strconv.Itoa(s.last.status) == line, "want status %s", line)
	s.checked = true
}

func (s *script) expectProblem(kind string) {
	s.want(s.last.problemType() == kind, "want a problem of type %s", kind)
	s.checked = true
}

// subproblem TYPE VALUE: one of the subproblems is about that identifier.
func (s *script) expectSubproblem(line string) {
	kind, value, _ := strings.Cut(line, " ")
	list, _ := at(s.last.json, "subproblems")
	subs, _ := list.([]any)
	s.want(slices.ContainsFunc(subs, func(sub any) bool {
		of, _ := at(sub, "identifier.value")
		got, _ := at(sub, "type")
		return got == "urn:ietf:params:acme:error:"+kind && of == value
	}), "want a subproblem %s of %q", kind, value)
	_, top := at(s.last.json, "identifier")
	s.want(!top, "a problem has an identifier at its top (RFC 8555, Section 6.7.1)")
}

// header NAME | header NAME is TEXT | header NAME contains TEXT | header no NAME
func (s *script) expectHeader(line string) {
	words := strings.SplitN(line, " ", 3)
	if words[0] == "no" {
		s.want(s.header(words[1]) == nil, "want no %s", words[1])
		return
	}
	values := s.header(words[0])
	s.want(len(values) > 0, "want a header %s", words[0])
	if len(words) == 3 {
		s.want(slices.ContainsFunc(values, func(v string) bool {
			return v == words[2] || words[1] == "contains" && strings.Contains(v, words[2])
		}), "want the header %s", line)
	}
}

// json PATH == JSON | json PATH contains TEXT | json PATH count N | json PATH | json no PATH
func (s *script) expectJSON(line string) {
	words := strings.SplitN(line, " ", 3)
	if words[0] == "no" {
		_, found := at(s.last.json, words[1])
		s.want(!found, "want no %s", words[1])
		return
	}
	got, found := at(s.last.json, words[0])
	s.want(found, "there is no %s", words[0])
	if len(words) == 3 {
		s.want(matches(got, words[1], words[2]), "want %s", line)
	}
}

// header returns the values of a header field; of Link:REL the URLs of that relation.
func (s *script) header(name string) (values []string) {
	name, rel, isLink := strings.Cut(name, ":")
	if !isLink {
		return s.last.header.Values(name)
	}
	for _, link := range s.last.header.Values(name) {
		if to, ok := strings.CutSuffix(link, `>;rel="`+rel+`"`); ok {
			values = append(values, strings.TrimPrefix(to, "<"))
		}
	}
	return values
}

func matches(got any, operator, want string) bool {
	switch operator {
	case "==":
		var value any
		return json.Unmarshal([]byte(want), &value) == nil && fmt.Sprint(got) == fmt.Sprint(value)
	case "contains":
		text, _ := got.(string)
		return strings.Contains(text, want)
	case "count":
		list, _ := got.([]any)
		return strconv.Itoa(len(list)) == want
	}
	return false
}

var index = regexp.MustCompile(`^(.*)\[([0-9]+)\]$`)

// at follows a path such as authorizations[0] or error.type.
func at(value any, path string) (any, bool) {
	for part := range strings.SplitSeq(path, ".") {
		i := -1
		if m := index.FindStringSubmatch(part); m != nil {
			part = m[1]
			i, _ = strconv.Atoi(m[2])
		}
		o, ok := value.(map[string]any)
		if !ok {
			return nil, false
		}
		if value, ok = o[part]; !ok {
			return nil, false
		}
		if i >= 0 {
			list, _ := value.([]any)
			if i >= len(list) {
				return nil, false
			}
			value = list[i]
		}
	}
	return value, true
}

// names NAME…: the certificate in the last answer has these names; it becomes
// $leaf.
func (s *script) expectNames(line string) {
	cert := s.leaf(s.last.body)
	s.vars["leaf"] = b64(cert.Raw)
	s.vars["cn"] = cert.Subject.CommonName
	s.vars["certid"] = b64(cert.AuthorityKeyId) + "." + b64(cert.SerialNumber.Bytes())
	got := slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		got = append(got, ip.String())
	}
	want := strings.Fields(line)
	slices.Sort(got)
	slices.Sort(want)
	s.want(slices.Equal(got, want), "the certificate is for %q", got)
}

// save NAME HEADER | save NAME .PATH of the JSON
func (s *script) save(line string) {
	s.settle()
	name, from, _ := strings.Cut(line, " ")
	value := ""
	if path, ok := strings.CutPrefix(from, "."); ok {
		value = s.last.text(path)
	} else if values := s.header(from); len(values) > 0 {
		value = values[0]
	}
	s.want(value != "", "there is no %s", from)
	s.vars[name] = value
}

// wait PATH OPERATOR VALUE: asks again until the answer is so.
func (s *script) wait(line string) {
	words := strings.SplitN(line, " ", 3)
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if got, ok := at(s.last.json, words[0]); ok && matches(got, words[1], words[2]) {
			return
		}
		s.last = s.do(&exchange{method: "POST", to: s.last.to, as: s.last.as})
	}
	s.fatalf("waited in vain for %s", line)
}

// key NAME [KIND]
func (s *script) makeKey(line string) {
	name, kind, _ := strings.Cut(line, " ")
	s.actors[name] = &actor{key: newKey(s.t, kind)}
	s.vars[name+"_jwk"] = jwk(s.actors[name].key.Public())
}

// account NAME…: an account each, whose URL becomes $NAME.
func (s *script) makeAccount(line string) {
	s.settle()
	for _, name := range strings.Fields(line) {
		a := s.wire.account("")
		s.actors[name], s.vars[name], s.vars[name+"_jwk"] = a, a.kid, jwk(a.key.Public())
		s.vars[name+"_id"] = a.kid[strings.LastIndex(a.kid, "/")+1:]
	}
}

// rename OLD NEW: the account of OLD has the key of NEW from now on. Without NEW,
// OLD learns its URL from the last answer.
func (s *script) rename(line string) {
	s.settle()
	old, fresh, rolled := strings.Cut(line, " ")
	if rolled {
		s.actors[old].key = s.actor(fresh).key
		return
	}
	s.actor(old).kid = s.last.header.Get("Location")
	s.vars[old] = s.actor(old).kid
}

// csr NAME [OPTION=VALUE…] NAME…: a certificate signing request, which becomes
// $NAME, and its key an actor of that name.
func (s *script) makeCSR(line string) {
	words := strings.Fields(line)
	name := words[0]
	template, key := &x509.CertificateRequest{}, crypto.Signer(nil)
	for _, word := range words[1:] {
		option, value, isOption := strings.Cut(word, "=")
		switch {
		case option == "key" && s.actors[value] != nil:
			key = s.actors[value].key
		case option == "key":
			key = newKey(s.t, value)
		case isOption:
			csrOption(s, template, option, value)
		default:
			addName(template, word)
		}
	}
	if key == nil {
		key = newKey(s.t, "")
	}
	der, err := x509.CreateCertificateRequest(nil, template, key)
	s.ok(err)
	s.vars[name] = b64(der)
	s.actors[name] = &actor{key: key}
}

func addName(template *x509.CertificateRequest, name string) {
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = append(template.IPAddresses, ip)
	} else {
		template.DNSNames = append(template.DNSNames, name)
	}
}

func csrOption(s *script, template *x509.CertificateRequest, option, value string) {
	extension := func(oid asn1.ObjectIdentifier, content any) {
		der, err := asn1.Marshal(content)
		s.ok(err)
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oid, Value: der})
	}
	switch option {
	case "cn":
		template.Subject.CommonName = value
	case "organization":
		template.Subject.Organization = []string{value}
	case "email":
		template.EmailAddresses = append(template.EmailAddresses, value)
	case "uri":
		u, err := url.Parse(value)
		s.ok(err)
		template.URIs = append(template.URIs, u)
	case "ca": // basicConstraints with the flag set
		extension(asn1.ObjectIdentifier{2, 5, 29, 19}, struct{ CA bool }{true})
	case "eku": // code signing
		extension(asn1.ObjectIdentifier{2, 5, 29, 37}, []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 3}})
	case "ku": // keyCertSign and cRLSign
		extension(asn1.ObjectIdentifier{2, 5, 29, 15}, asn1.BitString{Bytes: []byte{6}, BitLength: 7})
	default:
		s.fatalf("no option of a CSR is called %q", option)
	}
}

// eabjws NAME kid=KID key=ACTOR url=URL [alg=ALG] [nonce=N] [wrong]: an external
// account binding.
func (s *script) makeEAB(line string) {
	name, rest, _ := strings.Cut(line, " ")
	option := options(rest)
	d := &draft{mac: eabSecret(option["kid"])}
	if _, ok := option["wrong"]; ok {
		d.mac = []byte("not the key")
	}
	d.header.add("alg", quoted(cmpOr(option["alg"], "HS256")))
	d.header.add("kid", quoted(option["kid"]))
	d.header.add("url", quoted(s.full(option["url"])))
	if nonce, ok := option["nonce"]; ok {
		d.header.add("nonce", quoted(nonce))
	}
	d.payload = b64([]byte(jwk(s.actor(option["key"]).key.Public())))
	s.vars[name] = d.sealed(s.t)
}

func cmpOr(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func options(line string) map[string]string {
	all := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(word, "=")
		all[name] = value
	}
	return all
}

// eabSecret is the HMAC key of an external account key in tests.
func eabSecret(kid string) []byte { return []byte("the secret of " + kid + ", long enough for HS256") }

// keychange NAME new=ACTOR old=ACTOR [account=URL] [url=URL] [FORGERY…]: the inner
// JWS of a key change.
func (s *script) makeKeyChange(line string) {
	name, rest, _ := strings.Cut(line, " ")
	option := options(rest)
	old, fresh := s.actor(option["old"]), s.actor(option["new"])
	payload := fmt.Sprintf(`{"account":%s,"oldKey":%s}`, quoted(cmpOr(option["account"], old.kid)), jwk(old.key.Public()))
	d := newDraft(fresh.key, "", s.full(cmpOr(option["url"], "/acme/key-change")), "", payload)
	for word := range strings.FieldsSeq(rest) {
		if first, _, _ := strings.Cut(word, "="); !slices.Contains([]string{"new", "old", "account", "url"}, first) {
			s.forge(d, word, "")
		}
	}
	s.vars[name] = d.sealed(s.t)
}

// probe OUTCOME [N]: validations end so from now on. "refused N" is a connection
// refused N times and then success; "hang" never ends.
func (s *script) setOutcome(line string) {
	s.settle()
	kind, times, _ := strings.Cut(line, " ")
	var left atomic.Int64
	if times != "" {
		n, err := strconv.Atoi(times)
		s.ok(err)
		left.Store(int64(n))
	}
	s.setProbe(func(ctx context.Context, _ acme.ChallengeType, target validate.Target) validate.Outcome {
		switch kind {
		case "ok":
			return validate.Outcome{}
		case "hang":
			<-ctx.Done()
			return validate.Outcome{Problem: acme.Connection("interrupted"), Retry: true}
		case "refused":
			if left.Add(-1) >= 0 {
				return validate.Outcome{Problem: acme.Connection("10.0.0.1:80: connection refused"), Retry: true}
			}
			return validate.Outcome{}
		}
		kind := acme.ErrorType("urn:ietf:params:acme:error:" + kind)
		return validate.Outcome{Problem: acme.NewProblem(kind, "what came of %s", target.Identifier.Value)}
	})
}

func (s *script) advance(line string) {
	s.settle()
	d, err := time.ParseDuration(line)
	s.ok(err)
	s.ahead.Add(int64(d))
	s.fresh = nil // the nonces may have expired
}

// profile ID JSON: changes a profile.
func (s *script) patchProfile(line string) {
	s.settle()
	id, spec, _ := strings.Cut(line, " ")
	var patch policy.ProfilePatch
	s.ok(json.Unmarshal([]byte(spec), &patch))
	s.changeProfile(id, patch)
}

// eabkey KID JSON: makes an external account key.
func (s *script) makeEABKey(line string) {
	s.settle()
	kid, spec, _ := strings.Cut(line, " ")
	key := store.EABKey{KeyID: kid}
	s.ok(json.Unmarshal([]byte(spec), &key))
	s.ok(s.store.CreateEABKey(ctx, "test", key, eabSecret(kid)))
}

// dates NAME=DURATION…: times from now, in whole seconds; $NAME_zoned is half a
// second later, and written in another zone.
func (s *script) makeDates(line string) {
	for name, text := range options(line) {
		d, err := time.ParseDuration(text)
		s.ok(err)
		at := s.store.Now().Add(d).Truncate(time.Second)
		s.vars[name] = at.Format(time.RFC3339)
		s.vars[name+"_zoned"] = at.Add(time.Second / 2).In(time.FixedZone("", 2*60*60)).Format(time.RFC3339Nano)
	}
}

// swap NAME FROM TO: $swapped is $NAME under another profile.
func (s *script) swapProfile(line string) {
	s.settle()
	words := strings.Fields(line)
	from, to := "/acme/profile/"+words[1]+"/", "/acme/profile/"+words[2]+"/"
	s.want(strings.Contains(s.vars[words[0]], from), "$%s is not under %s", words[0], from)
	s.vars["swapped"] = strings.Replace(s.vars[words[0]], from, to, 1)
}

// foreign NAME: $foreign is like the certificate $NAME but of another CA,
// $trailing the same with more behind it, $issuing the CA's own.
func (s *script) makeForeign(name string) {
	s.settle()
	der, err := base64.RawURLEncoding.DecodeString(s.vars[name])
	s.ok(err)
	cert, err := x509.ParseCertificate(der)
	s.ok(err)
	key := newKey(s.t, "")
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: cert.Issuer, IsCA: true, BasicConstraintsValid: true}
	forged, err := x509.CreateCertificate(nil, cert, ca, cert.PublicKey, key)
	s.ok(err)
	s.vars["foreign"], s.vars["trailing"] = b64(forged), b64(append(der, 0))
	s.vars["issuing"] = b64(s.issuer.Chain()[0].Raw)
}

// orders N ACTOR: that many orders, made in the store.
func (s *script) makeOrders(line string) {
	s.settle()
	count, name, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(count)
	s.ok(err)
	rules, err := s.store.Profile(ctx, "trust")
	s.ok(err)
	for range n {
		_, _, err := s.store.CreateOrder(ctx, store.NewOrder{
			AccountID: s.vars[name+"_id"], ProfileID: "trust", ProfileRevision: rules.Profile().Revision, Trusted: true,
			Identifiers: []acme.Identifier{{Type: acme.DNS, Value: "a.test"}}, OrderTTL: time.Hour,
		})
		s.ok(err)
	}
}
