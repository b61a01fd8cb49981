package configs

import (
	"encoding/base32"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// testKey makes the public key of a user out of a number.
func testKey(seed byte) string { return encodeKey(userPrefix, seed) }

func encodeKey(prefix, seed byte) string {
	b := make([]byte, 33, 35)
	b[0] = prefix
	for i := range b[1:] {
		b[1+i] = seed + byte(i)
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.LittleEndian.AppendUint16(b, crc16(b)))
}

// A key that nats-io/nkeys made, so that both mean the same checksum.
const realKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

func TestUserKeys(t *testing.T) {
	for _, k := range []string{realKey, testKey(0), testKey(200)} {
		if err := checkUserKey(k); err != nil {
			t.Errorf("%s: %v", k, err)
		}
	}
	for say, k := range map[string]string{
		"checksum is wrong":     strings.Replace(realKey, "XH", "HX", 1),
		"55 characters":         realKey[:55],
		"a secret":              "SU" + realKey,
		"not the public key":    encodeKey(0, 1), // an account's begins with A
		"not base 32":           realKey[:50] + "111111",
		"it has 1 characters":   "U",
		"that begins with U":    "",
		"is not the public key": strings.ToLower(realKey),
	} {
		err := checkUserKey(k)
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v, want %q", k, err, say)
		}
	}
}

// TestMistypedKey: no single wrong character passes.
func TestMistypedKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := []byte(testKey(rapid.Byte().Draw(t, "seed")))
		i := rapid.IntRange(1, len(k)-1).Draw(t, "at")
		c := rapid.SampledFrom([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")).Draw(t, "character")
		if c != k[i] {
			k[i] = c
			if checkUserKey(string(k)) == nil {
				t.Fatalf("%s passes", k)
			}
		}
	})
}

func TestRates(t *testing.T) {
	for s, want := range map[string]Rate{"60 per h": {60, time.Hour}, "5 per 10 min": {5, 10 * time.Minute}, "1 per s": {1, time.Second}} {
		if got, err := parseRate(s); err != nil || got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "60", "60/h", "0 per h", "-1 per h", "+1 per h", "060 per h", "1e3 per h", "60 per", "60 per ", "60 per mL", "60 per 0 s", "60 per 1 ms", "99999999999 per h", "60 per h per h"} {
		if got, err := parseRate(s); err == nil {
			t.Errorf("%q is %v", s, got)
		}
	}
}

func TestRolesThatArePeople(t *testing.T) {
	if Agent.Human() || Role("").Human() || !Scientist.Human() || !Operator.Human() || !Safety.Human() {
		t.Error("an agent is a person, or a person is none")
	}
}

// What people must approve is read as it is written, and its schema takes it.
func TestApprovals(t *testing.T) {
	data := []byte("principals:\n  ito: {role: safety, key: " + testKey(0) + ", may: {inline: needs-approval, priority: low}}\n  anna: {role: scientist, key: " + testKey(1) + "}\n" +
		"approvals:\n  inline: {by: [scientist, safety, safety], within: 90 min}\n  protocols:\n    coat-films: {persons: 2, by: [scientist, safety]}\n    pour: {}\n")
	a, is := ParseAccess("access.yaml", data)
	if len(is) > 0 {
		t.Fatal(is)
	}
	want := Approvals{Inline: Terms{By: []Role{Scientist, Safety}, Within: 90 * time.Minute},
		Protocols: map[string]Terms{"coat-films": {Persons: 2, By: []Role{Scientist, Safety}}, "pour": {}}}
	if d := cmp.Diff(want, a.Approvals); d != "" {
		t.Error(d)
	}
	if p := a.Principals[0].May; p.Priority != "low" || p.Inline != InlineNeedsApproval {
		t.Errorf("%+v", p)
	}
	doc, ok := asJSON(t, data)
	if err := compileSchema(t, "access").Validate(doc); !ok || err != nil {
		t.Error(err)
	}
}
