package faces

import (
	"context"
	"errors"
	"fmt"

	"labgate/lab"
	"labgate/sim"
	"labgate/sim/faces/mqtt"
	"labgate/sim/faces/opcua"
	"labgate/sim/faces/serial"
	"labgate/sim/faces/wire"
)

// Host owns the world: one mutex, and whoever comes first steps it to now.
type Host = wire.Host

// NewHost takes a world over.
func NewHost(w *sim.World, clock lab.Clock) *Host { return wire.NewHost(w, clock) }

// Address says where instruments are: "pumps" and "stage" are devices to open,
// "reactor" and "cell" OPC UA endpoints. The MQTT instruments are at the
// broker.
type Address map[string]string

// Option changes how Start does it.
type Option func(*options)

type options struct {
	reactorPort, cellPort int
	reactor, cell         []opcua.Option
	prefix                string
}

// OPCUAPorts fixes the ports of the OPC UA servers; 0 takes a free one.
func OPCUAPorts(reactor, cell int) Option {
	return func(o *options) { o.reactorPort, o.cellPort = reactor, cell }
}

// Prefix puts the MQTT instruments' topics below another prefix than "demo/": for
// several laboratories at one broker.
func Prefix(prefix string) Option { return func(o *options) { o.prefix = prefix } }

// Secured gives the OPC UA servers identities and users.
func Secured(reactor, cell []opcua.Option) Option {
	return func(o *options) { o.reactor, o.cell = reactor, cell }
}

// Running is the laboratory on its wires.
type Running struct {
	cancel        context.CancelFunc
	addresses     Address
	pumps, stage  *serial.Line
	reactor, cell *opcua.Server
	devices       *mqtt.Devices
}

// Start puts all instruments of the demo laboratory on their wires until ctx is
// done. broker is asked for the MQTT broker's address ("tcp://host:port") on
// each connection; it may fail or change its answer at any time, and Start does
// not wait for it. After an error nothing is left running.
func Start(ctx context.Context, h *Host, broker func() (url, user, password string, err error), opts ...Option) (*Running, error) {
	o := options{prefix: mqtt.Prefix}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &Running{cancel: cancel}
	if err := r.start(ctx, h, o); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("start the simulated instruments: %w", err), r.Wait())
	}
	r.devices = mqtt.Start(ctx, h, broker, o.prefix)
	r.addresses = Address{
		"pumps": r.pumps.Path(), "stage": r.stage.Path(), "reactor": r.reactor.Endpoint(), "cell": r.cell.Endpoint(),
	}
	return r, nil
}

func (r *Running) start(ctx context.Context, h *Host, o options) (err error) {
	if r.pumps, err = serial.Pumps(ctx, h); err != nil {
		return err
	}
	if r.stage, err = serial.Stage(ctx, h); err != nil {
		return err
	}
	if r.reactor, err = opcua.Reactor(ctx, h, o.reactorPort, o.reactor...); err != nil {
		return err
	}
	r.cell, err = opcua.Cell(ctx, h, o.cellPort, o.cell...)
	return err
}

// Addresses says where the instruments are. The caller may keep and change it.
func (r *Running) Addresses() map[string]string {
	out := make(map[string]string, len(r.addresses))
	for k, v := range r.addresses {
		out[k] = v
	}
	return out
}

// Wait joins every goroutine after the context of Start is done, and returns
// what ended a wire before that.
func (r *Running) Wait() error {
	var errs []error
	for _, l := range []*serial.Line{r.pumps, r.stage} {
		if l != nil {
			errs = append(errs, l.Wait())
		}
	}
	for _, s := range []*opcua.Server{r.reactor, r.cell} {
		if s != nil {
			errs = append(errs, s.Wait())
		}
	}
	if r.devices != nil {
		r.devices.Wait()
	}
	r.cancel() // nothing is left that it could end
	return errors.Join(errs...)
}
