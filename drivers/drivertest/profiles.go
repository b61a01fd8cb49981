package drivertest

import (
	"time"

	"labgate/lab"
)

// Pump is the class of the test's pump: one command with an effect, one that
// is safe, one that repeats, and readings to see them by.
func Pump() *lab.Class {
	zero := lab.NumberValue(lab.Q(0, "mL"))
	still := lab.NumberValue(lab.Q(0, "mL/min"))
	return &lab.Class{
		Name: "pump/v1",
		Properties: []lab.Property{
			{Name: "rate", Type: number("mL/min"), MaxAge: 2 * time.Second},
			{Name: "dispensed", Type: number("mL"), MaxAge: 2 * time.Second},
			{Name: "running", Type: lab.Type{Kind: lab.Bool}, MaxAge: 2 * time.Second},
		},
		Commands: []lab.CommandSpec{
			{Name: "dose", Args: []lab.Param{{Name: "volume", Type: number("mL"), MoreThan: &zero}, {Name: "rate", Type: number("mL/min"), MoreThan: &still}},
				StopsWith: "stop", Gives: []lab.Param{{Name: "delivered", Type: number("mL")}}},
			{Name: "stop", Effect: lab.Safe, Within: 2 * time.Second},
		},
	}
}

// Stage is the class of the test's stage: idempotent moves on a line without
// addresses.
func Stage() *lab.Class {
	mm := number("mm")
	return &lab.Class{
		Name: "stage/v1",
		Properties: []lab.Property{
			{Name: "x", Type: mm, MaxAge: 2 * time.Second},
			{Name: "y", Type: mm, MaxAge: 2 * time.Second},
			{Name: "z", Type: mm, MaxAge: 2 * time.Second},
			{Name: "moving", Type: lab.Type{Kind: lab.Bool}, MaxAge: 2 * time.Second},
		},
		Commands: []lab.CommandSpec{
			{Name: "move", Effect: lab.Idempotent, StopsWith: "halt", Args: []lab.Param{{Name: "x", Type: mm}, {Name: "y", Type: mm}, {Name: "z", Type: mm}}},
			{Name: "halt", Effect: lab.Safe, Within: 2 * time.Second},
		},
	}
}

// SyringePump is a profile with a multi-drop line, addresses, a status in every
// reply, alarms, and a command of four messages whose last one begins the
// effect.
func SyringePump() *lab.Profile {
	const ok = "{addr:02d}{status}"
	ml, flow := unit("mL"), unit("mL/min")
	running := map[string]string{"I": "true", "W": "true", "T": "true", "U": "true", "S": "false", "P": "false"}
	return &lab.Profile{
		Name:       "test/syringe-pump@1",
		Components: []lab.Component{{Name: "pump", Class: Pump()}},
		Settings:   []lab.Setting{{Name: "diameter", Type: number("mm"), Required: true}},
		Link: lab.LinkSpec{Kind: lab.LinkSerial, Baud: 19200, SendEnd: "CR", ReplyEnd: []string{"STX", "ETX"},
			Gap: time.Millisecond, ReplyWithin: 100 * time.Millisecond},
		Init:     []lab.Exchange{{Send: "{addr:02d}DIA{diameter:4g}", Reply: ok}, {Send: "{addr:02d}VOLML", Reply: ok}},
		Identify: lab.Exchange{Send: "{addr:02d}VER", Reply: "{addr:02d}{status}NE{model}V{version}"},
		Properties: []lab.PropertyMap{
			{Component: "pump", Property: "rate", Unit: flow, Exchange: lab.Exchange{Send: "{addr:02d}RAT", Reply: "{addr:02d}{status}{value:f}MM"}},
			{Component: "pump", Property: "dispensed", Unit: ml, Exchange: lab.Exchange{Send: "{addr:02d}DIS", Reply: "{addr:02d}{status}I{value:f}W{withdrawn:f}ML"}},
			{Component: "pump", Property: "running", Map: running, Exchange: lab.Exchange{Send: "{addr:02d}", Reply: "{addr:02d}{value}"}},
		},
		Commands: []lab.CommandMap{
			{Component: "pump", Command: "dose", EffectAt: 4,
				Inputs: []lab.WireInput{{Arg: "volume", Unit: ml}, {Arg: "rate", Unit: flow}},
				Exchanges: []lab.Exchange{{Send: "{addr:02d}DIRINF", Reply: ok}, {Send: "{addr:02d}VOL{volume:4g}", Reply: ok},
					{Send: "{addr:02d}RAT{rate:4g}MM", Reply: ok}, {Send: "{addr:02d}RUN", Reply: "{addr:02d}I"}}},
			{Component: "pump", Command: "stop", Exchanges: []lab.Exchange{{Send: "{addr:02d}STP", Reply: ok}}},
		},
		Errors: []lab.ErrorMap{{Match: "A?R", Name: "device_reset"}, {Match: "A?S", Name: "stalled"}, {Match: "?NA", Name: "not_applicable"},
			{Match: "?OOR", Name: "out_of_range"}, {Match: "?", Name: "not_recognised"}},
	}
}

// StageController is a profile with one instrument a line, no addresses, and
// positions in steps of a tenth of a micrometre.
func StageController() *lab.Profile {
	um := unit("um")
	where := func(axis string) lab.Exchange {
		return lab.Exchange{Send: "W " + axis, Reply: ":A {value:f}"}
	}
	return &lab.Profile{
		Name:       "test/stage-controller@1",
		Components: []lab.Component{{Name: "xyz", Class: Stage()}},
		Link: lab.LinkSpec{Kind: lab.LinkSerial, Baud: 115200, SendEnd: "CR", ReplyEnd: []string{"CRLF"},
			ReplyWithin: 100 * time.Millisecond},
		Identify: lab.Exchange{Send: "V", Reply: ":A Version: {version}"},
		Properties: []lab.PropertyMap{
			{Component: "xyz", Property: "x", Unit: um, Scale: 0.1, Exchange: where("X")},
			{Component: "xyz", Property: "y", Unit: um, Scale: 0.1, Exchange: where("Y")},
			{Component: "xyz", Property: "z", Unit: um, Scale: 0.1, Exchange: where("Z")},
			{Component: "xyz", Property: "moving", Map: map[string]string{"B": "true", "N": "false"}, Exchange: lab.Exchange{Send: "/", Reply: "{value}"}},
		},
		Commands: []lab.CommandMap{
			{Component: "xyz", Command: "move", EffectAt: 1,
				Inputs:    []lab.WireInput{{Arg: "x", Unit: um, Scale: 0.1}, {Arg: "y", Unit: um, Scale: 0.1}, {Arg: "z", Unit: um, Scale: 0.1}},
				Exchanges: []lab.Exchange{{Send: "M X={x:d} Y={y:d} Z={z:d}", Reply: ":A"}}},
			{Component: "xyz", Command: "halt", Exchanges: []lab.Exchange{{Send: "\\", Reply: ":A"}}},
		},
		Errors: []lab.ErrorMap{{Match: ":N-1", Name: "unknown_command"}, {Match: ":N-2", Name: "unknown_axis"}, {Match: ":N-4", Name: "out_of_range"}, {Match: ":N-21", Name: "halted"}},
	}
}

func number(symbol string) lab.Type { return lab.Type{Kind: lab.Number, Unit: unit(symbol)} }

// unit is for symbols that this file spells out.
func unit(symbol string) lab.Unit { return lab.Q(0, symbol).Unit }
