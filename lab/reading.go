package lab

import "time"

// Quality of a reading. The zero Quality is bad: what nobody vouched for is
// not good.
type Quality uint8

// The qualities. Only Good takes part in a decision.
const (
	Bad Quality = iota
	Uncertain
	Good
)

var qualityNames = [...]string{"bad", "uncertain", "good"}

// String is the quality as written in messages.
func (q Quality) String() string {
	if int(q) < len(qualityNames) {
		return qualityNames[q]
	}
	return qualityNames[Bad]
}

// MarshalText writes the name.
func (q Quality) MarshalText() ([]byte, error) { return []byte(q.String()), nil }

// UnmarshalText reads a name; anything else is bad.
func (q *Quality) UnmarshalText(b []byte) error {
	*q = Bad
	for i, n := range qualityNames {
		if n == string(b) {
			*q = Quality(i)
		}
	}
	return nil
}

// Reading is one value of a property with what is known about it. The zero
// Reading is bad and infinitely old.
type Reading struct {
	Value    Value     `json:"value"`
	Quality  Quality   `json:"quality"`
	Source   time.Time `json:"source"`   // when the device measured it; Received where it does not say
	Received time.Time `json:"received"` // when it arrived here
	Epoch    uint64    `json:"epoch"`    // the link epoch it arrived in
}

// Age is how old the reading is at now, by the older of its two times. A
// source time in the future (a device clock ahead) does not make it younger.
func (r Reading) Age(now time.Time) time.Duration {
	t := r.Received
	if !r.Source.IsZero() && r.Source.Before(t) {
		t = r.Source
	}
	if t.IsZero() {
		return 1<<63 - 1
	}
	return now.Sub(t)
}

// Fresh reports whether the reading may take part in a decision at now, and
// if not, why: "missing", "bad", "uncertain", "stale", "not finite" or "from
// the future".
func (r Reading) Fresh(now time.Time, maxAge time.Duration) (ok bool, why string) {
	switch {
	case r.Value.Kind == Missing:
		return false, "missing"
	case r.Quality != Good:
		return false, r.Quality.String()
	case !r.Value.Usable():
		return false, "not finite"
	case r.Age(now) > maxAge:
		return false, "stale"
	case r.Received.After(now.Add(time.Second)):
		return false, "from the future"
	}
	return true, ""
}

// Sample is a reading with its address.
type Sample struct {
	ID      PropertyID
	Reading Reading
	Why     string // of a bad reading, for people: what was answered in its place; empty: nothing was
}
