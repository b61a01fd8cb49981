package main

import (
	"errors"
	"fmt"
	"time"

	"labgate/lab"
	"labgate/messages"
	"labgate/report"
)

// stockList asks for lots, samples and calibrations.
func (c client) stockList(a *app) (*messages.Stock, error) {
	s, err := c.connect(a.ctx, "operator_1")
	if err != nil {
		return nil, err
	}
	defer s.Close()
	r, err := s.control(a.ctx, messages.Control{Action: messages.ControlStock})
	if err == nil && (!r.OK || r.Stock == nil) {
		err = errors.New(r.Say)
	}
	return r.Stock, err
}

// stockChange asks for one change.
func (c client) stockChange(a *app, reason string, change messages.StockChange) error {
	return c.ask(a, messages.Control{Action: messages.ControlStockChange, Reason: reason, Stock: &change})
}

type lotsListCmd struct{ client }

// Run lists the lots.
func (c *lotsListCmd) Run(a *app) error {
	stock, err := c.stockList(a)
	if err != nil {
		return err
	}
	if !a.json {
		return report.Lots(a.out, stock.Lots, time.Now())
	}
	for _, l := range stock.Lots {
		a.line(struct {
			Type string `json:"type"`
			messages.Lot
		}{"lot", l})
	}
	a.line(map[string]any{"type": "summary", "lots": len(stock.Lots)})
	return nil
}

type lotsAddCmd struct {
	client
	ID            string `arg:"" help:"Its id, as on the label."`
	Substance     string `arg:"" help:"What it is, as in the lab's file (holds: substance)."`
	Amount        string `arg:"" help:"How much, as in '50 mL'."`
	Concentration string `help:"As in '1 mmol/L'." placeholder:"QUANTITY"`
	Expires       string `help:"As in 2027-06-30 or 2027-06-30T12:00:00Z: not to be used from then on." placeholder:"TIME"`
	Reason        string `help:"Why." default:"labgate lots add"`
}

// Run registers a lot.
func (c *lotsAddCmd) Run(a *app) error {
	l := &messages.Lot{ID: c.ID, Substance: c.Substance}
	var err error
	if l.Amount, err = lab.ParseQuantity(c.Amount); err != nil {
		return fmt.Errorf("amount: %w", err)
	}
	if c.Concentration != "" {
		q, err := lab.ParseQuantity(c.Concentration)
		if err != nil {
			return fmt.Errorf("concentration: %w", err)
		}
		l.Concentration = &q
	}
	if c.Expires != "" {
		at, err := parseWhen(c.Expires)
		if err != nil {
			return fmt.Errorf("expires: %w", err)
		}
		l.Expires = &at
	}
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.LotAdd, Lot: l})
}

// parseWhen reads a date, which begins at midnight UTC, or an instant.
func parseWhen(s string) (time.Time, error) {
	if at, err := time.Parse(time.DateOnly, s); err == nil {
		return at, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, fmt.Errorf("%q is no date, as in 2027-06-30 or 2027-06-30T12:00:00Z", s)
	}
	return at.UTC(), nil
}

type lotsLoadCmd struct {
	client
	ID         string `arg:"" help:"The lot."`
	Instrument string `arg:"" help:"The instrument that it is in now."`
	Reason     string `help:"Why." default:"labgate lots load"`
}

// Run says that a lot is in an instrument.
func (c *lotsLoadCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.LotLoad, ID: c.ID, Instrument: c.Instrument})
}

type lotsUnloadCmd struct {
	client
	ID     string `arg:"" help:"The lot."`
	Reason string `help:"Why." default:"labgate lots unload"`
}

// Run says that a lot is in no instrument any more.
func (c *lotsUnloadCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.LotUnload, ID: c.ID})
}

type lotsDiscardCmd struct {
	client
	ID     string `arg:"" help:"The lot."`
	Reason string `help:"Why." required:""`
}

// Run says that a lot is not to be used any more.
func (c *lotsDiscardCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.LotDiscard, ID: c.ID})
}

type samplesListCmd struct {
	client
	ID string `arg:"" optional:"" help:"Only this one, and where it has been."`
}

// Run lists samples, or where one has been.
func (c *samplesListCmd) Run(a *app) error {
	stock, err := c.stockList(a)
	if err != nil {
		return err
	}
	list := stock.Samples
	if c.ID != "" {
		var names []string
		list = nil
		for _, x := range stock.Samples {
			if names = append(names, x.ID); x.ID == c.ID {
				list = []messages.Sample{x}
			}
		}
		if list == nil {
			hint := ""
			if near := lab.Nearest(c.ID, names); near != "" {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			return fmt.Errorf("there is no sample %q%s", c.ID, hint)
		}
	}
	if !a.json {
		return report.Samples(a.out, list, c.ID != "")
	}
	for _, x := range list {
		a.line(struct {
			Type string `json:"type"`
			messages.Sample
		}{"sample", x})
	}
	a.line(map[string]any{"type": "summary", "samples": len(list)})
	return nil
}

type samplesAddCmd struct {
	client
	ID     string `arg:"" help:"Its id, as on the label."`
	At     string `help:"The place where it is." placeholder:"PLACE"`
	About  string `help:"What it is." placeholder:"TEXT"`
	Reason string `help:"Why." default:"labgate samples add"`
}

// Run registers a sample.
func (c *samplesAddCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.SampleAdd, Sample: &messages.Sample{ID: c.ID, At: c.At, About: c.About}})
}

type samplesMoveCmd struct {
	client
	ID     string `arg:"" help:"The sample."`
	Place  string `arg:"" help:"The place where it is now."`
	Reason string `help:"Why." default:"labgate samples move"`
}

// Run says where a sample is now.
func (c *samplesMoveCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.SampleMove, ID: c.ID, Place: c.Place})
}

type samplesUseCmd struct {
	client
	ID     string `arg:"" help:"The sample."`
	Reason string `help:"What became of it." required:""`
}

// Run says that a sample is not there any more.
func (c *samplesUseCmd) Run(a *app) error {
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.SampleUse, ID: c.ID})
}

type calibrationsListCmd struct{ client }

// Run lists the calibrations, and which are overdue.
func (c *calibrationsListCmd) Run(a *app) error {
	stock, err := c.stockList(a)
	if err != nil {
		return err
	}
	if !a.json {
		return report.Calibrations(a.out, stock.Calibrations, time.Now())
	}
	for _, x := range stock.Calibrations {
		a.line(struct {
			Type string `json:"type"`
			messages.Calibrated
		}{"calibration", x})
	}
	a.line(map[string]any{"type": "summary", "calibrations": len(stock.Calibrations)})
	return nil
}

type calibrationsAddCmd struct {
	client
	ID         string `arg:"" help:"The id of the certificate or the report."`
	Instrument string `arg:"" help:"The instrument."`
	Until      string `help:"As in 2027-06-30: what is measured from then on is uncertain." required:"" placeholder:"TIME"`
	Property   string `help:"Of this property only, as in jacket.temperature." placeholder:"NAME"`
	Reason     string `help:"Why." default:"labgate calibrations add"`
}

// Run says that an instrument was calibrated.
func (c *calibrationsAddCmd) Run(a *app) error {
	until, err := parseWhen(c.Until)
	if err != nil {
		return fmt.Errorf("until: %w", err)
	}
	return c.stockChange(a, c.Reason, messages.StockChange{What: messages.Calibration, Calibrated: &messages.Calibrated{ID: c.ID, Instrument: c.Instrument, Property: c.Property, Until: until}})
}
