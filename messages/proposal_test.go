package messages

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const good = `{"kind": "proposal/v1", "id": "01K", "key": "campaign-7/12", "campaign": "campaign-7",
 "protocol": {"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"},
 "inputs": {"temperature": {"value": 72, "unit": "degC"}, "mode": "slow", "n": 3, "stir": true},
 "hypothesis": "a higher citrate ratio moves the peak below 525 nm", "predicts": {"peak": {"value": 522, "sd": 3, "unit": "nm"}},
 "not_after": "2026-11-22T18:00:00Z", "budget": {"time": {"value": 30, "unit": "min"}, "exposures": 10}, "model": "vendor/model@revision", "labels": {"a": "b"}, "samples": ["s1"]}`

func TestGoodProposal(t *testing.T) {
	p, is := DecodeProposal([]byte(good))
	if len(is) > 0 {
		t.Fatal(is)
	}
	if p.ID != "01K" || p.Key != "campaign-7/12" || p.Protocol.Version != "1.2.0" || p.Inputs["temperature"].String() != "72 degC" || p.Predicts["peak"] != (Prediction{522, 3, "nm"}) ||
		!p.NotAfter.Equal(time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)) || p.Budget.Time.String() != "30 min" || *p.Budget.Exposures != 10 || p.Samples[0] != "s1" {
		t.Errorf("%+v", p)
	}
}

// TestAllMistakesAtOnce: one answer names them all.
func TestAllMistakesAtOnce(t *testing.T) {
	_, is := DecodeProposal([]byte(`{"kind": "proposal/v2", "key": "", "ky": "x", "protocol": {"name": 5, "hash": "a", "hash": "b"}, "protocol_inline": "protocol: x",
 "inputs": {"temperature": {"value": "hot", "unit": "degc"}, "volume": {"value": 5}, "ratio": [1]},
 "predicts": {"peak": {"sd": -1, "unit": "nmm"}, "width": {"value": 1, "sd": "wide"}},
 "not_after": "tomorrow", "budget": {"time": "30 min", "exposures": 1.5}, "samples": "s1", "Model": "x"}`))
	want := `protocol.hash is given twice
there is no field "ky" (did you mean "key"?)
protocol.name is 5; a text is wanted
inputs.temperature.value is the text "hot"; a finite number is wanted
inputs.temperature.unit: unit "degc": "degc" is not a unit; did you mean "degC"?
inputs.volume.unit is missing (write {"value": 70, "unit": "degC"})
inputs.ratio: [1] is not a value
predicts.peak has no value
predicts.width.sd is the text "wide"; a finite number is wanted
not_after is the text "tomorrow"; a time such as 2026-11-22T18:00:00Z is wanted
budget.time is the text "30 min"; a quantity is wanted (write {"value": 70, "unit": "degC"})
budget.exposures is 1.5; a whole number is wanted
samples is the text "s1"; a list is wanted
there is no field "Model" (did you mean "model"?)
kind is "proposal/v2"; proposal/v1 is understood here
the proposal has no id
the proposal has no key
a proposal names a protocol or carries one in protocol_inline, not both
the proposal has no protocol.version
predicts.peak has no unit that is known
predicts.peak.sd is negative
predicts.width has no unit that is known`
	if d := cmp.Diff(want, is.Error()); d != "" {
		t.Error(d)
	}
	seen := map[string]bool{}
	for _, i := range is {
		if i.Code == "" || i.Path == "" || seen[i.Code+i.Path] {
			t.Errorf("no code, no path or said twice: %+v", i)
		}
		seen[i.Code+i.Path] = true
	}
}

