package acme

import (
	"bytes"
	stdjson "encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
	"pgregory.net/rapid"
)

func TestUnmarshalPayload(t *testing.T) {
	type target struct {
		Name   string          `json:"name"`
		Number *int            `json:"number"`
		Raw    json.RawMessage `json:"raw"`
		Binary Base64URL       `json:"binary"`
	}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, test := range []struct {
		name, payload, detail string // detail "" for what is accepted
	}{
		{"empty object", `{}`, ""},
		{"white space", " \r\n\t{ } \n", ""},
		{"unknown fields", `{"extra":{"a":[1,2]},"name":"a"}`, ""},
		{"null fields", `{"name":null,"number":null,"raw":null,"binary":null}`, ""},
		{"another case is another field", `{"Name":1,"NAME":2}`, ""},
		{"15 levels below", `{"raw":` + nested(15) + `}`, ""},
		{"brackets in strings", `{"name":"` + strings.Repeat(`[{\"`, 100) + `"}`, ""},
		{"base64url", `{"binary":"_-8"}`, ""},

		{"empty", ``, "empty"},
		{"white space only", ` `, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"true", `true`, "not a JSON object"},
		{"array", `[]`, "not a JSON object"},
		{"string", `"{}"`, "not a JSON object"},
		{"trailing object", `{}{}`, "cannot be read"},
		{"trailing text", `{} x`, "cannot be read"},
		{"cut short", `{"name":"a"`, "not valid JSON"},
		{"cut in a string", `{"name":"a`, "not valid JSON"},
		{"cut in an escape", `{"name":"a\`, "not valid JSON"},
		{"mismatched", `{"raw":[}`, "not valid JSON"},
		{"duplicates", `{"name":"a","name":"b"}`, "duplicate"},
		{"duplicates, one escaped", `{"name":"a","n\u0061me":"b"}`, "duplicate"},
		{"duplicates of unknown fields", `{"x":1,"x":2}`, "duplicate"},
		{"16 levels below", `{"raw":` + nested(16) + `}`, "nested deeper"},
		{"very deep", strings.Repeat(`{"a":`, 1<<17), "nested deeper"},
		{"invalid UTF-8", "{\"name\":\"\xff\"}", "UTF-8"},
		{"surrogate in UTF-8", "{\"name\":\"\xed\xa0\x80\"}", "UTF-8"},
		{"wrong type", `{"name":1}`, "wrong type"},
		{"wrong type, very long", `{"name":` + strings.Repeat("1", 5000) + `}`, "wrong type"},
		{"float for int", `{"number":1.5}`, "wrong type"},
		{"base64url padded", `{"binary":"_-8="}`, "padding"},
		{"base64url with a line break", `{"binary":"_-\n8"}`, "line break"},
		{"base64", `{"binary":"/+8"}`, "base64url"},
		{"base64url not a string", `{"binary":[1]}`, "not a string"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var v target
			err := UnmarshalPayload([]byte(test.payload), &v)
			if test.detail == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantProblem(t, err, ErrMalformed, test.detail)
		})
	}
}

func TestBase64URL(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := Base64URL(rapid.SliceOf(rapid.Byte()).Draw(t, "octets"))
		text, err := stdjson.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out Base64URL
		if err := stdjson.Unmarshal(text, &out); err != nil || !bytes.Equal(in, out) {
			t.Fatalf("%x becomes %s becomes %x, %v", in, text, out, err)
		}
		// The encoding is the only one: no other string has the same octets.
		i := rapid.IntRange(0, len(text)).Draw(t, "at")
		other := string(text[:i]) + rapid.SampledFrom([]string{"=", `\n`, `\r`, "A", "+", " "}).Draw(t, "insert") + string(text[i:])
		if err := out.UnmarshalJSON([]byte(other)); err == nil && bytes.Equal(in, out) {
			t.Fatalf("%s and %s are both %x", text, other, in)
		}
	})
}

func FuzzUnmarshalPayload(f *testing.F) {
	for _, seed := range []string{
		`{"identifiers":[{"type":"dns","value":"www.example.org"}],"notBefore":"2016-01-01T00:04:00+04:00"}`,
		`{"termsOfServiceAgreed":true,"contact":["mailto:cert-admin@example.org"]}`,
		`{"csr":"MIIBPTCBxAIBADBFMQ"}`, `{"certificate":"MIIEDTCCAvegAwIBAgIRAP8","reason":4}`,
		`{"status":"deactivated"}`, `{}`, `{"a":1,"a":2}`, `{"a":"\ud800"}`, `[[[[`, "{\"\xff\":0}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, v := range []any{new(AccountRequest), new(OrderRequest), new(FinalizeRequest), new(RevocationRequest), new(map[string]any)} {
			if err := UnmarshalPayload(payload, v); err != nil {
				if p, ok := err.(*Problem); !ok || p.Type != ErrMalformed {
					t.Fatalf("%T: %v", v, err)
				}
				continue
			}
			if !stdjson.Valid(payload) || !utf8.Valid(payload) {
				t.Fatalf("accepts %q", payload)
			}
		}
	})
}

// FuzzReadObject compares our reader with go-jose's, which is encoding/json
// with a refusal of duplicates: what one accepts the other accepts, with the
// same members, but for the bounds that only ours has.
func FuzzReadObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, ` { "a" : 1 , "b":[1,{"c":null}] } `, `{"a":"\u0061\n","\u0061":1}`, `{"a":1}x`, `{"a":1,}`, `{,}`,
		`{"a" 1}`, `{"a":01}`, `{"a":-}`, `{"a":truefalse}`, `{"a":[}]}`, `{"a":"\x"}`, "{\"a\":\"\t\"}", `{"a`, `{"a"`, `{"a":`, `{"a":"\`,
		`{"":"","a":{"b":{"c":[]}}}`, `{"a":"\ud800","b":"\udfff\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		ours := map[string]string{}
		err := readObject(data, func(name, value []byte) error {
			ours[string(name)] = string(value)
			if s, err := text(value); err == nil {
				var want string
				if err := json.Unmarshal(value, &want); err != nil || want != string(s) {
					t.Fatalf("text(%q) is %q, not %q, %v", value, s, want, err)
				}
			}
			return nil
		})
		if err == errTooDeep || err == errTooMany || err == errNotUTF8 {
			return
		}
		var theirs map[string]json.RawMessage
		theirErr := json.Unmarshal(data, &theirs)
		if theirs == nil && theirErr == nil {
			theirErr = errNoObject // null
		}
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("%q: we say %v, go-jose says %v", data, err, theirErr)
		}
		if err != nil {
			return
		}
		if len(ours) != len(theirs) {
			t.Fatalf("%q: %v and %v", data, ours, theirs)
		}
		for name, value := range theirs {
			if strings.TrimSpace(string(value)) != ours[name] {
				t.Fatalf("%q: member %q is %q and %q", data, name, ours[name], value)
			}
		}
	})
}
