package messages

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"labgate/lab"
)

var (
	valueType      = reflect.TypeFor[lab.Value]()
	quantityType   = reflect.TypeFor[lab.Quantity]()
	predictionType = reflect.TypeFor[Prediction]()
	timeType       = reflect.TypeFor[time.Time]()
	rawType        = reflect.TypeFor[json.RawMessage]()
)

// textReader is what closed sets (states, kinds, qualities) implement.
type textReader interface{ UnmarshalText([]byte) error }

// rfc3339 is stricter than the time package: two digits everywhere, a point
// before the fraction, and no more of it than nanoseconds.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

const quantityHint = `write {"value": 70, "unit": "degC"}`

// wrong collects that a value is of another type than is wanted.
func (t *tree) wrong(at *place, want, hint string, c *collector) {
	if c.full() {
		c.more++
		return
	}
	c.add(lab.Issue{Code: "wrong_type", Path: at.String(), Got: t.describe(), Allowed: want, Hint: hint,
		Say: fmt.Sprintf("%s is %s; %s is wanted", orDocument(at), t.describe(), want)})
}

// into sets v from the tree and collects what does not fit.
func (t *tree) into(v reflect.Value, at *place, c *collector) {
	switch v.Type() {
	case valueType:
		t.intoValue(v, at, c)
		return
	case quantityType:
		t.intoQuantity(v, at, c)
		return
	case predictionType:
		t.intoStruct(v, at, c)
		if t.kind == '{' && !t.has("value") { // a 0 that nobody wrote would be scored
			c.add(lab.Issue{Code: "missing_field", Path: at.under("value").String(), Say: at.String() + " has no value"})
		}
		return
	case rawType:
		v.SetBytes(t.json())
		return
	case timeType:
		when, err := time.Parse(time.RFC3339Nano, t.raw)
		if t.kind != '"' || err != nil || !rfc3339.MatchString(t.raw) {
			t.wrong(at, "a time such as 2026-11-22T18:00:00Z", "", c)
			return
		}
		v.Set(reflect.ValueOf(when))
		return
	}
	if v.Type().PkgPath() == "" || v.Kind() == reflect.Struct { // unnamed types have no methods
		t.intoKind(v, at, c)
		return
	}
	if r, ok := v.Addr().Interface().(textReader); ok {
		if t.kind != '"' {
			t.wrong(at, "a text", "", c)
			return
		}
		_ = r.UnmarshalText([]byte(t.raw)) // closed sets: unknown names become the safe one
		return
	}
	t.intoKind(v, at, c)
}

func (t *tree) intoKind(v reflect.Value, at *place, c *collector) {
	null := t.kind == 'n'
	switch v.Kind() {
	case reflect.Pointer:
		if !null {
			v.Set(reflect.New(v.Type().Elem()))
			t.into(v.Elem(), at, c)
		}
	case reflect.Struct:
		t.intoStruct(v, at, c)
	case reflect.Map:
		if null {
			return
		}
		if t.kind != '{' {
			t.wrong(at, "an object", "", c)
			return
		}
		v.Set(reflect.MakeMapWithSize(v.Type(), len(t.keys)))
		for i, k := range t.keys {
			e := reflect.New(v.Type().Elem()).Elem()
			t.vals[i].into(e, at.under(k), c)
			v.SetMapIndex(reflect.ValueOf(k), e)
		}
	case reflect.Slice:
		if null {
			return
		}
		if t.kind != '[' {
			t.wrong(at, "a list", "", c)
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(t.vals), len(t.vals)))
		for i, e := range t.vals {
			e.into(v.Index(i), &place{up: at, i: i}, c)
		}
	default:
		t.intoScalar(v, at, c)
	}
}

func (t *tree) intoScalar(v reflect.Value, at *place, c *collector) {
	want := ""
	number := t.kind == '0'
	switch {
	case v.Kind() == reflect.String:
		if want = "a text"; t.kind == '"' {
			v.SetString(t.raw)
			return
		}
	case v.Kind() == reflect.Bool:
		if want = "true or false"; t.kind == 't' {
			v.SetBool(t.raw == "true")
			return
		}
	case v.CanInt():
		n, err := strconv.ParseInt(t.raw, 10, v.Type().Bits())
		if want = "a whole number"; number && err == nil {
			v.SetInt(n)
			return
		}
	case v.CanUint():
		n, err := strconv.ParseUint(t.raw, 10, v.Type().Bits())
		if want = "a whole number, 0 or more"; number && err == nil {
			v.SetUint(n)
			return
		}
	case v.CanFloat():
		n, err := lab.ParseNumber(t.raw)
		if want = "a finite number"; number && err == nil {
			v.SetFloat(n)
			return
		}
	}
	t.wrong(at, want, "", c)
}

