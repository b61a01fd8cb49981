package sim

// Count is what one instrument has really done to the world since it began,
// whatever the instrument or anybody else says. Every field only grows, and
// the sum of counts does not depend on their order.
type Count struct {
	Dispensed float64 `json:"dispensed_ml"` // liquid that left the needle
	Withdrawn float64 `json:"withdrawn_ml"` // liquid taken back
	Doses     int     `json:"doses"`        // pump runs started, or resumed
	DosesDone int     `json:"doses_done"`   // pump runs that reached their volume
	Stops     int     `json:"stops"`        // runs, heats and moves that were cut short by a stop

	Moves  int     `json:"moves"`
	Travel float64 `json:"travel_mm"` // all axes together

	Exposures int `json:"exposures"` // spectra and frames taken

	Batches int `json:"batches"`
	Films   int `json:"films"` // coated, good or bad
	Scrap   int `json:"scrap"` // of these, out of tolerance

	HeaterStarts  int     `json:"heater_starts"`
	HeaterOn      float64 `json:"heater_on_s"`
	HeaterEnergy  float64 `json:"heater_energy_j"`
	StirrerStarts int     `json:"stirrer_starts"`
	Drains        int     `json:"drains"`
	Drained       float64 `json:"drained_ml"`
	Overflow      float64 `json:"overflow_ml"`
	Received      float64 `json:"received_ml"` // liquid that entered the vessel
}

// Add returns the sum of two counts.
func (c Count) Add(o Count) Count {
	return Count{
		Dispensed: c.Dispensed + o.Dispensed, Withdrawn: c.Withdrawn + o.Withdrawn,
		Doses: c.Doses + o.Doses, DosesDone: c.DosesDone + o.DosesDone, Stops: c.Stops + o.Stops,
		Moves: c.Moves + o.Moves, Travel: c.Travel + o.Travel, Exposures: c.Exposures + o.Exposures,
		Batches: c.Batches + o.Batches, Films: c.Films + o.Films, Scrap: c.Scrap + o.Scrap,
		HeaterStarts: c.HeaterStarts + o.HeaterStarts, HeaterOn: c.HeaterOn + o.HeaterOn,
		HeaterEnergy: c.HeaterEnergy + o.HeaterEnergy, StirrerStarts: c.StirrerStarts + o.StirrerStarts,
		Drains: c.Drains + o.Drains, Drained: c.Drained + o.Drained,
		Overflow: c.Overflow + o.Overflow, Received: c.Received + o.Received,
	}
}