func TestBadProposals(t *testing.T) {
	change := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %s", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, c := range map[string]struct{ in, want string }{
		"nothing":                  {``, "broken_json"},
		"cut off":                  {good[:len(good)/2], "broken_json"},
		"text after it":            {good + "x", "broken_json"},
		"empty":                    {`{}`, "missing_field kind, missing_field id, missing_field key, missing_field protocol"},
		"no id":                    {change(`"id": "01K", `, ``), "missing_field id"},
		"empty id":                 {change(`"01K"`, `""`), "missing_field id"},
		"null id":                  {change(`"01K"`, `null`), "wrong_type id"},
		"number as id":             {change(`"01K"`, `1`), "wrong_type id"},
		"long id":                  {change(`"01K"`, `"`+strings.Repeat("x", 65)+`"`), "too_long id"},
		"longest id":               {change(`"01K"`, `"`+strings.Repeat("x", 64)+`"`), ""},
		"long key":                 {change(`"campaign-7/12"`, `"`+strings.Repeat("ü", MaxKey/2)+`x"`), "too_long key"},
		"longest key":              {change(`"campaign-7/12"`, `"`+strings.Repeat("ü", MaxKey/2)+`"`), ""},
		"NUL in the key":           {change(`"campaign-7/12"`, `"a\u0000b"`), "control_character key"},
		"line end in the id":       {change(`"01K"`, `"a\nb"`), "control_character id"},
		"two keys that would be 1": {change(`"campaign-7/12"`, `"\ud800"`), "broken_json"},
		"no kind":                  {change(`"kind": "proposal/v1", `, ``), "missing_field kind"},
		"another kind":             {change(`proposal/v1`, `verdict/v1`), "wrong_kind kind"},
		"no protocol":              {change(`{"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"}`, `null`), "missing_field protocol"},
		"both protocols":           {change(`"campaign": "campaign-7"`, `"protocol_inline": "protocol: x"`), "missing_field protocol"},
		"only an inline one":       {strings.Replace(change(`{"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"}`, `null`), `"campaign": "campaign-7"`, `"protocol_inline": "protocol: x"`, 1), ""},
		"protocol as a text":       {change(`{"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"}`, `"gold-nanoparticles"`), "wrong_type protocol"},
		"inline of another type":   {strings.Replace(change(`{"name": "gold-nanoparticles", "version": "1.2.0", "hash": "sha256:00"}`, `null`), `"campaign": "campaign-7"`, `"protocol_inline": {"protocol": "x"}`, 1), "wrong_type protocol_inline"},
		"no version":               {change(`"version": "1.2.0", `, ``), "missing_field protocol.version"},
		"version as a number":      {change(`"1.2.0"`, `1.2`), "wrong_type protocol.version"},
		"prediction without value": {change(`"value": 522, `, ``), "missing_field predicts.peak.value"},
		"prediction without sd":    {change(`"sd": 3, `, ``), ""},
		"prediction without unit":  {change(`, "unit": "nm"`, ``), "bad_unit predicts.peak.unit"},
		"negative sd":              {change(`"sd": 3`, `"sd": -3`), "out_of_bounds predicts.peak.sd"},
		"infinite prediction":      {change(`522`, `1e999`), "wrong_type predicts.peak.value"},
		"prediction as a quantity": {change(`"sd": 3`, `"Sd": 3`), "unknown_field predicts.peak.Sd"},
		"prediction as a number":   {change(`{"value": 522, "sd": 3, "unit": "nm"}`, `522`), "wrong_type predicts.peak"},
		"null inputs":              {change(`{"temperature": {"value": 72, "unit": "degC"}, "mode": "slow", "n": 3, "stir": true}`, `null`), ""},
		"null budget":              {change(`{"time": {"value": 30, "unit": "min"}, "exposures": 10}`, `null`), ""},
		"too large":                {change(`a higher`, strings.Repeat("x", MaxProposal)), "too_large"},
	} {
		p, is := DecodeProposal([]byte(c.in))
		if got := list(is); got != c.want {
			t.Errorf("%s: got %q, want %q: %v", name, got, c.want, is)
		}
		if strings.Contains(c.want, "broken") || c.want == "too_large" {
			continue
		}
		if len(is) > 0 && p.Key == "" && !strings.Contains(c.want, "key") { // its sender gets an answer by its key
			t.Errorf("%s: the key was lost", name)
		}
	}
}
