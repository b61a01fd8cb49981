package protocols

import (
	_ "embed" // for the schema

	"labgate/lab"
)

// Schema is the JSON Schema of a protocol file, for editors and forms. What
// it lets pass is not yet right: names, dimensions and the order of values are
// Parse's business.
//
//go:embed schema/protocol.json
var Schema []byte

// InputSchema is the JSON Schema of what a proposal gives to this protocol:
// for forms, and for those that call it as a tool.
func (p *Protocol) InputSchema() map[string]any {
	props, required := map[string]any{}, []string{}
	for i := range p.Inputs {
		in := &p.Inputs[i]
		props[in.Name] = in.schema()
		if in.Default == nil {
			required = append(required, in.Name)
		}
	}
	return map[string]any{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": p.Name + "@" + p.Version, "description": p.About,
		"type": "object", "properties": props, "required": required, "additionalProperties": false}
}

// schema is an input as JSON Schema. A quantity says its unit; the bounds are
// in the input's own.
func (in *Input) schema() map[string]any {
	s := map[string]any{}
	if in.About != "" {
		s["description"] = in.About
	}
	bounds := func(to map[string]any) map[string]any {
		if in.Min != nil {
			to["minimum"] = in.Min.Num
		}
		if in.Max != nil {
			to["maximum"] = in.Max.Num
		}
		return to
	}
	switch in.Type.Kind {
	case lab.Bool:
		s["type"] = "boolean"
	case lab.Integer:
		s["type"] = "integer"
		bounds(s)
	case lab.Enum:
		s["enum"] = in.Type.Enum
	default:
		s["type"], s["required"], s["additionalProperties"] = "object", []string{"value", "unit"}, false
		s["properties"] = map[string]any{"value": bounds(map[string]any{"type": "number"}), "unit": map[string]any{"const": in.Type.Unit.String()}}
	}
	if in.Default != nil {
		s["default"] = *in.Default
	}
	return s
}
