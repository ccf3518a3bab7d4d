package pki

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
)

const serialBytes = 16

// NewSerial returns a fresh serial number: 32 lower-case hexadecimal digits. The first byte lies between 0x40 and
// 0x7f, which leaves 126 random bits and makes the DER integer positive and exactly 16 bytes long, whatever was drawn
// (RFC 5280, Section 4.1.2.2 allows 20).
func NewSerial(rand io.Reader) (string, error) {
	var b [serialBytes]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return "", fmt.Errorf("drawing a serial number: %w", err)
	}
	b[0] = b[0]&0x3f | 0x40
	return hex.EncodeToString(b[:]), nil
}

var errSerial = errors.New("a serial number is 32 lower-case hexadecimal digits, the first byte between 01 and 7f")

// ParseSerial returns the number that a serial stands for. Serials have one spelling only, so that they can be
// compared as strings.
func ParseSerial(serial string) (*big.Int, error) {
	raw, err := parseSerial(serial)
	if err != nil {
		return nil, err
	}
	return new(big.Int).SetBytes(raw[:]), nil
}

func parseSerial(serial string) (raw [serialBytes]byte, err error) {
	if len(serial) != 2*serialBytes {
		return raw, errSerial
	}
	for i := range raw {
		high, low := strings.IndexByte(hexDigits, serial[2*i]), strings.IndexByte(hexDigits, serial[2*i+1])
		if high < 0 || low < 0 {
			return raw, errSerial
		}
		raw[i] = byte(high<<4 | low)
	}
	if raw[0] == 0 || raw[0] > 0x7f {
		return raw, errSerial
	}
	return raw, nil
}

const hexDigits = "0123456789abcdef"

// FormatSerial is the reverse of ParseSerial. It fails for numbers that NewSerial never makes, hence for
// certificates that are none of ours.
func FormatSerial(number *big.Int) (string, error) {
	if number == nil || number.Sign() <= 0 || number.BitLen() <= 8*(serialBytes-1) || number.BitLen() >= 8*serialBytes {
		return "", errSerial
	}
	return hex.EncodeToString(number.Bytes()), nil
}
