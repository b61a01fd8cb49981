package report

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"labgate/lab"
	"labgate/messages"
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

// What a person is asked stands below the runs, with what answers it.
func TestRunsAsks(t *testing.T) {
	five := lab.IntegerValue(5)
	until := time.Date(2026, 11, 22, 22, 31, 3, 0, time.Local)
	runs := []messages.RunInfo{{Run: "01K", Protocol: "asks@1.0.0", Principal: "ito", State: "running", Step: "load", Asks: []messages.Ask{
		{Step: "load", Text: "Load the vial.", By: "scientist", Until: until, Gives: []messages.AskedFor{{Name: "mass", Type: "number", Unit: "g"}, {Name: "count", Type: "integer", Default: &five}}},
		{Step: "shut", Text: "Shut the door.", By: "anyone", Until: until}}}}
	var b bytes.Buffer
	if err := Runs(&b, runs, nil); err != nil {
		t.Fatal(err)
	}
	want := `ASKED     load: Load the vial.
          by scientist, until 2026-11-22 22:31:03: labgate answer 01K load --as KEY --value mass=…
ASKED     shut: Shut the door.
          by anyone, until 2026-11-22 22:31:03: labgate answer 01K shut
`
	if !strings.HasSuffix(b.String(), want) {
		t.Errorf("%s", b.String())
	}
}
