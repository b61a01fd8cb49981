package main

import (
	"errors"
	"io"
	"os"

	"labgate/internal/journal"
	"labgate/lab"
	"labgate/report"
)

type journalVerifyCmd struct {
	Dir string `arg:"" optional:"" help:"The data folder, or a file that journal export wrote; - reads one." default:"labgate-data/demo"`
	Key string `help:"The public key by which the newest checkpoint must be signed." placeholder:"U…"`
}

// Run checks the chain, and who signed for it.
func (c *journalVerifyCmd) Run(a *app) error {
	rep, err := c.check(a)
	if err != nil {
		return err
	}
	if rep.OK && c.Key != "" {
		if err := rep.SignedBy(c.Key); err != nil {
			rep.OK, rep.Problem = false, err.Error()
		}
	}
	if a.json {
		a.line(rep)
	} else if rep.OK {
		a.say("the journal is whole: %d entries, head %s", rep.Entries, rep.Head)
		for _, s := range rep.Signers {
			a.say("  signed by %s up to entry %d (checkpoints: %d)", s.Key, s.Through, s.Checkpoints)
		}
	}
	if !rep.OK {
		return errors.New(rep.Problem)
	}
	return nil
}

func (c *journalVerifyCmd) check(a *app) (journal.Report, error) {
	if c.Dir == "-" {
		return journal.VerifyExport(os.Stdin)
	}
	if st, err := os.Stat(c.Dir); err != nil || st.IsDir() {
		return journal.Verify(a.ctx, c.Dir)
	}
	f, err := os.Open(c.Dir)
	if err != nil {
		return journal.Report{}, err
	}
	rep, err := journal.VerifyExport(f)
	return rep, errors.Join(err, f.Close())
}

type journalExportCmd struct {
	Dir string `arg:"" optional:"" help:"The data folder." default:"labgate-data/demo"`
	Out string `short:"o" help:"A new file; without it the lines are printed." placeholder:"FILE"`
}

// Run writes the whole journal as lines that prove themselves.
func (c *journalExportCmd) Run(a *app) error {
	var w io.Writer = a.out
	var f *os.File
	if c.Out != "" {
		var err error
		if f, err = os.OpenFile(c.Out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644); err != nil {
			return err
		}
		w = f
	}
	rep, err := journal.Export(a.ctx, c.Dir, w)
	if f != nil {
		err = errors.Join(err, f.Sync(), f.Close())
	}
	switch {
	case err != nil:
		return err
	case !rep.OK:
		return errors.New(rep.Problem)
	case f != nil:
		a.say("%s: %d entries, head %s", c.Out, rep.Entries, rep.Head)
	}
	return nil
}

type journalShowCmd struct {
	Dir        string `arg:"" optional:"" help:"The data folder." default:"labgate-data/demo"`
	Run_       string `name:"run" help:"Only of this run."`
	Instrument string `help:"Only of this instrument."`
	Principal  string `help:"Only of this principal."`
	Kind       string `help:"Only of this kind (outcome, trip, verdict, …)."`
}

// Run prints entries, oldest first.
func (c *journalShowCmd) Run(a *app) error {
	f := journal.Filter{Run: c.Run_, Instrument: c.Instrument, Principal: c.Principal, Kind: c.Kind}
	return journal.Show(a.ctx, c.Dir, f, func(r lab.Ref, e lab.Entry) error {
		if a.json {
			a.line(struct {
				lab.Ref
				lab.Entry
			}{r, e})
			return nil
		}
		return report.Entry(a.out, r, e)
	})
}
