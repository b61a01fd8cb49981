package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// TypeKind is the closed set of types of arguments, properties and results.
type TypeKind uint8

// The types. The zero kind is no type at all: a Value of it is missing.
const (
	Missing TypeKind = iota
	Number           // a quantity
	Bool
	Integer
	Enum // one of a closed list of names
	Text
	Table // columns of numbers, each with a unit
	Blob  // bytes, by content hash
)

var typeNames = [...]string{"missing", "quantity", "bool", "integer", "enum", "text", "table", "blob"}

// String is the type's name.
func (k TypeKind) String() string { return typeNames[k] }

// Type is the type of an argument, a property or a result.
type Type struct {
	Kind    TypeKind
	Unit    Unit     // Number: the unit that the class speaks
	Enum    []string // Enum: the names
	Columns []Column // Table: the columns, in order
}

// Column is one column of a table.
type Column struct {
	Name string
	Unit Unit
}

// String describes the type for people.
func (t Type) String() string {
	switch t.Kind {
	case Number:
		return t.Unit.dim.String() + " (" + t.Unit.String() + ")"
	case Enum:
		return "one of " + strings.Join(t.Enum, ", ")
	}
	return t.Kind.String()
}

// Value is one value of any type. The zero Value is missing. Only the fields
// of its kind are set.
type Value struct {
	Kind  TypeKind
	Num   float64 // Number (in Unit), Integer
	Unit  Unit    // Number
	Bool  bool
	Text  string // Enum, Text
	Table *TableData
	Blob  *BlobRef
}

// TableData is a small table of numbers: Data[c][r] belongs to Columns[c].
type TableData struct {
	Columns []Column
	Data    [][]float64
}

// BlobRef names bytes by content: "sha256:…". Bytes are carried beside it only
// between a driver and the store, never in a message or an entry.
type BlobRef struct {
	Hash  string            `json:"hash"`
	Media string            `json:"media"` // media type: image/png
	Size  int               `json:"size"`  // bytes
	Meta  map[string]string `json:"meta,omitempty"`
	Bytes []byte            `json:"-"`
}

// Constructors of values.
func NumberValue(q Quantity) Value  { return Value{Kind: Number, Num: q.Value, Unit: q.Unit} }
func BoolValue(b bool) Value        { return Value{Kind: Bool, Bool: b} }
func IntegerValue(n int64) Value    { return Value{Kind: Integer, Num: float64(n)} }
func EnumValue(s string) Value      { return Value{Kind: Enum, Text: s} }
func TextValue(s string) Value      { return Value{Kind: Text, Text: s} }
func TableValue(t *TableData) Value { return Value{Kind: Table, Table: t} }
func BlobValue(b *BlobRef) Value    { return Value{Kind: Blob, Blob: b} }

// Quantity is the number with its unit; an integer is dimensionless.
func (v Value) Quantity() Quantity { return Quantity{v.Num, v.Unit} }

// Base is a number in SI base units; an integer is itself.
func (v Value) Base() float64 { return v.Unit.ToBase(v.Num) }

// Usable reports whether the value can take part in a decision: present, and
// finite where it is a number.
func (v Value) Usable() bool {
	switch v.Kind {
	case Missing:
		return false
	case Number, Integer:
		return !math.IsNaN(v.Num) && !math.IsInf(v.Num, 0)
	}
	return true
}

// String writes the value for people.
func (v Value) String() string {
	switch v.Kind {
	case Number:
		return v.Quantity().String()
	case Integer:
		return strconv.FormatFloat(v.Num, 'f', -1, 64)
	case Bool:
		return strconv.FormatBool(v.Bool)
	case Enum:
		return v.Text
	case Text:
		return strconv.Quote(v.Text)
	case Table:
		if len(v.Table.Data) == 0 {
			return "table(empty)"
		}
		return fmt.Sprintf("table(%d × %d)", len(v.Table.Columns), len(v.Table.Data[0]))
	case Blob:
		return fmt.Sprintf("%s, %d bytes", v.Blob.Media, v.Blob.Size)
	}
	return "missing"
}

