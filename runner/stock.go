package runner

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"labgate/lab"
	"labgate/messages"
)

// stock is what people and runs have said of matter: lots and where they are
// loaded, samples and where they are, calibrations and until when they hold. It
// changes only in the order of the journal's entries, and a change that does
// not fit changes nothing, so that the same entries give the same stock.
type stock struct {
	lots    map[string]*lot
	loaded  map[string]*lot // by instrument
	samples map[string]*messages.Sample
	cals    map[string]*messages.Calibrated // by calKey
	lab     *lab.Lab
}

// lot is a registered lot with what was taken from it. What is under way, or in
// doubt, counts in full.
type lot struct {
	messages.Lot
	Taken float64         `json:"taken"` // in the unit of Amount; what is certain
	Open  map[string]take `json:"open"`  // by command
}

// take is what a command takes from a lot.
type take struct {
	Run    string  `json:"run"`
	Amount float64 `json:"amount"` // in the unit of the lot's amount
}

// The bounds of the stock: what is registered is kept for ever.
const (
	maxLots    = 10_000
	maxSamples = 100_000
	mostStays  = 100 // of one sample; the journal has the rest
)

var stockID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$`)

func newStock(l *lab.Lab) stock {
	return stock{lots: map[string]*lot{}, loaded: map[string]*lot{}, samples: map[string]*messages.Sample{}, cals: map[string]*messages.Calibrated{}, lab: l}
}

// left is what can still be taken, at worst.
func (l *lot) left() float64 {
	left := l.Amount.Value - l.Taken
	for _, t := range l.Open {
		left -= t.Amount
	}
	return max(0, left)
}

// usable says why nothing may be taken from a lot; empty: it may.
func (l *lot) usable(now time.Time) string {
	switch {
	case l.Discarded != "":
		return "it was discarded: " + l.Discarded
	case l.Expires != nil && !now.Before(*l.Expires):
		return "it expired at " + l.Expires.UTC().Format(time.RFC3339)
	}
	return ""
}

// in is the lot that is loaded in an instrument; nil: none is.
func (s *stock) in(instrument string) *lot { return s.loaded[instrument] }

// change makes a change that somebody asked for at now, or says why it can't
// be.
func (s *stock) change(now time.Time, who, reason string, c *messages.StockChange) (say string, err error) {
	switch c.What {
	case messages.LotAdd:
		return s.addLot(c.Lot)
	case messages.LotLoad, messages.LotUnload, messages.LotDiscard:
		return s.changeLot(now, reason, c)
	case messages.SampleAdd:
		return s.addSample(now, who, c.Sample)
	case messages.SampleMove, messages.SampleUse:
		return s.changeSample(now, who, reason, c)
	case messages.Calibration:
		return s.calibrate(who, c.Calibrated)
	}
	return "", fmt.Errorf("%q is nothing that can be done with lots, samples and calibrations", clipText(c.What))
}

func (s *stock) addLot(l *messages.Lot) (string, error) {
	switch {
	case l == nil || !stockID.MatchString(l.ID):
		return "", fmt.Errorf("a lot needs an id of letters, digits and . _ / -")
	case s.lots[l.ID] != nil:
		return "", fmt.Errorf("lot %s is registered already", l.ID)
	case len(s.lots) >= maxLots:
		return "", fmt.Errorf("there are %d lots already", maxLots)
	case l.Substance == "" || len(l.Substance) > 200:
		return "", fmt.Errorf("lot %s needs a substance", l.ID)
	case !l.Amount.Finite() || l.Amount.Value <= 0 || !isMatter(l.Amount.Unit):
		return "", fmt.Errorf("lot %s needs an amount, as in 50 mL, 2 g or 1 mmol; %s is none", l.ID, l.Amount)
	}
	s.lots[l.ID] = &lot{Lot: messages.Lot{ID: l.ID, Substance: l.Substance, Concentration: l.Concentration, Amount: l.Amount, Expires: l.Expires}, Open: map[string]take{}}
	return fmt.Sprintf("lot %s: %s of %s", l.ID, l.Amount, l.Substance), nil
}

func isMatter(u lab.Unit) bool {
	for _, name := range []string{"mL", "g", "mol"} {
		if m, err := lab.ParseUnit(name); err == nil && m.Dim() == u.Dim() {
			return true
		}
	}
	return false
}

func (s *stock) changeLot(now time.Time, reason string, c *messages.StockChange) (string, error) {
	l := s.lots[c.ID]
	if l == nil {
		return "", fmt.Errorf("there is no lot %q%s", clipText(c.ID), didYouMean(c.ID, sortedKeys(s.lots)))
	}
	switch c.What {
	case messages.LotDiscard:
		if reason == "" {
			return "", fmt.Errorf("to discard a lot needs a reason")
		}
		l.Discarded = reason
		return fmt.Sprintf("lot %s is not to be used any more", l.ID), nil
	case messages.LotUnload:
		if l.In == "" {
			return "", fmt.Errorf("lot %s is in no instrument", l.ID)
		}
		was := l.In
		l.In = ""
		delete(s.loaded, was)
		return fmt.Sprintf("lot %s is out of %s", l.ID, was), nil
	}
	in := s.lab.Instrument(c.Instrument)
	if in == nil {
		return "", fmt.Errorf("there is no instrument %q", clipText(c.Instrument))
	}
	if why := l.usable(now); why != "" {
		return "", fmt.Errorf("lot %s can't be loaded: %s", l.ID, why)
	}
	switch other := s.in(in.Name); {
	case l.In == in.Name:
		return fmt.Sprintf("lot %s is in %s already", l.ID, in.Name), nil
	case l.In != "":
		return "", fmt.Errorf("lot %s is in %s; unload it first", l.ID, l.In)
	case other != nil:
		return "", fmt.Errorf("lot %s is in %s; unload it first", other.ID, in.Name)
	case in.Holds == nil:
		return "", fmt.Errorf("%s holds nothing by the lab's file", in.Name)
	case in.Holds.Substance != l.Substance:
		return "", fmt.Errorf("%s is for %s by the lab's file; lot %s is %s", in.Name, in.Holds.Substance, l.ID, l.Substance)
	case in.Holds.Concentration != nil && (l.Concentration == nil || !sameAmount(*l.Concentration, *in.Holds.Concentration)):
		return "", fmt.Errorf("%s is for %s at %s by the lab's file; lot %s is not", in.Name, in.Holds.Substance, *in.Holds.Concentration, l.ID)
	}
	l.In, s.loaded[in.Name] = in.Name, l
	return fmt.Sprintf("lot %s is in %s: %s left", l.ID, in.Name, lab.Quantity{Value: l.left(), Unit: l.Amount.Unit}), nil
}

func didYouMean(name string, have []string) string {
	if near := lab.Nearest(name, have); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

func (s *stock) addSample(now time.Time, who string, n *messages.Sample) (string, error) {
	switch {
	case n == nil || !stockID.MatchString(n.ID):
		return "", fmt.Errorf("a sample needs an id of letters, digits and . _ / -")
	case s.samples[n.ID] != nil:
		return "", fmt.Errorf("sample %s is registered already", n.ID)
	case len(s.samples) >= maxSamples:
		return "", fmt.Errorf("there are %d samples already", maxSamples)
	case len(n.About) > 500:
		return "", fmt.Errorf("what is said about sample %s is longer than 500 bytes", n.ID)
	}
	if n.At != "" {
		if err := s.room(n.ID, n.At); err != nil {
			return "", err
		}
	}
	x := &messages.Sample{ID: n.ID, About: n.About, Run: n.Run}
	s.samples[n.ID] = x
	stay(x, now, who, n.At)
	return fmt.Sprintf("sample %s", n.ID), nil
}

// room says why a sample can't be at a place.
func (s *stock) room(sample, place string) error {
	if !stockID.MatchString(place) {
		return fmt.Errorf("%q names no place: letters, digits and . _ / -", clipText(place))
	}
	var there []string
	for _, x := range s.samples {
		if x.At == place && x.ID != sample {
			there = append(there, x.ID)
		}
	}
	if n := s.lab.Capacity(place); len(there) >= n {
		slices.Sort(there)
		return fmt.Errorf("%s is at %s, which holds %d", strings.Join(there[:min(len(there), 3)], ", "), place, n)
	}
	return nil
}

func (s *stock) changeSample(now time.Time, who, reason string, c *messages.StockChange) (string, error) {
	x := s.samples[c.ID]
	switch {
	case x == nil:
		return "", fmt.Errorf("there is no sample %q%s", clipText(c.ID), didYouMean(c.ID, sortedKeys(s.samples)))
	case x.Used != "":
		return "", fmt.Errorf("sample %s is used up: %s", x.ID, x.Used)
	case c.What == messages.SampleUse && reason == "":
		return "", fmt.Errorf("to use up a sample needs a reason")
	case c.What == messages.SampleUse:
		x.Used, x.At = reason, ""
		return fmt.Sprintf("sample %s is used up", x.ID), nil
	}
	if err := s.room(x.ID, c.Place); err != nil {
		return "", err
	}
	stay(x, now, who, c.Place)
	return fmt.Sprintf("sample %s is at %s", x.ID, x.At), nil
}

// stay notes where a sample is from now on.
func stay(x *messages.Sample, now time.Time, who, place string) {
	if x.At = place; place == "" {
		return
	}
	if x.Path = append(x.Path, messages.Stay{At: place, Since: now, By: who}); len(x.Path) > mostStays {
		x.Path = slices.Clone(x.Path[1:])
	}
}

func (s *stock) calibrate(who string, c *messages.Calibrated) (string, error) {
	if c == nil || !stockID.MatchString(c.ID) {
		return "", fmt.Errorf("a calibration needs an id of letters, digits and . _ / -")
	}
	switch {
	case s.lab.Instrument(c.Instrument) == nil:
		return "", fmt.Errorf("there is no instrument %q", clipText(c.Instrument))
	case c.Until.IsZero():
		return "", fmt.Errorf("calibration %s needs a time until when it holds", c.ID)
	}
	if c.Property != "" {
		if _, _, err := s.lab.ResolveProperty(c.Instrument + "." + c.Property); err != nil {
			return "", err
		}
	}
	s.cals[calKey(c.Instrument, c.Property)] = &messages.Calibrated{ID: c.ID, Instrument: c.Instrument, Property: c.Property, Until: c.Until, By: who}
	return fmt.Sprintf("%s is calibrated (%s) until %s", calKey(c.Instrument, c.Property), c.ID, c.Until.UTC().Format(time.RFC3339)), nil
}

func calKey(instrument, property string) string {
	if property == "" {
		return instrument
	}
	return instrument + "." + property
}

// all is everything; reserved says what runs will still take.
func (s *stock) all(reserved func(*lot) float64) *messages.Stock {
	list := &messages.Stock{}
	for _, id := range sortedKeys(s.lots) {
		l := s.lots[id]
		x := l.Lot
		x.Left = &lab.Quantity{Value: l.left(), Unit: l.Amount.Unit}
		if reserved != nil && reserved(l) > 0 {
			x.Reserved = &lab.Quantity{Value: reserved(l), Unit: l.Amount.Unit}
		}
		list.Lots = append(list.Lots, x)
	}
	for _, id := range sortedKeys(s.samples) {
		x := *s.samples[id]
		x.Path = slices.Clone(x.Path)
		list.Samples = append(list.Samples, x)
	}
	for _, key := range sortedKeys(s.cals) {
		list.Calibrations = append(list.Calibrations, *s.cals[key])
	}
	return list
}

// snapshot adds a copy of the stock.
func (s *stock) snapshot(to *Snapshot) {
	for _, id := range sortedKeys(s.lots) {
		l := *s.lots[id]
		l.Open = maps.Clone(l.Open)
		to.Lots = append(to.Lots, l)
	}
	all := s.all(nil)
	to.Samples, to.Calibrations = all.Samples, all.Calibrations
}

func (s *stock) recall(from *Snapshot) {
	for i := range from.Lots {
		l := from.Lots[i]
		if l.Open == nil {
			l.Open = map[string]take{}
		}
		if s.lots[l.ID] = &l; l.In != "" {
			s.loaded[l.In] = &l
		}
	}
	for i := range from.Samples {
		s.samples[from.Samples[i].ID] = &from.Samples[i]
	}
	for i := range from.Calibrations {
		x := &from.Calibrations[i]
		s.cals[calKey(x.Instrument, x.Property)] = x
	}
}

// sameAmount compares across units; a conversion rounds.
func sameAmount(a, b lab.Quantity) bool {
	q, err := a.In(b.Unit)
	return err == nil && math.Abs(q.Value-b.Value) <= 1e-9*math.Abs(b.Value)
}
