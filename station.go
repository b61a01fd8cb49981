package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"labgate/configs"
	"labgate/drivers"
	"labgate/drivers/mqtt"
	"labgate/drivers/opcua"
	"labgate/drivers/serial"
	gatewayservice "labgate/gateway/service"
	"labgate/internal/bus"
	"labgate/internal/journal"
	"labgate/internal/wall"
	"labgate/lab"
	"labgate/lab/frame"
	"labgate/messages"
	"labgate/protocols"
	"labgate/runner"
	runnerservice "labgate/runner/service"
	"labgate/safety"
	"labgate/safety/preflight"
)

// station is one process's worth of Labgate: the bus, the journal, one gateway
// and the runner.
type station struct {
	cfg     *configs.Config
	dir     string // the lab's, as the user typed it
	data    folder
	clock   lab.Clock
	ids     lab.IDs
	server  *bus.Server
	journal *journal.Journal
	gateway *gatewayservice.Service
	runner  *runnerservice.Service
	context stationContext
	close   []func() error // in the order of opening; closed backwards
}

// stationOptions say what a station is made of.
type stationOptions struct {
	Config *configs.Config
	Dir    string // the lab's folder, or the name of a built-in one: where its rules are read again
	Data   folder
	// Sim resolves the addresses of simulated instruments; nil: by the folder's
	// sim.json, where another process has written it.
	Sim func(name string) (string, error)
	Log func(string)
}

// checkPatience is how long a start waits for the check of a long journal
// before it brings the instruments to their on_start. Effects wait for its end.
const checkPatience = time.Second

// ballast is the room that is kept for what must still be recorded when the
// disk is full: some ten thousand outcomes, and what SQLite needs around them.
const ballast = 16 << 20

// openStation opens everything and moves nothing.
func openStation(ctx context.Context, o stationOptions) (*station, error) {
	s := &station{cfg: o.Config, dir: o.Dir, data: o.Data, clock: wall.Clock{}, ids: wall.NewIDs()}
	if err := s.open(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *station) open(ctx context.Context, o stationOptions) error {
	if err := s.data.make(); err != nil {
		return err
	}
	name := gatewayName(s.cfg.Lab)
	key := func() (string, func([]byte) ([]byte, error), error) {
		seed, err := s.data.seed("gateway_"+name, true)
		if err != nil {
			return "", nil, err
		}
		return bus.SignerOf(seed)
	}
	j, err := journal.Open(ctx, journal.Options{Dir: string(s.data), Lab: s.cfg.Lab.Name, Patience: checkPatience, Key: key, Ballast: ballast, Log: o.Log})
	if err != nil {
		return err
	}
	s.journal = j
	s.close = append(s.close, j.Close)
	access, err := s.data.access(s.cfg)
	if err != nil {
		return err
	}
	if err := s.openBus(ctx, access, name); err != nil {
		return err
	}
	if err := s.openGateway(ctx, o, access, name); err != nil {
		return err
	}
	return s.openRunner(ctx, o, access)
}

// gatewayName is the gateway of this process: for now a lab has one.
func gatewayName(l *lab.Lab) string {
	if len(l.Instruments) == 0 {
		return "main"
	}
	return l.Instruments[0].Gateway
}

// openBus starts the embedded server, on the ports of the last time if they
// are free, so that whoever was connected comes back by itself.
func (s *station) openBus(ctx context.Context, access configs.Access, gw string) error {
	opts := bus.ServerOptions{Lab: s.cfg.Lab.Name, StoreDir: s.data.path("nats"), Port: -1, MQTTPort: -1, Gateways: map[string]string{}, MQTTUsers: map[string]string{}}
	for _, part := range []string{"runner", "gateway_" + gw} {
		seed, err := s.data.seed(part, true)
		if err != nil {
			return err
		}
		pub, err := bus.PublicKey(seed)
		if err != nil {
			return err
		}
		if part == "runner" {
			opts.RunnerKey = pub
		} else {
			opts.Gateways[gw] = pub
		}
	}
	if s.cfg.Lab.Simulated {
		seed, err := s.data.seed(simulatorName, true)
		if err != nil {
			return err
		}
		if opts.SimKey, err = bus.PublicKey(seed); err != nil {
			return err
		}
	}
	for _, p := range access.Principals {
		opts.Principals = append(opts.Principals, bus.Principal{Name: p.Name, Role: string(p.Role), Key: p.Key})
	}
	pass, err := s.data.mqttPassword()
	if err != nil {
		return err
	}
	opts.MQTTUsers["devices"] = pass
	if !s.cfg.NATS.Embedded {
		return fmt.Errorf("lab %s names an existing NATS cluster; this version runs with its embedded server only: write nats: {embedded: {}}", s.cfg.Lab.Name)
	}
	opts.Port, opts.MQTTPort = orAny(s.cfg.NATS.Port), orAny(s.cfg.NATS.MQTTPort)
	last, err := s.data.readContext()
	if err == nil {
		again := opts
		again.Port, again.MQTTPort = keepPort(opts.Port, last.Server), keepPort(opts.MQTTPort, last.MQTT)
		s.server, err = bus.StartServer(ctx, again)
	}
	if s.server == nil {
		s.server, err = bus.StartServer(ctx, opts)
	}
	if err != nil {
		return err
	}
	s.close = append(s.close, func() error { s.server.Shutdown(); return nil })
	s.context = stationContext{Lab: s.cfg.Lab.Name, Gateway: gw, Server: s.server.URL(), MQTT: s.server.MQTTURL(), MQTTUser: "devices", MQTTPassword: pass,
		Control: absolute(s.data.path("control.sock")), PID: os.Getpid()}
	return s.data.writeContext(s.context)
}

func orAny(port int) int {
	if port == 0 {
		return -1
	}
	return port
}

// keepPort is the port of an old URL where any port will do.
func keepPort(want int, url string) int {
	var port int
	if i := strings.LastIndexByte(url, ':'); want == -1 && i >= 0 {
		if _, err := fmt.Sscanf(url[i+1:], "%d", &port); err == nil && port > 0 {
			return port
		}
	}
	return want
}

func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}