// Conform checks a value against a type and converts a number to the type's
// unit. It never rounds, clamps or guesses: text is no number, a number
// without a unit is no length.
func (t Type) Conform(v Value) (Value, error) {
	switch {
	case v.Kind == Number && t.Kind == Number:
		q, err := v.Quantity().In(t.Unit)
		if err == nil && !q.Finite() {
			err = fmt.Errorf("%v is not a finite number", v.Num)
		}
		return NumberValue(q), err
	case t.Kind == Integer && (v.Kind == Integer || v.Kind == Number && v.Unit == One):
		if v.Num != math.Trunc(v.Num) || math.Abs(v.Num) > 1<<53 {
			return Value{}, fmt.Errorf("%s is not a whole number", v)
		}
		return IntegerValue(int64(v.Num)), nil
	case t.Kind == Number && v.Kind == Integer:
		if t.Unit.dim != None {
			return Value{}, fmt.Errorf("%s has no unit; a %s is wanted", v, t)
		}
		return t.Conform(NumberValue(Quantity{v.Num, One}))
	case t.Kind == Enum && (v.Kind == Enum || v.Kind == Text):
		for _, n := range t.Enum {
			if n == v.Text {
				return EnumValue(n), nil
			}
		}
		return Value{}, fmt.Errorf("%s is not %s", v, t)
	case t.Kind == Text && v.Kind == Enum:
		return TextValue(v.Text), nil
	case t.Kind == Table && v.Kind == Table:
		return v, t.conformTable(v.Table)
	case t.Kind != v.Kind || t.Kind == Missing:
		return Value{}, fmt.Errorf("%s is a %s; a %s is wanted", v, v.Kind, t)
	}
	return v, nil
}

func (t Type) conformTable(d *TableData) error {
	if len(d.Columns) != len(t.Columns) || len(d.Data) != len(t.Columns) {
		return fmt.Errorf("a table of %d columns; %d are wanted", len(d.Columns), len(t.Columns))
	}
	for i, c := range t.Columns {
		if d.Columns[i] != c {
			return fmt.Errorf("column %d is %s in %s; %s in %s is wanted", i+1, d.Columns[i].Name, d.Columns[i].Unit, c.Name, c.Unit)
		}
		if len(d.Data[i]) != len(d.Data[0]) {
			return fmt.Errorf("columns of %d and %d rows", len(d.Data[0]), len(d.Data[i]))
		}
		for _, x := range d.Data[i] {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("column %s holds a number that is not finite", c.Name)
			}
		}
	}
	return nil
}

type tableJSON struct {
	Columns []columnJSON `json:"columns"`
}

type columnJSON struct {
	Name string    `json:"name"`
	Unit string    `json:"unit"`
	Data []float64 `json:"data"`
}

// MarshalJSON writes a quantity as {"value","unit"}, a bool, integer or text
// as itself, a table as {"columns":[{"name","unit","data"}]}, a blob as its
// reference, a missing value as null. A number that is not finite has no JSON
// form: whoever reads it finds null, that is, nothing to decide on.
func (v Value) MarshalJSON() ([]byte, error) {
	if !v.Usable() {
		return []byte("null"), nil
	}
	switch v.Kind {
	case Number:
		return v.Quantity().MarshalJSON()
	case Integer:
		return strconv.AppendFloat(nil, v.Num, 'f', -1, 64), nil
	case Bool:
		return strconv.AppendBool(nil, v.Bool), nil
	case Enum, Text:
		return json.Marshal(v.Text)
	case Table:
		var t tableJSON
		for i, c := range v.Table.Columns {
			t.Columns = append(t.Columns, columnJSON{c.Name, c.Unit.String(), v.Table.Data[i]})
		}
		return json.Marshal(t)
	}
	return json.Marshal(v.Blob)
}

// UnmarshalJSON reads what MarshalJSON writes. Text and enum can't be told
// apart in JSON: both become Text, and Conform settles it.
func (v *Value) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	*v = Value{}
	switch {
	case len(b) == 0 || string(b) == "null":
		return nil
	case b[0] == '"':
		v.Kind = Text
		return json.Unmarshal(b, &v.Text)
	case b[0] == 't' || b[0] == 'f':
		v.Kind = Bool
		return json.Unmarshal(b, &v.Bool)
	case b[0] == '{':
		return v.unmarshalObject(b)
	}
	var n float64
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("%.40s is not a value", b)
	}
	v.Kind, v.Num = Integer, n
	if n != math.Trunc(n) {
		v.Kind = Number // a bare fraction: dimensionless
	}
	return nil
}

func (v *Value) unmarshalObject(b []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return err
	}
	switch {
	case keys["hash"] != nil:
		v.Kind, v.Blob = Blob, new(BlobRef)
		return json.Unmarshal(b, v.Blob)
	case keys["columns"] != nil:
		var t tableJSON
		if err := json.Unmarshal(b, &t); err != nil {
			return err
		}
		v.Kind, v.Table = Table, new(TableData)
		for _, c := range t.Columns {
			u, err := ParseUnit(c.Unit)
			if err != nil {
				return err
			}
			v.Table.Columns = append(v.Table.Columns, Column{c.Name, u})
			v.Table.Data = append(v.Table.Data, c.Data)
		}
		return nil
	}
	var q Quantity
	if err := q.UnmarshalJSON(b); err != nil {
		return err
	}
	*v = NumberValue(q)
	return nil
}
