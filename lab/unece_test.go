package lab

import "testing"

func TestUNECE(t *testing.T) {
	seen := map[Unit]string{}
	for code, text := range uneceUnits {
		u, err := ParseUnit(text)
		if err != nil {
			t.Errorf("%s: %v", code, err)
			continue
		}
		if other, twice := seen[u]; twice {
			t.Errorf("%s and %s are one unit", code, other)
		}
		seen[u] = code
		if back, ok := UNECEUnit(UNECEID(u)); !ok || back != u {
			t.Errorf("%s is %v, and comes back as %v", code, u, back)
		}
	}
	// The id of CEL as OPC 10000-8 gives it.
	if u, ok := UNECEUnit(4408652); !ok || u != mustUnit("degC") {
		t.Error(u, ok)
	}
	for _, id := range []int32{0, -1, 1, 4932940 /* KEL */} {
		if u, ok := UNECEUnit(id); ok {
			t.Errorf("%d is %v", id, u)
		}
	}
}