// connect is a part's own connection, within the process.
func (s *station) connect(ctx context.Context, part string, log func(string)) (*bus.Conn, error) {
	seed, err := s.data.seed(part, true)
	if err != nil {
		return nil, err
	}
	c, err := bus.Connect(ctx, bus.ConnOptions{Server: s.server, Seed: seed, Name: part, Lab: s.cfg.Lab.Name, OnDown: func(err error) {
		if ctx.Err() == nil {
			log(fmt.Sprintf("%s: bus: %v", part, err))
		}
	}})
	if err == nil {
		s.close = append(s.close, func() error { c.Close(); return nil })
	}
	return c, err
}

func (s *station) openGateway(ctx context.Context, o stationOptions, access configs.Access, name string) error {
	conn, err := s.connect(ctx, "gateway_"+name, o.Log)
	if err != nil {
		return err
	}
	roles, vetted := map[string]string{}, map[string]time.Time{}
	for _, p := range access.Principals {
		roles[p.Name], vetted[p.Name] = string(p.Role), p.Vetted.Until
	}
	startWithin := s.cfg.StartWithin
	s.gateway, err = gatewayservice.New(ctx, gatewayservice.Options{
		Lab: s.cfg.Lab, Name: name, Rules: s.cfg.Rules, StartBy: s.clock.Now().Add(startWithin), Encodable: encodable(s.cfg.Lab),
		Clock: s.clock, IDs: s.ids, Bus: conn, Journal: s.journal, Blobs: journal.NewBlobs(string(s.data)), Snapshots: journal.NewSnapshots(string(s.data)),
		Openers:       openers(),
		Address:       s.data.addresses(o.Sim, func() (stationContext, error) { return s.context, nil }),
		Role:          func(p string) string { return roles[p] },
		Vetted:        func(p string) time.Time { return vetted[p] },
		LoadRules:     s.loadRules,
		ControlSocket: s.data.path("control.sock"), Log: o.Log})
	return err
}

// openers make the links of every wire.
func openers() map[lab.LinkKind]drivers.Opener {
	return map[lab.LinkKind]drivers.Opener{lab.LinkSerial: serial.Open, lab.LinkOPCUA: opcua.Open, lab.LinkMQTT: mqtt.Open}
}

