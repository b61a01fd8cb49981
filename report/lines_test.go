package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"labgate/lab"
)

// Each entry says what a person looks for first, and says it once.
func TestEntry(t *testing.T) {
	for _, c := range []struct{ kind, body, want string }{
		{"proposal/v1", `{"proposal":{"protocol":{"name":"gold","version":"1.2.0"}}}`, "gold 1.2.0"},
		{"proposal/v1", `{"proposal":{"protocol_inline":"protocol: x"}}`, "a protocol of its own"},
		{"start/v1", `{"protocol":{"name":"gold","version":"1.2.0"}}`, "gold 1.2.0"},
		{"allow/v1", `{"rules":["hood","run limit 1"]}`, "hood, run limit 1"},
		{"allow/v1", `{"rules":null}`, ""},
		{"intent/v1", `{"name":"dose","args":{"volume":{"value":1,"unit":"mL"}}}`, "dose volume 1 mL"},
		{"verdict/v1", `{"decision":"rejected","say":"rejected: 2 issues"}`, "rejected: 2 issues"},
		{"verdict/v1", `{"decision":"accepted","say":"accepted as run 01K"}`, "accepted as run 01K"},
		{"trip/v1", `{"rule":"runaway","say":"runaway tripped","reason":"runaway tripped"}`, "runaway tripped"},
		{"outcome/v1", `{"state":"failed","say":"device refused","reason":"no peak"}`, "failed: device refused: no peak"},
		{"stop_document/v1", `{"exit_status":"success"}`, "success"},
		{"stop_document/v1", `{"exit_status":"abort","reason":"tripped: runaway"}`, "abort: tripped: runaway"},
		{"run_held/v1", `{"why":"the process went down while it ran"}`, "the process went down while it ran"},
		{"reset/v1", `{"rule":"stop","reason":"drill over"}`, "stop: drill over"},
		{"order/v1", `{"command":"pump_a.pump.stop","origin":"stop","why":"drill"}`, "pump_a.pump.stop, stop: drill"},
		{"lease/v1", `{"what":"take","lease":3}`, "take 3"},
		{"link/v1", `{"what":"lost","say":"no answer"}`, "lost: no answer"},
		{"link/v1", `not JSON`, ""},
	} {
		var b bytes.Buffer
		at := time.Date(2026, 11, 22, 22, 31, 3, 742e6, time.UTC)
		if err := Entry(&b, lab.Ref{Seq: 7}, lab.Entry{Kind: c.kind, Time: at, Principal: "ito", Body: json.RawMessage(c.body)}); err != nil {
			t.Fatal(err)
		}
		head := "     7  2026-11-22 22:31:03.742  " + c.kind
		if got := b.String(); !strings.HasPrefix(got, head) || strings.TrimSpace(strings.SplitN(got, "ito ", 2)[1]) != c.want {
			t.Errorf("%s %s: %q, not %q", c.kind, c.body, got, c.want)
		}
	}
}
