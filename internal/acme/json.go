package acme

import (
	"bytes"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4/json"
)

const (
	// maxDepth bounds the nesting of what a client sends. The deepest document
	// of ACME that we read has three levels.
	maxDepth = 16
	// maxMembers bounds the members of an object read by readObject, whose
	// search for duplicates takes quadratic time.
	maxMembers = 32
)

var (
	errSyntax   = errors.New("is not valid JSON")
	errNotUTF8  = errors.New("is not valid UTF-8")
	errTooDeep  = fmt.Errorf("is nested deeper than %d levels", maxDepth)
	errTooMany  = fmt.Errorf("has more than %d members", maxMembers)
	errNoObject = errors.New("is not a JSON object")
)

// UnmarshalPayload reads the JSON object in a JWS payload into v. Duplicate
// members, data after the object, deep nesting and invalid UTF-8 are refused;
// names of members are matched exactly. A null leaves its field as it was, and
// members that v does not have are ignored: "the server MUST ignore [...] any
// other fields that it does not recognize" (RFC 8555, Section 7.3).
func UnmarshalPayload(payload []byte, v any) error {
	if len(payload) == 0 {
		return Malformed("the payload is empty, but this request needs a JSON object")
	}
	if !utf8.Valid(payload) {
		return Malformed("the payload %v", errNotUTF8)
	}
	s := scanner{data: payload}
	s.space()
	if s.peek() != '{' {
		return Malformed("the payload %v", errNoObject)
	}
	if err := s.skipNested(); err != nil {
		return Malformed("the payload %v", err)
	}
	if err := json.Unmarshal(payload, v); err != nil {
		// The library's message for a wrong type tells of our Go types.
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return Malformed("the payload has a %s of the wrong type near byte %d", excerpt(wrong.Value), wrong.Offset)
		}
		return Malformed("the payload cannot be read: %s", excerpt(err.Error()))
	}
	return nil
}

// Base64URL is a binary field of a payload. "Encoded values that include
// trailing '=' characters MUST be rejected as improperly encoded" (RFC 8555,
// Section 6.1).
type Base64URL []byte

// MarshalJSON encodes b as a string.
func (b Base64URL) MarshalJSON() ([]byte, error) {
	return []byte(`"` + base64.RawURLEncoding.EncodeToString(b) + `"`), nil
}

// UnmarshalJSON decodes a string; null leaves b as it is.
func (b *Base64URL) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	s, err := text(data)
	if err != nil {
		return err
	}
	*b, err = decodeBase64URL(s)
	return err
}

// decodeBase64URL decodes base64url in its one valid form: no padding, no line
// breaks (which package base64 would skip) and no stray bits at the end.
func decodeBase64URL(src []byte) ([]byte, error) {
	if bytes.IndexByte(src, '\n') >= 0 || bytes.IndexByte(src, '\r') >= 0 {
		return nil, errors.New("is not base64url: it has a line break")
	}
	dst := make([]byte, strictBase64URL.DecodedLen(len(src)))
	n, err := strictBase64URL.Decode(dst, src)
	if err != nil {
		return nil, errors.New("is not base64url without padding (RFC 8555, Section 6.1)")
	}
	return dst[:n], nil
}

var strictBase64URL = base64.RawURLEncoding.Strict()

// readObject calls member for each member of the JSON object that data is.
// A value is given as it stands in data and is known to be valid JSON. It is
// the reader of envelopes, headers and keys: there every member counts, null
// is not a way to say nothing, and a request in a hot path is read without an
// allocation. UnmarshalPayload is for everything else.
func readObject(data []byte, member func(name, value []byte) error) error {
	if !utf8.Valid(data) {
		return errNotUTF8
	}
	s := scanner{data: data}
	s.space()
	if !s.take('{') {
		return errNoObject
	}
	var few [8][]byte
	seen := few[:0]
	for s.space(); ; {
		if len(seen) == 0 && s.take('}') {
			break
		}
		name, err := s.name()
		if err != nil {
			return err
		}
		for _, other := range seen {
			if bytes.Equal(name, other) {
				return fmt.Errorf("has the member %q twice", excerpt(name))
			}
		}
		if len(seen) == maxMembers {
			return errTooMany
		}
		seen = append(seen, name)
		value, err := s.value()
		if err != nil {
			return err
		}
		if err := member(name, value); err != nil {
			return err
		}
		if s.space(); s.take('}') {
			break
		}
		if !s.take(',') {
			return errSyntax
		}
		s.space()
	}
	if s.space(); s.pos != len(data) {
		return errors.New("has data after its JSON object")
	}
	return nil
}

// text is the string that a JSON value is. It is a part of value when value
// has no escapes, and never nil.
func text(value []byte) ([]byte, error) {
	if len(value) < 2 || value[0] != '"' {
		return nil, errors.New("is not a string")
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1], nil
	}
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return nil, errSyntax
	}
	return []byte(s), nil
}

// A scanner finds where values end. What it does not understand itself it has
// encoding/json check: everything but strings without escapes, which nearly
// all values are.
type scanner struct {
	data []byte
	pos  int
}

// peek is the next byte, or 0 at the end, which is nowhere valid in JSON.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// name reads a member's name and the colon behind it.
func (s *scanner) name() ([]byte, error) {
	if s.peek() != '"' {
		return nil, errSyntax
	}
	raw, err := s.value()
	if err != nil {
		return nil, err
	}
	if s.space(); !s.take(':') {
		return nil, errSyntax
	}
	s.space()
	return text(raw)
}

// value reads one value of any kind.
func (s *scanner) value() ([]byte, error) {
	start := s.pos
	var err error
	plain := false
	switch s.peek() {
	case '"':
		plain, err = s.skipString()
	case '{', '[':
		err = s.skipNested()
	default:
		s.skipLiteral()
	}
	if err != nil {
		return nil, err
	}
	value := s.data[start:s.pos]
	if !plain && !stdjson.Valid(value) {
		return nil, errSyntax
	}
	return value, nil
}

// skipString moves behind a string and reports whether it has no escapes.
func (s *scanner) skipString() (plain bool, err error) {
	plain = true
	for s.pos++; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return plain, nil
		case c == '\\':
			plain = false
			s.pos++
		case c < ' ':
			return false, errSyntax
		}
	}
	return false, errSyntax
}

// skipNested moves behind an object or an array. It counts brackets only:
// whether they match is for the caller to have checked.
func (s *scanner) skipNested() error {
	depth := 0
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case '"':
			if _, err := s.skipString(); err != nil {
				return err
			}
			continue
		case '{', '[':
			if depth++; depth > maxDepth {
				return errTooDeep
			}
		case '}', ']':
			depth--
		}
		if s.pos++; depth == 0 {
			return nil
		}
	}
	return errSyntax
}

// skipLiteral moves behind a number, true, false or null.
func (s *scanner) skipLiteral() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ',', '}', ']', ' ', '\t', '\r', '\n':
			return
		}
		s.pos++
	}
}