// addresses resolves what a lab file leaves open: "sim:" names, by sim or else by
// the folder's simulator, and the broker of the station in the folder.
func (f folder) addresses(sim func(string) (string, error), station func() (stationContext, error)) func(*lab.Instrument) (map[string]string, error) {
	if sim == nil {
		sim = f.simAddress
	}
	return func(in *lab.Instrument) (map[string]string, error) {
		link := map[string]string{}
		for k, v := range in.Link {
			if name, ok := strings.CutPrefix(v, "sim:"); ok {
				a, err := sim(name)
				if err != nil {
					return nil, lab.E("address", in.Name, lab.KindUnavailable, err)
				}
				v = a
			}
			link[k] = v
		}
		if err := f.credentials(in, link); err != nil {
			return nil, err
		}
		switch link["broker"] {
		case "":
		case "embedded":
			st, err := station()
			if err != nil {
				return nil, lab.E("address", in.Name, lab.KindUnavailable, fmt.Errorf("its broker is the station's, and none runs here: %w", err))
			}
			link["url"], link["user"], link["password"] = st.MQTT, st.MQTTUser, st.MQTTPassword
		default:
			link["url"] = link["broker"]
		}
		return link, nil
	}
}

func (s *station) openRunner(ctx context.Context, o stationOptions, access configs.Access) error {
	conn, err := s.connect(ctx, "runner", o.Log)
	if err != nil {
		return err
	}
	library, issues := loadLibrary(s.cfg)
	if len(issues) > 0 {
		return issues
	}
	for _, name := range sortedNames(access.Approvals.Protocols) { // a slip of the pen would let it run unapproved
		if !slices.ContainsFunc(library, func(p *protocols.Protocol) bool { return p.Name == name }) {
			return fmt.Errorf("the access file says that %q needs approval; there is no protocol of that name", name)
		}
	}
	var principals []runner.Principal
	for _, p := range access.Principals {
		principals = append(principals, runner.Principal{Name: p.Name, Role: string(p.Role), Until: p.Vetted.Until, Inline: p.May.Inline != configs.InlineNo,
			InlineApproved: p.May.Inline == configs.InlineNeedsApproval, Priority: p.May.Priority, Protocols: p.May.Protocols,
			Rate: runner.Rate{N: p.May.Proposals.N, Per: p.May.Proposals.Per}})
	}
	core := runner.Options{Lab: s.cfg.Lab, Classes: s.cfg.Classes, Library: library, Principals: principals, RulesHash: s.cfg.Rules.Hash,
		Preflight: preflight.With(s.cfg.Rules), IDs: s.ids, Approvals: approvalsOf(access.Approvals)}
	s.runner, err = runnerservice.New(ctx, runnerservice.Options{Core: core, Lab: s.cfg.Lab, Clock: s.clock, IDs: s.ids, Bus: conn, Journal: s.journal,
		Snapshots: journal.NewSnapshots(string(s.data)), Log: o.Log,
		LoadRules: func() (runner.Rules, error) {
			rules, err := s.loadRules()
			if err != nil {
				return runner.Rules{}, err
			}
			return runner.Rules{Hash: rules.Hash, Preflight: preflight.With(rules)}, nil
		}})
	return err
}

// approvalsOf is the policy as the runner takes it.
func approvalsOf(a configs.Approvals) runner.Approvals {
	terms := func(t configs.Terms) runner.Terms {
		x := runner.Terms{Persons: t.Persons, Within: t.Within}
		for _, role := range t.By {
			x.By = append(x.By, string(role))
		}
		return x
	}
	x := runner.Approvals{Inline: terms(a.Inline), Protocols: map[string]runner.Terms{}}
	for name, t := range a.Protocols {
		x.Protocols[name] = terms(t)
	}
	return x
}

// loadRules reads the lab's interlocks again.
func (s *station) loadRules() (*safety.Rules, error) {
	folder, err := labFolder(s.dir)
	if err != nil {
		return nil, err
	}
	return s.cfg.ReloadRules(folder)
}

// encodable says whether a serial instrument's line can carry a command's
// values exactly. Each profile is compiled once.
func encodable(l *lab.Lab) func(*lab.Instrument, *lab.Command) error {
	codecs := map[*lab.Profile]*frame.Codec{}
	for _, in := range l.Instruments {
		if in.Profile.Link.Kind == lab.LinkSerial && codecs[in.Profile] == nil {
			codecs[in.Profile], _ = frame.Compile(in.Profile) // nil: said when it is asked
		}
	}
	return func(in *lab.Instrument, cmd *lab.Command) error {
		if c := codecs[in.Profile]; c != nil {
			return c.Encodable(in, cmd)
		}
		return frame.Encodable(in, cmd)
	}
}

