// Command labgate stands between an AI and a laboratory: it takes proposed
// experiments off NATS, checks them against the laboratory's interlocks, runs
// them on real instruments, and returns measurements with an unbroken record.
//
// This package is commands and wiring, nothing else.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"unicode"

	"github.com/alecthomas/kong"
)

// Exit codes.
const (
	exitDone    = 0
	exitRefused = 1 // refused or failed
	exitUsage   = 2
)

type cli struct {
	JSON bool `name:"json" help:"For machines: one JSON object a line."`

	Demo       demoCmd       `cmd:"" help:"A simulated lab, gateway, runner and planner in one process: a closed loop of experiments."`
	Serve      serveCmd      `cmd:"" help:"The edge daemon: bus, gateway and runner of a lab."`
	Sim        simCmd        `cmd:"" help:"Only the simulated instruments, on real OPC UA, MQTT and serial."`
	Fault      faultCmd      `cmd:"" help:"Faults of a running simulator: what can go wrong, what has, and to make it so."`
	Probe      probeCmd      `cmd:"" help:"Connect to a lab's instruments, ask who they are, read everything and measure the way there; commands nothing."`
	Check      checkCmd      `cmd:"" help:"Check protocols, labs, profiles, classes, interlocks; connects to nothing."`
	Simulate   simulateCmd   `cmd:"" help:"A whole run on the twin, in virtual time."`
	Interlocks interlocksCmd `cmd:"" help:"For the safety officer: test, try, matrix, verify."`
	Schema     schemaCmd     `cmd:"" help:"JSON Schemas of files and messages, and of one protocol's inputs."`
	New        newCmd        `cmd:"" help:"Starters."`
	Submit     submitCmd     `cmd:"" help:"Propose a protocol, follow the run, print its measurements."`
	Runs       runsCmd       `cmd:"" help:"List runs, or show one; and what is latched or in doubt."`
	Export     exportCmd     `cmd:"" help:"Write a run's measurements, pictures and documents to a folder."`
	Stop       stopCmd       `cmd:"" help:"Emergency stop of all instruments, or of one. Latches until reset."`
	Reset      resetCmd      `cmd:"" help:"Clear a latch, with a reason."`
	Resolve    resolveCmd    `cmd:"" help:"Settle a command in doubt, with a reason."`
	Approve    approveCmd    `cmd:"" help:"Show what a run needs approval for, and approve exactly that."`
	Reject     rejectCmd     `cmd:"" help:"Reject a run that waits for approval, with a reason."`
	Cancel     cancelCmd     `cmd:"" help:"Take a run out of the queue, or end it in an orderly way."`
	Hold       holdCmd       `cmd:"" help:"Keep a run where it is, for a time; then it is aborted."`
	Resume     resumeCmd     `cmd:"" help:"Let a held run go on: held by a person, a trip (after the reset), a failed step, or a restart."`
	Abort      abortCmd      `cmd:"" help:"End a run through its cleanup and finally."`
	Answer     answerCmd     `cmd:"" help:"Answer a step that asks a person."`
	Trips      tripsCmd      `cmd:"" help:"What is tripped, bypassed and alarmed: since when, the inputs then and now."`
	Bypass     bypassCmd     `cmd:"" help:"Set a rule aside for a time, with a reason; or arm it again (--end)."`
	Reload     reloadCmd     `cmd:"" help:"Read the lab's interlocks again; a bad file changes nothing."`

	Acknowledge acknowledgeCmd `cmd:"" help:"Note that an alarm was seen."`

	Lots struct {
		List    lotsListCmd    `cmd:"" default:"withargs" help:"The lots, and what is left of each."`
		Add     lotsAddCmd     `cmd:"" help:"Register a lot."`
		Load    lotsLoadCmd    `cmd:"" help:"Say that a lot is in an instrument."`
		Unload  lotsUnloadCmd  `cmd:"" help:"Say that it is there no more."`
		Discard lotsDiscardCmd `cmd:"" help:"A lot is not to be used any more."`
	} `cmd:"" help:"What the instruments hold: lots, what is left, until when they are good."`
	Samples struct {
		List samplesListCmd `cmd:"" default:"withargs" help:"The samples, or where one has been."`
		Add  samplesAddCmd  `cmd:"" help:"Register a sample."`
		Move samplesMoveCmd `cmd:"" help:"Say where a sample is now."`
		Use  samplesUseCmd  `cmd:"" help:"A sample is used up."`
	} `cmd:"" help:"Samples, and where they are."`
	Calibrations struct {
		List calibrationsListCmd `cmd:"" default:"withargs" help:"The calibrations, and which are overdue."`
		Add  calibrationsAddCmd  `cmd:"" help:"Say that an instrument was calibrated."`
	} `cmd:"" help:"Calibrations of instruments, and until when they hold."`
	Queue struct {
		List   queueListCmd   `cmd:"" default:"withargs" help:"What waits, in order, and why."`
		Move   queueMoveCmd   `cmd:"" help:"Put a run that waits before another."`
		Remove queueRemoveCmd `cmd:"" help:"Take a run out of the queue, with a reason."`
	} `cmd:"" help:"The runs that wait to begin."`
	Keys struct {
		New keysNewCmd `cmd:"" help:"A principal with a key, listed in the data folder's access.yaml."`
	} `cmd:"" help:"Keys of principals."`
	PKI struct {
		Init  pkiInitCmd  `cmd:"" help:"This gateway's own key and certificate, or a user's (--user); never over one that is there."`
		Trust pkiTrustCmd `cmd:"" help:"Trust a server's certificate."`
		List  pkiListCmd  `cmd:"" default:"withargs" help:"The certificates: this gateway's, trusted, rejected."`
	} `cmd:"" name:"pki" help:"OPC UA certificates: who this gateway is, and whom it trusts."`
	Journal struct {
		Verify journalVerifyCmd `cmd:"" help:"Check the journal's chain."`
		Show   journalShowCmd   `cmd:"" help:"Read the journal."`
		Export journalExportCmd `cmd:"" help:"Write the journal as lines that prove themselves."`

		Backup  journalBackupCmd  `cmd:"" help:"Copy the record to a new folder and check it, also while the station runs."`
		Restore journalRestoreCmd `cmd:"" help:"Make a data folder of a back-up; every instrument is latched then."`
	} `cmd:"" help:"The append-only record."`
}

