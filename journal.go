package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"labgate/internal/journal"
	"labgate/lab"
	"labgate/messages"
	"labgate/report"
	"labgate/safety"
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

type journalBackupCmd struct {
	To   string `arg:"" help:"A new folder."`
	Data string `help:"The data folder." default:"labgate-data/demo"`
	Keys bool   `help:"With keys/ and access.yaml: whoever has the back-up can then act as anybody in it."`
}

// Run makes a checked copy of the record, also while the station runs.
func (c *journalBackupCmd) Run(a *app) error {
	var also []string
	if c.Keys {
		also = []string{"keys", "access.yaml"}
	}
	info, err := journal.Backup(a.ctx, c.Data, c.To, clockAndIDs.clock.Now(), also...)
	if err != nil {
		return err
	}
	if a.json {
		a.line(info)
	}
	a.say("%s: %d entries of %s, %d blobs, checked; head %s", c.To, info.Entries, info.Lab, info.Blobs, info.Head)
	return nil
}

type journalRestoreCmd struct {
	From   string `arg:"" help:"The back-up."`
	To     string `arg:"" help:"The data folder that is made of it; it must not be there, or be empty."`
	Reason string `help:"Why: it goes on record." required:""`
}

// Run makes a data folder of a back-up. What was done since the back-up is on no
// record: every instrument is latched until a person has looked and reset that.
func (c *journalRestoreCmd) Run(a *app) error {
	info, err := journal.Restore(a.ctx, c.From, c.To, func(info journal.BackupInfo) []lab.Entry {
		now := clockAndIDs.clock.Now()
		say := fmt.Sprintf("restored from the back-up of %s, of %d entries (%s): what was done after that is not on record", info.Time.UTC().Format(time.RFC3339), info.Entries, c.Reason)
		boot := newID()
		return []lab.Entry{
			{Kind: "restored/v1", Time: now, Origin: "restore", OriginSeq: 1, Boot: boot, Principal: "local", Body: messages.Body(map[string]any{"backup": info, "reason": c.Reason})},
			{Kind: "stop/v1", Time: now, Origin: "restore", OriginSeq: 2, Boot: boot, Principal: "local", Body: messages.Body(map[string]any{
				"latch": safety.Latch{Rule: "stop", Group: "stop", Since: now, FirstOut: true, Say: say}, "principal": "local", "reason": c.Reason})},
		}
	})
	if err != nil {
		return err
	}
	if a.json {
		a.line(info)
	}
	a.say("%s: %d entries of %s, checked; head of the back-up %s", c.To, info.Entries, info.Lab, info.Head)
	a.say("  Every instrument is latched. Start the station there, look at each instrument, settle what is in doubt,")
	a.say("  then: labgate reset stop --reason \"…\"")
	return nil
}
