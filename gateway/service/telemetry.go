package service

import (
	"time"

	"labgate/internal/bus"
	"labgate/lab"
	"labgate/messages"
)

// sweepEvery is how often readings are looked through for those that grew
// stale: the most by which a message about it is late.
const sweepEvery = 250 * time.Millisecond

// telemetry is what was last heard and last told of each property. It belongs
// to the core's goroutine.
type telemetry struct {
	props map[lab.PropertyID]*heard
	sweep time.Time // the next one; zero while nothing was heard
}

type heard struct {
	maxAge  time.Duration
	reading lab.Reading
	told    time.Time
	fresh   bool // as it was told
}

func newTelemetry(instruments []*lab.Instrument) *telemetry {
	t := &telemetry{props: map[lab.PropertyID]*heard{}}
	for _, in := range instruments {
		for _, c := range in.Profile.Components {
			for _, p := range c.Class.Properties {
				t.props[lab.PropertyID{Instrument: in.Name, Component: c.Name, Property: p.Name}] = &heard{maxAge: p.MaxAge}
			}
		}
	}
	return t
}

// publishReadings sends telemetry: at most one reading a property and period,
// and at once where a reading turns from one that can be stood upon to one that
// can't, or back.
func (s *Service) publishReadings(now time.Time, samples []lab.Sample) {
	for _, x := range samples {
		h := s.telemetry.props[x.ID]
		if h == nil {
			continue // a link of something that no class has
		}
		h.reading = x.Reading
		if s.telemetry.sweep.IsZero() {
			s.telemetry.sweep = now.Add(sweepEvery)
		}
		fresh, _ := h.reading.Fresh(now, h.maxAge)
		if fresh == h.fresh && now.Sub(h.told) < s.core.Telemetry(x.ID.Instrument) {
			continue
		}
		s.tellReading(now, x.ID, h, fresh)
	}
}

// sweepReadings tells of readings that have grown stale since they were told:
// a viewer who hears nothing any more has no other way to know.
func (s *Service) sweepReadings(now time.Time) {
	if t := s.telemetry.sweep; t.IsZero() || now.Before(t) {
		return
	}
	s.telemetry.sweep = now.Add(sweepEvery)
	for id, h := range s.telemetry.props {
		if !h.fresh {
			continue
		}
		if fresh, _ := h.reading.Fresh(now, h.maxAge); !fresh {
			h.reading.Quality = lab.Bad
			s.tellReading(now, id, h, false)
		}
	}
}

func (s *Service) tellReading(now time.Time, id lab.PropertyID, h *heard, fresh bool) {
	h.told, h.fresh = now, fresh
	doc := s.stamp.document(now, messages.Telemetry{Instrument: id.Instrument, Component: id.Component, Property: id.Property, Reading: h.reading})
	s.out.reading(bus.Telemetry(s.o.Lab.Name, s.o.Name, id.Instrument, id.Component, id.Property), messages.Body(doc))
}
