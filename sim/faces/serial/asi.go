package serial

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"labgate/sim"
)

// The ASI MS-2000. Commands end in CR, answers in CR LF; positions are in
// tenths of a micrometre.
//
//	M X=1000 Y=0   go there; ":A" is accepted, not arrived
//	R X=-50        go that far
//	H X=1000       call the place where X is 1000; Z calls all places 0
//	W X Y          ":A 1000 0", where the axes are
//	/              "B" while an axis moves, else "N"
//	\              halt; ":N-21" if that cut a motion short, else ":A"
//	V              firmware
//	:N-1 unknown command, -2 unknown axis, -3 missing or unreadable parameter,
//	-4 out of range, -5 failed, -21 halted
const stageVersion = ":A Version: USB-9.2m"

const (
	unknownCommand = ":N-1"
	unknownAxis    = ":N-2"
	missing        = ":N-3"
	outOfRange     = ":N-4"
	failed         = ":N-5"
	halted         = ":N-21"
)

// controller is the stage's. It remembers its last two answers.
type controller struct{ before, last []byte }

func (c *controller) answer(w *sim.World, command []byte, tooLong bool) answer {
	if w.Frozen("stage") {
		return answer{}
	}
	text := unknownCommand
	if !tooLong {
		text = doStage(w.Stage(), strings.ToUpper(string(command)))
	}
	c.before, c.last = c.last, []byte(text+"\r\n")
	return answer{"stage", c.last}
}

// mistaken is the answer before this one, once more.
func (c *controller) mistaken(answer) []byte {
	if c.before == nil {
		return []byte(":A 0\r\n")
	}
	return c.before
}

func doStage(s *sim.Stage, command string) string {
	words := strings.Fields(command)
	if len(words) == 0 {
		return unknownCommand
	}
	switch words[0] {
	case "M", "MOVE":
		return move(s, words[1:], false)
	case "R", "MOVREL":
		return move(s, words[1:], true)
	case "W", "WHERE":
		return where(s, words[1:])
	case "H", "HERE":
		return here(s, words[1:])
	}
	if len(words) > 1 {
		return unknownCommand
	}
	switch words[0] {
	case "/", "STATUS":
		if s.Busy() {
			return "B"
		}
		return "N"
	case `\`, "HALT":
		cut, err := s.Halt()
		switch {
		case err != nil:
			return failed
		case cut:
			return halted
		}
		return ":A"
	case "Z", "ZERO":
		return here(s, []string{"X=0", "Y=0", "Z=0"})
	case "V", "VERSION":
		return stageVersion
	}
	return unknownCommand
}

func move(s *sim.Stage, words []string, relative bool) string {
	to, bad := positions(words)
	if bad != "" {
		return bad
	}
	if relative {
		for axis := range to {
			to[axis] += s.Position(axis)
		}
	}
	return said(s.Move(to))
}

func here(s *sim.Stage, words []string) string {
	at, bad := positions(words)
	if bad != "" {
		return bad
	}
	for axis, steps := range at {
		if bad := said(s.Here(axis, steps)); bad != ":A" {
			return bad
		}
	}
	return ":A"
}

// positions reads words like X=1000.
func positions(words []string) (at map[sim.Axis]int64, bad string) {
	if len(words) == 0 {
		return nil, missing
	}
	at = map[sim.Axis]int64{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		axis, known := axisOf(name)
		if !known {
			return nil, unknownAxis
		}
		if !ok {
			return nil, missing
		}
		steps, err := strconv.ParseInt(value, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange) || steps > math.MaxInt32 || steps < math.MinInt32:
			return nil, outOfRange
		case err != nil:
			return nil, missing
		}
		at[axis] = steps
	}
	return at, ""
}

// said is what the controller answers when it has tried.
func said(err error) string {
	switch {
	case err == nil:
		return ":A"
	case errors.Is(err, sim.ErrOutOfRange):
		return outOfRange
	}
	return failed
}

func where(s *sim.Stage, words []string) string {
	if len(words) == 0 {
		return missing
	}
	text := ":A"
	for _, word := range words {
		axis, known := axisOf(word)
		if !known {
			return unknownAxis
		}
		text += fmt.Sprintf(" %d", s.Position(axis))
	}
	return text
}

func axisOf(name string) (sim.Axis, bool) {
	switch name {
	case "X":
		return sim.X, true
	case "Y":
		return sim.Y, true
	case "Z":
		return sim.Z, true
	}
	return 0, false
}