// app is what every command gets.
type app struct {
	ctx  context.Context
	json bool
	out  io.Writer
	err  io.Writer
}

// errRefused ends a command with exit code 1 when everything was said already.
var errRefused = errors.New("refused")

// errUsage marks wrong use, for exit code 2.
var errUsage = errors.New("wrong use")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns its exit code.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	var c cli
	type exit int
	parser, err := kong.New(&c, kong.Name("labgate"), kong.Writers(stdout, stderr),
		kong.Description("The gate between an AI and a laboratory. Not a safety instrumented system; never instead of a hard-wired emergency stop."),
		kong.UsageOnError(), kong.Exit(func(n int) { panic(exit(n)) }))
	if err != nil {
		fmt.Fprintln(stderr, "labgate:", err)
		return exitUsage
	}
	defer func() { // --help ends here
		if p := recover(); p != nil {
			n, ok := p.(exit)
			if !ok {
				panic(p)
			}
			code = int(n)
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(stderr, "labgate:", err)
		fmt.Fprintln(stderr, "try: labgate --help")
		return exitUsage
	}
	err = k.Run(&app{ctx, c.JSON, plainWriter{stdout}, stderr})
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errUsage):
		fmt.Fprintln(stderr, "labgate:", err)
		return exitUsage
	case !errors.Is(err, errRefused):
		fmt.Fprintln(plainWriter{stderr}, "labgate:", err)
	}
	return exitRefused
}

// line prints one JSON object.
func (a *app) line(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = fmt.Appendf(nil, `{"type":"error","say":%q}`, err.Error())
	}
	fmt.Fprintln(a.out, string(b))
}

// plainWriter shows text from instruments and agents as text: whatever is no
// visible character, an escape sequence above all, becomes U+FFFD.
type plainWriter struct{ w io.Writer }

func (p plainWriter) Write(b []byte) (int, error) {
	clean := bytes.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, b)
	if _, err := p.w.Write(clean); err != nil {
		return 0, err
	}
	return len(b), nil
}

// say prints for people, and nothing for machines.
func (a *app) say(format string, args ...any) {
	if !a.json {
		fmt.Fprintln(a.out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
	}
}

// log is a line beside the result, for people.
func (a *app) log(s string) {
	if !a.json {
		fmt.Fprintln(plainWriter{a.err}, "  "+strings.TrimRight(s, " "))
	}
}

func sortedNames[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
