package frame

import (
	"math"
	"strconv"
	"strings"
)

// tolerance is how far, relatively, the text that is written may lie from the
// value: only what binary arithmetic does to a decimal number. 0.2 * 0.75 is
// written as 0.15.
const tolerance = 1e-9

// maxNumber bounds the text of a number, in bytes.
const maxNumber = 32

// write writes the number that the format can carry and that lies nearest to
// v. ok is false where nothing near it fits. Whether it is v is for carries to
// say.
func (s spec) write(v float64) (text string, ok bool) {
	if math.IsNaN(v) || math.IsInf(v, 0) || math.Abs(v) > 1e15 {
		return "", false
	}
	switch s.verb {
	case 'd':
		text = strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	case 'f':
		text = strconv.FormatFloat(round(v, 10), 'f', -1, 64)
		if s.fixed {
			text = strconv.FormatFloat(v, 'f', s.width, 64)
		}
	case 'g':
		whole := len(strconv.FormatFloat(math.Trunc(math.Abs(v)), 'f', 0, 64))
		if whole > s.width {
			return "", false
		}
		text = strconv.FormatFloat(v, 'f', s.width-whole, 64)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
	default:
		return "", false
	}
	if text[0] == '-' && strings.Trim(text, "-0.") == "" {
		text = text[1:] // a zero has no sign
	}
	if s.verb == 'd' && s.width > 0 {
		text = padZeros(text, s.width)
	}
	return text, s.fits(text)
}

func (s spec) fits(text string) bool {
	digits := 0
	for i := range len(text) {
		if text[i] >= '0' && text[i] <= '9' {
			digits++
		}
	}
	switch {
	case s.verb == 'd' && s.width > 0:
		return len(text) == s.width
	case s.verb == 'g':
		return digits <= s.width
	}
	return len(text) <= maxNumber
}

func padZeros(text string, width int) string {
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	if n := width - len(sign) - len(text); n > 0 {
		text = strings.Repeat("0", n) + text
	}
	return sign + text
}

// carries reports whether the text, read back, is v. Nothing but zero is read
// back as zero.
func (s spec) carries(text string, v float64) bool {
	off := tolerance * math.Abs(v)
	if s.verb == 'd' {
		off = min(off, 1e-3) // of a large whole number a fraction is no rounding error
	}
	got, err := strconv.ParseFloat(text, 64)
	return err == nil && math.Abs(got-v) <= off
}

// nearest finds the number that the format can carry, that lies nearest to v
// and that ok allows; of two equally near ones the smaller. A value other than
// zero never becomes zero: on many devices zero means "for ever".
func (s spec) nearest(v float64, ok func(float64) bool) (float64, bool) {
	best, found := 0.0, false
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, false
	}
	step := s.step(v)
	for _, c := range []float64{v, v - step, v + step, s.largest(), -s.largest(), s.step(0), -s.step(0)} {
		text, fits := s.write(c)
		if !fits {
			continue
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x == 0 && v != 0 || !ok(x) {
			continue
		}
		d, bestD := math.Abs(x-v), math.Abs(best-v)
		if !found || d < bestD || d == bestD && math.Abs(x) < math.Abs(best) {
			best, found = x, true
		}
	}
	return best, found
}

// step is the distance between the numbers that the format carries around v.
func (s spec) step(v float64) float64 {
	switch {
	case s.verb == 'g':
		whole := len(strconv.FormatFloat(math.Trunc(math.Abs(v)), 'f', 0, 64))
		return math.Pow10(-max(0, s.width-whole))
	case s.verb == 'f' && s.fixed:
		return math.Pow10(-s.width)
	case s.verb == 'f':
		return math.Abs(v) * 1e-9
	}
	return 1
}

// largest is the largest number that the format carries.
func (s spec) largest() float64 {
	if (s.verb == 'g' || s.verb == 'd') && s.width > 0 {
		return math.Pow10(s.width) - 1
	}
	return 1e15
}

// round keeps the given number of significant digits: what binary arithmetic
// adds to a decimal number goes.
func round(v float64, digits int) float64 {
	r, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64)
	if err != nil {
		return v
	}
	return r
}

// scanNumber is the length of the number at the start of s, with the blanks
// before it; 0 where there is none.
func scanNumber(s string, sp spec) int {
	i, width := 0, 0
	if sp.verb == 'd' && sp.width > 0 {
		if width = sp.width; len(s) < width {
			return 0
		}
		s = s[:width]
	}
	for width == 0 && i < len(s) && s[i] == ' ' {
		i++
	}
	if i < len(s) && (s[i] == '+' || s[i] == '-') {
		i++
	}
	from := i
	i = digits(s, i)
	count := i - from
	if sp.verb != 'd' && i < len(s) && s[i] == '.' {
		end := digits(s, i+1)
		count += end - i - 1
		i = end
	}
	if sp.verb == 'f' && count > 0 && i+1 < len(s) && (s[i] == 'e' || s[i] == 'E') && isExponent(s[i+1:]) {
		i = digits(s, i+2)
	}
	if count == 0 || i > maxNumber || width > 0 && i != width {
		return 0
	}
	return i
}

// digits is the end of the digits that begin at i.
func digits(s string, i int) int {
	for i < len(s) && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	return i
}

// parseNumber reads what scanNumber found. A number too large for a float is
// no number.
func parseNumber(s string) (float64, bool) {
	v, err := strconv.ParseFloat(strings.TrimLeft(s, " "), 64)
	return v, err == nil && !math.IsInf(v, 0) && !math.IsNaN(v)
}
