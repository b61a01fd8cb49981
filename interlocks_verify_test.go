package main

import (
	"context"
	"strings"
	"testing"

	"labgate/safety"
	"labgate/safety/analysis"
)

// TestVerifyTriesMutants: a mutant is dead once a case fails on it, those that
// live are named with what the file says of them, and cases that fail anyway
// are no witnesses.
func TestVerifyTriesMutants(t *testing.T) {
	cfg, err := loadLab("demo")
	if err != nil {
		t.Fatal(err)
	}
	watches := func(id string) trial { // notices when a rule is gone
		return trial{id, map[string]bool{id: true}, func(r *safety.Rules) bool { return r.Find(id) != nil }}
	}
	v, err := verifyLab(context.Background(), cfg, []trial{watches("dose-size"), watches("runaway")})
	if err != nil {
		t.Fatal(err)
	}
	alive := map[string]bool{}
	for _, s := range v.survivors {
		alive[s.ID] = true
	}
	if alive["mutant:dose-size:dropped:rule"] || !alive["mutant:dose-size:moved:max.tenth"] || v.killed+len(v.survivors) != v.mutants || v.score() >= enough || v.ok() {
		t.Errorf("%d of %d killed", v.killed, v.mutants)
	}
	_, err = verifyLab(context.Background(), cfg, []trial{watches("no-such-rule")})
	if err == nil || !strings.Contains(err.Error(), "interlocks test") {
		t.Errorf("a case that fails anyway: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := verifyLab(ctx, cfg, []trial{watches("dose-size")}); err == nil {
		t.Error("it went on after it was cancelled")
	}
}

// TestVerified: explained survivors are no mutants that could be killed, and
// one open finding is enough to fail.
func TestVerified(t *testing.T) {
	for _, c := range []struct {
		v  verified
		ok bool
	}{
		{verified{}, true},
		{verified{mutants: 100, killed: 95}, true},
		{verified{mutants: 100, killed: 94}, false},
		{verified{mutants: 100, killed: 90, excused: 10}, true},
		{verified{mutants: 2, killed: 0, excused: 2}, true},
		{verified{findings: []analysis.Finding{{ID: "a:b", Explained: "because"}}}, true},
		{verified{findings: []analysis.Finding{{ID: "a:b"}}}, false},
	} {
		if c.v.ok() != c.ok {
			t.Errorf("%+v is ok: %t", c.v, c.v.ok())
		}
	}
}
