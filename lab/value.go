package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
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
func (k TypeKind) String() string {
	if int(k) < len(typeNames) {
		return typeNames[k]
	}
	return typeNames[Missing]
}

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

// Usable reports whether the value can take part in a decision: present, whole,
// and finite where it is a number or a table of numbers.
func (v Value) Usable() bool {
	switch v.Kind {
	case Number, Integer:
		return finite(v.Num)
	case Bool, Enum, Text:
		return true
	case Table:
		return v.Table != nil && v.Table.check() == nil
	case Blob:
		return v.Blob != nil
	}
	return false
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// check says what is wrong with a table of any type.
func (t *TableData) check() error {
	if len(t.Data) != len(t.Columns) {
		return fmt.Errorf("%d columns are named, %d are there", len(t.Columns), len(t.Data))
	}
	for i, data := range t.Data {
		if len(data) != len(t.Data[0]) {
			return fmt.Errorf("columns of %d and %d rows", len(t.Data[0]), len(data))
		}
		for _, x := range data {
			if !finite(x) {
				return fmt.Errorf("column %s holds a number that is not finite", t.Columns[i].Name)
			}
		}
	}
	return nil
}

// String writes the value for people.
func (v Value) String() string {
	switch {
	case v.Kind == Number:
		return v.Quantity().String()
	case v.Kind == Integer:
		return strconv.FormatFloat(v.Num, 'f', -1, 64)
	case v.Kind == Bool:
		return strconv.FormatBool(v.Bool)
	case v.Kind == Enum:
		return v.Text
	case v.Kind == Text:
		return strconv.Quote(v.Text)
	case v.Kind == Table && v.Table != nil:
		if len(v.Table.Data) == 0 {
			return "table(empty)"
		}
		return fmt.Sprintf("table(%d × %d)", len(v.Table.Columns), len(v.Table.Data[0]))
	case v.Kind == Blob && v.Blob != nil:
		return fmt.Sprintf("%s, %d bytes", v.Blob.Media, v.Blob.Size)
	}
	return "missing"
}

// brief is the value for a message, which must stay short.
func (v Value) brief() string {
	s := v.String()
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}

// Conform checks a value against a type and converts a number to the type's
// unit. It never rounds, clamps or guesses: text is no number, a number
// without a unit is no length. What comes with an error is no value, except a
// number that is not finite: it is carried, for people to see.
func (t Type) Conform(v Value) (Value, error) {
	switch {
	case v.Kind == Number && t.Kind == Number:
		return t.conformNumber(v.Quantity())
	case t.Kind == Integer && (v.Kind == Integer || v.Kind == Number && v.Unit == One):
		if v.Num != math.Trunc(v.Num) || math.Abs(v.Num) >= 1<<53 { // from there on neighbours look the same
			return Value{}, fmt.Errorf("%s is not a whole number", v)
		}
		return IntegerValue(int64(v.Num)), nil
	case t.Kind == Number && v.Kind == Integer:
		if t.Unit.dim != None {
			return Value{}, fmt.Errorf("%s has no unit; a %s is wanted", v, t)
		}
		return t.conformNumber(Quantity{v.Num, One})
	case t.Kind == Enum && (v.Kind == Enum || v.Kind == Text):
		for _, n := range t.Enum {
			if n == v.Text {
				return EnumValue(n), nil
			}
		}
		return Value{}, fmt.Errorf("%s is not %s", v.brief(), t)
	case t.Kind == Text && v.Kind == Enum:
		return TextValue(v.Text), nil
	case t.Kind == Table && v.Kind == Table && v.Table != nil:
		if err := t.conformTable(v.Table); err != nil {
			return Value{}, err
		}
		return v, nil
	case t.Kind != v.Kind || !v.Usable():
		return Value{}, fmt.Errorf("%s is a %s; a %s is wanted", v.brief(), v.Kind, t)
	}
	return v, nil
}

func (t Type) conformNumber(q Quantity) (Value, error) {
	to, err := q.In(t.Unit)
	switch {
	case err != nil:
		return Value{}, err
	case !q.Finite():
		return NumberValue(to), fmt.Errorf("%v is not a finite number", q.Value)
	case !to.Finite() || to.Value == 0 && q.Value != 0 && !q.Unit.dim.Point:
		return Value{}, fmt.Errorf("%s can't be written in %s", q, t.Unit)
	}
	return NumberValue(to), nil
}

func (t Type) conformTable(d *TableData) error {
	if len(d.Columns) != len(t.Columns) {
		return fmt.Errorf("a table of %d columns; %d are wanted", len(d.Columns), len(t.Columns))
	}
	for i, c := range t.Columns {
		if d.Columns[i] != c {
			return fmt.Errorf("column %d is %.40s in %s; %s in %s is wanted", i+1, d.Columns[i].Name, d.Columns[i].Unit, c.Name, c.Unit)
		}
	}
	return d.check()
}

type tableJSON struct {
	Columns []columnJSON `json:"columns"`
}

type columnJSON struct {
	Name *string    `json:"name"`
	Unit *string    `json:"unit"`
	Data []*float64 `json:"data"` // pointers: a null is no 0
}

// MarshalJSON writes a quantity as {"value","unit"}, a bool, integer or text
// as itself, a table as {"columns":[{"name","unit","data"}]}, a blob as its
// reference, a missing value as null. What is not Usable (a number that is not
// finite, a ragged table) has no JSON form: whoever reads it finds null, that
// is, nothing to decide on.
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
		return v.Table.marshal()
	}
	return json.Marshal(v.Blob)
}

