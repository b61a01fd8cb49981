package mqtt

import (
	"strings"
	"testing"
)

func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		`{"id":"c1","command":"capture","args":{"exposure_ms":20},"expires":"2026-01-02T03:04:05Z"}`,
		`{"id":"c1","command":"spectrum","args":null,"expires":"2026-01-02T03:04:05.123456789+01:00"}`,
		`{"id":"","command":"x"}`, `{"id":"a/b"}`, `{}{}`, `null`, `{"args":{"exposure_ms":1e999}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		c, err := readCommand(in)
		if c.ID != "" && (!validID(c.ID) || strings.ContainsAny(c.ID, "/+# ")) {
			t.Errorf("the id %q does not fit into a topic", c.ID)
		}
		if err == nil && (c.ID == "" || c.Command == "" || c.Expires.IsZero()) {
			t.Errorf("%q was taken for the command %+v", in, c)
		}
		if v, err := c.number("exposure_ms"); err == nil && v != v {
			t.Errorf("%q holds a number that is none", in)
		}
	})
}
