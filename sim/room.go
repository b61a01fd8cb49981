package sim

import (
	"math"
	"time"

	"labgate/lab"
)

// Room is what the room's controller publishes. World.Set changes it.
type Room struct {
	w                     *World
	airflow, oxygen       float64 // m/s, %
	doorClosed, emergency bool
	airKey, oxygenKey     uint64
}

func newRoom(w *World) *Room {
	return &Room{
		w: w, airflow: 0.5, oxygen: 20.9, doorClosed: true,
		airKey: source(w.seed, "room.airflow"), oxygenKey: source(w.seed, "room.oxygen"),
	}
}

// Airflow of the hood, in m/s.
func (r *Room) Airflow() float64 { return r.w.reading(r, "room", "room", "airflow") }

// Oxygen in the air, in %.
func (r *Room) Oxygen() float64 { return r.w.reading(r, "room", "room", "oxygen") }

// DoorClosed reports on the door.
func (r *Room) DoorClosed() bool { return r.w.flag(r, "room", "room", "door_closed") }

// Emergency reports whether the button is pressed.
func (r *Room) Emergency() bool { return r.w.flag(r, "room", "room", "emergency") }

func (r *Room) reboot() {}

func (r *Room) sensors() [][2]string {
	return [][2]string{{"room", "door_closed"}, {"room", "airflow"}, {"room", "oxygen"}, {"room", "emergency"}}
}

func (r *Room) raw(component, property string) lab.Value {
	if component != "room" {
		return lab.Value{}
	}
	switch property {
	case "door_closed":
		return lab.BoolValue(r.doorClosed)
	case "emergency":
		return lab.BoolValue(r.emergency)
	case "airflow":
		return number(math.Max(0, r.airflow*(1+0.01*r.w.noise(r.airKey))), unitMS)
	case "oxygen":
		return number(math.Max(0, math.Min(100, r.oxygen+0.01*r.w.noise(r.oxygenKey))), unitPercent)
	}
	return lab.Value{}
}

func (r *Room) commands() []command { return nil }

func (r *Room) duration(string, string, map[string]float64) time.Duration { return 0 }

func (r *Room) do(string, string, map[string]float64) (map[string]lab.Value, error) {
	return nil, refused("do", "room", ErrNotApplicable, "")
}
