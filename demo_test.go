package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// The main job, end to end over OPC UA, MQTT and serial, as a machine reads it.
func TestDemoOnce(t *testing.T) {
	data := t.TempDir()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), []string{"demo", "--json", "--experiments", "1", "--headless", "--data", data}, &out, &errs); code != exitDone {
		t.Fatalf("exit %d: %s%s", code, out.String(), errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	var e struct {
		Type           string
		Measured       map[string]json.RawMessage
		Images         int
		SpectrumPoints int `json:"spectrum_points"`
	}
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || e.Type != "experiment" {
		t.Fatalf("%v: %s", err, lines[0])
	}
	if e.Measured["peak"] == nil || e.SpectrumPoints != 256 || e.Images != 1 {
		t.Errorf("not measured in full: %s", lines[0])
	}
	out.Reset()
	if code := execute(t.Context(), []string{"journal", "verify", data}, &out, &errs); code != exitDone {
		t.Errorf("journal verify: exit %d: %s", code, errs.String())
	}
}
