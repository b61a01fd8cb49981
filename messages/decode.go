package messages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"labgate/lab"
)

const maxDepth = 32

// Decode reads one JSON document into a struct, strictly: it reports every
// unknown, repeated or wrongly cased key, every wrong type and every bad
// quantity, each with its path. encoding/json alone accepts repeated and
// case-variant keys and stops at the first error. Text after the document is
// an issue too. Fields without issues are set even if others have some.
func Decode(data []byte, into any) lab.Issues {
	if !utf8.Valid(data) {
		return lab.Issues{{Code: "broken_json", Say: "the document is not UTF-8"}}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	t := &tree{}
	var is lab.Issues
	if err := t.read(d, "", 0, &is); err != nil {
		say := err.Error()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			say = "the document ends too early"
		}
		return append(is, lab.Issue{Code: "broken_json", Say: fmt.Sprintf("not JSON at byte %d: %s", d.InputOffset(), say)})
	}
	if _, err := d.Token(); err != io.EOF {
		is = append(is, lab.Issue{Code: "broken_json", Say: fmt.Sprintf("there is text after the document, at byte %d", d.InputOffset())})
	}
	t.into(reflect.ValueOf(into).Elem(), "", &is)
	return is
}

// tree is one JSON value with its keys in order.
type tree struct {
	kind byte // { [ " 0 t n
	keys []string
	vals []*tree
	raw  string // scalars: the text
}

func (t *tree) read(d *json.Decoder, path string, depth int, is *lab.Issues) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := d.Token()
	if err != nil {
		return err
	}
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' {
			return t.readObject(d, path, depth, is)
		}
		t.kind = '['
		for d.More() {
			e := &tree{}
			t.vals = append(t.vals, e)
			if err := e.read(d, fmt.Sprintf("%s[%d]", path, len(t.vals)-1), depth+1, is); err != nil {
				return err
			}
		}
		_, err = d.Token()
		return err
	case string:
		t.kind, t.raw = '"', v
	case json.Number:
		t.kind, t.raw = '0', v.String()
	case bool:
		t.kind, t.raw = 't', fmt.Sprint(v)
	default:
		t.kind = 'n'
	}
	return nil
}

func (t *tree) readObject(d *json.Decoder, path string, depth int, is *lab.Issues) error {
	t.kind = '{'
	seen := map[string]bool{}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return err
		}
		key := k.(string)
		if seen[key] {
			*is = append(*is, lab.Issue{Code: "duplicate_key", Path: join(path, key), Say: fmt.Sprintf("%q is given twice", key)})
		}
		seen[key] = true
		v := &tree{}
		t.keys, t.vals = append(t.keys, key), append(t.vals, v)
		if err := v.read(d, join(path, key), depth+1, is); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var (
	valueType    = reflect.TypeFor[lab.Value]()
	quantityType = reflect.TypeFor[lab.Quantity]()
	timeType     = reflect.TypeFor[time.Time]()
	rawType      = reflect.TypeFor[json.RawMessage]()
	textType     = reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()
)

// into sets v from the tree and collects what does not fit.
func (t *tree) into(v reflect.Value, path string, is *lab.Issues) {
	wrong := func(want string) {
		*is = append(*is, lab.Issue{Code: "wrong_type", Path: path, Got: t.describe(), Allowed: want,
			Say: fmt.Sprintf("%s is %s; %s is wanted", orDocument(path), t.describe(), want)})
	}
	switch v.Type() {
	case valueType:
		t.intoValue(v, path, is)
		return
	case quantityType:
		t.intoQuantity(v, path, is)
		return
	case rawType:
		v.SetBytes(t.json())
		return
	case timeType:
		at, err := time.Parse(time.RFC3339Nano, t.raw)
		if t.kind != '"' || err != nil {
			wrong("a time such as 2026-11-22T18:00:00Z")
			return
		}
		v.Set(reflect.ValueOf(at))
		return
	}
	if v.CanAddr() && v.Addr().Type().Implements(textType) && v.Kind() != reflect.Struct {
		if t.kind != '"' {
			wrong("a text")
			return
		}
		_ = v.Addr().Interface().(interface{ UnmarshalText([]byte) error }).UnmarshalText([]byte(t.raw)) // closed sets: unknown names become the safe one
		return
	}
	t.intoKind(v, path, is, wrong)
}