// loadLibrary parses the built-in protocols and the lab's own.
func loadLibrary(cfg *configs.Config) ([]*protocols.Protocol, lab.Issues) {
	return protocols.Load(cfg.Classes, finderOf(cfg), protocols.Library(), cfg.ProtocolFiles)
}

// finderOf finds protocols that others use: the built-in ones, the lab's own,
// and those that lie beside a file.
func finderOf(cfg *configs.Config, beside ...string) protocols.Finder {
	files := protocols.Library()
	maps.Copy(files, cfg.ProtocolFiles)
	for _, file := range beside {
		names, err := filepath.Glob(filepath.Join(filepath.Dir(file), "*.yaml"))
		if err != nil {
			continue // a folder whose name is a pattern: nothing is beside the file
		}
		for _, n := range names {
			if data, err := readBounded(n); err == nil && n != file {
				files[n] = data
			}
		}
	}
	return protocols.Files(files)
}

// run works until ctx is done.
func (s *station) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make(chan error, 3)
	for _, part := range []func(context.Context) error{s.gateway.Run, s.runner.Run} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer cancel() // one without the other is no station
			if err := part(ctx); err != nil {
				errs <- err
			}
		}()
	}
	wg.Add(1)
	go func() {
		defer wg.Done()
		if err := s.journal.Checked(ctx); err != nil && ctx.Err() == nil {
			errs <- err
			cancel()
		}
	}()
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// Close closes what was opened, last first.
func (s *station) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	return errors.Join(errs...)
}

// waitReady waits until the gateway says that every instrument answers.
func (s *station) waitReady(ctx context.Context, progress func(string)) error {
	last := ""
	if err := s.journal.Checked(ctx); err != nil {
		return err
	}
	patience := time.Now().Add(time.Second) // most labs are ready before anybody asks why not
	for {
		st, err := localStatus(ctx, s.context.Control)
		say := "the gateway is starting"
		if err == nil {
			if st.Ready {
				return nil
			}
			say = notReady(st)
		}
		if say != last && progress != nil && time.Now().After(patience) {
			progress(say)
			patience = time.Now().Add(time.Second)
		}
		last = say
		select {
		case <-ctx.Done():
			return fmt.Errorf("the lab is not ready: %s", last)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// localStatus asks a gateway over its control socket.
func localStatus(ctx context.Context, socket string) (*messages.Status, error) {
	var r messages.ControlReply
	err := gatewayservice.AskLocal(ctx, socket, messages.Control{Kind: messages.KindControl, ID: "status", Action: messages.ControlStatus}, &r)
	if err == nil && r.Status == nil {
		err = errors.New(r.Say)
	}
	return r.Status, err
}

// notReady says what is missing.
func notReady(st *messages.Status) string {
	var down []string
	for _, l := range st.Links {
		if !l.Up {
			down = append(down, l.Instrument+" ("+l.Say+")")
		}
	}
	if len(down) == 0 {
		return "waiting for the first good readings"
	}
	return "waiting for " + strings.Join(down, ", ")
}

// loadLab loads a lab folder, or a built-in lab by its name.
func loadLab(dir string) (*configs.Config, error) {
	folder, err := labFolder(dir)
	if err != nil {
		return nil, err
	}
	return configs.Load(folder, dir)
}

// labFolder finds a lab folder, or a built-in lab by its name.
func labFolder(dir string) (fs.FS, error) {
	if st, err := os.Stat(filepath.Join(dir, "lab.yaml")); err == nil && !st.IsDir() {
		return os.DirFS(dir), nil
	}
	if sub, err := fs.Sub(configs.Embedded(), "labs/"+filepath.Base(dir)); err == nil && lab.ValidName(dir) {
		if _, err := fs.Stat(sub, "lab.yaml"); err == nil {
			return sub, nil
		}
	}
	var names []string
	if list, err := fs.ReadDir(configs.Embedded(), "labs"); err == nil {
		for _, d := range list {
			names = append(names, d.Name())
		}
	}
	return nil, fmt.Errorf("%s is no lab folder; a lab folder holds lab.yaml (built-in: %s)", dir, strings.Join(names, ", "))
}
