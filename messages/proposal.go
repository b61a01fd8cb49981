package messages

import (
	"fmt"
	"math"
	"sort"

	"labgate/lab"
)

// DecodeProposal reads a proposal as an agent wrote it and reports every
// problem that can be seen without knowing the protocol. The proposal is
// usable as far as it could be read, so that its sender gets an answer by its
// own id and key.
func DecodeProposal(data []byte) (Proposal, lab.Issues) {
	var p Proposal
	if len(data) > MaxProposal {
		return p, lab.Issues{{Code: "too_large", Got: fmt.Sprint(len(data)), Allowed: fmt.Sprint(MaxProposal),
			Say: fmt.Sprintf("the proposal has %d bytes; at most %d are taken", len(data), MaxProposal)}}
	}
	is := Decode(data, &p)
	if len(is) > 0 && is[len(is)-1].Code == "broken_json" {
		return p, is
	}
	need := func(path, got string, limit int) {
		switch {
		case got == "" && !hasPath(is, path):
			is = append(is, lab.Issue{Code: "missing_field", Path: path, Say: fmt.Sprintf("the proposal has no %s", path)})
		case len(got) > limit:
			is = append(is, lab.Issue{Code: "too_long", Path: path, Say: fmt.Sprintf("%s has more than %d bytes", path, limit)})
		}
	}
	need("kind", p.Kind, 64)
	if p.Kind != "" && p.Kind != KindProposal {
		is = append(is, lab.Issue{Code: "wrong_kind", Path: "kind", Got: p.Kind, Allowed: KindProposal, Say: fmt.Sprintf("kind is %.64q; %s is understood here", p.Kind, KindProposal)})
	}
	need("id", p.ID, 64)
	need("key", p.Key, MaxKey)
	if (p.Protocol == nil) == (p.Inline == "") && !hasPath(is, "protocol") {
		is = append(is, lab.Issue{Code: "missing_field", Path: "protocol", Say: "a proposal names a protocol or carries one in protocol_inline, not both"})
	}
	if p.Protocol != nil {
		need("protocol.name", p.Protocol.Name, 64)
		need("protocol.version", p.Protocol.Version, 64)
	}
	is = append(is, checkPredictions(p.Predicts)...)
	return p, is
}

func checkPredictions(predicts map[string]Prediction) lab.Issues {
	var is lab.Issues
	names := make([]string, 0, len(predicts))
	for n := range predicts {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		p := predicts[n]
		if _, err := lab.ParseUnit(p.Unit); err != nil || p.Unit == "" {
			is = append(is, lab.Issue{Code: "bad_unit", Path: "predicts." + n + ".unit", Got: p.Unit, Say: fmt.Sprintf("predicts.%s has no unit that is known", n)})
		}
		if p.SD < 0 || math.IsInf(p.SD, 0) {
			is = append(is, lab.Issue{Code: "out_of_bounds", Path: "predicts." + n + ".sd", Say: fmt.Sprintf("predicts.%s.sd is negative", n)})
		}
	}
	return is
}

func hasPath(is lab.Issues, path string) bool {
	for _, i := range is {
		if i.Path == path {
			return true
		}
	}
	return false
}
