package protocols

import (
	"strings"
	"time"

	"labgate/internal/strict"
	"labgate/lab"
	"labgate/lab/expr"
)

// Rows is a table that a repeat fills: one row at the end of each iteration,
// from what its steps gave. A row of which a value is missing is left out.
type Rows struct {
	Columns []lab.Column
	cells   []*expr.Program // by column
}

// cell is one column of an output as it is written.
type cell struct {
	name string
	src  lab.Source
}

// rows reads the rows: and of: of an output.
func (r *parser) rows(o *Output, f *strict.Fields) {
	rows, of := f.Get("rows"), f.Get("of")
	switch {
	case of != nil && rows == nil:
		r.add(of.Pos(), "missing_key", "rows: the id of a repeat", "of says what a row holds; nothing says which repeat makes the rows")
		return
	case rows == nil:
		return
	case f.Get("from") != nil:
		r.add(rows.Pos(), "bad_value", "leave one of them out", "an output has from: a value, or rows: a repeat")
		return
	case of == nil:
		r.add(rows.Pos(), "missing_key", "of: {i: i, peak: read.peak}", "nothing says what a row holds")
		return
	case o.Type.Kind != lab.Table && o.Type.Kind != lab.Missing:
		r.add(rows.Pos(), "wrong_type", "declare its columns: table: {peak: nm}", "rows make a table; output %s is %s", o.Name, kinds[o.Type.Kind])
		return
	}
	o.rows, o.rowsPos = r.Text(rows), rows.Pos()
	for _, e := range r.entries(of, "of", maxText) {
		o.of = append(o.of, cell{e.key, r.source(e.node)})
		if !hasColumn(o.Type, e.key) {
			r.add(e.pos, "unknown_name", r.near(e.key, columnNames(o.Type)), "output %s has no column %q", o.Name, clip(e.key))
		}
	}
	for _, c := range o.Type.Columns {
		if !o.gives(c.Name) {
			r.add(of.Pos(), "missing_argument", "", "nothing says what stands in column %s of output %s", c.Name, o.Name)
		}
	}
}

func (o *Output) gives(column string) bool {
	for _, c := range o.of {
		if c.name == column {
			return true
		}
	}
	return false
}

func hasColumn(t lab.Type, name string) bool {
	for _, c := range t.Columns {
		if c.Name == name {
			return true
		}
	}
	return false
}

func columnNames(t lab.Type) (names []string) {
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	return names
}

// checkRows compiles the cells of a table for the end of the repeat's body.
func (r *parser) checkRows(o *Output) {
	at, loop, most := r.loopAt(o)
	if loop == nil {
		return // reported
	}
	if most > MaxRepeats {
		r.add(o.rowsPos, "too_many", "", "output %s may have %s rows; at most %d", o.Name, lab.FormatNumber(most), MaxRepeats)
		return
	}
	rows := &Rows{Columns: o.Type.Columns, cells: make([]*expr.Program, len(o.Type.Columns))}
	for i, c := range o.Type.Columns {
		for _, x := range o.of {
			if x.name == c.Name && x.src.Text != "" {
				rows.cells[i] = r.typed("column "+c.Name, x.src, &scope{at: at, loop: loop, values: true, outputs: true}, lab.Type{Kind: lab.Number, Unit: c.Unit})
			}
		}
	}
	o.Rows = rows
	loop.rows = append(loop.rows, rows)
}

// loopAt finds the repeat that an output's rows names by its path, and how many
// iterations it may have in all; nil where that was reported.
func (r *parser) loopAt(o *Output) (*place, *Step, float64) {
	at, most := &place{steps: r.p.Steps}, 1.0
	parts := strings.Split(o.rows, ".")
	for n, id := range parts {
		s := find(at.steps, id)
		if s == nil {
			var names []string
			for _, x := range at.steps {
				if x.named && (x.Kind == Repeat || len(x.Steps) > 0 && x.Kind != Use) {
					names = append(names, x.ID)
				}
			}
			r.add(o.rowsPos, "output_not_produced", r.near(id, names), "there is no step %q: rows names a repeat", clip(o.rows))
			return nil, nil, 0
		}
		for k, x := range at.steps {
			if x == s {
				at.at = k
			}
		}
		if s.Kind == Repeat {
			most *= float64(s.Max)
		}
		at = &place{outer: at, owner: s, steps: s.children()}
		if n < len(parts)-1 {
			continue
		}
		if s.Kind != Repeat {
			r.add(o.rowsPos, "wrong_type", "", "%s is %s; rows names a repeat", clip(o.rows), s.Kind.one())
			return nil, nil, 0
		}
		at.steps, at.at = s.Steps, len(s.Steps)
		return at, s, most
	}
	return nil, nil, 0
}

// collect adds the row of an iteration that has ended.
func (v *Values) collect(now time.Time, s *Step) {
	if len(s.rows) == 0 {
		return
	}
	d, again := v.decided(s, decidedRow)
	if !again {
		d = Decision{Step: s.Path, What: decidedRow, Rows: v.cells(now, s)}
		v.decide(d)
	}
	for k, rows := range s.rows {
		if k >= len(d.Rows) || len(d.Rows[k]) != len(rows.Columns) {
			continue
		}
		t := v.tables[rows]
		if t == nil {
			t = &lab.TableData{Columns: rows.Columns, Data: make([][]float64, len(rows.Columns))}
			v.tables[rows] = t
		}
		for i, x := range d.Rows[k] {
			t.Data[i] = append(t.Data[i], x)
		}
	}
}

// cells are the rows of an iteration that has ended, one for each table; nil
// where a cell has no value.
func (v *Values) cells(now time.Time, s *Step) (list [][]float64) {
	v.env.Now = now
	for _, rows := range s.rows {
		row := make([]float64, len(rows.cells))
		whole := true
		for i, c := range rows.cells {
			x, err := lab.Type{Kind: lab.Number, Unit: rows.Columns[i].Unit}.Conform(c.Value(nil, &v.env))
			whole = whole && err == nil && x.Usable()
			row[i] = x.Num
		}
		if !whole {
			row = nil
		}
		list = append(list, row)
	}
	return list
}

// table is what a repeat has filled until now; missing where there is no row.
func (v *Values) table(rows *Rows) lab.Value {
	if t := v.tables[rows]; t != nil {
		return lab.TableValue(t)
	}
	return lab.Value{}
}