func (t *tree) intoKind(v reflect.Value, path string, is *lab.Issues, wrong func(string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if t.kind == 'n' {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		t.into(v.Elem(), path, is)
	case reflect.Struct:
		t.intoStruct(v, path, is, wrong)
	case reflect.Map:
		if t.kind != '{' {
			wrong("an object")
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for i, k := range t.keys {
			e := reflect.New(v.Type().Elem()).Elem()
			t.vals[i].into(e, join(path, k), is)
			v.SetMapIndex(reflect.ValueOf(k), e)
		}
	case reflect.Slice:
		if t.kind != '[' {
			wrong("a list")
			return
		}
		for i, e := range t.vals {
			x := reflect.New(v.Type().Elem()).Elem()
			e.into(x, fmt.Sprintf("%s[%d]", path, i), is)
			v.Set(reflect.Append(v, x))
		}
	case reflect.String:
		if t.kind != '"' {
			wrong("a text")
			return
		}
		v.SetString(t.raw)
	default:
		if json.Unmarshal(t.json(), v.Addr().Interface()) != nil || t.kind == 'n' {
			wrong(map[bool]string{true: "true or false", false: "a number"}[v.Kind() == reflect.Bool])
		}
	}
}

func (t *tree) intoStruct(v reflect.Value, path string, is *lab.Issues, wrong func(string)) {
	if t.kind != '{' {
		wrong("an object")
		return
	}
	fields := map[string]reflect.Value{}
	collectFields(v, fields)
	names := make([]string, 0, len(fields))
	for n := range fields {
		names = append(names, n)
	}
	for i, k := range t.keys {
		f, ok := fields[k]
		if !ok {
			issue := lab.Issue{Code: "unknown_field", Path: join(path, k), Got: k, Say: fmt.Sprintf("there is no field %q", join(path, k))}
			if near := lab.Nearest(k, names); near != "" {
				issue.Hint = fmt.Sprintf("did you mean %q?", near)
			}
			*is = append(*is, issue)
			continue
		}
		t.vals[i].into(f, join(path, k), is)
	}
}

// collectFields maps JSON names to fields, through embedded structs.
func collectFields(v reflect.Value, into map[string]reflect.Value) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Anonymous {
			collectFields(v.Field(i), into)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			into[name] = v.Field(i)
		}
	}
}

func (t *tree) intoValue(v reflect.Value, path string, is *lab.Issues) {
	if t.kind == '{' && t.has("value") || t.kind == '{' && t.has("unit") {
		q := reflect.New(quantityType).Elem()
		n := len(*is)
		t.intoQuantity(q, path, is)
		if len(*is) == n {
			v.Set(reflect.ValueOf(lab.NumberValue(q.Interface().(lab.Quantity))))
		}
		return
	}
	var x lab.Value
	if err := x.UnmarshalJSON(t.json()); err != nil {
		*is = append(*is, lab.Issue{Code: "wrong_type", Path: path, Got: t.describe(), Say: fmt.Sprintf("%s: %v", orDocument(path), err)})
		return
	}
	v.Set(reflect.ValueOf(x))
}

func (t *tree) intoQuantity(v reflect.Value, path string, is *lab.Issues) {
	add := func(code, at, got, say, hint string) {
		*is = append(*is, lab.Issue{Code: code, Path: at, Got: got, Say: say, Hint: hint})
	}
	if t.kind != '{' {
		add("wrong_type", path, t.describe(), fmt.Sprintf("%s is %s; a quantity is wanted", path, t.describe()), `write {"value": 70, "unit": "degC"}`)
		return
	}
	var q lab.Quantity
	ok := true
	for i, k := range t.keys {
		e := t.vals[i]
		switch k {
		case "value":
			n, err := lab.ParseNumber(e.raw)
			if e.kind != '0' || err != nil {
				ok = false
				code := "wrong_type"
				if e.kind == '0' {
					code = "not_finite"
				}
				add(code, join(path, k), e.describe(), fmt.Sprintf("%s is %s; a finite number is wanted", join(path, k), e.describe()), "")
			}
			q.Value = n
		case "unit":
			u, err := lab.ParseUnit(e.raw)
			if e.kind != '"' || e.raw == "" {
				err = fmt.Errorf("%s is no unit", e.describe())
			}
			if err != nil {
				ok = false
				add("bad_unit", join(path, k), e.raw, fmt.Sprintf("%s: %v", join(path, k), err), "")
			}
			q.Unit = u
		default:
			ok = false
			add("unknown_field", join(path, k), k, fmt.Sprintf("there is no field %q; a quantity has value and unit", join(path, k)), "")
		}
	}
	if !t.has("value") {
		ok = false
		add("missing_field", join(path, "value"), "", fmt.Sprintf("%s has no value", path), "")
	}
	if !t.has("unit") {
		ok = false
		add("no_unit", join(path, "unit"), "", fmt.Sprintf("%s has no unit", path), `write {"value": 70, "unit": "degC"}`)
	}
	if ok {
		v.Set(reflect.ValueOf(q))
	}
}

func (t *tree) has(key string) bool {
	for _, k := range t.keys {
		if k == key {
			return true
		}
	}
	return false
}

// json writes the tree again, canonically enough to be read once more.
func (t *tree) json() []byte {
	var b bytes.Buffer
	t.write(&b)
	return b.Bytes()
}

func (t *tree) write(b *bytes.Buffer) {
	switch t.kind {
	case '{', '[':
		b.WriteByte(t.kind)
		for i, v := range t.vals {
			if i > 0 {
				b.WriteByte(',')
			}
			if t.kind == '{' {
				k, _ := json.Marshal(t.keys[i]) // a string always can be
				b.Write(k)
				b.WriteByte(':')
			}
			v.write(b)
		}
		b.WriteByte(t.kind + 2)
	case '"':
		s, _ := json.Marshal(t.raw) // a string always can be
		b.Write(s)
	case 'n':
		b.WriteString("null")
	default:
		b.WriteString(t.raw)
	}
}

func (t *tree) describe() string {
	switch t.kind {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return fmt.Sprintf("the text %.60q", t.raw)
	case 'n':
		return "null"
	}
	return t.raw
}

func orDocument(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}