func (t *tree) intoStruct(v reflect.Value, at *place, c *collector) {
	if t.kind != '{' {
		t.wrong(at, "an object", "", c)
		return
	}
	fields := fieldsOf(v.Type())
	for i, k := range t.keys {
		f, ok := fields[k]
		if !ok {
			c.unknown(at.under(k), k, "", fields)
			continue
		}
		t.vals[i].into(v.FieldByIndex(f), at.under(k), c)
	}
}

// unknown collects that a field is none of those that there are.
func (c *collector) unknown(at *place, key, more string, fields map[string][]int) {
	if c.full() {
		c.more++
		return
	}
	i := lab.Issue{Code: "unknown_field", Path: at.String(), Got: cut(key, maxPart), Say: fmt.Sprintf("there is no field %q%s", at, more)}
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	if near := lab.Nearest(key, names); near != "" {
		i.Hint = fmt.Sprintf("did you mean %q?", near)
	}
	c.add(i)
}

// known holds the fields of each type of document: a type's are the same for
// ever.
var known sync.Map // reflect.Type to map[string][]int

// fieldsOf maps JSON names to the places of fields, through embedded structs.
func fieldsOf(t reflect.Type) map[string][]int {
	if f, ok := known.Load(t); ok {
		return f.(map[string][]int)
	}
	fields := map[string][]int{}
	collectFields(t, nil, fields)
	known.Store(t, fields)
	return fields
}

func collectFields(t reflect.Type, in []int, into map[string][]int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(slices.Clone(in), i)
		if f.Anonymous {
			collectFields(f.Type, at, into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			into[name] = at
		}
	}
}

func (t *tree) intoValue(v reflect.Value, at *place, c *collector) {
	if t.kind == '{' && !t.has("hash") && !t.has("columns") {
		q := lab.Quantity{}
		if t.intoQuantity(reflect.ValueOf(&q).Elem(), at, c) {
			v.Set(reflect.ValueOf(lab.NumberValue(q)))
		}
		return
	}
	var x lab.Value
	if err := x.UnmarshalJSON(t.json()); err != nil {
		code := "wrong_type"
		if t.kind == '0' {
			code = "not_finite"
		}
		c.add(lab.Issue{Code: code, Path: at.String(), Got: t.describe(), Say: fmt.Sprintf("%s: %v", orDocument(at), err)})
		return
	}
	v.Set(reflect.ValueOf(x))
}

var quantityFields = map[string][]int{"value": nil, "unit": nil}

// intoQuantity reports whether it has set v.
func (t *tree) intoQuantity(v reflect.Value, at *place, c *collector) bool {
	if t.kind != '{' {
		t.wrong(at, "a quantity", quantityHint, c)
		return false
	}
	var q lab.Quantity
	ok := true
	add := func(code, key, got, say, hint string) {
		ok = false
		path := at.under(key).String()
		c.add(lab.Issue{Code: code, Path: path, Got: got, Say: path + say, Hint: hint})
	}
	for i, k := range t.keys {
		e := t.vals[i]
		switch k {
		case "value":
			n, err := lab.ParseNumber(e.raw)
			switch {
			case e.kind != '0':
				add("wrong_type", k, e.describe(), fmt.Sprintf(" is %s; a finite number is wanted", e.describe()), "")
			case err != nil:
				add("not_finite", k, e.describe(), fmt.Sprintf(" is %s; a finite number is wanted", e.describe()), "")
			}
			q.Value = n
		case "unit":
			u, err := lab.ParseUnit(e.raw)
			if e.kind != '"' || e.raw == "" {
				err = fmt.Errorf("%s is no unit", e.describe())
			}
			if err != nil {
				add("bad_unit", k, cut(e.raw, maxPart), fmt.Sprintf(": %v", err), "")
			}
			q.Unit = u
		default:
			ok = false
			c.unknown(at.under(k), k, "; a quantity has value and unit", quantityFields)
		}
	}
	if !t.has("value") {
		add("missing_field", "value", "", " is missing", quantityHint)
	}
	if !t.has("unit") {
		add("no_unit", "unit", "", " is missing", quantityHint)
	}
	if ok {
		v.Set(reflect.ValueOf(q))
	}
	return ok
}
