package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"labgate/configs"
	"labgate/messages"
	"labgate/protocols"
)

type schemaCmd struct {
	Kind     string `arg:"" help:"protocol, lab, profile, class, interlocks or proposal; or inputs, for those of one protocol."`
	Protocol string `arg:"" optional:"" help:"With inputs: a protocol file, or the name of a built-in one."`
}

// schemas are the published JSON Schemas, by the kind of file or message.
var schemas = map[string][]byte{
	"protocol": protocols.Schema, "lab": configs.LabSchema, "profile": configs.ProfileSchema, "class": configs.ClassSchema, "access": configs.AccessSchema,
	"interlocks": configs.InterlocksSchema, "proposal": messages.ProposalSchema,
}

// Run prints a JSON Schema, for editors, forms and tools.
func (c *schemaCmd) Run(a *app) error {
	if c.Kind != "inputs" {
		if c.Protocol != "" {
			return fmt.Errorf("%w: schema %s takes nothing more; %q is too much", errUsage, c.Kind, c.Protocol)
		}
		data, ok := schemas[c.Kind]
		if !ok {
			return fmt.Errorf("%w: there is no schema %q: one of %s, inputs", errUsage, c.Kind, strings.Join(sortedNames(schemas), ", "))
		}
		_, err := a.out.Write(data)
		return err
	}
	if c.Protocol == "" {
		return fmt.Errorf("%w: schema inputs needs a protocol: a file, or one of %s", errUsage, strings.ReplaceAll(strings.Join(sortedNames(protocols.Library()), ", "), ".yaml", ""))
	}
	_, p, err := loadProtocol(c.Protocol, "")
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(p.InputSchema(), "", " ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, string(data))
	return err
}

type newCmd struct {
	Protocol newProtocolCmd `cmd:"" help:"A commented starter that passes check."`
}

type newProtocolCmd struct {
	Name string `arg:"" help:"As in gold-nanoparticles; the file is NAME.yaml."`
}

// Run writes the file, never over another one.
func (c *newProtocolCmd) Run(a *app) error {
	if !protocols.ValidName(c.Name) {
		return fmt.Errorf("%w: %q does not name a protocol: lower-case letters, digits and dashes, as in gold-nanoparticles", errUsage, c.Name)
	}
	text := strings.Replace(starter, "NAME", c.Name, 1)
	file, err := os.OpenFile(c.Name+".yaml", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s.yaml is there already; nothing is written", c.Name)
	}
	if err != nil {
		return err
	}
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	a.say("%s.yaml is written; now: labgate check %s.yaml, labgate simulate %s.yaml", c.Name, c.Name, c.Name)
	if a.json {
		a.line(map[string]string{"type": "new", "file": c.Name + ".yaml"})
	}
	return nil
}

// starter is a small protocol that runs on the demo lab.
const starter = `# yaml-language-server: $schema=./protocol.schema.json
# (labgate schema protocol > protocol.schema.json makes it: your editor then completes and checks as you write)
protocol: NAME
version: 1.0.0                      # a version never changes its content: give a new one with each change
lab: demo                           # where check and simulate look if they are not told another
about: Warm a stirred vessel, add a reagent in portions, take a picture. Say here what it is for, and what it stands on.

inputs:                             # what a proposal gives; the bounds are part of the promise
  temperature: {unit: degC, min: 25, max: 80, default: 40}
  portion:     {unit: mL, min: 0.01, max: 0.05, default: 0.02}
  portions:    {type: integer, min: 1, max: 5, default: 3}

roles:                              # what is needed, never which box
  reactor: {is: [thermostat/v1, stirrer/v1, vessel/v1]}
  reagent: {is: pump/v1}
  camera:  {is: camera/v1}

limits:                             # may only tighten the lab's own; the gateway enforces them during this run
  - reactor.temperature <= 90 degC

budget: {time: 10 min, exposures: 3}

outputs:
  last_portion: {unit: mL, from: feed.last.add.delivered, required: true}
  image:        {image: true, from: look.image}

steps:
  - {id: stir, do: reactor.stir, with: {speed: 300 rpm}}
  - {id: warm, do: reactor.heat, with: {target: = temperature}}
  - id: steady                      # every wait has a timeout, so that the worst case is known
    wait: {until: abs(reactor.temperature - temperature) < 1 K, for: 1 s, timeout: 2 min}
  - id: feed                        # every loop has a max
    repeat: {max: 5, every: 1 s, until: i >= portions}
    steps:
      - {id: add, do: reagent.dose, with: {volume: = portion, rate: 3 mL/min}, gives: {delivered: delivered}}
  - {id: look, do: camera.capture, with: {exposure: 20 ms}, gives: {image: frame}, on_error: {retry: 2, then: skip}}

finally:                            # always carried out, also after an abort; safe commands only
  - {do: reagent.stop}
  - {do: reactor.heat_off}
`