func (t *TableData) marshal() ([]byte, error) {
	out := tableJSON{Columns: make([]columnJSON, len(t.Columns))}
	for i := range t.Columns {
		unit := t.Columns[i].Unit.String()
		c := columnJSON{&t.Columns[i].Name, &unit, make([]*float64, len(t.Data[i]))}
		for k := range t.Data[i] {
			c.Data[k] = &t.Data[i][k]
		}
		out.Columns[i] = c
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes. Text and enum can't be told
// apart in JSON: both become Text, and Conform settles it.
func (v *Value) UnmarshalJSON(b []byte) error {
	got, err := valueFromJSON(bytes.TrimSpace(b))
	if err != nil {
		got = Value{} // what is half read is not there
	}
	*v = got
	return err
}

func valueFromJSON(b []byte) (v Value, err error) {
	switch {
	case len(b) == 0 || string(b) == "null":
		return v, nil
	case b[0] == '"':
		v.Kind = Text
		err = json.Unmarshal(b, &v.Text)
		return v, err
	case b[0] == 't' || b[0] == 'f':
		v.Kind = Bool
		err = json.Unmarshal(b, &v.Bool)
		return v, err
	case b[0] == '{':
		err = v.unmarshalObject(b)
		return v, err
	}
	n, err := ParseNumber(string(b))
	if err != nil || !json.Valid(b) {
		return v, fmt.Errorf("%.40s is not a value", b)
	}
	v.Kind, v.Num = Integer, n
	if n != math.Trunc(n) {
		v.Kind = Number // a bare fraction: dimensionless
	}
	return v, nil
}

// unmarshalObject reads a quantity, a table or a blob, each with exactly its
// own fields.
func (v *Value) unmarshalObject(b []byte) error {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(b, &keys); err != nil {
		return err
	}
	var allowed []string
	switch {
	case keys["hash"] != nil:
		allowed = []string{"hash", "media", "size", "meta"}
	case keys["columns"] != nil:
		allowed = []string{"columns"}
	default:
		allowed = []string{"value", "unit"}
	}
	for k := range keys {
		if !slices.Contains(allowed, k) {
			return fmt.Errorf("a value has no field %.40q beside %s", k, allowed[0])
		}
	}
	switch allowed[0] {
	case "hash":
		blob := new(BlobRef)
		if err := json.Unmarshal(b, blob); err != nil || blob.Hash == "" || blob.Size < 0 {
			return errors.New("a blob needs hash and media as texts and size as a whole number")
		}
		v.Kind, v.Blob = Blob, blob
		return nil
	case "columns":
		return v.unmarshalTable(keys["columns"])
	}
	var q Quantity
	if err := q.UnmarshalJSON(b); err != nil {
		return err
	}
	*v = NumberValue(q)
	return nil
}

func (v *Value) unmarshalTable(b []byte) error {
	var columns []columnJSON
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&columns); err != nil || columns == nil {
		return errors.New("a table needs a list of columns, each with name, unit and data, a list of numbers")
	}
	t := &TableData{}
	for i, c := range columns {
		if c.Name == nil || c.Unit == nil || *c.Unit == "" || c.Data == nil {
			return fmt.Errorf("column %d of the table needs name, unit and data", i+1)
		}
		u, err := ParseUnit(*c.Unit)
		if err != nil {
			return err
		}
		data := make([]float64, len(c.Data))
		for k, x := range c.Data {
			if x == nil {
				return fmt.Errorf("row %d of column %.40q is null, not a number", k+1, *c.Name)
			}
			data[k] = *x
		}
		t.Columns, t.Data = append(t.Columns, Column{*c.Name, u}), append(t.Data, data)
	}
	if err := t.check(); err != nil {
		return err
	}
	v.Kind, v.Table = Table, t
	return nil
}
